"""The command `nexus-export verify`."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from nexus_export.artifacts import CHECKPOINT_KEY, QUALITY_FILE, SOURCE_KEY, precision_of, read_metadata
from nexus_export.cli.options import (
    CACHE,
    REPOSITORY,
    Cache,
    Names,
    Out,
    Photos,
    choose_built,
    explain_missing_extra,
)
from nexus_export.cli.progress import Progress
from nexus_export.default_profile import RECIPES
from nexus_export.errors import BuildError, QualityError
from nexus_export.exported import ExportedNetwork
from nexus_export.families.registry import CHECKPOINTS, REGISTRY, locate
from nexus_export.files import write_file
from nexus_export.networks import Network, artifact
from nexus_export.onnx_graphs.writing import write_network
from nexus_export.paths import PHOTOS
from nexus_export.quality.simulation import SIMULATED

if TYPE_CHECKING:
    from nexus_export.quality.evaluator import Evaluator
    from nexus_export.quality.record import Record

REPORT = Path("build/quality")


def verify_command(
    networks: Names = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint that the networks were built from, if it was a file or folder of your own."
        ),
    ] = None,
    photos: Photos = PHOTOS,
    report: Annotated[Path, typer.Option("--report", help="Where figures and picture sheets go.")] = REPORT,
    out: Out = REPOSITORY,
    cache: Cache = CACHE,
) -> None:
    """Compare built networks with their FP32 references on real photos, and hold them to their gates."""
    with explain_missing_extra():
        records = verify(networks or [], checkpoint, photos, report, out, cache)
    Console().print(table_of(records))
    if any(record.quality.simulated for record in records):
        print(SIMULATED)
    print(f"figures and pictures: {report}")
    if bad := [record.quality.complaint() for record in records if not record.quality.passed]:
        raise QualityError(f"{'; '.join(bad)}. Build again at a higher precision.")


def verify(
    names: list[str], checkpoint: str | None, photos: Path, report: Path, out: Path, cache: Path
) -> "list[Record]":
    """Measure the built networks of these names, or all; each keeps its figures, and a sheet of it goes to `report`.

    Raises BuildError if a network is not built, or its file is damaged; QualityError if there are no photos, or a
    network does not run.
    """
    from nexus_export.quality.contact_sheet import write_contact_sheet
    from nexus_export.quality.evaluator import Evaluator
    from nexus_export.quality.photos import read_photos

    chosen = choose_built(names, out)
    with Progress("photos") as progress:
        evaluator = Evaluator(
            read_photos(photos), cache, lambda name: RECIPES[name].export(cache, progress.report).reference()
        )
    records = []
    exports = _Exports(checkpoint, out, cache, evaluator)
    for network in chosen:
        with Progress(network.name) as progress:
            path = artifact(network.name, out)
            metadata = read_metadata(path) if path.is_file() else {}
            export = exports.of(network, metadata, progress)
            progress.report("measuring")
            precision = precision_of(metadata)
            with tempfile.TemporaryDirectory(prefix="nexus-fp32-") as folder:
                fp32 = path
                if precision != "fp32":
                    fp32 = Path(folder) / "model.onnx"
                    write_network(export.template, fp32, export.weights)
                record, compared = evaluator.record(export, precision, path, fp32)
                records.append(record)
        write_file(path.with_name(QUALITY_FILE), record.text(path).encode())
        note = f"{metadata.get(SOURCE_KEY, 'unknown')}; {record.quality.verdict.words()}"
        write_contact_sheet(report / f"{network.name}_{precision}.jpg", network, precision, compared, note)
    write_file(report / QUALITY_FILE, (json.dumps([r.figures() for r in records], indent=2) + "\n").encode())
    return records


class _Exports:
    """The exports that artifacts came from: of the default profile, or of checkpoints, each opened once."""

    def __init__(self, checkpoint: str | None, out: Path, cache: Path, evaluator: "Evaluator") -> None:
        self._checkpoint = checkpoint
        self._out = out
        self._cache = cache
        self._evaluator = evaluator
        self._opened: dict[str, ExportedNetwork] = {}

    def of(self, network: Network, metadata: dict[str, str], progress: Progress) -> ExportedNetwork:
        if not metadata:
            path = artifact(network.name, self._out)
            state = "is damaged" if path.is_file() else "is not built"
            raise BuildError(
                f"{network.name} {state} ({path}); run: nexus-export build {network.name} --out {self._out}"
            )
        known = metadata.get(CHECKPOINT_KEY)
        if known is None:
            return RECIPES[network.name].export(self._cache, progress.report)
        if network.name not in self._opened:
            self._open(network, known, progress)
        return self._opened[network.name]

    def _open(self, network: Network, known: str, progress: Progress) -> None:
        name = self._checkpoint or known
        if name not in CHECKPOINTS and not Path(name).exists():
            raise BuildError(
                f"{network.name} was built from {known}, which has to be there to compare with; "
                f"run: nexus-export verify {network.group} --checkpoint PATH"
            )
        path, _ = locate(name, network.group, self._cache, progress.report)
        for export in REGISTRY[network.group].exports(path):
            self._evaluator.add(export)
            self._opened[export.network.name] = export


def table_of(records: "list[Record]") -> Table:
    """The figures, a network a row; a hundred columns wide."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    table.add_column("at")
    for title in ("max abs", "PSNR dB", "SSIM", "gate", "worst", "bound", "MB", "size", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for record in records:
        quality, speed, verdict = record.quality, record.speed, record.quality.verdict
        table.add_row(
            quality.network,
            quality.precision,
            f"{quality.max_abs:.1e}",
            f"{quality.psnr_db:.1f}",
            f"{quality.ssim:.4f}",
            f"{verdict.value:.3g}",
            f"{verdict.worst:.3g}",
            f"{verdict.bound:.3g}",
            f"{speed.bytes / 1e6:.1f}",
            f"{speed.size_ratio:.2f}",
            f"{speed.latency_ratio:.2f}",
            "ok" if quality.passed else "FAILED",
            style="" if quality.passed else "bold red",
        )
    return table
