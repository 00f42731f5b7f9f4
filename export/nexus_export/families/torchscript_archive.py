"""Read the tensors out of a TorchScript archive without running it.

`torch.jit.load` would compile the archive's code and run its `__setstate__` methods, which may open files. The
archive is a zip file of a pickle, `data.pkl`, and one stored record a tensor (torch/csrc/jit/serialization): this
module reads those two alone, and replaces every class of the archive by one that only holds its attributes.
"""

import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether the zip file is a TorchScript archive: only those keep constants of code."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor attribute of the archived module by its dotted name; parameters and buffers keep theirs.

    The tensors are views of the file, mapped into memory: they take none until they are read.

    Raises pickle.UnpicklingError if the pickle holds what TorchScript does not write; OSError, KeyError, TypeError,
    ValueError, RuntimeError, zipfile.BadZipFile, EOFError if the file is damaged.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
        [name] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        root = name.removesuffix("data.pkl")
        with archive.open(name) as pickled:
            module = _Reader(pickled, lambda key: _record(archive, mapped, f"{root}data/{key}")).load()
    return dict(_tensors(module, ""))


class _Module:
    """An archived module: its attributes, without its code."""

    def __setstate__(self, state: object) -> None:
        # A state that the module's own `__getstate__` packed is for its code to unpack.
        self.attributes: dict[str, Any] = state if isinstance(state, dict) else {}


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any, record: Callable[[str], memoryview]) -> None:
        super().__init__(stream)
        self._record = record

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch.jit._pickle":
            return _value
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if count == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self._record(key), dtype=dtype, count=count)


def _value(value: object, *_: object) -> object:
    """The value that a function of torch.jit._pickle annotates: lists with their element type, others with theirs."""
    return value


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    # Unlike `set_`, `as_strided` never makes a storage grow.
    return storage.as_strided(size, stride, offset)


def _record(archive: zipfile.ZipFile, mapped: mmap.mmap, name: str) -> memoryview:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(name)
    # The local header: 30 bytes, the name and padding that aligns the tensor; the central one has other lengths.
    name_bytes, padding_bytes = struct.unpack_from("<HH", mapped, info.header_offset + 26)
    start = info.header_offset + 30 + name_bytes + padding_bytes
    return memoryview(mapped)[start : start + info.file_size]


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
