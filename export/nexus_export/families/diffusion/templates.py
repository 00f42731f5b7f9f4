"""Export the default sets after a change to their torch code: `python -m nexus_export.families.diffusion.templates`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from nexus_export.downloads.packages import CLIP_VOCABULARY, fetch
from nexus_export.families.diffusion import compact_checkpoint
from nexus_export.families.diffusion.checkpoint import Checkpoint, open_checkpoint
from nexus_export.families.diffusion.clip_vocabulary import read_published
from nexus_export.families.diffusion.default import CONFIGS
from nexus_export.families.diffusion.tier_config import tier_config
from nexus_export.families.diffusion.tiny_checkpoint import write_tiny_checkpoint
from nexus_export.families.diffusion.trace import trace_tier
from nexus_export.onnx_graphs.template import shorten_names


def export_default(checkpoint: Checkpoint) -> Iterator[tuple[Path, onnx.ModelProto]]:
    """Each template of a tier, with the path that it is committed under."""
    config = CONFIGS[checkpoint.tier]
    for network in trace_tier(checkpoint.tier, checkpoint.empty_model):
        name = config.stem + network.name.removeprefix(checkpoint.tier)
        yield config.with_name(f"{name}.onnx"), shorten_names(network.template())


def _write(checkpoint: Checkpoint) -> None:
    for path, model in export_default(checkpoint):
        onnx.save(model, str(path))
    CONFIGS[checkpoint.tier].write_text(tier_config(checkpoint).text())


def main() -> None:
    _write(open_checkpoint(compact_checkpoint.FOLDER, "sdxl"))
    merges = read_published(fetch(CLIP_VOCABULARY, Path("build/cache"), print))
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_checkpoint("sd15", Path(folder), merges)
        _write(open_checkpoint(Path(folder), "sd15"))


if __name__ == "__main__":
    main()
