"""The default profile: which weights each network gets, and how they become a graph, without torch."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.numpy import load_file

from nexus_export import compact_references as references
from nexus_export import u2net
from nexus_export.artifacts import (
    CHECKPOINT_KEY,
    FINGERPRINT_KEY,
    LICENCE_KEY,
    SOURCE_KEY,
    precision_of,
    processor_of,
    read_metadata,
)
from nexus_export.build import Built, build_networks, offered
from nexus_export.diffusion import compact_checkpoint, seeded_weights
from nexus_export.errors import BuildError
from nexus_export.export import Export, Run
from nexus_export.networks import GROUPS, NETWORKS, TIERS, Network, Precision, Processor, artifact, choose
from nexus_export.onnx_graphs import template, wrapping
from nexus_export.paths import PHOTOS, TEMPLATES, WEIGHTS
from nexus_export.sam import decoder as sam_decoder
from nexus_export.sam import encoder as sam_encoder
from nexus_export.sam import published_onnx
from nexus_export.sources import (
    MOBILE_SAM_DECODER,
    MOBILE_SAM_ENCODER,
    U2NETP,
    PinnedFile,
    Report,
    fetch,
    sha256_of,
)

LAMA_TEMPLATE = TEMPLATES / "lama_compact.onnx"
LAMA_WEIGHTS = WEIGHTS / "lama_compact.safetensors"
#: The code whose change may change what comes out at FP16 and INT8.
PRECISION_CODE = Path(__file__).parent / "precision"
#: And at INT8 alone, whose ranges are those of the samples that it records.
CALIBRATION_CODE = Path(__file__).parent / "quality" / "pipelines.py"
#: See diffusion.tiny_checkpoint.
_TINY_WIDTHS = {"context_width": 32}


class State(Enum):
    """Whether a network's artifact is there and is what building it now would give."""

    UP_TO_DATE = "up to date"
    STALE = "stale"
    MISSING = "not built"
    CHECKPOINT = "built"  # from a checkpoint that is the user's own


#: A graph and the weights that it waits for, see `Export`.
Parts = tuple[onnx.ModelProto, Mapping[str, NDArray[np.generic]]]


@dataclass(frozen=True)
class Recipe:
    """How one network of the default profile comes about."""

    name: str
    weights: PinnedFile | Path  # a published file, or a file or folder that comes with this package
    make: Callable[[Path], Parts]  # from the path of the weights
    reference: Callable[[Path], Run]  # from the same path
    modules: tuple[ModuleType, ...]  # whose code decides what `make` gives
    template: Path | None = None
    random: bool = False  # nobody trained the weights; the file that `weights` names is the template
    widths: Callable[[], Mapping[str, int]] = dict  # the sizes that the weights fix, by axis

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

    def fingerprint(self, precision: Precision, processor: Processor = "cpu") -> str:
        """Changes when the weights, the template, the code that builds the network or the precision's rules do."""
        own = _files(self.weights) if isinstance(self.weights, Path) else []
        modules = [Path(str(module.__file__)) for module in self.modules]
        parts = [sha256_of(path) for path in [*modules, self.template, *own] if path is not None]
        if isinstance(self.weights, PinnedFile):
            parts.append(self.weights.sha256)
        if precision != "fp32":
            parts += [precision, *(sha256_of(path) for path in sorted(PRECISION_CODE.glob("*.py")))]
            parts += [*sorted(self.network.fp32_ops), *self.network.int8_keep]
        if precision == "int8":
            parts += [processor, sha256_of(CALIBRATION_CODE)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def export(self, cache: Path, report: Report) -> Export:
        """The network out of its weights, which are fetched if need be.

        Raises:
            BuildError: the weights are not in this installation.
            SourceError: the weights could not be fetched.
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
        widths = {axis: size for axis, size in self.widths().items() if axis in self.network.axes}
        return Export(self.network, graph, arrays, partial(self.reference, weights), widths)


def _files(path: Path) -> list[Path]:
    """The file, or the files of the folder in order."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _make_sam_encoder(weights: Path) -> Parts:
    published = published_onnx.encoder_weights(onnx.load(str(weights)))
    return onnx.load(str(sam_encoder.TEMPLATE)), published


def _make_sam_decoder(weights: Path) -> Parts:
    published = published_onnx.decoder_weights(onnx.load(str(weights)))
    return onnx.load(str(sam_decoder.TEMPLATE)), published


def _make_u2net(weights: Path) -> Parts:
    return u2net.build(onnx.load(str(weights)), "u2net"), {}


def _make_lama(weights: Path) -> Parts:
    return onnx.load(str(LAMA_TEMPLATE)), load_file(weights)


def _make_sdxl(path: Path, folder: Path) -> Parts:
    graph = onnx.load(str(path))
    return graph, compact_checkpoint.compact_weights(folder, template.weight_shapes(graph))


def _sdxl(name: str) -> Recipe:
    path = TEMPLATES / f"compact_{name}.onnx"
    return Recipe(
        name,
        compact_checkpoint.FOLDER,
        partial(_make_sdxl, path),
        partial(references.sdxl, name),
        (compact_checkpoint, template),
        path,
        widths=partial(compact_checkpoint.compact_widths, compact_checkpoint.FOLDER),
    )


def _make_sd15(path: Path) -> Parts:
    graph = onnx.load(str(path))
    weights = seeded_weights.seeded_weights(template.weight_shapes(graph))
    if "scaling_factor" in weights:
        weights["scaling_factor"] = np.array(seeded_weights.SCALING_FACTORS["sd15"], np.float32)
    return graph, weights


def _sd15(name: str) -> Recipe:
    return Recipe(
        name,
        TEMPLATES / f"tiny_{name}.onnx",
        _make_sd15,
        partial(references.sd15, name),
        (seeded_weights, template),
        random=True,
        widths=lambda: _TINY_WIDTHS,
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "sam_encoder",
            MOBILE_SAM_ENCODER,
            _make_sam_encoder,
            references.sam_encoder,
            (sam_encoder, published_onnx, template),
            sam_encoder.TEMPLATE,
        ),
        Recipe(
            "sam_decoder",
            MOBILE_SAM_DECODER,
            _make_sam_decoder,
            references.sam_decoder,
            (sam_decoder, published_onnx, template),
            sam_decoder.TEMPLATE,
        ),
        Recipe("u2net", U2NETP, _make_u2net, references.u2net, (u2net, wrapping)),
        Recipe("lama", LAMA_WEIGHTS, _make_lama, references.lama, (template,), LAMA_TEMPLATE),
        *(_sdxl(name) for name in GROUPS["sdxl"]),
        *(_sd15(name) for name in GROUPS["sd15"]),
    )
}


