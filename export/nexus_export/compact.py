"""The default profile: which weights each network gets, and how they become a graph, without torch."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from safetensors.numpy import load_file

from nexus_export import u2net
from nexus_export.diffusion import seeded_weights
from nexus_export.errors import BuildError
from nexus_export.networks import GROUPS, TIERS, Network, artifact, choose
from nexus_export.onnx_graphs import template, wrapping
from nexus_export.onnx_graphs.writing import write_file
from nexus_export.paths import TEMPLATES, WEIGHTS
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

#: The ONNX metadata entry that tells what a network was built from.
FINGERPRINT_KEY = "nexus_export.fingerprint"
#: The entry in its place that names the checkpoint, where a network was built from the user's.
CHECKPOINT_KEY = "nexus_export.checkpoint"


class State(Enum):
    """Whether a network's artifact is there and is what building it now would give."""

    UP_TO_DATE = "up to date"
    STALE = "stale"
    MISSING = "not built"
    CHECKPOINT = "built"  # from a checkpoint that is the user's own


@dataclass(frozen=True)
class Recipe:
    """How one network of the default profile comes about."""

    name: str
    weights: PinnedFile | Path  # a published file, or one that comes with this package
    build: Callable[[Path], onnx.ModelProto]  # from the path of the weights
    modules: tuple[ModuleType, ...]  # whose code decides what `build` gives
    template: Path | None = None
    random: bool = False  # nobody trained the weights; the file that `weights` names is the template

    @property
    def source(self) -> str:
        """Where the weights come from, in words."""
        if isinstance(self.weights, PinnedFile):
            return f"{self.weights.registry}: {self.weights.release}, {Path(self.weights.member).name}"
        return "random, untrained" if self.random else "our own training"

    @property
    def licence(self) -> str:
        return self.weights.licence if isinstance(self.weights, PinnedFile) else "Apache-2.0"

    def fingerprint(self) -> str:
        """Changes when the weights, the template or the code that builds the network do."""
        own = self.weights if isinstance(self.weights, Path) else None
        modules = [Path(str(module.__file__)) for module in self.modules]
        parts = [sha256_of(path) for path in [*modules, self.template, own] if path is not None]
        if isinstance(self.weights, PinnedFile):
            parts.append(self.weights.sha256)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _build_sam_encoder(weights: Path) -> onnx.ModelProto:
    return sam_encoder.build_sam_encoder(onnx.load(str(weights)))


def _build_sam_decoder(weights: Path) -> onnx.ModelProto:
    return sam_decoder.build_sam_decoder(onnx.load(str(weights)))


def _build_u2net(weights: Path) -> onnx.ModelProto:
    return u2net.build_u2net(onnx.load(str(weights)))


def _build_tiny(scaling_factor: float) -> Callable[[Path], onnx.ModelProto]:
    def build(path: Path) -> onnx.ModelProto:
        graph = onnx.load(str(path))
        weights = seeded_weights.seeded_weights(template.weight_shapes(graph))
        if "scaling_factor" in weights:
            weights["scaling_factor"] = np.array(scaling_factor, np.float32)
        return template.fill(graph, weights)

    return build


def _tiny(tier: str, part: str) -> Recipe:
    # The two tiers' autoencoders are one graph.
    name = f"tiny_{part}.onnx" if part.startswith("vae") else f"tiny_{tier}_{part}.onnx"
    build = _build_tiny(seeded_weights.SCALING_FACTORS[tier])
    modules = (seeded_weights, template)
    return Recipe(f"{tier}_{part}", TEMPLATES / name, build, modules, random=True)


def _build_lama(weights: Path) -> onnx.ModelProto:
    return template.fill(onnx.load(str(LAMA_TEMPLATE)), load_file(weights))


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("sam_encoder", MOBILE_SAM_ENCODER, _build_sam_encoder, (sam_encoder, wrapping)),
        Recipe(
            "sam_decoder",
            MOBILE_SAM_DECODER,
            _build_sam_decoder,
            (sam_decoder, published_onnx, template),
            sam_decoder.TEMPLATE,
        ),
        Recipe("u2net", U2NETP, _build_u2net, (u2net, wrapping)),
        Recipe("lama", LAMA_WEIGHTS, _build_lama, (template,), LAMA_TEMPLATE),
        *(_tiny(tier, name.removeprefix(f"{tier}_")) for tier in TIERS for name in GROUPS[tier]),
    )
}


def choose_recipes(names: Iterable[str]) -> list[Recipe]:
    """The recipes of the networks that `networks.choose` gives for these names.

    SAM 2 is in no package with a free licence: what stands for everything leaves it out.

    Raises:
        BuildError: a name is unknown, or that of networks that only a checkpoint gives.
    """
    wanted = set(names)
    chosen = choose(wanted)
    if wanted and "all" not in wanted:
        for network in chosen:
            if network.name not in RECIPES:
                group = next(group for group, members in GROUPS.items() if network.name in members)
                raise BuildError(
                    f"{network.name} comes out of a checkpoint alone; "
                    f"run: nexus-export build {group} --checkpoint FILE."
                )
    return [RECIPES[network.name] for network in chosen if network.name in RECIPES]


def tiers_of(networks: Iterable[Network]) -> list[str]:
    """The tiers of generative fill that any of `networks` belongs to."""
    names = {network.name for network in networks}
    return [tier for tier in TIERS if names.intersection(GROUPS[tier])]


def tiny_facts(tier: str) -> str:
    """The text of the JSON file beside a tier's tiny networks; see `fill_files`."""
    return (TEMPLATES / f"tiny_{tier}.json").read_text()


def state(recipe: Recipe, repository: Path) -> State:
    """Compare the artifact with what building it now would give."""
    path = artifact(recipe.name, repository)
    if not path.is_file():
        return State.MISSING
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        return State.STALE
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if CHECKPOINT_KEY in metadata:
        return State.CHECKPOINT
    return State.UP_TO_DATE if metadata.get(FINGERPRINT_KEY) == recipe.fingerprint() else State.STALE


def build(recipe: Recipe, repository: Path, cache: Path, report: Report) -> Path:
    """Build the network into `repository` and return the artifact's path.

    The file appears complete or not at all. `report` is told of each step that takes time.

    Raises:
        BuildError: the weights are not in this installation, or the repository cannot be written.
        SourceError: the weights could not be fetched.
        TemplateError: the weights do not belong to the template.
    """
    weights = recipe.weights
    if isinstance(weights, PinnedFile):
        weights = fetch(weights, cache, report)
    elif not weights.is_file():
        raise BuildError(
            f"the weights of {recipe.name} are not in this installation ({weights.name}); "
            "take a release that has them, or train them as MODELS.md describes."
        )
    report("building")
    model = recipe.build(weights)
    onnx.helper.set_model_props(
        model,
        {FINGERPRINT_KEY: recipe.fingerprint(), "source": recipe.source, "licence": recipe.licence},
    )
    path = artifact(recipe.name, repository)
    write_file(path, model.SerializeToString())
    return path
