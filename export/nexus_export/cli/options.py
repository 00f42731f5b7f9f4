"""Options and errors that several subcommands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from nexus_export.errors import BuildError
from nexus_export.networks import Precision, Target

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NETWORK]...", help="Which ones, or groups as sam and sdxl; default: all."),
]
Out = Annotated[Path, typer.Option("--out", help="The model repository.")]
Cache = Annotated[Path, typer.Option("--cache", help="Where downloaded files are kept.")]
Photos = Annotated[Path, typer.Option("--photos", help="Real photos to measure quality on, two or more.")]

REPOSITORY = Path("model_repository")
CACHE = Path("build/cache")


def parse_precision(text: str) -> Precision:
    """The precision of this name. Raises BuildError if there is none."""
    if text not in get_args(Precision):
        raise BuildError(f"there is no precision {text!r}; choose from {', '.join(get_args(Precision))}.")
    return cast(Precision, text)


def parse_target(text: str) -> Target:
    """The target of this name. Raises BuildError if there is none."""
    if text not in get_args(Target):
        raise BuildError(f"there is no processor {text!r}; choose from {', '.join(get_args(Target))}.")
    return cast(Target, text)


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
