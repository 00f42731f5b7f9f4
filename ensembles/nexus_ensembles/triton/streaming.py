"""generative_fill inside Triton's Python backend: requests to streams of responses, many at once in one process."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from nexus_ensembles.errors import BadInput, Overloaded
from nexus_ensembles.generative_fill import GenerativeFill, Progress, Result
from nexus_ensembles.triton import data_urls
from nexus_ensembles.triton.batching import Departures
from nexus_ensembles.triton.metrics import FillMetrics
from nexus_ensembles.triton.unary import Signature, TritonNetworks, failure

# The inputs that are files, which may come as data URLs, and the outputs that go back as such.
FILES = ("image", "mask")
MEDIA_TYPES = {"image": "image/png", "preview": "image/jpeg"}


class StreamingPipeline:
    """The base of generative_fill's model.py: every request is a task of one event loop.

    While one fill waits for a network the others go on, so that their calls, each a step of another fill, meet in the
    network's queue and share its batches. Cancelling is looked for before each call of a network: when the client
    cancels, its deadline passes or its connection breaks, no call after the one under way is made.

    A request with an empty image, as the supervisor's probe has it, is refused once the networks' calls that it found
    under way have ended; it is no fill to the metrics and to the limit.
    """

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._name: str = config["name"]
        self._signature = Signature(config)
        # Triton hands over every request at once, and all that are under way hold memory.
        self._limit = int(parameters["max_in_flight"])
        self._in_flight = 0
        folder = Path(args["model_repository"]) / args["model_version"]
        self._pipeline = GenerativeFill.load(folder, parameters)
        networks = f"{parameters['networks']} {parameters.get('fallback_networks', '')}".split()
        rows = int(parameters["batch_rows"])
        self._departures = {network: Departures(rows) for network in parameters["loop_networks"].split()}
        # The calls of networks that are under way.
        self._calls: set[asyncio.Future[Any]] = set()
        self._metrics = FillMetrics(self._pipeline.left_out, networks)
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
        """Triton calls this when every request has had its last response."""
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
                # The supervisor asks whether fills are served. One whose network hangs would never say so.
                if self._calls:
                    await asyncio.wait(set(self._calls))
            elif self._in_flight > self._limit:
                raise Overloaded(f"{self._name} is busy with {self._limit} requests; try again.")
            await self._stream(request, sender)
        except Exception as error:
            if not is_probe:
                self._metrics.ended(error, self._pipeline.left_out)
            _send_last(sender, failure(self._name, error))
        finally:
            self._in_flight -= fills
            self._metrics.in_flight(self._in_flight)

    async def _stream(self, request: Any, sender: Any) -> None:
        inputs = self._signature.values(request)
        # Who asks for no progress gets one response, as HTTP's `generate` needs it.
        has_progress = inputs.pop("progress", False) or inputs.get("preview_every", 0) > 0
        as_text = data_urls.is_data_url(inputs["image"])
        # In a thread: base64 of the largest file takes half a second.
        inputs = {name: await asyncio.to_thread(_readable, name, value) for name, value in inputs.items()}
        networks = TritonNetworks(
            request,
            departures=self._departures,
            under_way=self._calls,
            out_of_memory=self._metrics.out_of_memory,
        )
        async with aclosing(self._pipeline.run(networks, **inputs)) as events:
            async for event in events:
                if isinstance(event, Result):
                    self._metrics.painted(event.model, self._pipeline.left_out)
                    outputs = await asyncio.to_thread(_outputs, event, as_text)
                    _send_last(sender, self._signature.response(outputs))
                elif has_progress:
                    sender.send(self._signature.response(_outputs(event, as_text)))


def _has_empty_image(request: Any) -> bool:
    return any(tensor.name() == "image" and not any(tensor.as_numpy().flat) for tensor in request.inputs())


def _send_last(sender: Any, response: Any) -> None:
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _readable(name: str, value: Any) -> Any:
    """An input as the pipeline takes it: files as bytes, other strings as text. Raises BadInput."""
    if not isinstance(value, bytes):
        return value
    if name in FILES:
        return data_urls.decode(value, name) if data_urls.is_data_url(value) else value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not text in UTF-8.") from error


def _outputs(event: Progress | Result, as_text: bool) -> dict[str, Any]:
    """The fields of an event by name: what is not there left out, what has parts as JSON, files as asked."""
    outputs: dict[str, Any] = {}
    for name, value in vars(event).items():
        if isinstance(value, bytes) and as_text:
            outputs[name] = data_urls.encode(value, MEDIA_TYPES[name])
        elif isinstance(value, (dict, tuple)):
            outputs[name] = json.dumps(value)
        elif value is not None:
            outputs[name] = value
    return outputs
