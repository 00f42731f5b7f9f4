"""The models of a pipeline, from which a request chooses by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from nexus_ensembles.errors import BadInput


@dataclass(frozen=True)
class Model:
    """One of them. `build` is what follows `nexus-export build` to make its networks."""

    name: str
    build: str


M = TypeVar("M", bound=Model)


class Models(Generic[M]):
    """Some models, of which the first serves requests that name none."""

    def __init__(self, default: M, *others: M) -> None:
        self._by_name = {model.name: model for model in (default, *others)}
        self._default = default

    def get(self, name: bytes) -> M:
        """The model of this name, UTF-8, or the default one where the name is empty; raises BadInput."""
        if not name:
            return self._default
        text = name.decode("utf-8", errors="replace")
        if text not in self._by_name:  # whose bytes are not repeated: they may be anything
            raise BadInput(f"model must be {' or '.join(map(repr, self._by_name))}.")
        return self._by_name[text]

    def not_built(self, model: M) -> BadInput:
        """What to raise where one of its networks is not built: the caller can choose, the operator can build."""
        others = " or ".join(name for name in self._by_name if name != model.name)
        return BadInput(
            f"{model.name} is not available on this server; ask for {others}, or have its operator build it "
            f"(nexus-export build {model.build})."
        )
