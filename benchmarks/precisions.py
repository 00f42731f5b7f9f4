"""The same pictures at every precision: the real pipelines on the networks that `benchmarks.quality` built.

    python -m benchmarks.precisions [--repositories build/quality]

Runs segment, cleanup, remove_background, smart_remove and generative_fill in this process at FP32, FP16 and INT8 as for
a CPU, and writes results/precisions.jpg, results/precisions.json and results/precisions.md. A network that is not
offered at a precision runs at the next higher one, as it would in a repository.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
from nexus_ensembles import cleanup, remove_background, segment, smart_remove
from nexus_ensembles.generative_fill import GenerativeFill, Result
from nexus_ensembles.local import LocalNetworks
from nexus_export.artifacts import precision_of, read_metadata
from nexus_export.default_profile import RECIPES, State, build, state
from nexus_export.networks import Precision, artifact
from nexus_export.quality.contact_sheet import GAIN
from nexus_export.quality.metrics import mask_iou, psnr_db
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.publish import RESULTS, publish

Picture = NDArray[np.uint8]

PHOTOS = Path("demo/photos")
REPOSITORIES = Path("build/quality")
FOR_CPU = Path("build/precisions/int8")
CACHE = Path("build/cache")
# A photo and the click or box on its object, in pixels.
CLICK = ("chelsea", np.array([[225.0, 130.0]], np.float32))
OBJECT = ("coffee", np.array([[300.0, 180.0]], np.float32))
FILL_STEPS = 6
# The networks that decide what a pipeline's picture is.
NETWORKS = {
    "segment": ("sam_encoder", "sam_decoder"),
    "cleanup": ("lama",),
    "remove_background": ("u2net",),
    "smart_remove": ("sam_encoder", "sam_decoder", "lama"),
    "generative_fill": ("sdxl_text_encoder", "sdxl_vae_encoder", "sdxl_unet", "sdxl_vae_decoder"),
}
_WIDTH, _HEIGHT, _LINE, _GAP = 250, 190, 20, 6


def run_all(repository: Path) -> dict[str, Picture]:
    """What each pipeline makes of its photo, UINT8 [H, W, 3]."""
    networks = LocalNetworks(repository)
    return asyncio.run(_run_all(networks, repository / "generative_fill" / "1"))


async def _run_all(networks: LocalNetworks, facts: Path) -> dict[str, Picture]:
    click, thing = (_bytes(name) for name, _ in (CLICK, OBJECT))
    found = await segment.run(networks, image=click, points=CLICK[1])
    removed = await smart_remove.run(networks, image=thing, points=OBJECT[1])
    mask = _stroke()
    cleaned = await cleanup.run(networks, image=_bytes("bridge"), mask=mask)
    cut = await remove_background.run(networks, image=click, background="white")
    fill = GenerativeFill.load(facts, {})
    last: Any = None
    async for event in fill.run(
        networks, image=_bytes("coffee"), mask=_box(), prompt="a bowl of oranges", steps=FILL_STEPS
    ):
        last = event
    assert isinstance(last, Result)
    return {
        "segment": _decoded(found["mask"]),
        "cleanup": _decoded(cleaned["image"]),
        "remove_background": _decoded(cut["image"]),
        "smart_remove": _decoded(removed["image"]),
        "generative_fill": _decoded(last.image),
    }


def _bytes(name: str) -> bytes:
    return (PHOTOS / f"{name}.jpg").read_bytes()


def _decoded(content: Any) -> Picture:
    raw = bytes(content) if not isinstance(content, bytes) else content
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))


def _png(mask: Image.Image) -> bytes:
    stream = io.BytesIO()
    mask.save(stream, "PNG")
    return stream.getvalue()


def _stroke() -> bytes:
    mask = Image.new("L", Image.open(PHOTOS / "bridge.jpg").size)
    ImageDraw.Draw(mask).line([(500, 300), (640, 420), (800, 380)], fill=255, width=70)
    return _png(mask)


def _box() -> bytes:
    mask = Image.new("L", Image.open(PHOTOS / "coffee.jpg").size)
    ImageDraw.Draw(mask).rectangle((200, 100, 420, 300), fill=255)
    return _png(mask)


def higher(repository: Path, precision: Precision) -> dict[str, list[str]]:
    """By pipeline, those of its networks that are not at `precision`: "lama fp16"."""
    found = {
        name: precision_of(read_metadata(artifact(name, repository)))
        for names in NETWORKS.values()
        for name in names
    }
    return {
        pipeline: [f"{name} {found[name]}" for name in names if found[name] != precision]
        for pipeline, names in NETWORKS.items()
    }


def compare(pictures: dict[str, dict[str, Picture]]) -> dict[str, dict[str, float]]:
    """Each precision against FP32: IoU of segment's masks, PSNR in dB of every other picture."""
    figures: dict[str, dict[str, float]] = {}
    for precision in list(pictures)[1:]:
        for name, one in pictures["fp32"].items():
            other = pictures[precision][name]
            value = mask_iou(one > 127, other > 127) if name == "segment" else psnr_db(one, other)
            figures.setdefault(name, {})[precision] = round(value, 4)
    return figures


