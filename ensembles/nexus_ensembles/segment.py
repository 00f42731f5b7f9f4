"""segment: clicks or a box on a photo -> the mask of one object, by Segment Anything or its second generation.

The photo is encoded once: its store keeps its size and what the encoder made of it, so every further click on the same
photo costs the decoder alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nexus_ensembles.errors import BadInput, NotBuilt
from nexus_ensembles.imaging import png, regions
from nexus_ensembles.imaging.decode import Size, decode_reduced
from nexus_ensembles.imaging.photo_store import PhotoStore, SentImage
from nexus_ensembles.networks import Array, Bool, Float32, Networks, UInt8
from nexus_ensembles.sam import MODELS, Resize, Sam

MAX_POINTS = 64
# Specks and holes of fewer pixels than this, counted in the 1024 square, are dropped unless the caller says otherwise.
MIN_AREA = 100
# Prompts are padded to a multiple of this many tokens so that different requests share the decoder's batches.
TOKENS = 8
# The confidence given to a rough mask as a mask prompt, in logits: a sure one, but open to correction.
ROUGH_LOGIT = 6.0
# A large JPEG is read at a lower scale, of at least so many times the frame's sides. Against masks of the same photos
# of 13 megapixels, read whole, fourteen prompts have an IoU of 0.990 to 1.000; at once the sides, of 0.937 to 1.000.
OVERSAMPLING = 2
# The labels that the decoders know beside 1 (positive) and 0 (negative).
BOX_CORNERS = (2.0, 3.0)
NOT_A_POINT = -1.0  # SAM's own token for "there is no box"
FILLER = -2.0  # takes no part in any attention


@dataclass(frozen=True)
class Prompt:
    """The caller's clicks and box, checked, in pixels of the photo.

    `points` is FP32 [N, 2], `labels` FP32 [N] of 0 and 1, `box` FP32 [4] (x0, y0, x1, y1) or None.
    """

    points: Float32
    labels: Float32
    box: Float32 | None

    @classmethod
    def parse(
        cls, points: Array | None, labels: Array | None, box: Array | None, size: tuple[int, int]
    ) -> Prompt:
        """Check raw inputs against the photo's (width, height); raises BadInput with the fault."""
        points = np.zeros((0, 2), np.float32) if points is None else np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] != 2:
            raise BadInput("points must have the shape [N, 2]: one x and one y for each click.")
        if len(points) > MAX_POINTS:
            raise BadInput(f"there are {len(points)} points; at most {MAX_POINTS} are accepted.")
        labels = np.ones(len(points)) if labels is None or not labels.size else labels.reshape(-1)
        if len(labels) != len(points):
            raise BadInput(
                f"there are {len(labels)} labels for {len(points)} points; give one label a point."
            )
        if not np.isin(labels, (0, 1)).all():
            raise BadInput("labels must be 1 (part of the object) or 0 (not part of it).")
        for number, (x, y) in enumerate(points.tolist(), start=1):
            _inside(f"point {number}", x, y, size)
        corners = None if box is None or not box.size else np.asarray(box, np.float32).reshape(-1)
        if corners is not None:
            if corners.shape != (4,):
                raise BadInput("box must have 4 values: x0, y0, x1, y1.")
            x0, y0, x1, y1 = corners.tolist()
            _inside("the box's first corner", x0, y0, size)
            _inside("the box's second corner", x1, y1, size)
            if x1 <= x0 or y1 <= y0:
                raise BadInput(
                    "box must run from its top left to its bottom right corner: x0 < x1 and y0 < y1."
                )
        if corners is None and not labels.any():
            raise BadInput("nothing is pointed at: give at least one positive point or a box.")
        return cls(points, np.asarray(labels, np.float32), corners)

    @property
    def is_ambiguous(self) -> bool:
        """True for one click, which may mean a part or the whole; SAM then offers three masks."""
        return len(self.points) == 1 and self.box is None

    def tokens(self, model: Sam, resize: Resize) -> dict[str, Array]:
        """The decoder's `points` and `labels`, in its square: clicks, box or not-a-point or both, then filler."""
        corners = np.zeros((0, 2), np.float32) if self.box is None else self.box.reshape(2, 2)
        padding = np.zeros((int(self.box is None or model.pads_box_prompt), 2), np.float32)
        points = np.concatenate([resize.apply_coords(np.concatenate([self.points, corners])), padding])
        kinds = [*BOX_CORNERS[: len(corners)], *[NOT_A_POINT] * len(padding)]
        labels = np.concatenate([self.labels, kinds]).astype(np.float32)
        spare = -len(labels) % TOKENS
        return {
            "points": np.pad(points, ((0, spare), (0, 0))),
            "labels": np.pad(labels, (0, spare), constant_values=FILLER),
        }


