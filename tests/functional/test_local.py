"""The same pipeline in this process and on Triton gives the same bytes."""

from __future__ import annotations

import asyncio
import io

import numpy as np
from nexus_client import Client
from nexus_ensembles import smart_remove
from nexus_ensembles.imaging.decode import decode_mask
from nexus_ensembles.local import LocalNetworks
from PIL import Image

from tests.functional.helpers import MODELS, PHOTOS


def test_smart_remove_without_a_server(client: Client) -> None:
    photo = (PHOTOS / "rocket.jpg").read_bytes()
    box = np.array([308, 108, 356, 376], np.float32)
    local = asyncio.run(smart_remove.run(LocalNetworks(MODELS), image=photo, box=box))
    served = client.smart_remove(photo, box=(308, 108, 356, 376))
    filled = np.asarray(Image.open(io.BytesIO(local["image"])))
    # one row at a time in both, but thread counts and memory plans may differ: at most a rounding step
    assert np.abs(filled.astype(int) - np.asarray(served.image)).max() <= 1
    found = decode_mask(local["mask"], served.image.size)
    assert np.array_equal(found, served.mask)
