"""The models of a pipeline, from which a request chooses by name."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from nexus_ensembles.errors import BadInput


@dataclass(frozen=True)
class Model:
    """A choice. `build` are the arguments of `nexus-export build` that make its networks."""

    name: str
    build: str


M = TypeVar("M", bound=Model)


class Models(Generic[M]):
    """The choices; the default serves requests that name none."""

    def __init__(self, default: M, *others: M) -> None:
        self._by_name = {model.name: model for model in (default, *others)}
        self._default = default

    def get(self, name: str) -> M:
        """Find a model by its name; an empty name means the default. Raises BadInput for an unknown one."""
        if not name:
            return self._default
        if name not in self._by_name:  # not repeated to the caller: it may be any text
            raise BadInput(f"model must be {' or '.join(map(repr, self._by_name))}.")
        return self._by_name[name]

    def not_built(self, model: M) -> BadInput:
        """The error for a model whose networks are not built: the caller can choose, the operator can build."""
        others = " or ".join(name for name in self._by_name if name != model.name)
        return BadInput(
            f"{model.name} is not available on this server; ask for {others}, or have its operator build it "
            f"(nexus-export build {model.build})."
        )
