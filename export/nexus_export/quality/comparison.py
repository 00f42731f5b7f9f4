"""The outputs of one call beside the reference's: the figures, by what a pipeline makes of the outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nexus_export.exported import Array
from nexus_export.networks import Network
from nexus_export.quality import metrics
from nexus_export.quality.pipelines import Sample

# Arrays by name, with a batch axis of 1.
Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Comparison:
    """A sample with the reference's outputs and the artifact's; an encoder's are those of the decoder behind it."""

    sample: Sample
    reference: Outputs
    found: Outputs


@dataclass(frozen=True)
class Figures:
    """How close a sample's outputs are to the reference's; `metric` is that of the network's gate.

    PSNR and SSIM are of what the pipeline uses, see `planes`; LaMa's PSNR is of the hole alone.
    """

    psnr_db: float
    ssim: float
    metric: float


def fault(reference: Outputs, found: Outputs) -> str | None:
    """Why the outputs are worthless: a value that is not finite, or one value everywhere."""
    for name, array in found.items():
        if not np.isfinite(array).all():
            return f"{name} is not finite"
        if array.size > 1 and np.ptp(array) == 0 and np.ptp(reference[name]) > 0:
            return f"{name} is flat"
    return None


@dataclass(frozen=True)
class Difference:
    """How far an output lies from the reference's at most, and the reference's largest magnitude, both in its unit."""

    max_abs: float
    magnitude: float

    @property
    def relative(self) -> float:
        """The difference as a share of the magnitude, or as it is where that is less than 1."""
        return self.max_abs / max(1.0, self.magnitude)


def differences(references: Sequence[Outputs], found: Sequence[Outputs]) -> list[Difference]:
    """The difference of every output, over all samples."""
    return [
        Difference(
            max(
                metrics.max_abs(one[name], other[name]) for one, other in zip(references, found, strict=True)
            ),
            max(float(np.abs(one[name]).max()) for one in references),
        )
        for name in found[0]
    ]


def figures(network: Network, compared: Comparison) -> Figures:
    """The figures of one sample. Where a network has several outputs, PSNR is the worst one's."""
    sample, reference, found = compared.sample, compared.reference, compared.found
    one, other = planes(sample, reference), planes(sample, found)
    hole = sample.inputs["mask"][0].transpose(2, 0, 1) > 0 if network.gate.metric == "hole_psnr_db" else None
    psnr = metrics.psnr_db(one, other, hole)
    if network.gate.metric == "psnr_db":
        psnr = min(metrics.psnr_db(reference[name], found[name]) for name in found)
    ssim = float(np.mean([metrics.ssim(a, b) for a, b in zip(one, other, strict=True)]))
    match network.gate.metric:
        case "mask_iou":
            return Figures(psnr, ssim, metrics.mask_iou(one > 0.5, other > 0.5))
        case "alpha_mean_abs":
            return Figures(psnr, ssim, metrics.mean_abs_levels(one, other))
        case _:
            return Figures(psnr, ssim, psnr)


def planes(sample: Sample, outputs: Outputs) -> Array:
    """The part of the outputs that a pipeline uses, [C, H, W]: the probabilities of the mask that it serves, colours,
    an alpha, latents, or a prompt's context.
    """
    if sample.select_mask is not None:
        masks = outputs["masks"][0]
        logits = masks[sample.select_mask(masks, outputs["scores"][0])]
        return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)[None]
    first: Array = next(iter(outputs.values()))[0]
    if first.dtype == np.uint8:
        return np.moveaxis(first, 2, 0)
    return first if first.ndim == 3 else first[None]
