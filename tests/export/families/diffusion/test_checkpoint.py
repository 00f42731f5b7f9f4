"""Tiny checkpoints load in diffusers and are the same every time; checkpoints that cannot be served are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from nexus_export.build import build_networks
from nexus_export.downloads.packages import CLIP_VOCABULARY, PinnedFile
from nexus_export.errors import CheckpointError
from nexus_export.families.diffusion.checkpoint import exports, open_checkpoint
from nexus_export.families.diffusion.clip_vocabulary import read_published
from nexus_export.families.diffusion.tiny_checkpoint import write_tiny_checkpoint
from nexus_export.networks import artifact
from nexus_export.onnx_graphs.element_types import element_types
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.photos import read_photos
from onnx import TensorProto

PHOTOS = Path(__file__).parents[4] / "demo" / "photos"
CACHE = PHOTOS.parents[1] / "build" / "cache"
Tiny = Callable[[str], Path]


@pytest.fixture
def copy(tiny_checkpoint: Tiny, tmp_path: Path) -> Path:
    """SD 1.5's tiny checkpoint, to be spoilt."""
    return Path(shutil.copytree(tiny_checkpoint("sd15"), tmp_path / "checkpoint"))


def _change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize("tier", ["sdxl", "sd15"])
def test_the_structure_is_the_real_one(tier: str, reference: Callable[[str], Any]) -> None:
    # diffusers has loaded it whole, so every weight is there; these make it SDXL or SD 1.5:
    pipeline = reference(tier)
    unet = pipeline.unet.config
    assert unet.in_channels == 9
    assert pipeline.vae_scale_factor == 8
    assert pipeline.tokenizer("a red fox").input_ids == [49406, 320, 736, 3240, 49407]
    if tier == "sdxl":
        assert unet.down_block_types == ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]
        assert (unet.addition_embed_type, unet.use_linear_projection) == ("text_time", True)
        assert pipeline.tokenizer_2.pad_token_id == 0
    else:
        assert unet.down_block_types == [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"]
        assert pipeline.vae.config.scaling_factor == 0.18215


def test_it_is_the_same_every_time(
    tiny_checkpoint: Tiny, published: Callable[[PinnedFile], Path], tmp_path: Path
) -> None:
    write_tiny_checkpoint("sdxl", tmp_path, read_published(published(CLIP_VOCABULARY)))
    first = tiny_checkpoint("sdxl")
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert len(names) >= 19
    for name in names:
        assert (first / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_folder_or_name_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no checkpoint in diffusers' format .* model_index.json"):
        open_checkpoint(tmp_path, "sdxl")
    with pytest.raises(CheckpointError, match="there is no folder nowhere; give one, or the name of a pub"):
        open_checkpoint(Path("nowhere"), "sdxl")


@pytest.mark.parametrize(
    ("upcast", "kind"), [(False, TensorProto.FLOAT16), (True, TensorProto.FLOAT), (None, TensorProto.FLOAT)]
)
def test_a_vae_says_whether_fp16_does_for_it(copy: Path, upcast: bool | None, kind: int) -> None:
    """The published fp16-fix sets force_upcast to false, SDXL's own to true; SD 1.5's leaves it out."""
    _change(copy / "vae" / "config.json", force_upcast=upcast)
    checkpoint = open_checkpoint(copy, "sd15")
    vae = list(exports(checkpoint, "sd15_vae_encoder", "sd15_vae_decoder"))
    for name in ("chelsea.jpg", "coffee.jpg"):
        (copy / name).symlink_to(PHOTOS / name)
    # Networks in FP16 are measured, and held to their gates.
    evaluator = Evaluator(read_photos(copy), CACHE) if kind == TensorProto.FLOAT16 else None
    for built in build_networks(vae, "fp16", copy / "built", {}, evaluator, lambda _: None):
        model = onnx.load(str(artifact(built.network.name, copy / "built")))
        types = element_types(model)
        computed = [types[node.output[0]] for node in model.graph.node if node.op_type == "Conv"]
        assert len(computed) > 10
        assert set(computed) == {kind}
    [unet] = exports(checkpoint, "sd15_unet")
    assert unet.single_ops == frozenset()


def test_the_other_tier(tiny_checkpoint: Tiny) -> None:
    with pytest.raises(
        CheckpointError, match=r"of SD 1.5, not of SDXL; run: nexus-export build sd15 --checkpoint"
    ):
        open_checkpoint(tiny_checkpoint("sd15"), "sdxl")
    with pytest.raises(CheckpointError, match=r"of SDXL, not of SD 1\.5"):
        open_checkpoint(tiny_checkpoint("sdxl"), "sd15")


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("unet/config.json", {"in_channels": 4}, "takes 4 channels where inpainting needs 9; use"),
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "v_prediction"},
            "prediction_type v_prediction where generative fill samples with epsilon; use",
        ),
        (
            "scheduler/scheduler_config.json",
            {"beta_schedule": "linear"},
            "beta_schedule linear where generative fill samples with scaled_linear; use",
        ),
        (
            "scheduler/scheduler_config.json",
            {"beta_end": 0.02},
            "beta_end 0.02 where generative fill samples with 0.012; use",
        ),
        ("vae/config.json", {"shift_factor": 0.1}, "sets shift_factor, which generative fill does not know"),
    ],
)
def test_what_was_trained_otherwise(copy: Path, file: str, values: dict[str, Any], message: str) -> None:
    _change(copy / file, **values)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(copy, "sd15")


