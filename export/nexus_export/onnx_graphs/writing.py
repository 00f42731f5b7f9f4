"""Put files into the model repository: each appears complete or not at all, and large weights lie beside it."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from nexus_export.errors import BuildError
from nexus_export.onnx_graphs.template import cast_weight, check_names, fill, weight_bytes

#: A protobuf message ends at 2 GB; weights of more than this go into a file of their own.
INLINE_BYTES = 1 << 30
# Engines map the file into memory, which pages begin.
_ALIGNMENT = 4096
# Tensors of no more bytes stay in the graph: sizes and scales, which tools read there.
_SMALL_BYTES = 1024


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`, making its folder.

    Raises:
        BuildError: the disk is full, or the folder cannot be written.
    """
    part = _part(path)
    with explaining_faults(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def stage_network(
    template: onnx.ModelProto,
    weights: Mapping[str, NDArray[np.generic]],
    metadata: Mapping[str, str],
    path: Path,
) -> None:
    """Write a network beside `path`, for `commit_network` to put in place; see `template.fill` for the weights.

    A template may hold weights, even all of them and `weights` be empty; it is copied and stays as it is. Of
    `weights` that go into a file of their own one is in memory at a time, if `weights` loads them when asked.

    Raises:
        BuildError: the disk is full, or the folder cannot be written.
        TemplateError: the weights do not belong to the template.
    """
    with explaining_faults(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if weight_bytes(template) <= INLINE_BYTES:
            model = fill(template, weights)
        else:
            model = _fill_beside(template, weights, _data(path))
        onnx.helper.set_model_props(model, dict(metadata))
        _part(path).write_bytes(model.SerializeToString())


def write_network(model: onnx.ModelProto, metadata: Mapping[str, str], path: Path) -> None:
    """Write a network that holds its weights to `path`. Raises BuildError as `stage_network` does."""
    stage_network(model, {}, metadata, path)
    commit_network(path)


def commit_network(path: Path) -> None:
    """Put the staged network in place of what was there."""
    with explaining_faults(path.parent):
        if _part(_data(path)).is_file():
            _part(_data(path)).replace(_data(path))
        else:
            _data(path).unlink(missing_ok=True)
        _part(path).replace(path)


def move_network(staged: Path, path: Path) -> None:
    """Put a network that was committed to another folder of the same disk in place of what was at `path`."""
    with explaining_faults(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if _data(staged).is_file():
            _data(staged).replace(_data(path))
        else:
            _data(path).unlink(missing_ok=True)
        staged.replace(path)


def _fill_beside(
    template: onnx.ModelProto, weights: Mapping[str, NDArray[np.generic]], data: Path
) -> onnx.ModelProto:
    """Like `template.fill`, with all large tensors in the file `data`; of `weights` one is in memory at a time."""
    shapes = check_names(template, weights)
    model = onnx.ModelProto()
    model.CopyFrom(template)
    with _part(data).open("wb") as stream:
        for tensor in model.graph.initializer:
            if tensor.name in shapes:
                values = cast_weight(tensor, weights[tensor.name])
            elif tensor.ByteSize() > _SMALL_BYTES:
                values = numpy_helper.to_array(tensor)
            else:
                continue
            stream.seek(-(-stream.tell() // _ALIGNMENT) * _ALIGNMENT)
            offset = stream.tell()
            length = stream.write(np.ascontiguousarray(values).data)
            tensor.CopyFrom(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
    return model


def _data(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


@contextmanager
def explaining_faults(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses below `folder` into a BuildError."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise BuildError(f"the disk is full: free some space for {folder}.") from None
        raise BuildError(
            f"cannot write to {folder} ({error.strerror}); name another folder with --out."
        ) from None
