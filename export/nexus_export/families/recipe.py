"""How one network of the default profile is built, without torch, and when its artifact is stale."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from numpy.typing import NDArray

from nexus_export.downloads.packages import PinnedFile, fetch
from nexus_export.errors import BuildError
from nexus_export.exported import ExportedNetwork, InferenceFn
from nexus_export.files import Report, sha256_of
from nexus_export.networks import NETWORKS, Network, Precision, Target
from nexus_export.paths import PACKAGE

# A graph and the weights that it waits for, see `ExportedNetwork`.
Parts = tuple[onnx.ModelProto, Mapping[str, NDArray[np.generic]]]

# The code whose change may change an artifact at FP16 and INT8.
PRECISION_CODE = PACKAGE / "precision"
# And at INT8 alone, whose ranges are measured on the inputs that the pipelines make of photos.
CALIBRATION_CODE = [PACKAGE / "quality" / name for name in ("pipelines.py", "photos.py", "masks.py")]


@dataclass(frozen=True)
class Recipe:
    """The weights of one network of the default profile, and the functions that make a graph of them."""

    name: str
    weights: PinnedFile | Path  # a published file, or a file or folder that comes with this package
    make: Callable[[Path], Parts]  # from the path of the weights
    reference: Callable[[Path], InferenceFn]  # from the same path
    modules: tuple[ModuleType, ...]  # whose code decides what `make` returns
    template: Path | None = None
    random: bool = False  # untrained weights; the file that `weights` names is the template
    fixed_dims: Callable[[], Mapping[str, int]] = dict  # the sizes that the weights fix, by axis

    @property
    def source(self) -> str:
        """Where the weights come from, in words."""
        if isinstance(self.weights, PinnedFile):
            return f"{self.weights.registry}: {self.weights.release}, {Path(self.weights.member).name}"
        return "random, untrained" if self.random else "our own training"

    @property
    def licence(self) -> str:
        return self.weights.licence if isinstance(self.weights, PinnedFile) else "Apache-2.0"

    @property
    def network(self) -> Network:
        return NETWORKS[self.name]

    def fingerprint(self, precision: Precision, target: Target = "cpu") -> str:
        """Changes when the weights, the template, the code that builds the network or the precision's rules do.

        Hashes the content of files, never their paths: moving a module makes no artifact stale.
        """
        own = _files(self.weights) if isinstance(self.weights, Path) else []
        modules = [Path(str(module.__file__)) for module in self.modules]
        parts = [sha256_of(path) for path in [*modules, self.template, *own] if path is not None]
        if isinstance(self.weights, PinnedFile):
            parts.append(self.weights.sha256)
        if precision != "fp32":
            parts += [precision, *(sha256_of(path) for path in sorted(PRECISION_CODE.glob("*.py")))]
            parts += [*sorted(self.network.fp32_ops), *self.network.int8_keep]
        if precision == "int8":
            parts += [target, *map(sha256_of, calibration_code())]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def export(self, cache: Path, report: Report) -> ExportedNetwork:
        """The network made of its weights, which are fetched if need be.

        Raises BuildError if the weights are not in this installation, SourceError if they could not be fetched.
        """
        weights = self.weights
        if isinstance(weights, PinnedFile):
            weights = fetch(weights, cache, report)
        elif not weights.exists():
            raise BuildError(
                f"the weights of {self.name} are not in this installation ({weights.name}); "
                "take a release that has them, or train them as MODELS.md describes."
            )
        graph, arrays = self.make(weights)
        fixed_dims = {axis: size for axis, size in self.fixed_dims().items() if axis in self.network.axes}
        return ExportedNetwork(self.network, graph, arrays, partial(self.reference, weights), fixed_dims)


def _files(path: Path) -> list[Path]:
    """The file, or the files of the folder in order."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def calibration_code() -> list[Path]:
    """The files that decide what INT8's ranges are measured on: the recorder, and the pipelines that it records.

    Without the pipelines, which come with the extra `quality`, nothing is built at INT8.
    """
    pipelines = find_spec("nexus_ensembles")
    if pipelines is None or pipelines.origin is None:
        return CALIBRATION_CODE
    found = Path(pipelines.origin).parent.rglob("*.py")
    return [*CALIBRATION_CODE, *sorted(path for path in found if path.parent.name != "triton")]
