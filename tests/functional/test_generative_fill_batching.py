"""Concurrent fills: steps share executions, a short fill overtakes a long one, and no result changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc
from nexus_client import Client, FillProgress
from PIL import Image

from tests.functional.support.deployment import fewest_executions
from tests.functional.support.fills import PHOTO, PROMPT, SIZE, Meter, hole

MASK = hole(*SIZE)


def fill(client: Client, steps: int, seed: int = 42) -> npt.NDArray[np.uint8]:
    """A fill of exactly `steps` calls of the UNet, UINT8 [400, 600, 3]."""
    return np.asarray(client.generative_fill(PHOTO, MASK, PROMPT, steps=steps, strength=1.0, seed=seed).image)


def test_the_steps_of_eight_fills_share_executions(
    client: Client, triton: grpc.InferenceServerClient
) -> None:
    steps = [50, 4, 30, 50, 20, 50, 10, 40]

    def attempt(_: int) -> int:
        meter = Meter(triton)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: fill(client, number), steps))
        work = meter.work()
        assert work.calls == sum(steps)
        return work.executions

    # A third of the executions of sequential fills; the minimum, the steps of the longest fill, is a fifth.
    fewest_executions(attempt, sum(steps) / 3)


def test_fills_of_two_sizes_share_executions_by_size(
    client: Client, triton: grpc.InferenceServerClient
) -> None:
    """Requests of two sizes alternate. Triton ends a batch where the size changes, so two sizes need at least 80."""
    tall = Image.open(PHOTO).crop((150, 0, 350, 400))
    pictures = [(PHOTO, MASK), (tall, hole(*tall.size))] * 4

    def paint(picture: tuple[Path | Image.Image, npt.NDArray[np.bool_]]) -> None:
        photo, mask = picture
        client.generative_fill(photo, mask, PROMPT, steps=40, strength=1.0)

    def attempt(_: int) -> int:
        meter = Meter(triton)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(paint, pictures))
        work = meter.work()
        assert work.calls == 8 * 40
        return work.executions

    # Three tenths more for fills that start or end alone.
    fewest_executions(attempt, 2 * 40 * 1.3)


def test_a_short_fill_overtakes_a_long_one(client: Client) -> None:
    long = client.generative_fill_stream(PHOTO, MASK, PROMPT, steps=50, strength=1.0)
    assert isinstance(next(long), FillProgress)  # it has started
    with ThreadPoolExecutor(2) as pool:
        ended: list[str] = []
        pool.submit(list, long).add_done_callback(lambda _: ended.append("long"))
        pool.submit(fill, client, 4).add_done_callback(lambda _: ended.append("short"))
    assert ended == ["short", "long"]


def test_batching_changes_no_pixel(client: Client) -> None:
    """Not one bit, although the rows of a batch are one run of onnxruntime on a CPU as well."""
    alone = fill(client, 6, seed=1)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: fill(client, 6, seed), [1, *range(2, 9)]))
    np.testing.assert_array_equal(together[0], alone)
    for other in together[1:]:  # another seed gives another picture
        assert (other != alone).any()
