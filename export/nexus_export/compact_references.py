"""The default profile's networks in FP32 as their authors wrote them: what the artifacts are measured against.

Torch where there is torch code, the published ONNX file in onnxruntime for MobileSAM's encoder and U2-Net, whose
published form that is. Each loads from the same file as the artifact.
"""

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from nexus_export.export import Array, Run
from nexus_export.networks import NETWORKS
from nexus_export.runs import open_session, torch_run
from nexus_export.sam import encoder as sam
from nexus_export.sam.published_onnx import decoder_weights
from nexus_export.u2net import reference as published_u2net


def sam_encoder(weights: Path) -> Run:
    """MobileSAM's published encoder after segment_anything's `Sam.preprocess`."""
    session = open_session(weights)
    mean, deviation = np.array(sam.PIXEL_MEAN, np.float32), np.array(sam.PIXEL_STD, np.float32)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        planes = ((inputs["image"] - mean) / deviation).transpose(0, 3, 1, 2)
        return {"embedding": session.run(None, {session.get_inputs()[0].name: planes})[0]}

    return run


def sam_decoder(weights: Path) -> Run:
    import torch

    from nexus_export.sam.modules import SamDecoder

    module = SamDecoder()
    state = decoder_weights(onnx.load(str(weights)))
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    return torch_run(module, NETWORKS["sam_decoder"])


def u2net(weights: Path) -> Run:
    return published_u2net(weights, "u2net")


def lama(weights: Path) -> Run:
    from nexus_export.lama.checkpoint import read_compact
    from nexus_export.lama.network import LamaNetwork

    return torch_run(LamaNetwork(read_compact(weights), pyramid=True), NETWORKS["lama"])


def sdxl(name: str, folder: Path) -> Run:
    """diffusers' and transformers' own models with the weights in `folder`; `name` is the network's."""
    from nexus_export.diffusion.checkpoint import Checkpoint, reference

    return reference(Checkpoint("sdxl", folder, "the compact SDXL", folder / "vae"), name)


def sd15(name: str, _: Path) -> Run:
    """The same with the seeded random weights of the tiny SD 1.5."""
    from nexus_export.diffusion.checkpoint import Checkpoint, reference

    folder = Path(_tiny_checkpoint().name)
    return reference(Checkpoint("sd15", folder, "the tiny set", folder / "vae"), name)


@cache
def _tiny_checkpoint() -> "tempfile.TemporaryDirectory[str]":
    """A checkpoint that is gone when the process ends."""
    from nexus_export.diffusion.tiny_checkpoint import write_tiny_checkpoint

    folder = tempfile.TemporaryDirectory(prefix="nexus-tiny-")
    write_tiny_checkpoint("sd15", Path(folder.name), [])
    return folder
