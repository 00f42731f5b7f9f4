"""Pipelines of one response a request, inside Triton's Python backend."""

from collections.abc import Awaitable, Callable
from typing import Any

from nexus_ensembles.triton.networks import TritonNetworks
from nexus_ensembles.triton.pipeline import Pipeline, send_last


class UnaryPipeline(Pipeline):
    """The base of a model.py with one response a request.

    A subclass sets `run`, a coroutine function that takes a Networks and the config's inputs by name, and returns
    the config's outputs by name. See `Pipeline` for the config's parameters.
    """

    run: Callable[..., Awaitable[dict[str, Any]]]

    async def answer(self, request: Any, sender: Any) -> None:
        outputs = await type(self).run(
            TritonNetworks(request, self._calls), **self._signature.values(request), **self._store
        )
        send_last(sender, self._signature.response(outputs))
