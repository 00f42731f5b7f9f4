"""Put files into the model repository: each appears complete or not at all, and large weights lie beside it."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from nexus_export.errors import BuildError
from nexus_export.onnx_graphs.template import check_weights, fill

#: A protobuf message ends at 2 GB; weights of more than this go into a file of their own.
INLINE_BYTES = 1 << 30
# Engines map the file into memory, which pages begin.
_ALIGNMENT = 4096


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, making its folder.

    Raises:
        BuildError: the disk is full, or the folder cannot be written.
    """
    part = _part(path)
    with _explaining(path.parent):
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

    Raises:
        BuildError: the disk is full, or the folder cannot be written.
        TemplateError: the weights do not belong to the template.
    """
    with _explaining(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if sum(weight.nbytes for weight in weights.values()) <= INLINE_BYTES:
            model = fill(template, weights)
        else:
            model = _fill_beside(template, weights, _data(path))
        onnx.helper.set_model_props(model, dict(metadata))
        _part(path).write_bytes(model.SerializeToString())


def commit_network(path: Path) -> None:
    """Put the staged network in place of what was there."""
    with _explaining(path.parent):
        if _part(_data(path)).is_file():
            _part(_data(path)).replace(_data(path))
        else:
            _data(path).unlink(missing_ok=True)
        _part(path).replace(path)


def discard_network(path: Path) -> None:
    """Remove what was staged for `path`, if anything."""
    for part in (_part(path), _part(_data(path))):
        part.unlink(missing_ok=True)


def _fill_beside(
    template: onnx.ModelProto, weights: Mapping[str, NDArray[np.generic]], data: Path
) -> onnx.ModelProto:
    """Like `template.fill`, with the weights in the file `data`, of which one is in memory at a time."""
    shapes = check_weights(template, weights)
    model = onnx.ModelProto()
    model.CopyFrom(template)
    with _part(data).open("wb") as stream:
        for tensor in model.graph.initializer:
            if tensor.name not in shapes:
                continue
            stream.seek(-(-stream.tell() // _ALIGNMENT) * _ALIGNMENT)
            offset = stream.tell()
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            length = stream.write(np.ascontiguousarray(weights[tensor.name], dtype).data)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
    return model


def _data(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise BuildError(f"the disk is full: free some space for {folder}.") from None
        raise BuildError(
            f"cannot write to {folder} ({error.strerror}); name another folder with --out."
        ) from None
