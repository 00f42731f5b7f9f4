"""Export the tiny sets anew, after a change to their torch code: `python -m nexus_export.diffusion.template`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from nexus_export.compact import RECIPES
from nexus_export.diffusion.checkpoint import open_checkpoint
from nexus_export.diffusion.clip_vocabulary import read_published
from nexus_export.diffusion.facts import tier_facts
from nexus_export.diffusion.tiny_checkpoint import write_tiny_checkpoint
from nexus_export.diffusion.trace import trace_tier
from nexus_export.networks import TIERS
from nexus_export.onnx_graphs.template import shorten_names
from nexus_export.paths import TEMPLATES
from nexus_export.sources import CLIP_VOCABULARY, fetch


def export_tiny(tier: str, folder: Path) -> Iterator[tuple[Path, onnx.ModelProto]]:
    """Each template of a tier, with the path that it is committed under, from the tiny checkpoint in `folder`."""
    for network in trace_tier(tier, open_checkpoint(str(folder), tier).skeleton):
        path = RECIPES[network.name].weights
        assert isinstance(path, Path)
        yield path, shorten_names(network.template())


def main() -> None:
    merges = read_published(fetch(CLIP_VOCABULARY, Path("build/cache"), print))
    for tier in TIERS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_tiny_checkpoint(tier, folder, merges)
            for path, model in export_tiny(tier, folder):
                onnx.save(model, str(path))
            facts = tier_facts(open_checkpoint(name, tier))
            (TEMPLATES / f"tiny_{tier}.json").write_text(facts.text())


if __name__ == "__main__":
    main()
