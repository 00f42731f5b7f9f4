"""segment and smart_remove with SAM 2 on a real Triton, with random weights and therefore random masks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import tritonclient.grpc as grpc
from nexus_client import Client, Segmentation
from nexus_server.local import LocalServer
from PIL import Image

from tests.functional.support.deployment import MODELS, PHOTOS, ROOT, executions, fewest_executions, subset
from tests.functional.support.photos import unique_photo

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

NETWORKS = ("sam2_encoder", "sam2_decoder")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """segment and smart_remove with their networks, and a narrow SAM 2.1 that the export environment builds."""
    pipelines = ("segment", "smart_remove")
    folder = subset(
        tmp_path_factory.mktemp("sam2") / "models", *pipelines, "sam_encoder", "sam_decoder", "lama"
    )
    for network in NETWORKS:
        (folder / network).mkdir()
        shutil.copy(MODELS / network / "config.pbtxt", folder / network)
    command = [str(ROOT / ".venv-export/bin/python"), "-m", "tests.export.support.narrow_sam2", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[LocalServer]:
    with LocalServer(repository, ROOT / "build/sam2-server.log") as running:
        yield running


class Predictor:
    """The two graphs in onnxruntime, used as by the published SAM2ImagePredictor; written independently."""

    def __init__(self, repository: Path) -> None:
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(repository / network / "1/model.onnx")) for network in NETWORKS
        )

    def mask(
        self,
        photo: Image.Image,
        points: list[tuple[float, float]],
        labels: list[int],
        box: tuple[float, ...] | None,
    ) -> tuple[Bool, float]:
        """Three masks for a single click, else one; from 256 x 256 to the photo in one bilinear step."""
        square = np.asarray(photo.resize((1024, 1024), Image.Resampling.BILINEAR))
        features = [output.name for output in self._encoder.get_outputs()]
        maps = dict(zip(features, self._encoder.run(None, {"image": square[None]})))
        # The box's corners come first, and the padding point last.
        coordinates = [*(np.reshape(box, (2, 2)).tolist() if box else []), *points]
        tokens = np.array([*coordinates, (0, 0)], np.float64) / photo.size * 1024
        feeds: dict[str, Any] = {
            **maps,
            "points": tokens[None].astype(np.float32),
            "labels": np.array([[*((2, 3) if box else ()), *labels, -1]], np.float32),
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask": np.zeros((1, 1), np.float32),
        }
        (masks,), (scores,) = self._decoder.run(["masks", "scores"], feeds)
        share = (masks[0] > 0.05).sum() / max(1, (masks[0] > -0.05).sum())
        single = len(coordinates) > 1 and share >= 0.98
        token = 0 if single else 1 + int(scores[1:].argmax())
        resized = cv2.resize(masks[token], photo.size, interpolation=cv2.INTER_LINEAR)
        return resized > 0, float(scores[token])


class Prompt(NamedTuple):
    name: str
    points: list[tuple[float, float]]
    labels: list[int]
    box: tuple[float, ...] | None


PROMPTS = [
    Prompt("astronaut.jpg", [(224, 100)], [1], None),
    Prompt("rocket.jpg", [(325, 200), (325, 300), (20, 20)], [1, 1, 0], None),
    Prompt("coffee.jpg", [], [], (330, 260, 420, 340)),
    Prompt("wine.jpg", [(330, 900)], [1], (40, 700, 640, 1260)),
]


@pytest.fixture(scope="module")
def predictor(repository: Path) -> Predictor:
    return Predictor(repository)


def iou(a: Bool, b: Bool) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.name)
def test_equals_the_published_predictor_on_the_same_graphs(
    client: Client, predictor: Predictor, prompt: Prompt
) -> None:
    photo = Image.open(PHOTOS / prompt.name).convert("RGB")
    found = client.segment(
        PHOTOS / prompt.name, prompt.points, prompt.labels, prompt.box, min_area=0, model="sam2"
    )
    mask, score = predictor.mask(photo, prompt.points, prompt.labels, prompt.box)
    assert found.mask.shape == mask.shape == (photo.height, photo.width)
    # the same sums in another order, and enlarged levels that are rounded differently
    assert found.score == pytest.approx(score, abs=1e-4)
    assert 0.01 < mask.mean() < 0.99
    # The pipeline resizes in two steps and drops specks in between, so edges, of which noise is full, may move by a
    # pixel. Rounding can move them further where logits are almost 0 (0.004 % of the pixels measured).
    pixels, around = mask.astype(np.uint8), np.ones((3, 3), np.uint8)
    surely_in, surely_out = cv2.erode(pixels, around) > 0, cv2.dilate(pixels, around) == 0
    assert ((surely_in & ~found.mask) | (surely_out & found.mask)).mean() < 0.0005


def test_second_click_runs_no_encoder(client: Client, triton: grpc.InferenceServerClient) -> None:
    photo = client.open(unique_photo(200))
    client.segment(photo, [(200, 200)], model="sam2")
    before = [executions(triton, network) for network in NETWORKS]
    client.segment(photo, [(300, 300)], model="sam2")
    client.smart_remove(photo, box=(100, 100, 140, 140), model="sam2")
    encoded, decoded = (executions(triton, network) for network in NETWORKS)
    assert (encoded, decoded) == (before[0], before[1] + 2)


def test_each_model_answers_for_itself(client: Client, triton: grpc.InferenceServerClient) -> None:
    photo = client.open(PHOTOS / "coffee.jpg")
    first, second = (
        client.segment(photo, [(240, 160)], min_area=0, model=model) for model in ("sam", "sam2")
    )
    assert iou(first.mask, second.mask) < 0.9
    before = executions(triton, "sam2_decoder")
    assert np.array_equal(client.segment(photo, [(240, 160)], min_area=0).mask, first.mask)
    assert executions(triton, "sam2_decoder") == before


def test_requests_for_both_at_once_share_each_decoder(
    client: Client, triton: grpc.InferenceServerClient
) -> None:
    """At most three executions of each decoder for eight requests, and each gets its own mask."""
    models = ("sam_decoder", "sam2_decoder")

    def ask(request: tuple[bytes, str]) -> Segmentation:
        return client.segment(request[0], [(256, 300)], model=request[1])

    answers: list[tuple[tuple[bytes, str], Segmentation]] = []

    def attempt(number: int) -> int:
        photos = [unique_photo(210 + 4 * number + i) for i in range(4)]
        requests = [(photo, model) for photo in photos for model in ("sam", "sam2")]
        before = [executions(triton, model) for model in models]
        with ThreadPoolExecutor(len(requests)) as pool:
            answers[:] = zip(requests, pool.map(ask, requests))
        return max(executions(triton, model) - count for model, count in zip(models, before))

    fewest_executions(attempt, 3)
    for request, batched in answers:
        alone = ask(request)
        # the same sums in another order, which may change the sign of a logit that is almost 0
        assert batched.score == pytest.approx(alone.score, abs=1e-4)
        assert (batched.mask ^ alone.mask).mean() < 0.0005


def test_smart_remove_fills_what_sam2_finds(client: Client) -> None:
    photo = Image.open(PHOTOS / "astronaut.jpg").convert("RGB")
    removal = client.smart_remove(photo, box=(90, 5, 430, 511), model="sam2")
    found = client.segment(photo, box=(90, 5, 430, 511), model="sam2")
    assert removal.score == pytest.approx(found.score, abs=1e-5)
    assert (removal.mask | ~found.mask).all()
    same = (np.asarray(removal.image) == np.asarray(photo)).all(-1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    assert same[cv2.dilate(removal.mask.astype(np.uint8), kernel) == 0].all()