@dataclass(frozen=True)
class EncodedPhoto:
    """A photo as the decoder takes it: its `size` (width, height), and the encoder's outputs by name.

    Held in place of the encoder's input, the square of 3 MB, though they are 4 MB for SAM and 16 MB for SAM 2: to get
    them for a square from the server's response cache takes 18 ms of copies, where the decoder takes 80 ms.
    """

    size: Size
    features: dict[str, Array]


@dataclass(frozen=True)
class FramedPhoto:
    """A photo as the encoder takes it: its `size` (width, height), and the `square`, UINT8 [1024, 1024, 3]."""

    size: Size
    square: UInt8


class Prediction(NamedTuple):
    """`mask` is BOOL [H, W], `score` its predicted IoU, `cell` the (width, height) of a decoder's cell in the photo."""

    mask: Bool
    score: float
    cell: tuple[int, int]


async def run(
    networks: Networks,
    *,
    image: bytes,
    points: Array | None = None,
    labels: Array | None = None,
    box: Array | None = None,
    min_area: int = -1,
    model: str = "",
    store: PhotoStore | None = None,
) -> dict[str, Any]:
    """Segment the object that `points` (with `labels`, by default all positive) or `box` show.

    `model` is "sam" or "sam2"; empty means "sam". Returns `mask`, an 8-bit grey PNG of the photo's size (255 inside),
    and `score`, the IoU that the model predicts. Drops specks and holes of fewer than `min_area` pixels of the 1024
    square; 0 keeps them, -1 means MIN_AREA. With a `store`, `image` may be a reference. Raises BadInput, ImageNotHeld.
    """
    sam = MODELS.get(model)
    sent = await SentImage.find(image, store)
    photo = await prepare(sam, sent)
    prompt = Prompt.parse(points, labels, box, photo.size)
    found = await predict(networks, sam, sent, photo, prompt, min_area)
    return {
        "mask": await asyncio.to_thread(png.encode, found.mask.view(np.uint8) * np.uint8(255)),
        "score": found.score,
    }


async def prepare(model: Sam, image: SentImage) -> EncodedPhoto | FramedPhoto:
    """Read a photo into the encoder's square, unless it is held, encoded. Raises BadInput, ImageNotHeld."""
    held: EncodedPhoto | None = image.get(model.name)
    if held is not None:
        return held
    return await asyncio.to_thread(_frame, model, image.data)


async def predict(
    networks: Networks,
    model: Sam,
    image: SentImage,
    photo: EncodedPhoto | FramedPhoto,
    prompt: Prompt,
    min_area: int = -1,
    rough_mask: Bool | None = None,
) -> Prediction:
    """Segment the `photo` that `prepare` made of `image`; `rough_mask`, BOOL [H, W], is an optional mask prompt.

    Raises BadInput where the model is not built.
    """
    resize = model.resize(*photo.size)
    hint = np.zeros((256, 256), np.float32)
    if rough_mask is not None:
        hint = ROUGH_LOGIT * resize.mask_prompt(rough_mask)
    try:
        if isinstance(photo, FramedPhoto):
            photo = await _encode(networks, model, image, photo)
        decoded = await networks.run(
            f"{model.name}_decoder",
            **photo.features,
            **prompt.tokens(model, resize),
            mask_input=hint[None],
            has_mask=np.array([rough_mask is not None], np.float32),
        )
    except NotBuilt as error:
        raise MODELS.not_built(model) from error
    masks, scores = decoded["masks"], decoded["scores"]
    token = model.select_mask(masks, scores, prompt.is_ambiguous and rough_mask is None)
    area = MIN_AREA if min_area < 0 else min_area
    mask = await asyncio.to_thread(_to_mask, resize, masks[token], area)
    return Prediction(mask, float(scores[token]), resize.cell)


async def _encode(networks: Networks, model: Sam, image: SentImage, photo: FramedPhoto) -> EncodedPhoto:
    outputs = await networks.run(f"{model.name}_encoder", image=photo.square)
    # Copies: what Triton hands over lies in the memory that its processes share.
    encoded = EncodedPhoto(photo.size, {name: np.array(outputs[name]) for name in model.features})
    image.keep(model.name, encoded, sum(array.nbytes for array in encoded.features.values()))
    return encoded


def _frame(model: Sam, data: bytes) -> FramedPhoto:
    def least(width: int, height: int) -> Size:
        width, height = model.resize(width, height).resized
        return OVERSAMPLING * width, OVERSAMPLING * height

    photo, size = decode_reduced(data, least)
    return FramedPhoto(size, model.resize(*size).apply_image(photo.rgb))


def _to_mask(resize: Resize, logits: Float32, area: int) -> Bool:
    return resize.to_mask(regions.drop_small_regions(resize.upsample(logits), area))


def _inside(what: str, x: float, y: float, size: tuple[int, int]) -> None:
    """Raise BadInput unless (x, y) lies on the photo, far edges included; a NaN lies nowhere."""
    if not (0 <= x <= size[0] and 0 <= y <= size[1]):
        raise BadInput(f"{what} ({x:g}, {y:g}) lies outside the image of {size[0]} x {size[1]} pixels.")
