"""Real inputs for every network, recorded where the pipelines hand them over.

INT8 is calibrated and quality is measured on them. The pipelines run in this process, on photos, seeded clicks and
holes, and a short list of prompts, until they call the network in question; the networks before it run in FP32. The
same photos give the same inputs, and calibration and test share no photo. No other module imports nexus_ensembles.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from nexus_ensembles import cleanup, remove_background, segment
from nexus_ensembles.diffusion.tiers import Breaker, Tier
from nexus_ensembles.generative_fill import GenerativeFill
from nexus_ensembles.imaging import decode, png
from nexus_ensembles.imaging.photo_store import SentImage
from nexus_ensembles.prompts.clip_tokenizer import ClipTokenizer
from nexus_ensembles.prompts.content_filter import ContentFilter
from nexus_ensembles.sam import MODELS

from nexus_export.downloads.packages import CLIP_VOCABULARY, fetch
from nexus_export.errors import QualityError
from nexus_export.exported import Array, InferenceFn
from nexus_export.families.diffusion.clip_vocabulary import read_published
from nexus_export.networks import NETWORKS, Network, Range
from nexus_export.quality import masks
from nexus_export.quality.photos import Photo, Pixels, Split

# Loads the FP32 reference of the network of this name.
LoadReference = Callable[[str], InferenceFn]

# Pictures for LaMa, height and width: two that are not square, and sizes that its pyramid halves unevenly.
_LAMA_SIZES = ((512, 512), (384, 512), (512, 328))
# Calls of a UNet, each the first of a fill that takes fewer of _STEPS steps, so from much noise to little.
_UNET_CALLS = {"calibration": 8, "test": 5}
_STEPS = 50
_PROMPTS = (
    "a wooden bench in a park, autumn leaves",
    "a golden retriever sitting on the grass",
    "a bowl of oranges on a white table",
    "an old brick wall covered with ivy",
    "snow on the mountains, clear sky, sharp focus",
    "blurry, low quality",
)


@dataclass(frozen=True)
class Sample:
    """One call of a network as its pipeline makes it: `inputs` by name, with a batch axis of 1.

    `subject` is the photo, UINT8 [H, W, 3], or the prompt that the pipeline was given. `select_mask` returns the index
    of the mask that segment serves, given a SAM decoder's logits FP32 [4, 256, 256] and scores FP32 [4].
    """

    inputs: Mapping[str, Array]
    subject: Pixels | str = ""
    select_mask: Callable[[Array, Array], int] | None = None


def samples(
    network: Network, split: Split, photos: Sequence[Photo], load: LoadReference, cache: Path
) -> Iterator[Sample]:
    """The network's calls on the `photos` of `split`; downloads are kept in `cache`.

    Raises SourceError if CLIP's vocabulary, which a network of generative fill needs, could not be fetched.
    """
    match network.gate.metric:  # each is a figure of what one pipeline serves
        case "mask_iou":
            runs = _segment(network, split, photos)
        case "alpha_mean_abs":
            runs = _remove_background(network, photos)
        case "hole_psnr_db":
            runs = _cleanup(split, photos)
        case "psnr_db":
            runs = _generative_fill(network, split, photos, cache)
    if "_vae_" in network.name:
        load = partial(_load_for_autoencoder, load)
    return (_record(network.name, load, run) for run in runs)


class _Recorded(Exception):
    """Ends a pipeline whose call is recorded."""


@dataclass
class _Recorder:
    """The `Networks` of a pipeline: runs references up to a call of `network`, after `skip` other calls of it."""

    network: str
    load: LoadReference
    skip: int
    calls: dict[str, dict[str, Array]] = field(default_factory=dict)

    async def run(self, network: str, **inputs: Array) -> dict[str, Array]:
        rows = await self.run_rows(network, **{name: array[None] for name, array in inputs.items()})
        return {name: array[0] for name, array in rows.items()}

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        self.calls[network] = inputs
        if network == self.network:
            if not self.skip:
                raise _Recorded
            self.skip -= 1
        return self.load(network)(inputs)


@dataclass(frozen=True)
class _Run:
    """A run of a pipeline; the call to record comes after `skip` others of the same network."""

    pipeline: Callable[[_Recorder], Awaitable[object]]
    skip: int = 0
    prompt: str = ""
    select_mask: Callable[[Array, Array], int] | None = None


def _record(network: str, load: LoadReference, run: _Run) -> Sample:
    recorder = _Recorder(network, load, run.skip)

    async def call() -> None:
        with suppress(
            _Recorded
        ):  # here: outside, a cycle through the task would keep the references in memory
            await run.pipeline(recorder)

    asyncio.run(call())
    pictures = [inputs["image"][0] for inputs in recorder.calls.values() if "image" in inputs]
    return Sample(recorder.calls[network], pictures[-1] if pictures else run.prompt, run.select_mask)


def _seed(split: Split, index: int) -> int:
    """Different for every sample of both splits."""
    return 2 * index + (split == "test")


def _segment(network: Network, split: Split, photos: Sequence[Photo]) -> Iterator[_Run]:
    name, _, part = network.name.rpartition("_")
    model = MODELS.get(name)
    unsent = SentImage(b"", "", None)  # of which nothing is kept
    for index, photo in enumerate(photos):
        size = (photo.pixels.shape[1], photo.pixels.shape[0])
        framed = segment.FramedPhoto(size, model.resize(*size).apply_image(photo.pixels))
        for prompt, rough in _prompts(photo, _seed(split, index)):
            predict = partial(
                segment.predict, model=model, image=unsent, photo=framed, prompt=prompt, rough_mask=rough
            )
            if part == "encoder":  # all prompts on a photo share its embedding
                yield _Run(predict)
                break
            yield _Run(predict, select_mask=partial(model.select_mask, is_ambiguous=prompt.is_ambiguous))


def _prompts(photo: Photo, seed: int) -> list[tuple[segment.Prompt, masks.Bool | None]]:
    """A click, a box, three clicks with a negative one, and a box with the mask that was drawn in it."""
    rng = np.random.default_rng(seed)
    height, width, _ = photo.pixels.shape
    size = np.array((width, height))
    # Near the middle, where photos have their objects.
    click, other = rng.uniform(0.3, 0.7, (2, 2)) * size
    box = (np.stack([rng.uniform(0.1, 0.3, 2), rng.uniform(0.7, 0.9, 2)]) * size).ravel()
    clicks, labels = np.stack([click, other, 0.05 * size]), np.array([1, 1, 0])
    parse = partial(segment.Prompt.parse, size=(width, height))
    boxed = parse(None, None, box)
    return [
        (parse(click[None], None, None), None),
        (boxed, None),
        (parse(clicks, labels, None), None),
        (boxed, masks.ellipse(height, width, box)),
    ]


def _remove_background(network: Network, photos: Sequence[Photo]) -> Iterator[_Run]:
    for photo in photos:
        yield _Run(partial(remove_background.run, image=png.encode(photo.pixels), model=network.name))


def _cleanup(split: Split, photos: Sequence[Photo]) -> Iterator[_Run]:
    for index, photo in enumerate(photos):
        height, width = _LAMA_SIZES[index % len(_LAMA_SIZES)]
        rng = np.random.default_rng(_seed(split, index))
        hole = (masks.outline, masks.free_form)[index % 2](height, width, rng)
        picture = decode.Photo(photo.cropped(height, width, rng))
        yield _Run(partial(cleanup.fill, photo=picture, mask=hole, dilate=0))


def _generative_fill(network: Network, split: Split, photos: Sequence[Photo], cache: Path) -> Iterator[_Run]:
    tier, _, part = network.name.partition("_")
    if f"{tier}_unet" not in NETWORKS:
        raise QualityError(
            f"no pipeline calls {network.name}; let `quality.pipelines.samples` make inputs for it."
        )
    sizes = NETWORKS[f"{tier}_unet"].axes["latent_height"]
    assert isinstance(sizes, Range)
    # Small and not square; a model of this `side` paints a picture of this size as it is.
    height, width, side = (sizes.usual * 8 * share // 16 for share in (6, 8, 7))
    model = Tier(tier, side, np.zeros((5, 3), np.float32), random_weights=False)
    fill = GenerativeFill(_tokenizer(cache), ContentFilter([]), [model], Breaker())
    prompts = _PROMPTS[split == "test" :: 2]
    count = {"text_encoder": len(prompts), "unet": _UNET_CALLS[split]}.get(part, len(photos))
    # All others take one step, at timestep 1.
    steps = np.linspace(_STEPS, 2, count).round() if part == "unet" else np.ones(count)
    for index in range(count):
        photo = index % len(photos)
        rng = np.random.default_rng(_seed(split, photo))
        picture = photos[photo].cropped(height, width, rng)
        prompt = prompts[index % len(prompts)]
        events = partial(
            fill.run,
            image=png.encode(picture),
            mask=png.encode(masks.outline(height, width, rng) * np.uint8(255)),
            prompt=prompt,
            steps=_STEPS,
            strength=min(1.0, float(steps[index] + 0.5) / _STEPS),
            guidance_scale=1,
            seed=_seed(split, index),
        )
        # A fill encodes the picture with its hole first, then without.
        skip = 1 - index % 2 if part == "vae_encoder" else 0
        yield _Run(partial(_exhaust, events), skip, prompt)


def _load_for_autoencoder(load: LoadReference, name: str) -> InferenceFn:
    """Its inputs depend on no text, and hardly on one step at timestep 1: neither of these large networks is run."""
    if name.endswith("_vae_encoder"):
        return load(name)
    return lambda inputs: {"noise": np.zeros_like(inputs["sample"][:, :4])} if "sample" in inputs else {}


async def _exhaust(events: Callable[[_Recorder], AsyncIterable[object]], networks: _Recorder) -> None:
    async for _ in events(networks):
        pass


@lru_cache
def _tokenizer(cache: Path) -> ClipTokenizer:
    merges = read_published(fetch(CLIP_VOCABULARY, cache, lambda _: None))
    return ClipTokenizer((left, right) for left, right in map(str.split, merges))
