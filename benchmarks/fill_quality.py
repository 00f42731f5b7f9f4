"""Whether the served compact SDXL paints the colour and the shape that the prompt asks for.

    python -m benchmarks.fill_quality [--cases 200] [--steps 20] [--guidance 5]

Runs the generative_fill pipeline on the built networks (`make models`), in this process. Prompts are the 108
combinations of shape, colour and material that no training caption names, in turn over crops of the eight photos of
demo/photos, which were never trained on. The judges (`nexus_training.sdxl.evaluation`) are a rule for colours and a
classifier of shapes trained here, on renders over the same photos; their accuracy on renders, and what they see in
fills of the empty prompt in the same masks, is reported too. Writes results/fill_quality.json, .md and .jpg.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from nexus_ensembles.generative_fill import GenerativeFill, Result
from nexus_ensembles.local import LocalNetworks
from nexus_export.quality.metrics import psnr_db, ssim
from nexus_training.photos import load_held_out
from nexus_training.sdxl.captions import COLOURS, SHAPES
from nexus_training.sdxl.evaluation.cases import Case, make_cases
from nexus_training.sdxl.evaluation.classifier import crop_to_mask, train_classifier
from nexus_training.sdxl.evaluation.colour import matches_colour, object_colours, score_colour_rule
from nexus_training.sdxl.photo_crops import SIDE, PhotoCrops
from nexus_training.sdxl.samples import centre_square, write_contact_sheet
from numpy.typing import NDArray
from PIL import Image

from benchmarks.publish import RESULTS, machine, publish

Picture = NDArray[np.uint8]

PHOTOS = Path("demo/photos")
REPOSITORY = Path("model_repository")
# Cases that the sheet shows, and cases that are painted again for each of the two other figures.
SHOWN, AGAIN = 48, 40
SEED = 1
AIMS = {
    ("fills", "asked colour dominant"): 0.9,
    ("fills", "asked shape recognised"): 0.8,
    ("empty prompt, SSIM with the original", "lead at guidance 1"): 0.0,
    ("autoencoder, PSNR dB of crops", "mean"): 28.0,
}
# The autoencoder is measured on CROPS_A_SIDE squared crops of 256 x 256 of each photo, scaled to this longer side.
CROPS_A_SIDE, WORKING_SIDE = 3, 1024


@dataclass(frozen=True)
class Settings:
    cases: int
    steps: int
    guidance: float


class Painter:
    """Runs the pipeline on the built networks in this process, without a server."""

    def __init__(self, repository: Path) -> None:
        self.networks = LocalNetworks(repository)
        self.fill = GenerativeFill.load(repository / "generative_fill" / "1", {})

    def paint(self, case: Case, prompt: str, steps: int, guidance: float, seed: int) -> Picture:
        """The case's picture with its mask painted in, UINT8 [256, 256, 3]."""
        return asyncio.run(self._paint(case, prompt, steps, guidance, seed))

    async def _paint(self, case: Case, prompt: str, steps: int, guidance: float, seed: int) -> Picture:
        last: Any = None
        async for event in self.fill.run(
            self.networks,
            image=_png(pixels(case.image)),
            mask=_png(pixels(case.mask)[..., 0]),
            prompt=prompt,
            steps=steps,
            guidance_scale=guidance,
            strength=1.0,
            seed=seed,
        ):
            last = event
        assert isinstance(last, Result)
        return np.asarray(Image.open(io.BytesIO(bytes(last.image))).convert("RGB"))

    def round_trip(self, picture: Picture) -> float:
        """PSNR in dB of a picture [256, 256, 3] through both halves of the autoencoder."""

        async def run() -> Picture:
            latent = (await self.networks.run("sdxl_vae_encoder", image=picture))["latent"]
            return np.asarray((await self.networks.run("sdxl_vae_decoder", latent=latent))["image"])

        return psnr_db(picture, asyncio.run(run()))


