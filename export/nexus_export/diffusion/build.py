"""Build the networks of generative fill from a checkpoint in diffusers' format. Needs torch."""

import json
from pathlib import Path

from nexus_export.artifacts import CHECKPOINT_KEY
from nexus_export.diffusion.checkpoint import Checkpoint, exports_of, open_checkpoint
from nexus_export.diffusion.fill_files import TierFacts, write_fill_files
from nexus_export.diffusion.latent_rgb import fit_latent_rgb
from nexus_export.diffusion.modules import VaeEncoder
from nexus_export.networks import GROUPS, WIDTHS_KEY, artifact
from nexus_export.onnx_graphs.writing import commit_network, discard_network, stage_network
from nexus_export.sources import Report


def build_checkpoint(tier: str, name: str, repository: Path, cache: Path, report: Report) -> list[Path]:
    """Build the four networks of tier "sdxl" or "sd15" and the files beside them; return the artifacts' paths.

    The four replace what was there together, at the end. `name` is a folder or a hub id.

    Raises:
        CheckpointError: the checkpoint is not there, incomplete, or not one that the pipeline can serve.
        BuildError: the repository cannot be written.
        SourceError: CLIP's vocabulary could not be fetched.
    """
    report("opening the checkpoint")
    checkpoint = open_checkpoint(name, tier)
    facts = tier_facts(checkpoint)
    metadata = {CHECKPOINT_KEY: checkpoint.folder.name, "source": f"checkpoint {checkpoint.folder.name}"}
    paths = []
    try:
        networks = exports_of(checkpoint)
        for network in GROUPS[tier]:
            report(f"exporting {network}")
            export = next(networks)
            paths.append(artifact(export.network.name, repository))
            widths = {WIDTHS_KEY: json.dumps(dict(export.widths))} if export.widths else {}
            stage_network(export.template, export.weights, {**metadata, **widths}, paths[-1])
        write_fill_files(repository, tier, facts.text(), cache, report)
        for path in paths:
            commit_network(path)
    finally:
        for path in paths:
            discard_network(path)
    return paths


def tier_facts(checkpoint: Checkpoint) -> TierFacts:
    """What the pipeline must know of the checkpoint's networks."""
    vae = checkpoint.load("vae")
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latent_rgb = fit_latent_rgb(VaeEncoder(vae)).round(3).tolist()
    return TierFacts(checkpoint.config("unet")["sample_size"] * factor, latent_rgb, checkpoint.random_weights)
