"""How well the compact LaMa fills holes in photos that it was not trained on, beside OpenCV's fills.

    python -m benchmarks.lama_quality [--photos FOLDER]

The photos are the eight of demo/photos, which training leaves out by name. The network is the committed template and
weights, run by onnxruntime. Three figures of the hole: PSNR and SSIM compare with the lost pixels; the spectrum error
compares texture at every scale, and ignores which pixels make it (`nexus_training.lama.spectrum.hole_spectrum_error`).
Writes results/lama_quality.json, .md and .jpg; with --photos it only prints the page.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from nexus_training.lama.masks import boxes, outlines, strokes
from nexus_training.lama.spectrum import hole_spectrum_error
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.lama_fills import FILLS, Fill, Picture, compact_network, to_tensor
from benchmarks.publish import RESULTS, publish

# By fill, group of holes and name of a figure.
Results = dict[str, dict[str, dict[str, float]]]

PHOTOS = Path("demo/photos")
LONGEST_SIDE = 512
MASK_KINDS = {"free-form": strokes, "box": boxes, "object": outlines}
MASKS_OF_A_KIND = 4
LARGEST_SHARE = 0.25
TILE = 256
OURS = "compact LaMa"
# Measured besides the served grain (1): none, and near both ends of the range that meets the aims on validation
# photos.
GRAIN_FACTORS = (0.0, 0.75, 1.25)
AIMS = {
    **{
        ("mean leads", f"{key} over {name}"): 0.0
        for key in ("psnr_db", "ssim")
        for name in ("Telea", "Navier-Stokes")
    },
    ("mean leads", "psnr_db over pyramid"): -0.5,
    ("spectrum error", "dB below half the pyramid's"): 0.0,
}


def read_photos(folder: Path) -> dict[str, Picture]:
    """The photos by name: long side 512, both sides cropped to multiples of 8."""
    photos = {}
    for path in sorted(folder.glob("*.jpg")):
        picture = Image.open(path).convert("RGB")
        scale = LONGEST_SIDE / max(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
        photos[path.stem] = pixels[: size[1] // 8 * 8, : size[0] // 8 * 8].copy()
    return photos


def make_mask(kind: str, seed: Sequence[int], height: int, width: int) -> Picture:
    """A seeded hole [height, width] of the kind, at most `LARGEST_SHARE` of the picture."""
    rng = np.random.default_rng(seed)
    while True:
        mask = MASK_KINDS[kind](rng, LONGEST_SIDE)[:height, :width]
        if 0.01 <= mask.mean() <= LARGEST_SHARE:
            return mask


def masked_psnr(filled: Picture, truth: Picture, mask: Picture) -> float:
    """PSNR in dB over the pixels of the hole."""
    error = (filled.astype(np.float64) - truth)[mask > 0]
    return float(10 * np.log10(255.0**2 / max(float(np.mean(error**2)), 1e-3)))


def masked_ssim(filled: Picture, truth: Picture, mask: Picture) -> float:
    """SSIM's map (Wang et al. 2004; 11x11 Gaussian, sigma 1.5), averaged over the hole and the channels."""

    def blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return cv2.GaussianBlur(x, (11, 11), 1.5).astype(np.float64)

    a, b = filled.astype(np.float64), truth.astype(np.float64)
    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return float(similarity[mask > 0].mean())


def spectrum_error(filled: Picture, truth: Picture, mask: Picture) -> float:
    """Error in dB of the log-power spectrum inside the hole; NaN where no patch of 16 pixels fits into it."""
    hole = torch.from_numpy(mask)[None, None].float()
    return float(hole_spectrum_error(to_tensor(filled), to_tensor(truth), hole))


@dataclass(frozen=True)
class Figure:
    """A measure of a filled hole, given the filled picture, the truth and the mask."""

    measure: Callable[[Picture, Picture, Picture], float]
    decimals: int
    best: Callable[[Iterable[float]], float]


FIGURES = {
    "psnr_db": Figure(masked_psnr, 2, max),
    "ssim": Figure(masked_ssim, 3, max),
    "spectrum_error_db": Figure(spectrum_error, 2, min),
}


def measure(photos: Mapping[str, Picture], fills: Mapping[str, Fill]) -> Results:
    """Means of every fill's figures: by kind of mask and by photo, and over everything ("all").

    Holes too thin for a spectrum count in PSNR and SSIM alone.
    """
    scores: dict[str, dict[str, list[tuple[float, ...]]]] = {name: {} for name in fills}
    for index, (stem, photo) in enumerate(photos.items()):
        for kind_index, kind in enumerate(MASK_KINDS):
            for number in range(MASKS_OF_A_KIND):
                mask = make_mask(kind, (index, kind_index, number), *photo.shape[:2])
                # Blanked, so that no fill can use the pixels under the hole.
                holed = photo * (1 - mask[..., None])
                for name, fill_hole in fills.items():
                    filled = fill_hole(holed, mask)
                    score = tuple(figure.measure(filled, photo, mask) for figure in FIGURES.values())
                    for group in ("all", kind, stem):
                        scores[name].setdefault(group, []).append(score)
    results: Results = {}
    for name, groups in scores.items():
        results[name] = {
            group: {
                key: round(float(mean), 4)
                for key, mean in zip(FIGURES, np.nanmean(rows, axis=0), strict=True)
            }
            for group, rows in groups.items()
        }
    return results


