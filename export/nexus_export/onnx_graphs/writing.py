"""Write networks: each file appears complete or not at all, and large weights lie beside it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from nexus_export.files import part_of, translate_os_errors
from nexus_export.onnx_graphs.template import cast_weight, check_names, fill, weight_bytes

# A protobuf message ends at 2 GB; weights of more than this go into a file of their own.
INLINE_BYTES = 1 << 30
# Engines map the file into memory, page by page.
_ALIGNMENT = 4096
# Tensors of no more bytes stay in the graph: sizes and scales, which tools read there.
_SMALL_BYTES = 1024


def write_network(
    template: onnx.ModelProto,
    path: Path,
    weights: Mapping[str, NDArray[np.generic]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a network to `path`, or replace the one there; see `template.fill` for the weights.

    The template may hold weights, even all of them; it is copied and stays as it is. Of `weights` that go into a file
    of their own one is in memory at a time, if the mapping loads each when it is asked for.

    Raises BuildError if the disk is full or the folder cannot be written, TemplateError if the weights do not belong
    to the template.
    """
    with translate_os_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if weight_bytes(template) <= INLINE_BYTES:
            model = fill(template, weights or {})
        else:
            model = _fill_beside(template, weights or {}, _data(path))
        onnx.helper.set_model_props(model, dict(metadata or {}))
        part_of(path).write_bytes(model.SerializeToString())
        _replace(part_of(path), part_of(_data(path)), path)


def move_network(staged: Path, path: Path) -> None:
    """Move a network from another folder of the same disk to `path`, or replace the one there."""
    with translate_os_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(staged, _data(staged), path)


def _replace(graph: Path, data: Path, path: Path) -> None:
    if data.is_file():
        data.replace(_data(path))
    else:
        _data(path).unlink(missing_ok=True)
    graph.replace(path)


def _fill_beside(
    template: onnx.ModelProto, weights: Mapping[str, NDArray[np.generic]], data: Path
) -> onnx.ModelProto:
    """Like `template.fill`, with all large tensors in the file `data`; of `weights` one is in memory at a time."""
    shapes = check_names(template, weights)
    model = onnx.ModelProto()
    model.CopyFrom(template)
    with part_of(data).open("wb") as stream:
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
