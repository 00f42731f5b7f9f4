"""Stage three: text encoders and UNet jointly, on latents of the trained autoencoder."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nexus_training.muon import Muon
from nexus_training.runtime import to_device
from nexus_training.sdxl.latent_buffer import Examples, LatentBuffer
from nexus_training.sdxl.networks import SCHEDULER, Networks, encode_text, time_ids
from nexus_training.sdxl.photo_crops import SIDE
from nexus_training.sdxl.stage import RunSettings, Stage

# Weight of the loss outside the mask, where the picture is an input of the network and pasted back after sampling.
OUTSIDE_WEIGHT = 0.25

# Min-SNR weighting (arXiv:2303.09556): nearly clean examples would dominate the gradients of an epsilon loss. It meets
# the weight below at an SNR of 25.
SNR_LIMIT = 5.0

# Upper bound of the weight of noisy examples, 1 / sqrt(SNR) (arXiv:2310.08442): they decide colour and shape, but the
# noise hides the network's errors.
NOISY_LIMIT = 6.0

# Side of pictures until this fraction of the training: the meaning of words is learned at a quarter of the cost.
SMALL_SIDE, LARGE_SIDE_FROM = 128, 0.4

# Examples made before the first step at a picture size.
PREFILL = 1024


def alphas_cumprod(device: torch.device) -> Tensor:
    """The published schedule, [1000]."""
    ends = (SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5)
    betas = torch.linspace(*ends, SCHEDULER["num_train_timesteps"], dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float().to(device)


class Denoiser(nn.Module):
    """Both text encoders and the UNet as one module, to be averaged and saved together."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = networks.text_encoder, networks.text_encoder_2
        self.unet = networks.unet


def predict_noise(
    unet: Callable[..., tuple[Tensor]], sample: Tensor, timestep: Tensor, context: Tensor, pooled: Tensor
) -> Tensor:
    """Predict the noise [n, 4, h, w] of a 9-channel sample."""
    size = to_device([time_ids(8 * sample.shape[-1])], sample.device).float().expand(len(sample), -1)
    added = {"text_embeds": pooled, "time_ids": size}
    return unet(sample, timestep, context, added_cond_kwargs=added, return_dict=False)[0]


def denoising_loss(
    denoiser: Denoiser, examples: Examples, alphas: Tensor, generator: torch.Generator
) -> Tensor:
    """Squared error of the predicted noise, weighted by the mask and the signal-to-noise ratio."""
    target = examples.target
    device, count = target.device, len(target)
    # Stratified timesteps: the loss has less variance than with independent ones.
    even = (
        torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)
    ) / count
    timestep = (even * len(alphas)).long()
    noise = torch.randn(target.shape, generator=generator, device=device)
    alpha = alphas[timestep][:, None, None, None]
    noisy = alpha.sqrt() * target + (1 - alpha).sqrt() * noise
    sample = torch.cat([noisy, examples.known], 1).contiguous(memory_format=torch.channels_last)
    # On a CPU the backward pass of fused attention is several times slower than plain matrix products.
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), attention:
        context, pooled = encode_text(denoiser.text_encoder, denoiser.text_encoder_2, examples.ids)
        predicted = predict_noise(denoiser.unet, sample, timestep, context, pooled)
    error = (predicted.float() - noise) ** 2
    where = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * examples.known[:, :1]
    ratio = alpha / (1 - alpha)
    weight = torch.minimum(ratio.rsqrt().clamp_max(NOISY_LIMIT), SNR_LIMIT / ratio)
    return (error * where * weight).mean()


def train_denoiser(
    networks: Networks,
    make_buffer: Callable[[int, int], LatentBuffer],
    device: torch.device,
    settings: RunSettings,
    on_save: Callable[[Networks, int], None],
) -> None:
    """Train until the budget is spent and put the moving average into `networks`.

    `make_buffer` takes the side of the pictures and the step. The settings' batch is of large pictures; of small ones
    it is twice as many. `on_save` takes the averaged networks and the step.
    """
    denoiser = Denoiser(networks).to(device)
    denoiser.unet.to(memory_format=torch.channels_last)
    optimiser = Muon(denoiser, outer=("embed", "conv_in", "conv_out"), weight_decay=0.01)
    stage = Stage("denoiser", denoiser, optimiser, settings, key="denoiser")
    alphas = alphas_cumprod(device)
    average = stage.average.module
    averaged = Networks(average.text_encoder, average.text_encoder_2, average.unet, networks.vae)

    def save() -> None:
        stage.save()
        on_save(averaged, stage.step)

    buffer: LatentBuffer | None = None
    losses: list[Tensor] = []
    while (fraction := stage.fraction) < 1.0:
        side = SMALL_SIDE if fraction < LARGE_SIDE_FROM else SIDE
        if buffer is None or buffer.side != side:
            buffer = make_buffer(side, stage.step)
            buffer.fill(PREFILL)
        buffer.refresh()
        generator = torch.Generator(device).manual_seed(settings.seed * 1_000_003 + stage.step)
        count = settings.batch if side == SIDE else 2 * settings.batch
        loss = denoising_loss(denoiser, buffer.sample(count, generator), alphas, generator)
        stage.update(loss, fraction)
        losses.append(loss.detach())
        if stage.is_log_due:
            mean = torch.stack(losses).mean().item()
            stage.log(fraction, f"side {side} loss {mean:.4f} made {buffer.made}")
            losses.clear()
        if stage.is_save_due:
            save()
    save()
    networks.text_encoder, networks.text_encoder_2 = averaged.text_encoder, averaged.text_encoder_2
    networks.unet = averaged.unet
    settings.log(f"denoiser done: {stage.step} steps")
