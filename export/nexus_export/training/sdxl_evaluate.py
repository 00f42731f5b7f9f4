"""Measure a trained compact SDXL: ``python -m nexus_export.training.sdxl_evaluate --run FOLDER --photos ... ``.

Held-out combinations of shape, colour and material, on photos never trained on: is the asked colour the dominant
one, is the asked shape recognised; the autoencoder's round trip; what guidance changes; what an empty prompt paints.
Writes evaluation.json, evaluation.jpg and evaluation_empty.jpg into the run's folder.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nexus_export.training.lama_photos import load_photos
from nexus_export.training.sdxl_autoencoder import round_trip
from nexus_export.training.sdxl_captions import COLOURS, MATERIALS, SHAPES, Wish
from nexus_export.training.sdxl_cases import Case, make_cases, mask_about
from nexus_export.training.sdxl_classifier import cut_out, train_classifier
from nexus_export.training.sdxl_colour import object_colours, shows
from nexus_export.training.sdxl_data import place
from nexus_export.training.sdxl_networks import Networks, read_checkpoint
from nexus_export.training.sdxl_photos import PhotoCrops, load_held_out
from nexus_export.training.sdxl_samples import paint, write_sheet
from nexus_export.training.sdxl_tokenizer import Vocabulary

BATCH = 25


def paint_all(
    networks: Networks,
    vocabulary: Vocabulary,
    cases: Sequence[Case],
    prompts: Sequence[str],
    steps: int,
    guidance: float,
) -> Tensor:
    """[n, 3, 256, 256]: each case's fill with its prompt."""
    painted = []
    for start in range(0, len(cases), BATCH):
        part = slice(start, start + BATCH)
        images = torch.stack([case.image for case in cases[part]])
        masks = torch.stack([case.mask for case in cases[part]])
        painted.append(
            paint(
                networks, vocabulary, images, masks, prompts[part], steps=steps, guidance=guidance, seed=start
            )
        )
    return torch.cat(painted)


