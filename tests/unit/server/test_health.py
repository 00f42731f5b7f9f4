"""What is asked of a model, and which answers mean that it no longer serves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import text_format
from nexus_server.health import Prober, StubWatch, probe_inputs
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

MODELS = Path(__file__).parents[3] / "model_repository"


def config(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def committed(name: str) -> ModelConfig:
    return config((MODELS / name / "config.pbtxt").read_text())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("lama", {"image": ("UINT8", [1, 64, 64, 3]), "mask": ("UINT8", [1, 64, 64, 1])}),
        ("u2net", {"image": ("UINT8", [1, 320, 320, 3])}),
        (
            "sam_decoder",
            {
                "embedding": ("FP32", [1, 256, 64, 64]),
                "points": ("FP32", [1, 64, 2]),
                "labels": ("FP32", [1, 64]),
                "mask_input": ("FP32", [1, 1, 256, 256]),
                "has_mask": ("FP32", [1, 1]),
            },
        ),
        ("segment", {"image": ("BYTES", [1, 1])}),
        ("cleanup", {"image": ("BYTES", [1, 1]), "mask": ("BYTES", [1, 1])}),
    ],
)
def test_a_probe_is_the_smallest_input(model: str, expected: dict[str, Any]) -> None:
    inputs = probe_inputs(committed(model))
    assert {item.name(): (item.datatype(), item.shape()) for item in inputs} == expected
    for item in inputs:
        content = item._get_content()
        assert content == bytes(len(content))  # zeros; an empty string is its length, zero


class Server:
    """A client of a server with one model, "lama", that answers as told."""

    def __init__(self, error: InferenceServerException | None = None) -> None:
        self.error = error
        self.answered = 0
        self.probed: list[str] = []

    async def infer(self, name: str, _: Any, **__: Any) -> None:
        self.probed.append(name)
        if self.error:
            raise self.error
        self.answered += 1

    async def get_inference_statistics(self, _: str, **__: Any) -> Any:
        success = SimpleNamespace(count=self.answered)
        return SimpleNamespace(
            model_stats=[SimpleNamespace(inference_stats=SimpleNamespace(success=success))]
        )


def failures(server: Server, text: str = 'name: "lama"') -> list[str]:
    return asyncio.run(Prober(server, {"lama": config(text)}).failures())


def test_an_answer_is_health() -> None:
    server = Server()
    assert failures(server) == []
    assert server.probed == ["lama"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("StatusCode.INVALID_ARGUMENT", "the image is empty."),
        ("StatusCode.UNAVAILABLE", "Exceeds maximum queue size"),
    ],
)
def test_a_refusal_is_a_model_at_work(status: str, message: str) -> None:
    assert failures(Server(InferenceServerException(message, status))) == []


@pytest.mark.parametrize(
    ("status", "message", "sentence"),
    [
        (
            "StatusCode.INTERNAL",
            "Stub process 'lama_0' is not healthy.",
            "lama does not serve (Stub process 'lama_0' is not healthy.)",
        ),
        ("StatusCode.INTERNAL", "first line\nsecond line", "lama does not serve (first line)"),
        ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded", "lama has answered nothing for 30 s"),
    ],
)
def test_what_is_no_health(status: str, message: str, sentence: str) -> None:
    assert failures(Server(InferenceServerException(message, status))) == [sentence]


def test_a_model_that_answered_others_meanwhile_is_busy() -> None:
    class Busy(Server):
        async def infer(self, *_: Any, **__: Any) -> None:
            self.answered += 1
            raise InferenceServerException("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED")

    assert failures(Busy()) == []


def test_a_model_that_answers_callers_is_not_probed() -> None:
    server = Server()
    prober = Prober(server, {"lama": config('name: "lama"')})

    async def looks() -> None:
        for calls in (1, 1, 0, 0):
            server.answered += calls
            assert await prober.failures() == []

    asyncio.run(looks())
    assert len(server.probed) == 2


def test_a_model_with_a_cache_is_not_probed() -> None:
    server = Server(InferenceServerException("never asked", "StatusCode.INTERNAL"))
    assert failures(server, "response_cache { enable: true }") == []
    assert server.probed == []


def test_a_dead_process_is_seen() -> None:
    """A child that ends, unreaped, is what a killed stub is to tritonserver."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'input()'], "
            "stdin=subprocess.PIPE); print(child.pid, flush=True); input(); child.kill(); print(flush=True); "
            "time.sleep(60)",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    try:
        child = int(parent.stdout.readline())
        watch = StubWatch(parent.pid)
        assert watch.pids == [child]
        assert watch.dead() == []
        parent.stdin.write("\n")
        parent.stdin.flush()
        parent.stdout.readline()
        while not watch.dead():  # the kernel may take a moment; the suite's timeout bounds it
            pass
        assert len(watch.dead()) == 1
    finally:
        parent.kill()
        parent.wait()
