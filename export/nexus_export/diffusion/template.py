"""Export the default sets anew, after a change to their torch code: `python -m nexus_export.diffusion.template`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from nexus_export.compact import FACTS
from nexus_export.diffusion import compact_checkpoint
from nexus_export.diffusion.checkpoint import Checkpoint, open_checkpoint
from nexus_export.diffusion.clip_vocabulary import read_published
from nexus_export.diffusion.facts import tier_facts
from nexus_export.diffusion.tiny_checkpoint import write_tiny_checkpoint
from nexus_export.diffusion.trace import trace_tier
from nexus_export.onnx_graphs.template import shorten_names
from nexus_export.sources import CLIP_VOCABULARY, fetch


def export_default(checkpoint: Checkpoint) -> Iterator[tuple[Path, onnx.ModelProto]]:
    """Each template of a tier, with the path that it is committed under."""
    facts = FACTS[checkpoint.tier]
    for network in trace_tier(checkpoint.tier, checkpoint.skeleton):
        name = facts.stem + network.name.removeprefix(checkpoint.tier)
        yield facts.with_name(f"{name}.onnx"), shorten_names(network.template())


def _write(checkpoint: Checkpoint) -> None:
    for path, model in export_default(checkpoint):
        onnx.save(model, str(path))
    FACTS[checkpoint.tier].write_text(tier_facts(checkpoint).text())


def main() -> None:
    _write(open_checkpoint(str(compact_checkpoint.FOLDER), "sdxl"))
    merges = read_published(fetch(CLIP_VOCABULARY, Path("build/cache"), print))
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_checkpoint("sd15", Path(folder), merges)
        _write(open_checkpoint(folder, "sd15"))


if __name__ == "__main__":
    main()