def _bytes(image: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = image.permute(1, 2, 0).cpu().numpy().astype(np.float64)
    return found


def colour_right(case: Case, painted: Tensor) -> bool:
    """Whether the asked colour is the dominant one of what was painted in the mask's core."""
    return shows(case.colour, object_colours(_bytes(painted), _bytes(case.image), case.core))


def structural_similarity(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """The SSIM map of two grey pictures [H, W] in 0..1 (Wang et al. 2004: Gaussian window of deviation 1.5)."""

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred: NDArray[np.float64] = cv2.GaussianBlur(values, (11, 11), 1.5)  # type: ignore[assignment]
        return blurred

    one, two = mean(first), mean(second)
    variances = mean(first**2) - one**2 + mean(second**2) - two**2
    covariance = mean(first * second) - one * two
    c1, c2 = 0.01**2, 0.03**2
    return (2 * one * two + c1) * (2 * covariance + c2) / ((one**2 + two**2 + c1) * (variances + c2))


def similarity_inside(painted: Tensor, truth: Tensor, mask: Tensor) -> float:
    """Mean SSIM of luminance inside the mask."""
    grey = [cv2.cvtColor(_bytes(image).astype(np.float32), cv2.COLOR_RGB2GRAY) for image in (painted, truth)]
    field = structural_similarity(grey[0].astype(np.float64), grey[1].astype(np.float64))
    return float(field[mask[0].cpu().numpy() > 0.5].mean())


def mean_fill(image: Tensor, mask: Tensor) -> Tensor:
    """The mask filled with the mean colour of everything around it."""
    mean = (image * (1 - mask)).sum((1, 2), keepdim=True) / (1 - mask).sum()
    return image * (1 - mask) + mean * mask


def judge_renders(photos: PhotoCrops, seed: int, count: int = 200) -> tuple[float, float]:
    """How the judge of colours does on true renders: the share it calls right, the most that a fill can score.

    And the share that it calls right when another of the colours is asked for: what it lets pass.
    """
    rng = np.random.default_rng((seed, 7))
    names = list(COLOURS)
    colours = rng.integers(len(names), size=count)
    others = (colours + rng.integers(1, len(names), size=count)) % len(names)
    wishes = [
        Wish(int(rng.integers(len(SHAPES))), int(colour), int(rng.integers(len(MATERIALS))), -1, 0.8, "")
        for colour in colours
    ]
    images = photos.crops(rng, count)
    pictures, field = place(rng, wishes, images)
    right = passed = 0
    for index in range(count):
        inside = (field[index] < 0).cpu().numpy()
        rows, columns = np.nonzero(inside)
        x, y = float(columns.min() + columns.max()) / 2, float(rows.min() + rows.max()) / 2
        halves = (float(np.ptp(columns) + 1) / 2, float(np.ptp(rows) + 1) / 2)
        _, core = mask_about(x, y, halves, box=True)
        shares = object_colours(_bytes(pictures[index]), _bytes(images[index]), core & inside)
        right += shows(names[colours[index]], shares)
        passed += shows(names[others[index]], shares)
    return right / count, passed / count


def evaluate(arguments: argparse.Namespace) -> dict[str, object]:
    """All figures of a run, as written to evaluation.json."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    photos = PhotoCrops(load_photos(arguments.photos), device)
    held_out = load_held_out([*arguments.photos, *arguments.held_out])
    vocabulary = Vocabulary(arguments.vocabulary)
    networks = read_checkpoint(arguments.run / "checkpoint")
    for module in networks.modules().values():
        module.to(device).eval().requires_grad_(False)
    classifier = train_classifier(
        photos, steps=arguments.classifier_steps, batch=64, seed=arguments.seed, report=print
    )
    cases = make_cases(held_out, arguments.cases, arguments.seed, device)
    prompts = [case.prompt for case in cases]
    masks = torch.stack([case.mask for case in cases])
    images = torch.stack([case.image for case in cases])
    names = list(SHAPES)
    figures: dict[str, object] = {
        "cases": len(cases),
        "steps": arguments.steps,
        "guidance": arguments.guidance,
    }
    right, passed = judge_renders(photos, arguments.seed)
    figures["colour_judge_on_renders"], figures["colour_judge_on_other_colours"] = right, passed
    painted = paint_all(networks, vocabulary, cases, prompts, arguments.steps, arguments.guidance)
    colours = [colour_right(case, picture) for case, picture in zip(cases, painted, strict=True)]
    guessed = classifier(cut_out(painted, masks)).argmax(1).tolist()
    shapes = [names[guess] == case.shape for guess, case in zip(guessed, cases, strict=True)]
    figures["colour_right"], figures["shape_right"] = float(np.mean(colours)), float(np.mean(shapes))
    for kind, goods in (("colour", colours), ("shape", shapes)):
        groups: dict[str, list[bool]] = {}
        for case, good in zip(cases, goods, strict=True):
            groups.setdefault(getattr(case, kind), []).append(good)
        figures[f"right_by_{kind}"] = {name: float(np.mean(group)) for name, group in groups.items()}
    _, decibels = round_trip(networks.vae, images[: 4 * len(held_out)])
    figures["round_trip_db_mean"], figures["round_trip_db"] = float(np.mean(decibels)), decibels
    some, few = cases[:BATCH], slice(0, BATCH)
    low = paint_all(networks, vocabulary, some, prompts[few], arguments.steps, 1.0)
    high = paint_all(networks, vocabulary, some, prompts[few], arguments.steps, 7.5)
    change = ((low - high).abs() * masks[few]).sum((1, 2, 3)) / (3 * masks[few].sum((1, 2, 3)))
    figures["guidance_1_against_7.5_of_255"] = 255 * float(change.mean())
    plain = cases[: 2 * BATCH]
    empty = paint_all(networks, vocabulary, plain, [""] * len(plain), arguments.steps, 1.0)
    pairs = [
        (
            similarity_inside(fill, case.image, case.mask),
            similarity_inside(mean_fill(case.image, case.mask), case.image, case.mask),
        )
        for fill, case in zip(empty, cases, strict=False)
    ]
    figures["empty_prompt_ssim"], figures["mean_fill_ssim"] = (
        float(np.mean(column)) for column in zip(*pairs, strict=True)
    )
    labels = [
        f"{case.prompt}{'' if colour else ' [colour]'}{'' if shape else ' [' + names[guess] + ']'}"
        for case, colour, shape, guess in zip(cases, colours, shapes, guessed, strict=True)
    ]
    shown = slice(0, min(len(cases), 48))
    write_sheet(
        arguments.run / "evaluation.jpg",
        [images[shown] * (1 - 0.6 * masks[shown]), painted[shown]],
        labels[shown],
        across=4,
    )
    write_sheet(
        arguments.run / "evaluation_empty.jpg",
        [images[few] * (1 - 0.6 * masks[few]), empty[few]],
        [""] * len(some),
        across=4,
    )
    (arguments.run / "evaluation.json").write_text(json.dumps(figures, indent=2))
    return figures


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="the training's --out, with its checkpoint/")
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True, help="as in training, for the classifier"
    )
    parser.add_argument("--held-out", type=Path, nargs="*", default=[])
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--classifier-steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    print(json.dumps(evaluate(parse()), indent=2))