def draw(
    pictures: dict[str, dict[str, Picture]],
    figures: dict[str, dict[str, float]],
    others: dict[str, dict[str, list[str]]],
) -> Image.Image:
    """A row a pipeline: FP32, then each lower precision and how it differs; `others` is what `higher` told of each."""
    lower = list(pictures)[1:]
    columns = ["fp32", *(part for precision in lower for part in (precision, f"{precision} difference"))]
    rows = list(pictures["fp32"])
    height = _HEIGHT + _LINE + _GAP
    sheet = Image.new("RGB", (len(columns) * (_WIDTH + _GAP) + _GAP, len(rows) * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, name in enumerate(rows):
        base = pictures["fp32"][name]
        for column, title in enumerate(columns):
            precision, _, part = title.partition(" ")
            picture = pictures[precision][name]
            label = f"{name}, FP32"
            if part:
                difference = np.abs(picture.astype(int) - base) * GAIN
                kept = others[precision][name]
                picture = difference.clip(0, 255).astype(np.uint8)
                label = f"x{GAIN}" + (f"; not {precision}: {', '.join(kept)}" if kept else "")
                if len(label) > 36:
                    label = f"x{GAIN}; not {precision}: {len(kept)} of {len(NETWORKS[name])} networks"
            elif column:
                unit = "mask IoU" if name == "segment" else "PSNR dB"
                label = f"{precision.upper()}, {unit} {figures[name][precision]:.4g}"
            place = (_GAP + column * (_WIDTH + _GAP), row * height)
            pen.text(place, label, fill="black", font=font)
            small = Image.fromarray(picture)
            small.thumbnail((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
            sheet.paste(small, (place[0], place[1] + _LINE))
    return sheet


def complete(repositories: Path, precision: Precision, folder: Path) -> Path:
    """A repository as on a CPU: what is not offered there at `precision` is at the next higher one."""
    sources = {"fp32": repositories / "fp32", "fp16": repositories / "fp16", "int8": FOR_CPU}
    for source in list(sources.values())[: list(sources).index(precision) + 1]:
        shutil.copytree(source, folder, dirs_exist_ok=True)
    return folder


def build_for_cpu() -> None:
    """INT8 as a CPU runs it; that of `benchmarks.quality` is for GPUs, and onnxruntime's CPU would run it wrongly."""
    for recipe in RECIPES.values():
        if recipe.network.int8_on_cpu and state(recipe, FOR_CPU, "int8") is not State.UP_TO_DATE:
            build(recipe, FOR_CPU, CACHE, print, "int8", PHOTOS, "cpu")


def main() -> None:
    """Run the pipelines at every precision and write the sheet and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=Path, default=REPOSITORIES)
    options = parser.parse_args()
    build_for_cpu()
    pictures, others = {}, {}
    for precision in get_args(Precision):
        with tempfile.TemporaryDirectory() as folder:
            repository = complete(options.repositories, precision, Path(folder))
            pictures[precision] = run_all(repository)
            others[precision] = higher(repository, precision)
    figures = compare(pictures)
    draw(pictures, figures, others).save(RESULTS / "precisions.jpg", quality=88)
    lines = ["| pipeline | " + " | ".join(list(pictures)[1:]) + " |", "|---" * len(pictures) + "|"]
    lines += [
        f"| {name} | " + " | ".join(f"{v:.4g}" for v in row.values()) + " |" for name, row in figures.items()
    ]
    intro = "Pictures of the pipelines against those at FP32: mask IoU of segment, PSNR in dB of all others. "
    intro += "Written by benchmarks/precisions.py. "
    for precision in list(pictures)[1:]:
        kept = sorted({text for names in others[precision].values() for text in names})
        intro += f"Not at {precision}: {', '.join(kept) or 'none'}. "
    intro += "\n\n"
    publish(
        "precisions", {"figures": figures, "not at the precision": others}, intro + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
