"""Stand-ins for the server: a transport in memory, a gRPC server on loopback, and the command."""

# ruff: noqa: ARG002 - a stand-in has the parameters of what it stands for, used or not
from __future__ import annotations

import io
import time
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from nexus_client import PIPELINES, Tensors
from nexus_client.cli import app
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor
from typer.testing import CliRunner

SCORE = 0.875  # exact in FP32


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def size_of(encoded: bytes) -> tuple[int, int]:
    """The size of an image, or a fixed one for bytes that are none."""
    try:
        return Image.open(io.BytesIO(encoded)).size
    except OSError:
        return (4, 3)


def answer(model: str, image: bytes, background: bytes = b"white") -> dict[str, Any]:
    """What a pipeline returns: a mask that is True in the left half, an image of one colour, a score."""
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


class Call(NamedTuple):
    model: str
    inputs: Tensors
    timeout: float


class MockTransport:
    """A server in memory: raises what `faults` holds, one per call, then answers. Blocking."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.faults: list[Exception] = []
        self.is_ready = True
        self.models = set(PIPELINES)
        self.closed = False
        self.outputs: Tensors | None = None

    def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        self.calls.append(Call(model, inputs, timeout))
        if self.faults:
            raise self.faults.pop(0)
        background = inputs["background"].item() if "background" in inputs else b""
        return self.outputs or answer(model, inputs["image"].item(), background)

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


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """A real gRPC server on 127.0.0.1 with the faults of a real Triton."""

    def __init__(self) -> None:
        self.faults: list[tuple[grpc.StatusCode, str]] = []
        self.requests: list[Any] = []
        self.is_ready = True
        self.models = set(PIPELINES)
        self.delay_seconds = 0.0
        self.port = 0
        self._server: grpc.Server | None = None

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen on the port of the last start, or on a free one the first time."""
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Break every connection at once, as a killed process does."""
        assert self._server is not None
        self._server.stop(grace=0).wait()

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if self.faults:
            context.abort(*self.faults.pop(0))
        time.sleep(self.delay_seconds)
        contents = {
            tensor.name: raw for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        image = deserialize_bytes_tensor(contents["image"]).item()
        for name, array in answer(request.model_name, image).items():
            datatype = "BYTES" if array.dtype == np.object_ else "FP32"
            response.outputs.add(name=name, datatype=datatype, shape=array.shape)
            content = array.tobytes()
            if datatype == "BYTES":
                content = len(array.item()).to_bytes(4, "little") + array.item()
            response.raw_output_contents.append(content)
        return response

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=self.is_ready)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name in self.models)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")


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
