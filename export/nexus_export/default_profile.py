"""The default profile: the recipes of all families, and whether an artifact is up to date with its recipe."""

from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from nexus_export.artifacts import (
    CHECKPOINT_KEY,
    FINGERPRINT_KEY,
    LICENCE_KEY,
    SOURCE_KEY,
    precision_of,
    read_metadata,
    target_of,
)
from nexus_export.build import Built, build_networks, offered
from nexus_export.errors import BuildError
from nexus_export.families.recipe import Recipe
from nexus_export.families.registry import REGISTRY
from nexus_export.files import Report
from nexus_export.networks import NETWORKS, Precision, Target, artifact, choose
from nexus_export.paths import PHOTOS

_MADE = {recipe.name: recipe for group in REGISTRY.values() for recipe in group.recipes}
# By network, in the order of `NETWORKS`.
RECIPES = {name: _MADE[name] for name in NETWORKS if name in _MADE}


class State(Enum):
    """Whether a network's artifact is there, and equal to a new build."""

    UP_TO_DATE = "up to date"
    STALE = "stale"
    MISSING = "not built"
    CHECKPOINT = "built"  # from a checkpoint of the user's choice


def choose_recipes(names: Iterable[str]) -> list[Recipe]:
    """The recipes of the networks that `networks.choose` gives for these names.

    "all" and no name skip networks without a recipe (SAM 2, IS-Net), which are built from a checkpoint alone. Raises
    BuildError if a name is unknown, or that of such a network.
    """
    wanted = set(names)
    chosen = choose(wanted)
    if wanted and "all" not in wanted:
        for network in chosen:
            if network.name not in RECIPES:
                raise BuildError(
                    f"{network.name} comes out of a checkpoint alone; "
                    f"run: nexus-export build {network.group} --checkpoint FILE."
                )
    return [RECIPES[network.name] for network in chosen if network.name in RECIPES]


def state(
    recipe: Recipe, repository: Path, precision: Precision | None = None, target: Target | None = None
) -> State:
    """Compare the artifact with its recipe; None stands for the precision or target that it has."""
    path = artifact(recipe.name, repository)
    if not path.is_file():
        return State.MISSING
    metadata = read_metadata(path)
    if CHECKPOINT_KEY in metadata:
        return State.CHECKPOINT
    wanted = recipe.fingerprint(precision or precision_of(metadata), target or target_of(metadata))
    return State.UP_TO_DATE if metadata.get(FINGERPRINT_KEY) == wanted else State.STALE


def build(
    recipe: Recipe,
    repository: Path,
    cache: Path,
    report: Report,
    precision: Precision = "fp32",
    photos: Path = PHOTOS,
    target: Target = "cpu",
) -> Built:
    """Build the network into `repository`; see `build.build_networks`, which measures all but FP32 on `photos`.

    The tests of this package measure FP32: building it needs neither photos nor torch nor onnxruntime.

    Raises as `Recipe.export` and `build.build_networks` do.
    """
    precision = offered(recipe.network, precision, target)
    exports = [recipe.export(cache, report)]
    origin = {
        FINGERPRINT_KEY: recipe.fingerprint(precision, target),
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
    return build_networks(exports, precision, repository, origin, evaluator, report, target=target)[0]
