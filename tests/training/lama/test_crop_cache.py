"""The crops and masks that a run trains on."""

import torch
from nexus_training.lama.crop_cache import CropCache

from tests.training.support.photos import coarse_photo

CPU = torch.device("cpu")


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    photos = [coarse_photo(0), coarse_photo(1)]
    cache, again = (CropCache(photos, seed=5, crops=10, size=32, device=CPU) for _ in range(2))
    assert (cache.crops.shape, cache.masks.shape) == ((10, 32, 32, 3), (2, 32, 32, 1))
    images, masks = cache.batch(step=7, batch=3)
    assert (images.shape, masks.shape) == ((3, 3, 32, 32), (3, 1, 32, 32))
    assert 0.0 <= images.min() < images.max() <= 1.0
    assert ((masks == 0) | (masks == 1)).all()
    for first, second in zip((images, masks), again.batch(step=7, batch=3)):
        assert torch.equal(first, second)
    assert not torch.equal(images, cache.batch(step=8, batch=3)[0])