def pixels(image: torch.Tensor) -> Picture:
    """[c, H, W] in 0..1 to UINT8 [H, W, c]."""
    return np.asarray((image.permute(1, 2, 0) * 255).round().byte().numpy())


def _png(picture: Picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def _tensor(pictures: Sequence[Picture]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def colour_right(case: Case, painted: Picture) -> bool:
    """Whether the asked colour dominates what was painted in the core of the mask."""
    return matches_colour(case.colour, object_colours(painted / 255, pixels(case.image) / 255, case.core))


def mean_fill(case: Case) -> Picture:
    """The mask filled with the mean colour of everything around it."""
    image, mask = pixels(case.image), case.mask[0].numpy() > 0.5
    filled = image.copy()
    filled[mask] = image[~mask].mean(0)
    return filled


def likeness(case: Case, painted: Picture) -> float:
    """SSIM of luminance with the original, over the mask's bounding box."""
    rows, columns = np.nonzero(case.mask[0].numpy() > 0.5)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    grey = [
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[box].astype(np.uint8)
        for picture in (pixels(case.image), painted)
    ]
    return ssim(*grey)


def crops(photos: Sequence[Picture]) -> dict[str, list[Picture]]:
    """The autoencoder's test pictures: crops like those the pipeline cuts, and whole photos shrunk."""
    working, shrunk = [], []
    for photo in photos:
        scale = min(1.0, WORKING_SIDE / max(photo.shape[:2]))
        size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        for top in np.linspace(0, size[1] - SIDE, CROPS_A_SIDE).astype(int):
            for left in np.linspace(0, size[0] - SIDE, CROPS_A_SIDE).astype(int):
                working.append(small[top : top + SIDE, left : left + SIDE].copy())
        shrunk.append(centre_square(photo))
    return {"crops": working, "whole photos shrunk": shrunk}


def by(kind: str, cases: Sequence[Case], right: Sequence[bool]) -> dict[str, float]:
    """Accuracy by colour or by shape."""
    groups: dict[str, list[bool]] = {}
    for case, good in zip(cases, right, strict=True):
        groups.setdefault(getattr(case, kind), []).append(good)
    return {name: round(float(np.mean(group)), 3) for name, group in sorted(groups.items())}


def measure(settings: Settings) -> dict[str, Any]:
    """Measure all figures and write the contact sheet."""
    cpu = torch.device("cpu")
    photos = load_held_out([PHOTOS])
    backgrounds = PhotoCrops(photos, cpu)
    classifier, recognised = train_classifier(backgrounds, seed=SEED)
    right, passed = score_colour_rule(backgrounds, SEED)
    painter, cases = Painter(REPOSITORY), make_cases(photos, settings.cases, SEED, cpu)
    steps = settings.steps
    painted = [
        painter.paint(case, case.prompt, steps, settings.guidance, SEED + number)
        for number, case in enumerate(cases)
    ]
    colours = [colour_right(case, picture) for case, picture in zip(cases, painted, strict=True)]

    def recognise(pictures: Sequence[Picture]) -> tuple[list[str], list[bool]]:
        """The shapes that the classifier sees in pictures of the first cases, and whether they are the asked ones."""
        masks = torch.stack([case.mask for case in cases[: len(pictures)]])
        with torch.inference_mode():
            guesses = classifier(crop_to_mask(_tensor(pictures), masks)).argmax(1).tolist()
        names = [list(SHAPES)[guess] for guess in guesses]
        return names, [name == case.shape for name, case in zip(names, cases)]

    guesses, shapes = recognise(painted)
    few = list(enumerate(cases[:AGAIN]))
    apart = []
    for number, case in few:
        weak, strong = (painter.paint(case, case.prompt, steps, scale, SEED + number) for scale in (1.0, 7.5))
        inside = case.mask[0].numpy() > 0.5
        apart.append(float(np.abs(weak.astype(int) - strong)[inside].mean()))
    empty, guided = (
        [painter.paint(case, "", steps, scale, SEED + number) for number, case in few] for scale in (1.0, 7.5)
    )
    continued, pushed, mean_colour = (
        float(np.mean([likeness(case, picture) for (_, case), picture in zip(few, pictures)]))
        for pictures in (empty, guided, [mean_fill(case) for _, case in few])
    )
    draw_sheet(cases, painted, empty, colours, shapes, guesses)
    found: dict[str, Any] = {
        "settings": asdict(settings) | {"strength": 1.0, "scheduler": "euler"},
        "machine": machine(),
        "fills": {
            "asked colour dominant": float(np.mean(colours)),
            "asked shape recognised": float(np.mean(shapes)),
        },
        "judges": {
            "colours of renders that the rule calls right": right,
            "wrong colours that it lets pass": passed,
            "shapes of new renders that the classifier recognises": recognised,
            "colours it sees where nothing was asked": float(
                np.mean([colour_right(case, picture) for (_, case), picture in zip(few, empty)])
            ),
            "shapes it sees where nothing was asked": float(np.mean(recognise(empty)[1])),
        },
        "guidance 1 against 7.5": {"mean difference inside the mask, of 255": float(np.mean(apart))},
        "empty prompt, SSIM with the original": {
            "fill at guidance 1": continued,
            "fill at guidance 7.5": pushed,
            "mean colour": mean_colour,
            "lead at guidance 1": continued - mean_colour,
        },
        "by colour": by("colour", cases, colours),
        "by shape": by("shape", cases, shapes),
    }
    for name, pictures in crops(photos).items():
        values = [painter.round_trip(picture) for picture in pictures]
        found[f"autoencoder, PSNR dB of {name}"] = {
            "mean": float(np.mean(values)),
            "least": min(values),
            "most": max(values),
        }
    return found


def draw_sheet(
    cases: Sequence[Case],
    painted: Sequence[Picture],
    empty: Sequence[Picture],
    colours: Sequence[bool],
    shapes: Sequence[bool],
    guesses: Sequence[str],
) -> None:
    """The first cases, the input with a dark mask beside the fill; then some fills of the empty prompt."""
    labels = [
        case.prompt + ("" if colour else " [colour]") + ("" if shape else f" [{guess}?]")
        for case, colour, shape, guess in zip(cases, colours, shapes, guesses, strict=True)
    ][:SHOWN]
    count = len(labels)
    extra = min(8, len(empty))
    shown = [*cases[:count], *cases[:extra]]
    given = torch.stack([case.image * (1 - 0.6 * case.mask) for case in shown])
    results = _tensor([*painted[:count], *empty[:extra]])
    write_contact_sheet(
        RESULTS / "fill_quality.jpg", [given, results], [*labels, *["(empty prompt)"] * extra], across=4
    )


def page(found: Mapping[str, Any]) -> str:
    """The figures as Markdown tables."""
    settings = found["settings"]
    lines = [
        f"{settings['cases']} fills of 256 x 256 in {settings['steps']} steps at a guidance of "
        f"{settings['guidance']:g} and a strength of 1, through the pipeline on the built networks. "
        f"{len(SHAPES)} shapes, {len(COLOURS)} colours; prompts that no training caption was, photos never trained on. "
        f"Guidance and the empty prompt: the first {AGAIN} cases. Crops are of photos brought to a longer side of "
        f"{WORKING_SIDE}. Written by benchmarks/fill_quality.py; fill_quality.jpg shows the first {SHOWN}.",
        "",
    ]
    shares = ("fills", "judges", "by colour", "by shape")
    for section, figures in found.items():
        if section in ("settings", "machine"):
            continue
        lines += [f"| {section} | |", "|---|---|"]
        for name, value in figures.items():
            lines.append(f"| {name} | {f'{value:.1%}' if section in shares else f'{value:.3g}'} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=5.0)
    found = measure(Settings(**vars(parser.parse_args())))
    publish("fill_quality", found, page(found), least=AIMS)


if __name__ == "__main__":
    main()
