"""The one way into the repository: bring exported networks to a precision, measure them, put them in place.

The networks of a checkpoint are put in place together if all pass their gates; otherwise the old ones stay.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nexus_export.artifacts import QUALITY_FILE, file_bytes, metadata_of
from nexus_export.errors import QualityError
from nexus_export.exported import ExportedNetwork
from nexus_export.files import Report, translate_os_errors, write_file
from nexus_export.networks import Network, Precision, Target, artifact
from nexus_export.onnx_graphs.writing import move_network, write_network

if TYPE_CHECKING:
    # Measuring needs Pillow and onnxruntime; FP32 of the default profile is built without it.
    from nexus_export.quality.evaluator import Evaluator
    from nexus_export.quality.record import Record

# The precision to take where a network does not offer one.
_NEXT: Mapping[Precision, Precision] = {"int8": "fp16", "fp16": "fp32"}


@dataclass(frozen=True)
class Built:
    """A network that is in the repository; `record` is None if it was not measured."""

    network: Network
    precision: Precision
    bytes: int
    record: "Record | None"


@dataclass(frozen=True)
class _Staged:
    export: ExportedNetwork
    precision: Precision
    path: Path
    fp32: Path  # its FP32 form; at FP32 the same file


def offered(network: Network, precision: Precision, target: Target = "cpu") -> Precision:
    """`precision`, or the next higher one that the network's gate has a bound for.

    On a CPU, INT8 is offered only where it is quicker than FP32.
    """
    if precision == "int8" and target == "cpu" and not network.int8_on_cpu:
        precision = _NEXT[precision]
    while precision != "fp32" and precision not in network.gate.bounds:
        precision = _NEXT[precision]
    return precision


def build_networks(
    exports: Iterable[ExportedNetwork],
    precision: Precision,
    repository: Path,
    origin: Mapping[str, str],
    evaluator: "Evaluator | None",
    report: Report,
    finish: Callable[[], None] = lambda: None,
    target: Target = "cpu",
) -> list[Built]:
    """Write each export's network at `precision`, measure it, and put all of them in place.

    Args:
        exports: one checkpoint's networks, those that others read from first.
        precision: the wanted one, see `offered`.
        repository: the model repository.
        origin: metadata that names the networks' source.
        evaluator: None measures nothing, which is allowed for FP32 alone.
        report: called with each step that takes time.
        finish: called once all networks passed, before they are put in place.
        target: the kind of processor to build for, see `offered`.

    Raises BuildError if the repository cannot be written; QualityError if a network is not good enough, or there are
    no photos to measure it on; TemplateError if weights do not belong to their template.
    """
    with _staging_in(repository) as folder:
        staged = []
        for export in exports:
            if evaluator is not None:
                evaluator.add(export)
            chosen = offered(export.network, precision, target)
            staged.append(_stage(export, chosen, folder, origin, evaluator, report, target))
        records: list[Record | None] = [None] * len(staged)
        if evaluator is not None:
            for index, item in enumerate(staged):
                report(f"measuring {item.export.network.name}")
                record = evaluator.record(item.export, item.precision, item.path, item.fp32)[0]
                records[index] = record
                if not record.quality.passed:
                    raise QualityError(
                        f"{record.quality.complaint()}; what was there stays. Build it at a higher precision."
                    )
        finish()
        return [_put_in_place(item, record, repository) for item, record in zip(staged, records, strict=True)]


def _stage(
    export: ExportedNetwork,
    precision: Precision,
    folder: Path,
    origin: Mapping[str, str],
    evaluator: "Evaluator | None",
    report: Report,
    target: Target,
) -> _Staged:
    name = export.network.name
    metadata = metadata_of(origin, precision, export.fixed_dims, target)
    path, fp32 = artifact(name, folder), artifact(name, folder / "fp32")
    report(f"writing {name} at {precision}")
    if precision == "fp32":
        write_network(export.template, path, export.weights, metadata)
        return _Staged(export, precision, path, path)
    write_network(export.template, fp32, export.weights)
    if precision == "fp16":
        from nexus_export.precision.fp16 import to_half

        write_network(to_half(export.template, export.single_ops), path, export.weights, metadata)
    else:
        assert evaluator is not None
        from nexus_export.precision.int8 import quantize

        network = export.network
        calibration = evaluator.calibration(network)
        quantize(fp32, calibration, network.int8_keep, path, metadata, target, network.fp32_ops)
    return _Staged(export, precision, path, fp32)


def _put_in_place(item: _Staged, record: "Record | None", repository: Path) -> Built:
    path = artifact(item.export.network.name, repository)
    quality = path.with_name(QUALITY_FILE)
    # Removed before its artifact is replaced, so that no artifact lies beside another one's figures.
    quality.unlink(missing_ok=True)
    move_network(item.path, path)
    if record is not None:
        write_file(quality, record.text(path).encode())
    return Built(item.export.network, item.precision, file_bytes(path), record)


@contextmanager
def _staging_in(repository: Path) -> Iterator[Path]:
    """A folder on the repository's disk that is removed afterwards."""
    with translate_os_errors(repository):
        repository.mkdir(parents=True, exist_ok=True)
        staging = tempfile.TemporaryDirectory(dir=repository, prefix=".staging-")
    with staging as folder:
        yield Path(folder)
