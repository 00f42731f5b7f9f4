"""Why TensorRT did not build a network: one sentence for its many."""

import re
from collections.abc import Sequence

from nexus_export.engines.libraries import Library
from nexus_export.errors import BuildError, means_out_of_memory
from nexus_export.networks import Network, Precision

_NO_FP32_PRODUCT = re.compile("FP32 GEMM is not supported")
_TOO_LARGE = re.compile("exceeds? .*(limit|maximum|2 ?GB|2\\^31)|too large", re.IGNORECASE)
# Where in the library's source an error arose: "[pass.cpp:337: check] ", " In parseNode at /src/x.cpp:12", "(...)".
_PLACES = re.compile(
    r"\[[\w.]+(cpp|h)[:\w ]*\] |\s*In \w+ at \S+|\bIn function \w+:|^[\w:]+: Error Code \d+: "
)


def explain(
    network: Network, precision: Precision, library: Library, gpu: str, errors: Sequence[str]
) -> BuildError:
    """The error for a network that `library` did not build for `gpu`; `errors` are its own messages."""
    words = "\n".join(errors)
    serve = "serve its model.onnx there"
    if _NO_FP32_PRODUCT.search(words):
        if precision == "fp32":
            why, remedy = "is FP32", f"build it with --precision fp16, or {serve}"
        else:
            why, remedy = "keeps one at every precision", f"{serve}, or use --backend tensorrt on that GPU"
        return BuildError(
            f"{library.title} has no FP32 matrix product for {gpu}, and {network.name} {why}; {remedy}."
        )
    if means_out_of_memory(words):
        return BuildError(
            f"memory ran out while {network.name} was built for {gpu}; free some, or ask for less with --max-batch."
        )
    if _TOO_LARGE.search(words):
        return BuildError(
            f"{network.name} is too large for {library.title} ({_brief(errors)}); ask for less with --max-batch."
        )
    return BuildError(
        f"{library.title} {library.version} does not build {network.name} for {gpu} ({_brief(errors)}); {serve}, "
        "or try another version."
    )


def _brief(errors: Sequence[str]) -> str:
    """The first error without line breaks and places in its source, at most 160 characters."""
    first = _PLACES.sub("", errors[0]) if errors else "it gave no reason"
    return " ".join(first.split())[:160]
