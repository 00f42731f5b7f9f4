"""The base of every model.py: one event loop, in which each request is a task. Knows nothing of images."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from nexus_ensembles.imaging import photo_store
from nexus_ensembles.triton.admission import Admission
from nexus_ensembles.triton.batching import StepBatcher
from nexus_ensembles.triton.metrics import InFlight
from nexus_ensembles.triton.networks import NetworkCalls
from nexus_ensembles.triton.signature import Signature

# The parameters of a config that list the networks which the pipeline may call. nexus-server drops the lists but the
# first whose networks are not built.
LISTS = ("networks", "optional_networks", "fallback_networks")


class Pipeline:
    """Each request is a task of one event loop: it answers as soon as it is done, and fails alone.

    While one request waits for a network the others go on, so that their calls meet in the network's queue and share
    its batches. Each call of a network first looks for a cancellation: when the client cancels, its deadline passes or
    its connection breaks, no call after the one under way is made.

    The config's parameters, each with a default that suits a small pipeline:

    networks, ...       the networks that it may call, in LISTS; without `networks`, all that the server has
    max_in_flight       requests that are admitted; more are refused at once
    max_at_work         of these, the requests that work at once and hold decoded photos; the others wait their turn
    shared_networks     networks of which equal calls, under way at the same time, are made once
    photo_store_bytes   the bound of what is kept of photos; without it nothing is, and none is taken by reference
    loop_networks       networks that are called in a loop, whose calls leave together: see `StepBatcher`
    batch_rows          how many rows the calls of a loop_network may have together

    A request with an empty image, the supervisor's probe, is refused by the pipeline once the network calls that it
    found under way have ended: while a network hangs, it gets no answer. It counts neither in the metrics nor towards
    the limits.
    """

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        listed = {network for key in LISTS for network in parameters.get(key, "").split()}
        max_in_flight = int(parameters.get("max_in_flight", "64"))
        max_at_work = min(int(parameters.get("max_at_work", "8")), max_in_flight)
        self._signature = Signature(config)
        self._admission = Admission(
            self._signature.name, max_in_flight, max_at_work, InFlight(self._signature.name).show
        )
        self._calls = NetworkCalls(
            listed if "networks" in parameters else None,
            parameters.get("shared_networks", "").split(),
            StepBatcher(parameters.get("loop_networks", "").split(), int(parameters.get("batch_rows", "1"))),
        )
        self._store = photo_store.from_parameters(parameters)
        self.load(Path(args["model_repository"]) / args["model_version"], parameters)
        # A loop of our own. In Triton's, a request that ends at once, refused, races with the bookkeeping of its
        # coroutine, which then stays in memory and leaves an error in the log.
        self._loop = asyncio.new_event_loop()
        # A request is in one thread at a time, in a BLS call or at work on a picture; so is a probe.
        self._loop.set_default_executor(ThreadPoolExecutor(max_at_work + 1))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            asyncio.run_coroutine_threadsafe(self._serve(request), self._loop)

    def finalize(self) -> None:
        """Stop the loop; Triton calls this when every request has had its last response."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def load(self, folder: Path, parameters: dict[str, str]) -> None:
        """Prepare the subclass; `folder` is the model's version, `parameters` the config's."""

    async def answer(self, request: Any, sender: Any) -> None:
        """Send every response to `request`, the last by `send_last`; or raise, having sent none flagged as last."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """Take note of `error`, which ends a request."""

    async def _serve(self, request: Any) -> None:
        """Answer a request, whatever happens: one without a last response would hang, and Triton with it."""
        sender = request.get_response_sender()
        is_probe = _has_empty_image(request)
        try:
            if is_probe:
                await self._calls.drain()
                await self.answer(request, sender)
            else:
                async with self._admission.place(request.is_cancelled, request.timeout() / 1e6):
                    await self.answer(request, sender)
        except Exception as error:
            if not is_probe:
                self.failed(error)
            send_last(sender, self._signature.failure(error))


def send_last(sender: Any, response: Any) -> None:
    """Send `response` with the flag that it is the last."""
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _has_empty_image(request: Any) -> bool:
    return any(tensor.name() == "image" and not any(tensor.as_numpy().flat) for tensor in request.inputs())
