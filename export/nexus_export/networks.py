"""The networks of the default profile, and how each is built: the one list that everything else reads."""

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

from nexus_export import sam_checkpoint, sam_decoder, sam_encoder, seeded_weights, template, u2net, wrapping
from nexus_export.errors import BuildError
from nexus_export.sources import (
    MOBILE_SAM_DECODER,
    MOBILE_SAM_ENCODER,
    U2NETP,
    PinnedFile,
    Report,
    fetch,
    sha256_of,
)
from nexus_export.writing import write_file

_PACKAGE = Path(__file__).parent
TEMPLATES = _PACKAGE / "templates"
LAMA_TEMPLATE = TEMPLATES / "lama_compact.onnx"
LAMA_WEIGHTS = _PACKAGE / "weights" / "lama_compact.safetensors"

#: The ONNX metadata entry that tells what a network was built from.
FINGERPRINT_KEY = "nexus_export.fingerprint"
#: The entry in its place that names the checkpoint, where a network was built from the user's.
CHECKPOINT_KEY = "nexus_export.checkpoint"

#: Networks that are built from one checkpoint, by the name that stands for all of them.
GROUPS = {
    tier: tuple(f"{tier}_{part}" for part in ("text_encoder", "vae_encoder", "unet", "vae_decoder"))
    for tier in ("sdxl", "sd15")
}


class State(Enum):
    """Whether a network's artifact is there and is what building it now would give."""

    UP_TO_DATE = "up to date"
    STALE = "stale"
    MISSING = "not built"
    CHECKPOINT = "built"  # from a checkpoint that is the user's own


@dataclass(frozen=True)
class Network:
    """How one network of the model repository comes about."""

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


def _tiny(tier: str, part: str) -> Network:
    # The two tiers' autoencoders are one graph.
    name = f"tiny_{part}.onnx" if part.startswith("vae") else f"tiny_{tier}_{part}.onnx"
    build = _build_tiny(seeded_weights.SCALING_FACTORS[tier])
    modules = (seeded_weights, template)
    return Network(f"{tier}_{part}", TEMPLATES / name, build, modules, random=True)


def _build_lama(weights: Path) -> onnx.ModelProto:
    return template.fill(onnx.load(str(LAMA_TEMPLATE)), load_file(weights))


NETWORKS = {
    network.name: network
    for network in (
        Network("sam_encoder", MOBILE_SAM_ENCODER, _build_sam_encoder, (sam_encoder, wrapping)),
        Network(
            "sam_decoder",
            MOBILE_SAM_DECODER,
            _build_sam_decoder,
            (sam_decoder, sam_checkpoint, template),
            sam_decoder.TEMPLATE,
        ),
        Network("u2net", U2NETP, _build_u2net, (u2net, wrapping)),
        Network("lama", LAMA_WEIGHTS, _build_lama, (template,), LAMA_TEMPLATE),
        *(_tiny(tier, name.removeprefix(f"{tier}_")) for tier, names in GROUPS.items() for name in names),
    )
}


def choose(names: Iterable[str]) -> list[Network]:
    """The networks of these names, in the order of the list; all of them for no name or "all".

    A group's name stands for its networks.

    Raises:
        BuildError: a name is not one of the profile's.
    """
    wanted = set(names)
    unknown = sorted(wanted - NETWORKS.keys() - GROUPS.keys() - {"all"})
    if unknown:
        known = ", ".join([*NETWORKS, *GROUPS])
        raise BuildError(f"there is no network {unknown[0]!r}; choose from {known} or all.")
    if not wanted or "all" in wanted:
        return list(NETWORKS.values())
    for group in wanted & GROUPS.keys():
        wanted.update(GROUPS[group])
    return [network for network in NETWORKS.values() if network.name in wanted]


def groups_of(networks: Iterable[Network]) -> list[str]:
    """The groups that any of `networks` belongs to."""
    names = {network.name for network in networks}
    return [group for group, members in GROUPS.items() if names.intersection(members)]


def tiny_facts(tier: str) -> str:
    """The text of the JSON file beside a tier's tiny networks; see `fill_files`."""
    return (TEMPLATES / f"tiny_{tier}.json").read_text()


def artifact(network: Network, repository: Path) -> Path:
    """Where the network's file lies in a model repository."""
    return repository / network.name / "1" / "model.onnx"


def state(network: Network, repository: Path) -> State:
    """Compare the artifact with what building it now would give."""
    path = artifact(network, repository)
    if not path.is_file():
        return State.MISSING
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        return State.STALE
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if CHECKPOINT_KEY in metadata:
        return State.CHECKPOINT
    return State.UP_TO_DATE if metadata.get(FINGERPRINT_KEY) == network.fingerprint() else State.STALE


def build(network: Network, repository: Path, cache: Path, report: Report) -> Path:
    """Build the network into `repository` and return the artifact's path.

    The file appears complete or not at all. `report` is told of each step that takes time.

    Raises:
        BuildError: the weights are not in this installation, or the repository cannot be written.
        SourceError: the weights could not be fetched.
        TemplateError: the weights do not belong to the template.
    """
    weights = network.weights
    if isinstance(weights, PinnedFile):
        weights = fetch(weights, cache, report)
    elif not weights.is_file():
        raise BuildError(
            f"the weights of {network.name} are not in this installation ({weights.name}); "
            "take a release that has them, or train them as MODELS.md describes."
        )
    report("building")
    model = network.build(weights)
    onnx.helper.set_model_props(
        model,
        {FINGERPRINT_KEY: network.fingerprint(), "source": network.source, "licence": network.licence},
    )
    path = artifact(network, repository)
    write_file(path, model.SerializeToString())
    return path
