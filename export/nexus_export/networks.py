"""Every network's inputs, outputs, sizes, precision rules and quality gate: the one list of these facts.

Configs, dummy inputs, engine profiles, quality checks and tests read it and repeat none of it. How networks are built
is for `families` to know. Needs neither torch nor onnx.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from nexus_export.errors import BuildError

DType = Literal["UINT8", "INT32", "FP32"]
Precision = Literal["fp32", "fp16", "int8"]
Target = Literal["cpu", "gpu"]
Metric = Literal["mask_iou", "alpha_mean_abs", "hole_psnr_db", "psnr_db"]


class Range(NamedTuple):
    """The sizes of a dynamic axis that an engine is built for; `usual` is the one it is tuned for."""

    least: int
    usual: int
    most: int


@dataclass(frozen=True)
class Tensor:
    """An input or output. `dims` leave out the batch; a text is the name of a dynamic axis, see `Network.axes`."""

    name: str
    dtype: DType
    dims: tuple[int | str, ...]


@dataclass(frozen=True)
class Gate:
    """What an artifact must reach against the FP32 reference to enter the repository, by precision.

    The bound of `alpha_mean_abs` (in levels of 255) is an upper one, all others are lower ones.
    """

    metric: Metric
    bounds: Mapping[Precision, float]


@dataclass(frozen=True)
class Network:
    """One network of the model repository; every checkpoint that plays this role fits it."""

    name: str
    group: str  # the networks that come out of one checkpoint share it
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch: int
    gate: Gate
    # Dynamic axes by name. None: a checkpoint fixes the size, and the artifact's metadata holds it (`FIXED_DIMS_KEY`).
    axes: Mapping[str, Range | None] = field(default_factory=dict)
    # ONNX operators whose inputs and outputs stay FP32 at every precision; "*" is all of them. Softmax and
    # normalisations need not: engines sum them in FP32 inside, and with all else rounded to FP16 the default networks
    # pass their gates.
    fp32_ops: frozenset[str] = frozenset()
    # Weights, as patterns of `fnmatch`, whose layers stay above INT8: the first and the last, and those that
    # the sensitivity measurement named, the most sensitive first. Measured on the default profile's weights; of a
    # checkpoint whose layers have other names none may match, and its gate decides alone.
    int8_keep: tuple[str, ...] = ()
    # Whether INT8 of the default profile's weights was measured quicker than FP32 on a CPU
    # (benchmarks/results/int8.md); elsewhere it is built for GPUs alone. The UNets' was not.
    int8_on_cpu: bool = False


# An artifact's ONNX metadata entry with the sizes that its checkpoint fixes, JSON: {"context_width": 2048}.
FIXED_DIMS_KEY = "nexus_export.widths"

_MASK = Gate("mask_iou", {"fp16": 0.99, "int8": 0.95})
_ALPHA = Gate("alpha_mean_abs", {"fp16": 2.0, "int8": 4.0})
# INT8 of these was never measured, so it is not offered.
_MASK_FP16 = Gate("mask_iou", {"fp16": 0.99})
_ALPHA_FP16 = Gate("alpha_mean_abs", {"fp16": 2.0})
_FILL = Gate("hole_psnr_db", {"fp16": 45.0, "int8": 35.0})
_NOISE = Gate("psnr_db", {"fp16": 40.0, "int8": 30.0})
# Not in INT8: a good part of a text encoder is its table of tokens, which is looked up and not multiplied.
_TEXT = Gate("psnr_db", {"fp16": 40.0})
_LATENT = Gate("psnr_db", {"fp16": 40.0})
_PICTURE = Gate("psnr_db", {"fp16": 40.0})

# 6 of MobileSAM's 69, its first layers and most sensitive ones: mean mask IoU 0.98, and 0.97 without. Not the last one,
# a tenth of all weights: its output must stay wide, and does.
_SAM_ENCODER_KEEP = (
    "image_encoder.patch_embed.*",
    "image_encoder.layers.0.blocks.0.*",
    "image_encoder.neck.0.weight",
)

_SDXL_LAST = ("unet.up_blocks.2.resnets.*.conv_shortcut.weight", "unet.up_blocks.2.resnets.*.conv2.weight")

_PHOTO_1024 = Tensor("image", "UINT8", (1024, 1024, 3))
_PHOTO = Tensor("image", "UINT8", ("height", "width", 3))
_EMBEDDING = Tensor("embedding", "FP32", (256, 64, 64))
_HIGH_RES = (Tensor("high_res_0", "FP32", (32, 256, 256)), Tensor("high_res_1", "FP32", (64, 128, 128)))
_PROMPTS = (
    Tensor("points", "FP32", ("points", 2)),
    Tensor("labels", "FP32", ("points",)),
    Tensor("mask_input", "FP32", (1, 256, 256)),
    Tensor("has_mask", "FP32", (1,)),
)
_MASKS = (Tensor("masks", "FP32", (4, 256, 256)), Tensor("scores", "FP32", (4,)))
# 64 clicks, a box's two corners, filled up to a multiple of 8: see ensembles/nexus_ensembles/segment.py.
_POINTS = {"points": Range(2, 8, 72)}


def _sides(axes: tuple[str, str], sizes: Range) -> dict[str, Range | None]:
    return dict.fromkeys(axes, sizes)


def _diffusion(tier: str, native: int) -> tuple[Network, ...]:
    """The four networks of a tier whose UNet was trained on squares of `native` pixels.

    Working sides go up to one and a half times that, see ensembles/nexus_ensembles/diffusion/crop.py; the least is
    that of the warm-up and of a small set of the same structure.
    """
    pixels = Range(64, native, native * 3 // 2)
    latents = Range(*(side // 8 for side in pixels))
    sides, latent_sides = (
        _sides(("height", "width"), pixels),
        _sides(("latent_height", "latent_width"), latents),
    )
    is_sdxl = tier == "sdxl"
    context = Tensor("context", "FP32", (77, "context_width"))
    pooled = (Tensor("pooled", "FP32", ("pooled_width",)),) if is_sdxl else ()
    time_ids = (Tensor("time_ids", "FP32", (6,)),) if is_sdxl else ()
    tokens = ("input_ids", "input_ids_2") if is_sdxl else ("input_ids",)
    widths: dict[str, Range | None] = dict.fromkeys(("context_width", "pooled_width")[: 2 if is_sdxl else 1])
    latent = Tensor("latent", "FP32", (4, "latent_height", "latent_width"))
    # SDXL's autoencoder overflows in FP16. The published fp16-fix does not, and its configuration says so: see
    # diffusion.checkpoint. SD 1.5's has no such entry, was not measured here, and is treated alike.
    whole = frozenset({"*"})
    return (
        Network(
            f"{tier}_text_encoder",
            tier,
            tuple(Tensor(name, "INT32", (77,)) for name in tokens),
            (context, *pooled),
            16,
            _TEXT,
            widths,
        ),
        Network(
            f"{tier}_vae_encoder", tier, (_PHOTO,), (latent,), 4, _LATENT, {**sides, **latent_sides}, whole
        ),
        Network(
            f"{tier}_unet",
            tier,
            (
                Tensor("sample", "FP32", (9, "latent_height", "latent_width")),
                Tensor("timestep", "FP32", (1,)),
                context,
                *pooled,
                *time_ids,
            ),
            (Tensor("noise", "FP32", (4, "latent_height", "latent_width")),),
            16,
            _NOISE,
            {**latent_sides, **widths},
            # The layers that cost the compact SDXL most: the shortcuts around its last, finest blocks, and their sums.
            int8_keep=("unet.conv_in.weight", "unet.conv_out.weight", *(_SDXL_LAST if is_sdxl else ())),
        ),
        Network(
            f"{tier}_vae_decoder", tier, (latent,), (_PHOTO,), 4, _PICTURE, {**sides, **latent_sides}, whole
        ),
    )


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        network.name: network
        for network in (
            Network(
                "sam_encoder",
                "sam",
                (_PHOTO_1024,),
                (_EMBEDDING,),
                8,
                _MASK,
                int8_keep=_SAM_ENCODER_KEEP,
                int8_on_cpu=True,
            ),
            Network(
                "sam_decoder",
                "sam",
                (_EMBEDDING, *_PROMPTS),
                _MASKS,
                16,
                _MASK,
                _POINTS,
                # The first, and the last, which is the most sensitive.
                int8_keep=(
                    "prompt_encoder.mask_downscaling.0.weight",
                    "mask_decoder.iou_prediction_head.layers.2.weight",
                ),
                int8_on_cpu=True,
            ),
            Network("sam2_encoder", "sam2", (_PHOTO_1024,), (_EMBEDDING, *_HIGH_RES), 8, _MASK_FP16),
            Network(
                "sam2_decoder",
                "sam2",
                (_EMBEDDING, *_HIGH_RES, *_PROMPTS),
                _MASKS,
                16,
                _MASK_FP16,
                _POINTS,
            ),
            Network(
                "u2net",
                "u2net",
                (Tensor("image", "UINT8", (320, 320, 3)),),
                (Tensor("alpha", "FP32", (320, 320)),),
                8,
                _ALPHA,
                # u2netp's first and last, and one of 119 whose largest weight is 4000 times the median: alpha is off by
                # 2.9 levels, and by 44 without that one. Its file numbers its weights, and other files number others.
                int8_keep=("1967", "outconv.weight", "2258"),
                int8_on_cpu=True,
            ),
            # The same at a finer scale.
            Network(
                "isnet", "isnet", (_PHOTO_1024,), (Tensor("alpha", "FP32", (1024, 1024)),), 4, _ALPHA_FP16
            ),
            Network(
                "lama",
                "lama",
                (_PHOTO, Tensor("mask", "UINT8", ("height", "width", 1))),
                # Not "image": a graph cannot give an output the name of an input.
                (Tensor("filled", "UINT8", ("height", "width", 3)),),
                4,
                _FILL,
                # The longest crop of ensembles/nexus_ensembles/cleanup.py.
                _sides(("height", "width"), Range(16, 512, 2048)),
                # LaMa's only matrix products are its DFT, whose sums run over the whole picture. Our compact weights do
                # not need it (60 dB with and without); the published ones were not measured.
                frozenset({"MatMul"}),
                # The first, and the last of the compact network and of big-lama; none of the 78 is sensitive.
                ("generator.model.1.ffc.*", "generator.model.22.weight", "generator.model.34.weight"),
                int8_on_cpu=True,
            ),
            *_diffusion("sdxl", 1024),
            *_diffusion("sd15", 512),
        )
    }
)

# Model sets of generative fill, the preferred one first.
TIERS = ("sdxl", "sd15")

# The networks that come out of one checkpoint, by the name of their group.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        group: tuple(network.name for network in NETWORKS.values() if network.group == group)
        for group in dict.fromkeys(network.group for network in NETWORKS.values())
    }
)


def choose(names: Iterable[str]) -> list[Network]:
    """The networks of these names, in the order of the list; all of them for no name or "all".

    A group's name stands for its networks. Raises BuildError if a name is neither a network's nor a group's.
    """
    wanted = set(names)
    unknown = sorted(wanted - NETWORKS.keys() - GROUPS.keys() - {"all"})
    if unknown:
        known = ", ".join(dict.fromkeys([*NETWORKS, *GROUPS]))
        raise BuildError(f"there is no network {unknown[0]!r}; choose from {known} or all.")
    if not wanted or "all" in wanted:
        return list(NETWORKS.values())
    return [network for network in NETWORKS.values() if not wanted.isdisjoint({network.name, network.group})]


def artifact(network: str, repository: Path) -> Path:
    """Where the network's ONNX file lies in a model repository."""
    return repository / network / "1" / "model.onnx"
