"""Build the networks of generative fill from a checkpoint in diffusers' format. Needs torch."""

from pathlib import Path

from nexus_export.compact import CHECKPOINT_KEY
from nexus_export.diffusion.checkpoint import Checkpoint, open_checkpoint
from nexus_export.diffusion.fill_files import TierFacts, write_fill_files
from nexus_export.diffusion.latent_rgb import fit_latent_rgb
from nexus_export.diffusion.modules import VaeEncoder
from nexus_export.diffusion.trace import trace_tier
from nexus_export.networks import artifact
from nexus_export.onnx_graphs.template import weight_shapes
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
        for network in trace_tier(tier, checkpoint.load):
            report(f"exporting {network.name}")
            paths.append(artifact(network.name, repository))
            template = network.template()
            state = network.module.state_dict()
            weights = {key: state[key].numpy() for key in weight_shapes(template)}
            stage_network(template, weights, metadata, paths[-1])
            # At full size the next one needs this one's memory.
            del network, state, weights
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
