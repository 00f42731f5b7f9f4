"""Real inputs for every network: what INT8 is calibrated on, and what quality is measured on.

A row is what a network takes, by input name, with a batch axis of 1. Rows come from photos, seeded clicks, holes and
noise, and a short list of prompts; where a network reads what another one wrote (an embedding, a latent, a context),
the other one is run. The same photos give the same rows, and calibration and test share no photo.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from nexus_export.errors import QualityError
from nexus_export.exported import Array, InferenceFn
from nexus_export.families.diffusion.checks import TRAINING_TIMESTEPS
from nexus_export.families.sam.constants import IMAGE_SIZE
from nexus_export.networks import NETWORKS, Network, Range
from nexus_export.quality import clicks, latents, masks, prompts
from nexus_export.quality.photos import Photo, Pixels, Split

Row = dict[str, Array]
#: Loads the network of a name that others read, in FP32.
Upstream = Callable[[str], InferenceFn]

#: Crops for LaMa, height and width: two that are not square, and sizes that its pyramid halves unevenly.
_LAMA_SIZES = ((512, 512), (384, 512), (512, 328))
#: Rows of a UNet, from much noise to little.
_UNET_ROWS = {"calibration": 8, "test": 5}


def rows(network: Network, split: Split, photos: Sequence[Photo], upstream: Upstream) -> Iterator[Row]:
    """The network's rows of `split`, whose `photos` are given; `upstream` loads the networks that it reads from.

    Raises:
        QualityError: nobody has said what this network's rows are.
    """
    tier = network.name.partition("_")[0]
    makers: Mapping[str, Callable[[], Iterator[Row]]] = {
        "sam_encoder": partial(_image_encoder, network, photos),
        "sam_decoder": partial(_decoder, network, photos, split, upstream),
        "sam2_encoder": partial(_image_encoder, network, photos),
        "sam2_decoder": partial(_decoder, network, photos, split, upstream),
        "u2net": partial(_stretched, network, photos),
        "isnet": partial(_stretched, network, photos),
        "lama": partial(_lama, photos, split),
        f"{tier}_text_encoder": partial(_text_encoder, network, split),
        f"{tier}_vae_encoder": partial(_vae_encoder, network, photos, split),
        f"{tier}_vae_decoder": partial(_vae_decoder, tier, network, photos, split, upstream),
        f"{tier}_unet": partial(_unet, tier, network, photos, split, upstream),
    }
    if network.name not in makers:
        raise QualityError(f"{network.name} has no rows to be measured on; add them to quality/rows.py.")
    return makers[network.name]()


def framed(network: Network, photo: Photo) -> Pixels:
    """The photo in the 1024 frame of SAM, which letterboxes it, or of SAM 2, which stretches it."""
    if network.name.startswith("sam2"):
        return photo.framed()
    return photo.letterboxed()


def prompts_of(network: Network, photo: Photo, split: Split, index: int) -> list[Row]:
    """The prompts on the photo of this index, for the decoder that belongs to `network`."""
    inner = (IMAGE_SIZE, IMAGE_SIZE) if network.name.startswith("sam2") else photo.inner
    return clicks.prompts(inner, _seed(split, index))


def _seed(split: Split, index: int) -> int:
    """Another number for every row, and no calibration row's for any test row."""
    return 2 * index + (split == "test")


def _image_encoder(network: Network, photos: Sequence[Photo]) -> Iterator[Row]:
    for photo in photos:
        yield {"image": framed(network, photo)[None]}


def _decoder(network: Network, photos: Sequence[Photo], split: Split, upstream: Upstream) -> Iterator[Row]:
    encoder = network.name.replace("decoder", "encoder")
    encode = upstream(encoder)
    for index, row in enumerate(rows(NETWORKS[encoder], split, photos, upstream)):
        encoded = encode(row)
        for prompt in prompts_of(network, photos[index], split, index):
            yield {**encoded, **prompt}


