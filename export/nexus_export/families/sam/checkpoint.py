"""SAM's networks out of its published checkpoints: ViT-B, ViT-L, ViT-H and MobileSAM, each one .pth or .pt file."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from nexus_export.errors import CheckpointError
from nexus_export.exported import ExportedNetwork
from nexus_export.families.checkpoint_files import check_architecture, read_state
from nexus_export.families.sam import vit
from nexus_export.families.sam.constants import DECODER_TEMPLATE, ENCODER_TEMPLATE
from nexus_export.families.sam.image_encoder import SamEncoder
from nexus_export.families.sam.modules import EMBEDDING_SIZE, SamDecoder
from nexus_export.families.sam.templates import export_sam_encoder
from nexus_export.families.sam.tiny_vit import TinyVit, fold_norms
from nexus_export.inference import exported_module
from nexus_export.networks import NETWORKS

_ENCODER = "image_encoder."

# MobileSAM's file keeps the classifier that TinyViT was trained with before; SAM has no use for it.
_CLASSIFIER = re.compile(r"image_encoder\.(norm_head|head)\.(weight|bias)")

State = Mapping[str, Tensor]


def exports(path: Path) -> Iterator[ExportedNetwork]:
    """The networks sam_encoder and sam_decoder of a checkpoint; which of SAM's encoders it has is seen by its names.

    Its weights stay in the file, mapped into memory, which must stay until the last network is written.

    Raises CheckpointError if the file cannot be read safely, or is not one of SAM's.
    """
    state = {name: tensor for name, tensor in read_state(path).items() if not _CLASSIFIER.fullmatch(name)}
    with torch.device("meta"):
        image_encoder = _image_encoder(path, state)
        parts = SamEncoder(image_encoder), SamDecoder()
    expected = {name: tuple(tensor.shape) for part in parts for name, tensor in part.state_dict().items()}
    check_architecture(path, state, expected, _title(image_encoder))

    yield _encoder_export(parts[0], state)
    weights = {name: tensor for name, tensor in state.items() if not name.startswith(_ENCODER)}
    decoder = _loaded(parts[1], weights)
    yield exported_module(decoder, NETWORKS["sam_decoder"], onnx.load(str(DECODER_TEMPLATE)))


def _image_encoder(path: Path, state: State) -> nn.Module:
    """The encoder that fits the names and sizes of a checkpoint, without weights."""
    if f"{_ENCODER}patch_embed.seq.0.c.weight" in state:
        return TinyVit().eval()
    if f"{_ENCODER}pos_embed" not in state:
        raise CheckpointError(
            f"{path.name} holds no image encoder of SAM (no {_ENCODER}pos_embed); "
            "give a checkpoint published as SAM or MobileSAM."
        )
    own = {name.removeprefix(_ENCODER): tensor for name, tensor in state.items() if name.startswith(_ENCODER)}
    try:
        config = vit.config_of(own)
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{path.name} is not the architecture of SAM ({error} in its image encoder); "
            "use a checkpoint published as SAM."
        ) from None
    if config.grid != EMBEDDING_SIZE:
        raise CheckpointError(
            f"{path.name} has an image encoder of {config.grid} patches a side where SAM has {EMBEDDING_SIZE}; "
            "use a checkpoint published as SAM."
        )
    return vit.VitEncoder(config).eval()


def _title(image_encoder: nn.Module) -> str:
    if not isinstance(image_encoder, vit.VitEncoder):
        return "MobileSAM"
    letters = [letter for letter, config in vit.PUBLISHED.items() if config == image_encoder.config]
    return f"SAM ViT-{letters[0].upper()}" if letters else "SAM"


def _encoder_export(module: SamEncoder, state: State) -> ExportedNetwork:
    loaded = _loaded(module, {name: tensor for name, tensor in state.items() if name.startswith(_ENCODER)})
    if isinstance(module.image_encoder, TinyVit):
        fold_norms(loaded)
        graph = onnx.load(str(ENCODER_TEMPLATE))
    else:
        graph = export_sam_encoder(module)
    return exported_module(loaded, NETWORKS["sam_encoder"], graph)


def _loaded(module: nn.Module, state: State) -> nn.Module:
    """`module` with the weights of `state`, in FP32 and without copying those that are."""
    floats = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()
    }
    module.load_state_dict(floats, assign=True)
    return module.eval().requires_grad_(False)
