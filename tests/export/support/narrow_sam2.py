"""A narrow SAM 2.1: the published structure and key names, a backbone of few channels, random weights.

`python -m tests.export.support.narrow_sam2 REPOSITORY` builds its two networks into a model repository, for the tests
that have no torch.
"""

import sys
from pathlib import Path

import torch
from nexus_export.families.sam2.checkpoint import exports
from nexus_export.families.sam2.decoder import Sam2Decoder
from nexus_export.families.sam2.encoder import Sam2Encoder
from nexus_export.families.sam2.hiera import HieraConfig
from nexus_export.networks import artifact
from nexus_export.onnx_graphs.writing import write_network
from torch import Tensor

# Windows that need filling up, a global block and every stage's change, as the published sizes have them.
CONFIG = HieraConfig(8, 1, (1, 2, 3, 1), (4,), background=7)
SIZES = {"narrow": CONFIG}


def write_checkpoint(path: Path, config: HieraConfig = CONFIG) -> None:
    """Write a checkpoint as published, with some of the weights that only a video needs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state: dict[str, Tensor] = {**Sam2Encoder(config).state_dict(), **Sam2Decoder().state_dict()}
        # Unlike trained weights these would be zero, and leave no trace in the result.
        for name in ("image_encoder.trunk.pos_embed", "image_encoder.trunk.pos_embed_window", "no_mem_embed"):
            state[name] = torch.randn_like(state[name])
        state["memory_attention.norm.weight"] = torch.ones(256)
        state["maskmem_tpos_enc"] = torch.zeros(7, 1, 1, 64)
        state["sam_mask_decoder.pred_obj_score_head.layers.0.weight"] = torch.randn(256, 256)
    torch.save({"model": state}, path)


def build(repository: Path, checkpoint: Path) -> None:
    """Build sam2_encoder and sam2_decoder from a narrow checkpoint."""
    for export in exports(checkpoint, SIZES):
        path = artifact(export.network.name, repository)
        write_network(export.template, path, export.weights)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_checkpoint(folder / "narrow.pt")
    build(folder, folder / "narrow.pt")
