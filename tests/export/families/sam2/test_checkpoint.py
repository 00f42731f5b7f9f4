"""Which checkpoints are accepted as SAM 2.1, and the refusals of others."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from nexus_export.errors import CheckpointError
from nexus_export.families.sam2.checkpoint import SIZES, exports
from nexus_export.families.sam2.encoder import Sam2Encoder
from nexus_export.onnx_graphs.template import weight_shapes
from torch import Tensor

from tests.export.support.narrow_sam2 import SIZES as NARROW
from tests.export.support.narrow_sam2 import write_checkpoint

State = dict[str, Tensor]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "narrow.pt")
    return tmp_path / "narrow.pt"


@pytest.fixture
def changed(checkpoint: Path) -> Callable[[Callable[[State], object]], Path]:
    """The checkpoint after a change to its weights."""

    def change(by: Callable[[State], object]) -> Path:
        state = torch.load(checkpoint)["model"]
        by(state)
        torch.save({"model": state}, checkpoint)
        return checkpoint

    return change


def test_both_networks_come_out_with_their_weights(checkpoint: Path) -> None:
    state = torch.load(checkpoint)["model"]
    found = list(exports(checkpoint, NARROW))
    assert [export.network.name for export in found] == ["sam2_encoder", "sam2_decoder"]
    used: set[str] = set()
    for export in found:
        assert weight_shapes(export.template) == {
            name: tuple(array.shape) for name, array in export.weights.items()
        }
        for name, array in export.weights.items():
            assert torch.equal(torch.from_numpy(array), state[name])
            # Mapped from the file: at full size a copy would be a gigabyte.
            assert not array.flags.owndata
        used |= export.weights.keys()
    video = {name for name in state if name.startswith(("memory_", "maskmem_", "sam_mask_decoder.pred_obj"))}
    assert used == state.keys() - video


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_have_the_published_parameters(size: str) -> None:
    with torch.device("meta"):
        trunk = Sam2Encoder(SIZES[size]).image_encoder.trunk
    # Ravi et al. 2024 name whole models; these are the backbones of the published files, in millions.
    millions = {"tiny": 26.9, "small": 33.9, "base_plus": 68.7, "large": 212.2}
    assert sum(parameter.numel() for parameter in trunk.parameters()) / 1e6 == pytest.approx(
        millions[size], abs=0.1
    )


def _refusal(path: Path, found: Iterator[object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        next(found)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_another_width_is_refused(checkpoint: Path) -> None:
    assert _refusal(checkpoint, exports(checkpoint)) == (
        "narrow.pt is not SAM 2.1 of a published size; use sam2.1_hiera_tiny.pt, sam2.1_hiera_small.pt, "
        "sam2.1_hiera_base_plus.pt or sam2.1_hiera_large.pt."
    )


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda state: state.pop("no_mem_embed"), "no no_mem_embed"),
        (lambda state: state.update(adapter=torch.ones(1)), "adapter is surplus"),
        (
            lambda state: state.update({"sam_mask_decoder.iou_token.weight": torch.ones(1, 128)}),
            "sam_mask_decoder.iou_token.weight has the shape [1, 128], not [1, 256]",
        ),
    ],
)
def test_another_architecture_is_refused(
    changed: Callable[[Callable[[State], object]], Path],
    change: Callable[[State], object],
    difference: str,
) -> None:
    path = changed(change)
    message = _refusal(path, exports(path, NARROW))
    assert message == (
        f"narrow.pt is not the architecture of SAM 2.1 ({difference}); use a checkpoint published as SAM 2.1."
    )


def test_segment_anything_s_first_is_no_sam2(checkpoint: Path) -> None:
    torch.save({"image_encoder.patch_embed.proj.weight": torch.ones(768, 3, 16, 16)}, checkpoint)
    assert "is not SAM 2.1 of a published size" in _refusal(checkpoint, exports(checkpoint))
