"""cleanup and smart_remove on a real Triton: which pixels change, and which do not."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as grpc
from nexus_client import Client, InvalidInput
from nexus_server.local import LocalServer
from PIL import Image

from tests.functional.support.deployment import PHOTOS, PeakMemory, executions, resident_bytes
from tests.functional.support.photos import ellipse, photo_array

Bool = npt.NDArray[np.bool_]


def dilated(mask: Bool, size: int) -> Bool:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)


@pytest.mark.parametrize("dilate", [0, 3, 15])
@pytest.mark.parametrize("name", ["astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg", "wine.jpg"])
def test_outside_the_dilated_mask_nothing_changes(client: Client, name: str, dilate: int) -> None:
    photo = photo_array(name)
    mask = ellipse(photo.shape, (photo.shape[1] // 2, photo.shape[0] // 2), (60, 40))
    filled = np.asarray(client.cleanup(PHOTOS / name, mask, dilate=dilate))
    hole = dilated(mask, dilate) if dilate else mask
    assert filled.shape == photo.shape
    assert np.array_equal(filled[~hole], photo[~hole])
    # the hole is repainted; the quality report of LaMa judges how well
    assert (filled[mask] != photo[mask]).any(axis=-1).mean() > 0.5


def test_smooth_surroundings_continue(client: Client) -> None:
    """A black blot on a clear sky disappears; the result is the sky to within a few grey levels."""
    sky = photo_array("rocket.jpg").copy()
    mask = ellipse(sky.shape, (420, 120), (24, 24))
    blotted = sky.copy()
    blotted[mask] = 0
    filled = np.asarray(client.cleanup(blotted, mask))
    # the sky's own noise has a deviation of about 2 levels; a visible blot would be off by 30 or more
    assert np.abs(filled[mask].astype(int) - sky[mask]).mean() < 6


def test_twelve_megapixels_at_native_detail_in_bounded_memory(
    client: Client, server: LocalServer, triton: grpc.InferenceServerClient
) -> None:
    photo = photo_array("dragonfly.jpg")
    assert photo.shape[0] * photo.shape[1] > 12e6
    mask = ellipse(photo.shape, (700, 2500), (90, 60))
    client.cleanup(PHOTOS / "coffee.jpg", ellipse((400, 600), (300, 200), (20, 20)))
    before = resident_bytes(server)
    lama = executions(triton, "lama")
    with PeakMemory(server) as peak:
        filled = np.asarray(client.cleanup(PHOTOS / "dragonfly.jpg", mask))
    hole = dilated(mask, 3)
    assert executions(triton, "lama") == lama + 1
    assert np.array_equal(filled[~hole], photo[~hole])
    # The decoded photo is 40 MB and exists as the decoder's output, canvas and encoder's input. Encoded it is 20 MB and
    # passes through Triton's, the stub's and the shared memory. The network gets a crop of 512 x 512.
    assert peak.bytes - before < 400e6


def test_smart_remove_is_segment_then_cleanup(client: Client) -> None:
    box = (308, 108, 356, 376)
    photo = photo_array("rocket.jpg")
    removal = client.smart_remove(PHOTOS / "rocket.jpg", box=box)
    segmented = client.segment(PHOTOS / "rocket.jpg", box=box)
    assert removal.score == pytest.approx(segmented.score, abs=1e-5)
    # the mask is SAM's, grown by one cell of its grid: 640 / 256 pixels, rounded up
    assert np.array_equal(removal.mask, dilated(segmented.mask, 2 * 3 + 1))
    hole = dilated(removal.mask, 3)
    assert np.array_equal(np.asarray(removal.image)[~hole], photo[~hole])
    cleaned = client.cleanup(PHOTOS / "rocket.jpg", removal.mask)
    assert np.array_equal(np.asarray(cleaned), np.asarray(removal.image))


def test_rough_mask_finds_the_object(client: Client) -> None:
    """With paint roughly over the rocket, the mask is the one for a box around it."""
    photo = Image.open(PHOTOS / "rocket.jpg")
    rough = np.zeros((photo.height, photo.width), bool)
    rough[120:370, 318:348] = True
    found = client.smart_remove(PHOTOS / "rocket.jpg", rough_mask=rough).mask
    boxed = client.smart_remove(PHOTOS / "rocket.jpg", box=(308, 108, 356, 376)).mask
    # two ways of pointing at one object: they need not agree at its smoke and scaffolding
    assert (found & boxed).sum() / (found | boxed).sum() > 0.8


def test_a_mask_of_another_size_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInput, match="same size"):
        client.cleanup(PHOTOS / "rocket.jpg", np.ones((10, 10), bool))