def test_another_vocabulary(copy: Path) -> None:
    merges = copy / "tokenizer" / "merges.txt"
    merges.write_text(merges.read_text().replace("i n\nt h\n", "t h\ni n\n"))
    with pytest.raises(CheckpointError, match=r"tokenizer of .* does not have CLIP's vocabulary; use"):
        open_checkpoint(copy, "sd15")


@pytest.mark.parametrize("pairs", [True, False])
def test_the_vocabulary_in_the_newer_format(copy: Path, pairs: bool) -> None:
    merges = (copy / "tokenizer" / "merges.txt").read_text().splitlines()[1:]
    stored: list[Any] = [merge.split() for merge in merges] if pairs else merges
    (copy / "tokenizer" / "tokenizer.json").write_text(json.dumps({"model": {"merges": stored}}))
    (copy / "tokenizer" / "merges.txt").unlink()
    assert open_checkpoint(copy, "sd15").tier == "sd15"


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json", "model_index.json"])
def test_a_damaged_configuration(copy: Path, file: str) -> None:
    (copy / file).write_text("{")
    with pytest.raises(
        CheckpointError, match=rf"no complete checkpoint .*{Path(file).name}\); fetch it again"
    ):
        open_checkpoint(copy, "sd15")


@pytest.mark.parametrize("component", ["unet", "text_encoder", "vae"])
def test_missing_or_damaged_weights(copy: Path, component: str) -> None:
    checkpoint = open_checkpoint(copy, "sd15")
    [weights] = (copy / component).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    for _ in range(2):
        with pytest.raises(
            CheckpointError, match=f"weights of {component} .* missing, damaged or .*; fetch"
        ) as caught:
            checkpoint.load(component)
        assert "\n" not in str(caught.value)
        weights.unlink(missing_ok=True)


@pytest.mark.parametrize("component", ["unet", "text_encoder", "vae"])
def test_weights_of_another_configuration(copy: Path, component: str) -> None:
    checkpoint = open_checkpoint(copy, "sd15")
    layers = {"num_hidden_layers": 3} if component == "text_encoder" else {"layers_per_block": 3}
    _change(copy / component / "config.json", **layers)
    with pytest.raises(CheckpointError, match=f"weights of {component} in .* (lack|not its) .*; fetch"):
        checkpoint.load(component)


def test_weights_of_another_width(copy: Path) -> None:
    checkpoint = open_checkpoint(copy, "sd15")
    for component, values in {
        "text_encoder": {"intermediate_size": 128},
        "unet": {"cross_attention_dim": 64},
    }.items():
        _change(copy / component / "config.json", **values)
        with pytest.raises(
            CheckpointError, match=f"weights of {component} .* not its configuration's .*; fetch"
        ):
            checkpoint.load(component)