def _stretched(network: Network, photos: Sequence[Photo]) -> Iterator[Row]:
    height, width, _ = network.inputs[0].dims
    for photo in photos:
        yield {"image": photo.stretched(int(height), int(width))[None]}


def _lama(photos: Sequence[Photo], split: Split) -> Iterator[Row]:
    for index, photo in enumerate(photos):
        height, width = _LAMA_SIZES[index % len(_LAMA_SIZES)]
        rng = np.random.default_rng(_seed(split, index))
        hole = (masks.outline, masks.free_form)[index % 2](height, width, rng)
        mask = hole.astype(np.uint8) * np.uint8(255)
        yield {"image": photo.cropped(height, width, rng)[None], "mask": mask[None, ..., None]}


def _text_encoder(network: Network, split: Split) -> Iterator[Row]:
    for text in list(prompts.PROMPTS)[split == "test" :: 2]:
        yield _tokens(network, text)


def _tokens(network: Network, text: str) -> Row:
    padding = {"input_ids": prompts.END, "input_ids_2": prompts.SECOND_PADDING}
    return {tensor.name: prompts.token_ids(text, padding[tensor.name])[None] for tensor in network.inputs}


def _sides(network: Network) -> tuple[int, int]:
    """Height and width of the pictures that a network of generative fill is measured on: small, not square, and
    multiples of 64, by which UNets can halve them.
    """
    unit = 1 if "height" in network.axes else latents.LATENT
    sizes = network.axes["height" if unit == 1 else "latent_height"]
    assert isinstance(sizes, Range)
    side = sizes.usual * unit * 3 // 8
    return side, side * 4 // 3


def _masked(network: Network, photos: Sequence[Photo], split: Split) -> list[latents.Masked]:
    return [
        latents.masked(photo, *_sides(network), _seed(split, index)) for index, photo in enumerate(photos)
    ]


def _vae_encoder(network: Network, photos: Sequence[Photo], split: Split) -> Iterator[Row]:
    for index, masked in enumerate(_masked(network, photos, split)):
        yield {"image": (masked.blanked if index % 2 else masked.picture)[None]}


def _vae_decoder(
    tier: str, network: Network, photos: Sequence[Photo], split: Split, upstream: Upstream
) -> Iterator[Row]:
    encode = upstream(f"{tier}_vae_encoder")
    for masked in _masked(network, photos, split):
        yield encode({"image": masked.picture[None]})


def _unet(
    tier: str, network: Network, photos: Sequence[Photo], split: Split, upstream: Upstream
) -> Iterator[Row]:
    count = _UNET_ROWS[split]
    encode = upstream(f"{tier}_vae_encoder")
    scenes = [
        (masked, _latent(encode, masked.picture), _latent(encode, masked.blanked))
        for masked in _masked(network, photos, split)
    ]
    encode = upstream(f"{tier}_text_encoder")  # one of them in memory at a time
    conditions = [encode(row) for row in _text_encoder(NETWORKS[f"{tier}_text_encoder"], split)]
    del encode
    # No ends: at timestep 999 all is noise, at 0 nothing is.
    timesteps = np.linspace(TRAINING_TIMESTEPS - 20, 20, count).round().astype(int)
    for index in range(count):
        masked, latent, surroundings = scenes[index % len(scenes)]
        noised = latents.noised(latent, timesteps[index], _seed(split, index))
        row = {
            "sample": np.concatenate([noised, masked.latent_mask, surroundings])[None],
            "timestep": np.array([[timesteps[index]]], np.float32),
            **conditions[index % len(conditions)],
        }
        if any(tensor.name == "time_ids" for tensor in network.inputs):
            sides = masked.hole.shape
            row["time_ids"] = np.array([[*sides, 0, 0, *sides]], np.float32)
        yield row


def _latent(encode: InferenceFn, picture: Array) -> Array:
    latent: Array = encode({"image": picture[None]})["latent"][0]
    return latent
