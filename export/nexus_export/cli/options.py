"""Options and errors that several subcommands share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from nexus_export.errors import BuildError
from nexus_export.networks import Network, artifact, choose

AnyName = TypeVar("AnyName", bound=str)

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NETWORK]...", help="Which ones, or groups as sam and sdxl; default: all."),
]
Out = Annotated[Path, typer.Option("--out", help="The model repository.")]
Cache = Annotated[Path, typer.Option("--cache", help="Where downloaded files are kept.")]
Photos = Annotated[Path, typer.Option("--photos", help="Real photos to measure quality on, two or more.")]

REPOSITORY = Path("model_repository")
CACHE = Path("build/cache")


def one_of(kind: str, name: str, known: Sequence[AnyName]) -> AnyName:
    """The one of `known` that a user named. Raises BuildError if there is none."""
    for each in known:
        if each == name:
            return each
    raise BuildError(f"there is no {kind} {name!r}; choose from {', '.join(known)}.")


def choose_built(names: list[str], out: Path) -> list[Network]:
    """The networks of these names, or all that are built into `out`. Raises BuildError if that is none."""
    chosen = [network for network in choose(names) if names or artifact(network.name, out).is_file()]
    if not chosen:
        raise BuildError(f"no network is in {out}; run: nexus-export build --out {out}")
    return chosen


@contextmanager
def explain_missing_extra() -> Iterator[None]:
    """Translate a missing module to the extra that has it."""
    try:
        yield
    except ModuleNotFoundError as error:
        is_quality = error.name in {"onnxruntime", "PIL", "nexus_ensembles"}
        # The pipelines are on no package index: they are installed from beside this package.
        packages = "-e ensembles 'nexus-export[quality]'" if is_quality else "'nexus-export[torch]'"
        raise BuildError(
            f"this needs {error.name}, which is not in this environment; run: pip install {packages}"
        ) from None
