"""SAM 2.1 checkpoints as published, sam2.1_hiera_*.pt: the size of a file, and its two networks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from nexus_export.errors import CheckpointError
from nexus_export.exported import ExportedNetwork
from nexus_export.families.checkpoint_files import check_architecture, read_state
from nexus_export.families.sam2.decoder import Sam2Decoder
from nexus_export.families.sam2.encoder import Sam2Encoder
from nexus_export.families.sam2.hiera import HieraConfig
from nexus_export.inference import exported_module
from nexus_export.networks import NETWORKS
from nexus_export.onnx_graphs.template import shorten_names
from nexus_export.onnx_graphs.torchscript import export_network

# The published sizes, from sam2/configs/sam2.1. Heads, windows and global blocks show in no weight's shape.
SIZES: Mapping[str, HieraConfig] = MappingProxyType(
    {
        "tiny": HieraConfig(96, 1, (1, 2, 7, 2), (5, 7, 9), background=7),
        "small": HieraConfig(96, 1, (1, 2, 11, 2), (7, 10, 13), background=7),
        "base_plus": HieraConfig(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
        "large": HieraConfig(144, 2, (2, 6, 36, 4), (23, 33, 43), background=7, windows=(8, 4, 16, 8)),
    }
)

# Weights that only a video needs: the memory of earlier frames, and whether the object is to be seen in this one.
_VIDEO = (
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "mask_downsample.",
    "no_mem_pos_enc",
    "no_obj_embed_spatial",
    "no_obj_ptr",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "sam_mask_decoder.pred_obj_score_head.",
)


def exports(path: Path, sizes: Mapping[str, HieraConfig] = SIZES) -> Iterator[ExportedNetwork]:
    """sam2_encoder, then sam2_decoder, out of a checkpoint of one of `sizes`; weights are read when asked for.

    Raises CheckpointError if the file cannot be read safely, or is no SAM 2.1 of these sizes.
    """
    state = {name: tensor for name, tensor in read_state(path).items() if not name.startswith(_VIDEO)}
    encoder, decoder = Sam2Encoder(_config(state, path, sizes)), Sam2Decoder()
    shapes = {
        name: tuple(tensor.shape)
        for module in (encoder, decoder)
        for name, tensor in module.state_dict().items()
    }
    check_architecture(path, state, shapes, "SAM 2.1")
    for network, module in (("sam2_encoder", encoder), ("sam2_decoder", decoder)):
        # Assigned, the weights stay in the file and are mapped; they are published in FP32.
        own = {name: state[name].float() for name in module.state_dict()}
        module.load_state_dict(own, assign=True)
        template = shorten_names(export_network(module, NETWORKS[network]))
        yield exported_module(module, NETWORKS[network], template)


def _config(state: Mapping[str, Tensor], path: Path, sizes: Mapping[str, HieraConfig]) -> HieraConfig:
    """Which of `sizes` the backbone's weights are of."""
    blocks = [f"image_encoder.trunk.blocks.{index}" for index in range(len(state))]
    depth = sum(f"{block}.norm1.weight" in state for block in blocks)
    # The first block of each further stage widens its input.
    starts = [index for index in range(depth) if f"{blocks[index]}.proj.weight" in state]
    stages = tuple(end - start for start, end in zip([0, *starts], [*starts, depth]))
    patches = state.get("image_encoder.trunk.patch_embed.proj.weight")
    for config in sizes.values():
        if patches is not None and (len(patches), stages) == (config.width, config.stages):
            return config
    raise CheckpointError(
        f"{path.name} is not SAM 2.1 of a published size; use sam2.1_hiera_tiny.pt, sam2.1_hiera_small.pt, "
        "sam2.1_hiera_base_plus.pt or sam2.1_hiera_large.pt."
    )
