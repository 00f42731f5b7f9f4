"""Stand-ins for the server and the terminal: the pipelines' answers, a transport in memory, and the command."""

# ruff: noqa: ARG002 - a stand-in keeps the original's parameters, used or not
from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nexus_client import PIPELINES, AsyncClient, Client, FillProgress, GenerativeFill, Tensors
from nexus_client.cli import app
from PIL import Image
from typer.testing import CliRunner

GREY = np.full((30, 40, 3), 90, np.uint8)
SCORE = 0.875  # exact in FP32


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def png_noise(height: int, width: int) -> bytes:
    """A PNG of several kilobytes, the same each time."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return png(Image.fromarray(pixels))


def size_of(encoded: bytes) -> tuple[int, int]:
    """The size of an image, or a fixed one for bytes that are no image."""
    try:
        return Image.open(io.BytesIO(encoded)).size
    except OSError:
        return (4, 3)


def answer(model: str, image: bytes, background: bytes = b"white") -> dict[str, Any]:
    """A pipeline's answer: a mask that is True in the left half, an image of one colour, a score."""
    size = size_of(image)
    half = np.zeros(size[::-1], np.uint8)
    half[:, : size[0] // 2] = 255
    colour = Image.new("RGBA" if background == b"transparent" else "RGB", size, (10, 20, 30))
    outputs = {
        "image": np.array([[png(colour)]], np.object_),
        "mask": np.array([[png(Image.fromarray(half))]], np.object_),
        "score": np.array([[SCORE]], np.float32),
    }
    names = {"segment": ("mask", "score"), "smart_remove": ("image", "mask", "score")}.get(model, ("image",))
    return {name: outputs[name] for name in names}


TIMINGS = {"text": 0.25, "vae_encode": 0.5, "denoise": 4.0, "vae_decode": 0.5, "total": 5.5}
NOTICES = ["the sdxl weights are random: it paints noise, not pictures."]


def fill_answers(inputs: Tensors) -> Iterator[Tensors]:
    """The answers of generative_fill: with `progress` one a step, previews red, and then the result."""
    size = size_of(inputs["image"].item())
    total = int(inputs["steps"].item()) if "steps" in inputs else 4
    every = int(inputs["preview_every"].item()) if "preview_every" in inputs else 0
    for step in range(1, total + 1 if "progress" in inputs else 1):
        outputs: dict[str, Any] = {
            "step": np.array([[step]], np.int32),
            "total": np.array([[total]], np.int32),
        }
        if every and step % every == 0:
            outputs["preview"] = np.array([[png(Image.new("RGB", size, "red"))]], np.object_)
        yield outputs
    seed = int(inputs["seed"].item()) if "seed" in inputs else 42
    yield {
        "image": np.array([[png(Image.new("RGB", size, (10, 20, 30)))]], np.object_),
        "seed": np.array([[seed]], np.int64),
        "model": np.array([[b"sdxl"]], np.object_),
        "timings": np.array([[json.dumps(TIMINGS).encode()]], np.object_),
        "notices": np.array([[json.dumps(NOTICES).encode()]], np.object_),
    }


class Call(NamedTuple):
    model: str
    inputs: Tensors
    timeout: float


class MockTransport:
    """A server in memory: raises the `faults`, one per call, then answers. Blocking.

    `break_after`: a stream gives so many answers and then raises the error, or with None ends as if it were
    complete. `cancelled`: for each stream that its reader closed early, how many answers it had given.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.faults: list[BaseException] = []
        self.is_ready = True
        self.models = set(PIPELINES)
        self.closed = False
        self.outputs: Tensors | None = None
        self.break_after: tuple[int, BaseException | None] | None = None
        self.cancelled: list[int] = []

    def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        self.calls.append(Call(model, inputs, timeout))
        if self.faults:
            raise self.faults.pop(0)
        background = inputs["background"].item() if "background" in inputs else b""
        return self.outputs or answer(model, inputs["image"].item(), background)

    def stream(self, model: str, inputs: Tensors, timeout: float) -> Generator[Tensors, None, None]:
        self.calls.append(Call(model, inputs, timeout))
        if self.faults:
            raise self.faults.pop(0)
        for number, outputs in enumerate(fill_answers(inputs)):
            if self.break_after is not None and number == self.break_after[0]:
                if self.break_after[1] is None:
                    return
                raise self.break_after[1]
            try:
                yield outputs
            except GeneratorExit:
                self.cancelled.append(number + 1)
                raise

    def live(self, timeout: float) -> bool:
        return True

    def ready(self, timeout: float) -> bool:
        return self.is_ready

    def model_ready(self, model: str, timeout: float) -> bool:
        return model in self.models

    def version(self, timeout: float) -> str:
        return "2.51.0"

    def close(self) -> None:
        self.closed = True


class AsyncMockTransport:
    """The same, awaited."""

    def __init__(self, mock: MockTransport) -> None:
        self.mock = mock

    async def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        return self.mock.infer(model, inputs, timeout)

    async def stream(self, model: str, inputs: Tensors, timeout: float) -> AsyncGenerator[Tensors, None]:
        with closing(self.mock.stream(model, inputs, timeout)) as answers:
            for outputs in answers:
                yield outputs

    async def live(self, timeout: float) -> bool:
        return self.mock.live(timeout)

    async def ready(self, timeout: float) -> bool:
        return self.mock.ready(timeout)

    async def model_ready(self, model: str, timeout: float) -> bool:
        return self.mock.model_ready(model, timeout)

    async def version(self, timeout: float) -> str:
        return self.mock.version(timeout)

    async def close(self) -> None:
        self.mock.close()


Events = list[FillProgress | GenerativeFill]
Fill = Callable[..., Events]


def fill_blocking(mock: MockTransport, **options: Any) -> Events:
    """Every event of a stream."""
    with Client(transport=mock) as client:
        return list(client.generative_fill_stream(GREY, GREY, "a bench", **options))


def fill_asynchronous(mock: MockTransport, **options: Any) -> Events:
    """The same under asyncio."""

    async def main() -> Events:
        async with AsyncClient(transport=AsyncMockTransport(mock)) as client:
            return [event async for event in client.generative_fill_stream(GREY, GREY, "a bench", **options)]

    return asyncio.run(main())


class Nexus:
    """Runs `nexus` in a folder that holds photo.png (40 x 30) and mask.png."""

    def __init__(self, mock: MockTransport, folder: Path) -> None:
        self.mock = mock
        self.folder = folder
        self.urls: list[str] = []

    def __call__(self, *args: str, env: dict[str, str] | None = None) -> Any:
        environment = {"NEXUS_URL": None, **(env or {})}
        return CliRunner().invoke(app, list(args), env=environment, catch_exceptions=False)

    def transport(self, url: str) -> MockTransport:
        self.urls.append(url)
        return self.mock

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"photo.png", "mask.png"}
