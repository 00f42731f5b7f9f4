"""Pipelines that answer in a stream, inside Triton's Python backend: many requests at once in one process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from nexus_ensembles.errors import OutOfMemory, Overloaded
from nexus_ensembles.generative_fill import GenerativeFill, Progress, Result
from nexus_ensembles.networks import Array
from nexus_ensembles.triton import data_urls
from nexus_ensembles.triton.batching import Batching, StepBatcher
from nexus_ensembles.triton.metrics import FillMetrics
from nexus_ensembles.triton.networks import TritonNetworks
from nexus_ensembles.triton.signature import Signature

# The outputs that are files, which go back as data URLs where the image came as one.
MEDIA_TYPES = {"image": "image/png", "preview": "image/jpeg"}


class StreamingPipeline:
    """The base of a model.py whose requests are tasks of one event loop; the subclass sets `pipeline`.

    While one fill waits for a network the others go on, so that their calls, each a step of another fill, meet in the
    network's queue and share its batches. Each call of a network first looks for a cancellation: when the client
    cancels, its deadline passes or its connection breaks, no call after the one under way is made.

    A request with an empty image, the supervisor's probe, is refused once the network calls that it found under way
    have ended; it counts neither in the metrics nor towards the limit.
    """

    pipeline: type[GenerativeFill]

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._signature = Signature(config)
        # Triton hands over every request at once, and all that are under way hold memory.
        self._limit = int(parameters["max_in_flight"])
        self._in_flight = 0
        folder = Path(args["model_repository"]) / args["model_version"]
        self._pipeline = self.pipeline.load(folder, parameters)
        self._served = f"{parameters['networks']} {parameters.get('fallback_networks', '')}".split()
        self._metrics = FillMetrics(self._pipeline.breaker_open, self._served)
        batcher = StepBatcher(parameters["loop_networks"].split(), int(parameters["batch_rows"]))
        self._calls = _WatchedCalls(batcher, self._metrics)
        # A loop of our own. In Triton's, a request that ends at once, refused, races with the bookkeeping of its
        # coroutine, which then stays in memory and leaves an error in the log.
        self._loop = asyncio.new_event_loop()
        # A fill is in one thread at a time: in a BLS call or at work on a picture.
        self._loop.set_default_executor(ThreadPoolExecutor(self._limit))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            asyncio.run_coroutine_threadsafe(self._serve(request), self._loop)

    def finalize(self) -> None:
        """Stop the loop; Triton calls this when every request has had its last response."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self, request: Any) -> None:
        """Answer a request, whatever happens: one without a last response would hang, and Triton with it."""
        sender = request.get_response_sender()
        is_probe = _has_empty_image(request)
        fills = 0 if is_probe else 1
        self._in_flight += fills
        self._metrics.in_flight(self._in_flight)
        try:
            if is_probe:
                # It asks whether fills are served: while a network hangs, it must get no answer.
                await self._calls.drain()
            elif self._in_flight > self._limit:
                raise Overloaded(f"{self._signature.name} is busy with {self._limit} requests; try again.")
            await self._stream(request, sender)
        except Exception as error:
            if not is_probe:
                self._metrics.ended(error, self._pipeline.breaker_open)
            _send_last(sender, self._signature.failure(error))
        finally:
            self._in_flight -= fills
            self._metrics.in_flight(self._in_flight)

    async def _stream(self, request: Any, sender: Any) -> None:
        inputs = self._signature.values(request)
        # Without progress there is one response, as HTTP's `generate` needs it.
        has_progress = inputs.pop("progress", False) or inputs.get("preview_every", 0) > 0
        as_text = data_urls.is_data_url(inputs["image"])
        for name, value in inputs.items():
            if isinstance(value, bytes) and data_urls.is_data_url(value):
                # In a thread: base64 of the largest file takes half a second.
                inputs[name] = await asyncio.to_thread(data_urls.decode, value, name)
        networks = TritonNetworks(request, self._served, self._calls)
        async with aclosing(self._pipeline.run(networks, **inputs)) as events:
            async for event in events:
                if isinstance(event, Result):
                    self._metrics.painted(event.model, self._pipeline.breaker_open)
                    outputs = await asyncio.to_thread(_outputs, event, as_text)
                    _send_last(sender, self._signature.response(outputs))
                elif has_progress:
                    sender.send(self._signature.response(_outputs(event, as_text)))


class _WatchedCalls:
    """Batching that also keeps the calls under way, and counts those for which a network had no memory."""

    def __init__(self, batching: Batching, metrics: FillMetrics) -> None:
        self._batching = batching
        self._metrics = metrics
        self._under_way: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def join(self, network: str, inputs: Mapping[str, Array]) -> AsyncIterator[None]:
        """See `Batching`."""
        async with self._batching.join(network, inputs):
            ended = asyncio.get_running_loop().create_future()
            self._under_way.add(ended)
            try:
                yield
            except OutOfMemory:
                self._metrics.out_of_memory(network)
                raise
            finally:
                self._under_way.discard(ended)
                ended.set_result(None)

    async def drain(self) -> None:
        """Return when the calls that are now under way have ended."""
        if self._under_way:
            await asyncio.wait(set(self._under_way))


def _has_empty_image(request: Any) -> bool:
    return any(tensor.name() == "image" and not any(tensor.as_numpy().flat) for tensor in request.inputs())


def _send_last(sender: Any, response: Any) -> None:
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _outputs(event: Progress | Result, as_text: bool) -> dict[str, Any]:
    """The fields of an event by name: None left out, dicts and tuples as JSON, files as data URLs if `as_text`."""
    outputs: dict[str, Any] = {}
    for name, value in vars(event).items():
        if isinstance(value, bytes) and as_text:
            outputs[name] = data_urls.encode(value, MEDIA_TYPES[name])
        elif isinstance(value, (dict, tuple)):
            outputs[name] = json.dumps(value)
        elif value is not None:
            outputs[name] = value
    return outputs
