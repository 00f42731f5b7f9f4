"""Pipelines of one response a request, inside Triton's Python backend. Knows nothing of images."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nexus_ensembles.triton.batching import BatchBarrier
from nexus_ensembles.triton.networks import TritonNetworks
from nexus_ensembles.triton.signature import Signature


class UnaryPipeline:
    """The base of a model.py: every request of a batch runs as a coroutine of its own, and fails alone.

    A subclass sets `run`, a coroutine function that takes a Networks and the config's inputs by name, and returns
    the config's outputs by name. The config's parameter `networks` lists the networks that it calls, and
    `optional_networks` those that it can do without; nexus-server drops the ones that are not built. Without a
    `networks`, it may call all that the server has.
    """

    run: Callable[..., Awaitable[dict[str, Any]]]

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._threads = ThreadPoolExecutor(4 * config["max_batch_size"])
        self._signature = Signature(config)
        parameters = config["parameters"]
        lists = [
            parameters[key]["string_value"] for key in ("networks", "optional_networks") if key in parameters
        ]
        self._served = set(" ".join(lists).split()) if "networks" in parameters else None

    async def execute(self, requests: list[Any]) -> list[Any]:
        # BLS and asyncio.to_thread both wait in the loop's default executor, usually the cores plus four: too few on
        # a small machine for the calls of a whole batch to leave together.
        asyncio.get_running_loop().set_default_executor(self._threads)
        barrier = BatchBarrier(len(requests))
        return await asyncio.gather(*(self._respond(request, barrier) for request in requests))

    async def _respond(self, request: Any, barrier: BatchBarrier) -> Any:
        try:
            inputs = self._signature.values(request)
            networks = TritonNetworks(request, self._served, barrier)
            outputs = await type(self).run(networks, **inputs)
        except Exception as error:  # one request's fault must not fail its batch
            return self._signature.failure(error)
        finally:
            barrier.leave()
        return self._signature.response(outputs)
