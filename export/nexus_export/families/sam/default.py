"""The default profile's SAM: MobileSAM's published ONNX files, their weights put into our own graphs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from nexus_export.downloads.packages import MOBILE_SAM_DECODER, MOBILE_SAM_ENCODER
from nexus_export.exported import Array, InferenceFn
from nexus_export.families.recipe import Parts, Recipe
from nexus_export.families.sam import constants, published_onnx
from nexus_export.inference import open_session, torch_run
from nexus_export.networks import NETWORKS
from nexus_export.onnx_graphs import template


def _make_encoder(weights: Path) -> Parts:
    published = published_onnx.encoder_weights(onnx.load(str(weights)))
    return onnx.load(str(constants.ENCODER_TEMPLATE)), published


def _encoder_reference(weights: Path) -> InferenceFn:
    """MobileSAM's published encoder after segment_anything's `Sam.preprocess`."""
    session = open_session(weights)
    mean, std = np.array(constants.PIXEL_MEAN, np.float32), np.array(constants.PIXEL_STD, np.float32)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        planes = ((inputs["image"] - mean) / std).transpose(0, 3, 1, 2)
        return {"embedding": session.run(None, {session.get_inputs()[0].name: planes})[0]}

    return run


def _make_decoder(weights: Path) -> Parts:
    published = published_onnx.decoder_weights(onnx.load(str(weights)))
    return onnx.load(str(constants.DECODER_TEMPLATE)), published


def _decoder_reference(weights: Path) -> InferenceFn:
    import torch

    from nexus_export.families.sam.modules import SamDecoder

    module = SamDecoder()
    state = published_onnx.decoder_weights(onnx.load(str(weights)))
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    return torch_run(module, NETWORKS["sam_decoder"])


_MODULES = (constants, published_onnx, template)

RECIPES = (
    Recipe(
        "sam_encoder",
        MOBILE_SAM_ENCODER,
        _make_encoder,
        _encoder_reference,
        _MODULES,
        constants.ENCODER_TEMPLATE,
    ),
    Recipe(
        "sam_decoder",
        MOBILE_SAM_DECODER,
        _make_decoder,
        _decoder_reference,
        _MODULES,
        constants.DECODER_TEMPLATE,
    ),
)
