"""Fills on a real server: requests, the work of the networks, and a UNet that a test can make fail or slow down."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import np_to_triton_dtype

from tests.functional.support.deployment import MODELS, PHOTOS

PHOTO = PHOTOS / "coffee.jpg"
PROMPT = "a slice of cake on a plate"
SIZE = (600, 400)
TIERS = ("sdxl", "sd15")
PARTS = ("text_encoder", "vae_encoder", "unet", "vae_decoder")
NETWORKS = tuple(f"{tier}_{part}" for tier in TIERS for part in PARTS)
# Long enough for a cancellation by the client to arrive during the current step.
SLOW_STEP_S = 0.4
# How long the circuit breaker stays open on the server that can be made to fail.
COOL_DOWN_S = 1.0


def hole(width: int, height: int) -> npt.NDArray[np.bool_]:
    """A rectangle off the middle, BOOL [height, width]."""
    mask = np.zeros((height, width), np.bool_)
    mask[height // 3 : height // 2, width // 3 : width // 2] = True
    return mask


def tensors(**values: Any) -> list[grpc.InferInput]:
    """The inputs of a raw request: bytes, or a number with numpy's type."""
    inputs = []
    for name, value in values.items():
        array = np.array([[value]], np.object_ if isinstance(value, bytes) else None)
        tensor = grpc.InferInput(name, [1, 1], np_to_triton_dtype(array.dtype))
        inputs.append(tensor.set_data_from_numpy(array))
    return inputs


@dataclass(frozen=True)
class Work:
    """The work of a UNet: its executions, and the calls by fills, one for each step."""

    executions: int = 0
    calls: int = 0


class Meter:
    """Counts the work of `network` for fills with guidance, whose calls have two rows each.

    The supervisor's probes, of one row, do not count, whether alone or in a batch with calls.
    """

    def __init__(self, triton: grpc.InferenceServerClient, network: str = "sdxl_unet") -> None:
        self._triton, self._network = triton, network
        self._before = self._now()

    def work(self) -> Work:
        now = self._now()
        return Work(now.executions - self._before.executions, now.calls - self._before.calls)

    def settled(self) -> Work:
        """Wait until nothing is added for longer than a step takes; return the work so far."""
        last = None
        while last != (last := self.work()):
            time.sleep(2 * SLOW_STEP_S)
        return last

    def calls_from_now(self) -> int:
        """Wait as `settled`; return how many calls ended meanwhile: one, if only the call in flight continued."""
        now = self.work().calls
        return self.settled().calls - now

    def _now(self) -> Work:
        work = Work()
        for batch in self._triton.get_inference_statistics(self._network).model_stats[0].batch_stats:
            if calls := batch.batch_size // 2:
                count = batch.compute_infer.count
                work = Work(work.executions + count, work.calls + calls * count)
        return work


@dataclass(frozen=True)
class Switches:
    """The UNets of a repository made by `faulty_repository`."""

    models: Path

    @contextmanager
    def full(self, *tiers: str) -> Iterator[None]:
        """The UNets of `tiers` are out of memory."""
        with self._set("full", *tiers):
            yield

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Each execution of SDXL's UNet takes SLOW_STEP_S longer."""
        with self._set(str(SLOW_STEP_S), "sdxl"):
            yield

    @contextmanager
    def hung(self) -> Iterator[None]:
        """An execution of SDXL's UNet that begins now does not end; one that begins after the block does."""
        with self._set("3600", "sdxl"):
            yield

    @contextmanager
    def fast(self) -> Iterator[None]:
        """Back to normal, inside `slow`, and from then on."""
        with self._set("0", "sdxl"):
            yield

    @contextmanager
    def _set(self, word: str, *tiers: str) -> Iterator[None]:
        for tier in tiers:
            self._turn(tier, word)
        try:
            yield
        finally:
            for tier in tiers:
                self._turn(tier, "0")

    def _turn(self, tier: str, word: str) -> None:
        """Atomically: an execution must not find the file empty."""
        path = self.models / f"{tier}_unet/1/switch"
        path.with_name("turned").write_text(word)
        path.with_name("turned").replace(path)


def faulty_repository(folder: Path) -> Switches:
    """Write a repository with only generative fill to `folder`; each UNet has a switch, and tiers recover quickly."""
    for name in NETWORKS:
        shutil.copytree(MODELS / name, folder / name)
    for tier in TIERS:
        unet = folder / f"{tier}_unet"
        with (unet / "config.pbtxt").open("a") as config:
            config.write('\nbackend: "python"\n')
        shutil.copy2(Path(__file__).with_name("faulty_unet.py"), unet / "1/model.py")
        (unet / "1/switch").write_text("0")
    fill = folder / "generative_fill"
    shutil.copytree(MODELS / "generative_fill", fill)
    config = ModelConfig()
    text_format.Parse((fill / "config.pbtxt").read_text(), config)
    config.parameters["cool_down_seconds"].string_value = str(COOL_DOWN_S)
    (fill / "config.pbtxt").write_text(text_format.MessageToString(config))
    return Switches(folder)