def choose_recipes(names: Iterable[str]) -> list[Recipe]:
    """The recipes of the networks that `networks.choose` gives for these names.

    Of some networks, SAM 2 among them, there are only checkpoints: what stands for everything leaves them out.

    Raises:
        BuildError: a name is unknown, or that of networks that only a checkpoint gives.
    """
    wanted = set(names)
    chosen = choose(wanted)
    if wanted and "all" not in wanted:
        for network in chosen:
            if network.name not in RECIPES:
                owners = (group for group, members in GROUPS.items() if network.name in members)
                raise BuildError(
                    f"{network.name} comes out of a checkpoint alone; "
                    f"run: nexus-export build {next(owners, network.name)} --checkpoint FILE."
                )
    return [RECIPES[network.name] for network in chosen if network.name in RECIPES]


def tiers_of(networks: Iterable[Network]) -> list[str]:
    """The tiers of generative fill that any of `networks` belongs to."""
    names = {network.name for network in networks}
    return [tier for tier in TIERS if names.intersection(GROUPS[tier])]


#: The JSON file beside a tier's networks; see `fill_files`.
FACTS = {"sdxl": TEMPLATES / "compact_sdxl.json", "sd15": TEMPLATES / "tiny_sd15.json"}


def state(
    recipe: Recipe, repository: Path, precision: Precision | None = None, processor: Processor | None = None
) -> State:
    """Compare the artifact with what building it now would give; None is the precision or processor that it has."""
    path = artifact(recipe.name, repository)
    if not path.is_file():
        return State.MISSING
    metadata = read_metadata(path)
    if CHECKPOINT_KEY in metadata:
        return State.CHECKPOINT
    wanted = recipe.fingerprint(precision or precision_of(metadata), processor or processor_of(metadata))
    return State.UP_TO_DATE if metadata.get(FINGERPRINT_KEY) == wanted else State.STALE


def build(
    recipe: Recipe,
    repository: Path,
    cache: Path,
    report: Report,
    precision: Precision = "fp32",
    photos: Path = PHOTOS,
    processor: Processor = "cpu",
) -> Built:
    """Build the network into `repository`; see `build.build_networks`, which measures all but FP32 on `photos`.

    FP32 is what the tests of this package measure: building it needs neither photos nor torch nor onnxruntime.

    Raises:
        BuildError: the weights are not in this installation, or the repository cannot be written.
        QualityError: the network is not good enough at this precision, or there are no photos to tell by.
        SourceError: the weights could not be fetched.
        TemplateError: the weights do not belong to the template.
    """
    precision = offered(recipe.network, precision, processor)
    exports = [recipe.export(cache, report)]
    origin = {
        FINGERPRINT_KEY: recipe.fingerprint(precision, processor),
        SOURCE_KEY: recipe.source,
        LICENCE_KEY: recipe.licence,
    }
    if precision == "fp32":
        return build_networks(exports, precision, repository, origin, None, report)[0]
    from nexus_export.quality.evaluator import Evaluator
    from nexus_export.quality.photos import read_photos

    evaluator = Evaluator(
        read_photos(photos), cache, lambda name: RECIPES[name].export(cache, report).reference()
    )
    return build_networks(exports, precision, repository, origin, evaluator, report, processor=processor)[0]
