"""Training examples as latents."""

import pytest
import torch
from nexus_export.families.lama.checkpoint import read_compact
from nexus_export.paths import WEIGHTS
from nexus_training.sdxl import latent_buffer
from nexus_training.sdxl.latent_buffer import LatentBuffer, continue_background
from nexus_training.sdxl.photo_crops import PhotoCrops
from nexus_training.sdxl.tokenizer import Vocabulary

LAMA_WEIGHTS = WEIGHTS / "lama_compact.safetensors"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("side", [128, 256])
def test_a_buffer_is_refreshed_bit_by_bit(
    side: int, photos: PhotoCrops, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_buffer, "CHUNK", 2)

    def corners(images: torch.Tensor) -> torch.Tensor:
        return images[:, :1, ::8, ::8].expand(-1, 4, -1, -1)

    buffer = LatentBuffer(
        photos, corners, vocabulary, read_compact(LAMA_WEIGHTS), side=side, size=4, fresh=0.5, seed=(0, side)
    )
    buffer.fill(4)
    first = buffer.values.clone()
    for made in (4, 4, 4, 4, 6):
        assert buffer.made == made
        buffer.refresh()
    assert torch.equal(buffer.values[2:], first[2:])
    assert not torch.equal(buffer.values[:2], first[:2])
    drawn_from = buffer.sample(8, torch.Generator().manual_seed(1))
    assert drawn_from.target.shape == (8, 4, side // 8, side // 8)
    # The known picture is grey inside the mask and unchanged outside.
    mask, known = drawn_from.known[:, :1].expand(-1, 4, -1, -1) > 0.5, drawn_from.known[:, 1:]
    assert (known[mask] == 0.5).all()
    assert torch.equal(known[~mask], drawn_from.target[~mask])


def test_the_mask_of_an_empty_caption_continues_the_background() -> None:
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.2
    images[:, 0] += 0.7  # red all over
    masks = torch.zeros(2, 1, 128, 128)
    masks[..., 32:96, 32:96] = 1
    shown = torch.where(
        masks > 0, torch.tensor([0.0, 0.0, 1.0])[:, None, None], images
    )  # and blue in the hole
    asked, empty = continue_background(shown, masks, ["a blue cube", ""], read_compact(LAMA_WEIGHTS))
    assert torch.equal(asked, shown[0])
    hole = masks[1].bool().expand(3, -1, -1)
    assert torch.equal(empty[~hole], images[1][~hole])
    red, green, blue = empty[:, 32:96, 32:96].mean((1, 2))
    # Around it: 0.8, 0.1 and 0.1.
    assert red > 0.7
    assert max(green, blue) < 0.2
