"""Pipelines that answer in a stream, inside Triton's Python backend."""

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

from nexus_ensembles.errors import OutOfMemory
from nexus_ensembles.generative_fill import GenerativeFill, Progress, Result
from nexus_ensembles.networks import Array
from nexus_ensembles.triton import data_urls
from nexus_ensembles.triton.metrics import FillMetrics
from nexus_ensembles.triton.networks import NetworkCalls, TritonNetworks
from nexus_ensembles.triton.pipeline import Pipeline, send_last

# The outputs that are files, which go back as data URLs where the image came as one.
MEDIA_TYPES = {"image": "image/png", "preview": "image/jpeg"}


class StreamingPipeline(Pipeline):
    """The base of a model.py that answers in a stream; the subclass sets `pipeline`."""

    pipeline: type[GenerativeFill]

    def load(self, folder: Path, parameters: dict[str, str]) -> None:
        self._pipeline = self.pipeline.load(folder, parameters)
        self._metrics = FillMetrics(self._pipeline.breaker_open, self._calls.served or ())

    def failed(self, error: Exception) -> None:
        self._metrics.ended(error, self._pipeline.breaker_open)

    async def answer(self, request: Any, sender: Any) -> None:
        inputs = self._signature.values(request)
        # Without progress there is one response, as HTTP's `generate` needs it.
        has_progress = inputs.pop("progress", False) or inputs.get("preview_every", 0) > 0
        as_text = data_urls.is_data_url(inputs["image"])
        for name, value in inputs.items():
            if isinstance(value, bytes) and data_urls.is_data_url(value):
                # In a thread: base64 of the largest file takes half a second.
                inputs[name] = await asyncio.to_thread(data_urls.decode, value, name)
        networks = _CountedNetworks(request, self._calls, self._metrics)
        async with aclosing(self._pipeline.run(networks, **inputs, **self._store)) as events:
            async for event in events:
                if isinstance(event, Result):
                    self._metrics.painted(event.model, self._pipeline.breaker_open)
                    outputs = await asyncio.to_thread(_outputs, event, as_text)
                    send_last(sender, self._signature.response(outputs))
                elif has_progress:
                    sender.send(self._signature.response(_outputs(event, as_text)))


class _CountedNetworks(TritonNetworks):
    """The networks, with a count of the calls for which one had no memory."""

    def __init__(self, request: Any, calls: NetworkCalls, metrics: FillMetrics) -> None:
        super().__init__(request, calls)
        self._metrics = metrics

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        try:
            return await super().run_rows(network, **inputs)
        except OutOfMemory:
            self._metrics.out_of_memory(network)
            raise


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