def table(results: Results) -> str:
    """Markdown: a row for every group, PSNR / SSIM / spectrum error a fill; the best of each in bold."""
    names = list(results)
    lines = ["| holes | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for group in results[names[0]]:
        cells: dict[str, list[str]] = {name: [] for name in names}
        for key, figure in FIGURES.items():
            best = figure.best(results[name][group][key] for name in names)
            for name in names:
                value = results[name][group][key]
                text = f"{value:.{figure.decimals}f}"
                cells[name].append(f"**{text}**" if value == best else text)
        lines.append(f"| {group} | " + " | ".join(" / ".join(cells[name]) for name in names) + " |")
    return "\n".join(lines) + "\n"


def contact_sheet(photos: Mapping[str, Picture], fills: Mapping[str, Fill]) -> Image.Image:
    """One row a photo, at native pixels around the hole: the hole, every fill, the truth; labelled."""
    columns = ["input", *fills, "truth"]
    label = 18
    whole = Image.new("RGB", (TILE * len(columns), (TILE + label) * len(photos)), "white")
    draw = ImageDraw.Draw(whole)
    for index, (stem, photo) in enumerate(photos.items()):
        kind_index = index % len(MASK_KINDS)
        mask = make_mask(list(MASK_KINDS)[kind_index], (index, kind_index, 0), *photo.shape[:2])
        holed = photo * (1 - mask[..., None])
        marked = np.where(mask[..., None] > 0, np.array([255, 0, 255], np.uint8), photo)
        pictures = [marked, *(fill_hole(holed, mask) for fill_hole in fills.values()), photo]
        rows, columns_of_hole = np.nonzero(mask)
        y = int(np.clip(rows.mean() - TILE / 2, 0, photo.shape[0] - TILE))
        x = int(np.clip(columns_of_hole.mean() - TILE / 2, 0, photo.shape[1] - TILE))
        top = index * (TILE + label)
        for column, (name, pixels) in enumerate(zip(columns, pictures, strict=True)):
            whole.paste(Image.fromarray(pixels[y : y + TILE, x : x + TILE]), (column * TILE, top + label))
            text = f"{stem[:24]}: {name}" if column == 0 else name
            draw.text((column * TILE + 4, top + 4), text, fill="black")
    return whole


def leads(results: Results, photos: Iterable[str]) -> dict[str, dict[str, float]]:
    """The network's figures less those of the other fills: the mean, and its 95 % interval over the photos.

    The interval is a bootstrap's: of a thousand draws of as many photos, with replacement (Efron 1979).
    """
    found = {}
    stems = list(photos)
    drawn = np.random.default_rng(0).integers(len(stems), size=(1000, len(stems)))
    for name in FILLS:
        for key in ("psnr_db", "ssim"):
            apart = np.array([results[OURS][stem][key] - results[name][stem][key] for stem in stems])
            low, high = np.percentile(apart[drawn].mean(1), [2.5, 97.5])
            values = {"mean": apart.mean(), "low": low, "high": high, "photos ahead": (apart > 0).sum()}
            found[f"{key} over {name}"] = {name: round(float(value), 4) for name, value in values.items()}
    return found


def page(found: Mapping[str, Any]) -> str:
    """Markdown: every fill's figures, then how far the network leads."""
    error = found["spectrum error"]["of the pyramid's"]
    lines = [
        "Masked PSNR in dB / masked SSIM (higher is better) / error in dB of the log-power spectrum in the hole "
        "(lower is better); written by benchmarks/lama_quality.py.",
        "",
        table(found["fills"]),
        f"The network's spectrum error is {error:.2f} of the pyramid's. Its leads, with 95 % intervals over photos:",
        "",
        "| lead | mean | interval | photos ahead |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['mean']:+.3f} | {row['low']:+.3f} to {row['high']:+.3f} | {row['photos ahead']:.0f} |"
        for name, row in found["leads"].items()
    ]
    lines += [
        "",
        "One factor scales its grain; SSIM and spectra ask for opposite amplitudes:",
        "",
        "| factor | PSNR, dB | SSIM | spectrum error, dB |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['psnr_db']:.2f} | {row['ssim']:.3f} | {row['spectrum_error_db']:.2f} |"
        for name, row in found["grain factor"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lama_quality", description="Measure LaMa.")
    parser.add_argument(
        "--photos", type=Path, default=PHOTOS, help="folder of other photos; only prints the page"
    )
    options = parser.parse_args()
    photos = read_photos(options.photos)
    fills = FILLS | {OURS: compact_network()}
    results = measure(photos, fills)
    errors = {name: results[name]["all"]["spectrum_error_db"] for name in (OURS, "pyramid")}
    ahead = leads(results, photos)
    found: dict[str, Any] = {
        "fills": results,
        "leads": ahead,
        "mean leads": {name: row["mean"] for name, row in ahead.items()},
        "spectrum error": {
            "of the pyramid's": round(errors[OURS] / errors["pyramid"], 4),
            "dB below half the pyramid's": round(errors["pyramid"] / 2 - errors[OURS], 4),
        },
    }
    other = measure(photos, {f"{factor:g}": compact_network(factor) for factor in GRAIN_FACTORS})
    grain = {name: row["all"] for name, row in other.items()} | {"1": results[OURS]["all"]}
    found["grain factor"] = dict(sorted(grain.items(), key=lambda item: float(item[0])))
    if options.photos != PHOTOS:
        print(page(found))
        return
    contact_sheet(photos, fills).save(RESULTS / "lama_quality.jpg", quality=88)
    publish("lama_quality", found, page(found), least=AIMS)


if __name__ == "__main__":
    main()
