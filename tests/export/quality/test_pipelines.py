"""The samples that quality is measured on: of every network, real, repeatable, and apart from those of calibration."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from nexus_ensembles.sam import ResizeLongestSide, ResizeToSquare
from nexus_ensembles.segment import ROUGH_LOGIT
from nexus_export.errors import QualityError
from nexus_export.exported import Array, InferenceFn
from nexus_export.networks import NETWORKS, Network
from nexus_export.quality import masks
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.photos import Photo, Split, read_photos
from nexus_export.quality.pipelines import Sample, samples
from PIL import Image

ROOT = Path(__file__).parents[3]
PHOTOS = ROOT / "demo" / "photos"
CACHE = ROOT / "build" / "cache"
TYPES = {"UINT8": np.uint8, "INT32": np.int32, "FP32": np.float32}
SPLITS: tuple[Split, Split] = ("calibration", "test")


def _stand_in(name: str) -> InferenceFn:
    """A network that others read from, of the right shapes: latents and contexts that depend on the input."""

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if name.endswith("text_encoder"):
            context = np.repeat(inputs["input_ids"][..., None], 8, axis=2).astype(np.float32)
            return {"context": context, **({"pooled": context[:, 0]} if "input_ids_2" in inputs else {})}
        image = inputs["image"].astype(np.float32)
        if name.endswith("vae_encoder"):
            return {"latent": image[:, ::8, ::8, [0, 1, 2, 0]].transpose(0, 3, 1, 2) / 64 - 2}
        return {
            tensor.name: np.full((1, *map(int, tensor.dims)), image.mean(), np.float32)
            for tensor in NETWORKS[name].outputs
        }

    return run


_photos = cache(read_photos)


@cache
def _evaluator() -> Evaluator:
    return Evaluator(_photos(PHOTOS), CACHE, _stand_in)


def _samples(network: Network, split: Split) -> list[Sample]:
    return list(_evaluator().samples(network, split))


def _inputs(network: Network, split: Split) -> list[Mapping[str, Array]]:
    return [sample.inputs for sample in _samples(network, split)]


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_are_what_the_network_takes(name: str) -> None:
    network = NETWORKS[name]
    for split in SPLITS:
        made = _inputs(network, split)
        assert 3 <= len(made) <= 16
        for inputs in made:
            assert inputs.keys() == {tensor.name for tensor in network.inputs}
            axes: dict[str, int] = {}
            for tensor in network.inputs:
                array = inputs[tensor.name]
                assert array.dtype == TYPES[tensor.dtype]
                assert array.shape[0] == 1
                assert array.ndim == 1 + len(tensor.dims)
                for size, dim in zip(array.shape[1:], tensor.dims, strict=True):
                    # An axis has one size in the whole inputs.
                    assert size == (axes.setdefault(dim, size) if isinstance(dim, str) else dim)
            for axis, size in axes.items():
                sizes = network.axes[axis]
                assert sizes is None or sizes.least <= size <= sizes.most


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_are_the_same_every_time_and_never_those_of_calibration(name: str) -> None:
    once, again = _inputs(NETWORKS[name], "test"), _inputs(NETWORKS[name], "test")
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(once, again, strict=True) for key in a)
    seen = [
        {key: inputs[key].tobytes() for key in inputs} for inputs in _inputs(NETWORKS[name], "calibration")
    ]
    for inputs in once:
        assert {key: inputs[key].tobytes() for key in inputs} not in seen


def test_photos_are_split_by_name() -> None:
    names = [[photo.name for photo in _photos(PHOTOS)[split]] for split in SPLITS]
    assert names == [
        ["astronaut", "chelsea", "dragonfly", "rocket"],
        ["bridge", "coffee", "mountains", "wine"],
    ]
    assert max(max(photo.pixels.shape) for photo in _photos(PHOTOS)["calibration"]) == 1280


@pytest.mark.parametrize(("name", "resize"), [("sam", ResizeLongestSide), ("sam2", ResizeToSquare)])
def test_photos_are_resized_as_for_a_client(
    name: str, resize: type[ResizeLongestSide] | type[ResizeToSquare]
) -> None:
    photos = _photos(PHOTOS)["test"]
    for photo, sample in zip(photos, _samples(NETWORKS[f"{name}_encoder"], "test"), strict=True):
        expected = resize(*photo.pixels.shape[1::-1]).apply_image(photo.pixels)
        assert np.array_equal(sample.inputs["image"][0], expected)
        assert np.array_equal(sample.subject, expected)


@pytest.mark.parametrize("name", ["sam_decoder", "sam2_decoder"])
def test_a_mask_prompt_is_as_sure_as_the_pipelines(name: str) -> None:
    *_, rough = _samples(NETWORKS[name], "test")
    assert rough.inputs["mask_input"].min() == -ROUGH_LOGIT
    assert rough.inputs["mask_input"].max() == ROUGH_LOGIT


def test_the_served_mask_is_the_pipelines() -> None:
    scores = np.array([0.9, 0.1, 0.8, 0.2], np.float32)
    sure = np.where(np.arange(256) < 128, 9.0, -9.0) * np.ones((4, 256, 1))
    # Half of what lies around the first mask's edge is as good as on it: not stable, so SAM 2 does without.
    vague = np.where(np.arange(256) < 128, sure, 0.0)

    def served(name: str, masks: Array) -> list[int]:
        select = [sample.select_mask for sample in _samples(NETWORKS[name], "test")[:4]]
        return [one(masks, scores) for one in select if one is not None]

    assert served("sam_decoder", sure) == [2, 0, 0, 0]
    assert served("sam_decoder", vague) == [2, 0, 0, 0]
    assert served("sam2_decoder", sure) == [2, 0, 0, 0]
    assert served("sam2_decoder", vague) == [2, 2, 2, 2]


def test_sizes_of_holes_and_crops_vary() -> None:
    lama = _inputs(NETWORKS["lama"], "test")
    sizes = {inputs["image"].shape[1:3] for inputs in lama}
    assert any(height != width for height, width in sizes)
    assert all(side % 8 == 0 for size in sizes for side in size)
    for inputs in lama:
        assert set(np.unique(inputs["mask"])) == {0, 255}
        assert masks.MIN_SHARE <= (inputs["mask"] > 0).mean() <= masks.MAX_SHARE


def test_clicks_lie_on_the_photo() -> None:
    photo = _photos(PHOTOS)["test"][0]
    assert photo.pixels.shape[:2] == (720, 1280)
    height, width = 576, 1024  # of the photo in the frame
    click, box, three, rough = _inputs(NETWORKS["sam_decoder"], "test")[:4]
    closed = _inputs(NETWORKS["sam2_decoder"], "test")[1]
    assert click["labels"][0].tolist() == [1, -1, *[-2] * 6]
    assert box["labels"][0].tolist() == [2, 3, *[-2] * 6]
    assert closed["labels"][0].tolist() == [2, 3, -1, *[-2] * 5]
    assert three["labels"][0].tolist() == [1, 1, 0, -1, *[-2] * 4]
    for prompt in (click, box, three, rough):
        points = prompt["points"][0][prompt["labels"][0] >= 0]
        assert (points > 0).all()
        assert (points < (width, height)).all()
    assert [float(prompt["has_mask"][0, 0]) for prompt in (click, box, three, rough)] == [0, 0, 0, 1]
    inside = rough["mask_input"][0, 0] > 0
    x0, y0, x1, y1 = rough["points"][0, :2].ravel() / 4
    y_inside, x_inside = np.nonzero(inside)
    # A pixel of the mask prompt is four of the frame: the ellipse ends within one of the box's sides.
    assert abs(y_inside.min() - y0) < 1.5
    assert abs(y_inside.max() + 1 - y1) < 1.5
    assert abs(x_inside.min() - x0) < 1.5
    assert abs(x_inside.max() + 1 - x1) < 1.5


def test_a_unet_sees_every_level_of_noise_and_the_masked_photo() -> None:
    made = _inputs(NETWORKS["sdxl_unet"], "test")
    assert [int(inputs["timestep"][0, 0]) for inputs in made] == [981, 741, 501, 261, 21]
    for inputs in made:
        hole = inputs["sample"][0, 4] == 1
        assert 0.02 < hole.mean() < 0.35
        # Grey, as the stand-in of the autoencoder has it, under the hole and nowhere near everywhere else.
        assert (inputs["sample"][0, 5:][:, hole] == 0).all()
        assert (inputs["sample"][0, 5:][:, ~hole] != 0).mean() > 0.9
    assert made[0]["time_ids"][0].tolist() == [384, 512, 0, 0, 384, 512]


def test_without_photos_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "only.png")
    with pytest.raises(QualityError, match=r"holds 1; name a folder with two or more.*--photos"):
        read_photos(tmp_path)
    with pytest.raises(QualityError, match=r"holds none; name a folder"):
        read_photos(tmp_path / "nowhere")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a photo")
    with pytest.raises(QualityError, match=r"broken\.jpg cannot be read"):
        read_photos(tmp_path)


def test_a_crop_just_fits_whatever_the_photo() -> None:
    photo = Photo("wide", np.arange(40 * 100 * 3, dtype=np.uint8).reshape(40, 100, 3))
    rng = np.random.default_rng(0)
    assert photo.cropped(64, 64, rng).shape == (64, 64, 3)
    assert photo.cropped(8, 96, rng).shape == (8, 96, 3)


def test_a_network_that_no_pipeline_calls_is_refused(tmp_path: Path) -> None:
    network = replace(NETWORKS["sdxl_unet"], name="depth_unet")
    with pytest.raises(QualityError, match="no pipeline calls depth_unet"):
        list(samples(network, "test", [], _stand_in, tmp_path))
