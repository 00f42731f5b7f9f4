"""Stage three: text encoders and UNet jointly, on latents of the finished autoencoder."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nexus_training.muon import Muon
from nexus_training.runtime import Budget, MovingAverage, learning_rate, load, save, sent
from nexus_training.sdxl.latent_buffer import Examples, Pool
from nexus_training.sdxl.networks import SCHEDULER, Networks, encode_text, time_ids
from nexus_training.sdxl.photo_crops import SIDE

# Of the loss outside the mask: what stands there is given to the network, and pasted over after sampling.
OUTSIDE_WEIGHT = 0.25

# Min-SNR weighting (arXiv:2303.09556): nearly clean examples would dominate an epsilon loss's gradients. It meets the
# weight below at an SNR of 25.
SNR_LIMIT = 5.0

# Most weight of noisy examples. There colour and shape are decided, yet the noise hides what the network gets wrong
# of them; the weight grows as 1 / sqrt(SNR) (arXiv:2310.08442).
NOISY_LIMIT = 6.0

# Pictures are of this side until this fraction of the time: a quarter of the work to learn the words' meaning.
SMALL, LARGE_FROM = 128, 0.4

# Examples made before the first step with pictures of a side.
PREFILL = 1024

REPORT_EVERY = 50


def alphas_cumprod(device: torch.device) -> Tensor:
    """[1000]: the published schedule."""
    ends = (SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5)
    betas = torch.linspace(*ends, SCHEDULER["num_train_timesteps"], dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float().to(device)


class Denoiser(nn.Module):
    """Both text encoders and the UNet as one module: what is trained together is averaged and saved together."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = networks.text_encoder, networks.text_encoder_2
        self.unet = networks.unet


def predict(
    unet: Callable[..., tuple[Tensor]], sample: Tensor, timestep: Tensor, context: Tensor, pooled: Tensor
) -> Tensor:
    """The predicted noise [n, 4, h, w] of a 9-channel sample."""
    size = sent([time_ids(8 * sample.shape[-1])], sample.device).float().expand(len(sample), -1)
    added = {"text_embeds": pooled, "time_ids": size}
    return unet(sample, timestep, context, added_cond_kwargs=added, return_dict=False)[0]


def loss_of(
    denoiser: Denoiser,
    unet: Callable[..., tuple[Tensor]],
    examples: Examples,
    alphas: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Squared error of the predicted noise, weighted by the mask and the signal-to-noise ratio."""
    target = examples.target
    device, count = target.device, len(target)
    # One timestep from each of as many equal parts: a smoother loss than from independent ones.
    even = (
        torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)
    ) / count
    timestep = (even * len(alphas)).long()
    noise = torch.randn(target.shape, generator=generator, device=device)
    alpha = alphas[timestep][:, None, None, None]
    noisy = alpha.sqrt() * target + (1 - alpha).sqrt() * noise
    sample = torch.cat([noisy, examples.known], 1).contiguous(memory_format=torch.channels_last)
    # A processor's fused attention is several times slower backwards than plain products.
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), attention:
        context, pooled = encode_text(denoiser.text_encoder, denoiser.text_encoder_2, examples.ids)
        predicted = predict(unet, sample, timestep, context, pooled)
    error = (predicted.float() - noise) ** 2
    where = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * examples.known[:, :1]
    ratio = alpha / (1 - alpha)
    weight = torch.minimum(ratio.rsqrt().clamp_max(NOISY_LIMIT), SNR_LIMIT / ratio)
    return (error * where * weight).mean()


def train_denoiser(
    networks: Networks,
    make_pool: Callable[[int, int], Pool],
    device: torch.device,
    *,
    out: Path,
    minutes: float,
    steps: int | None,
    batch: int,
    rate: float,
    seed: int,
    save_seconds: float,
    compiled: bool,
    report: Callable[[str], None],
    show: Callable[[Networks, int], None],
) -> None:
    """Train until the budget is spent and put the moving average into `networks`.

    `make_pool` gets the pictures' side and the step. `batch` is of large pictures, twice as many small ones.
    `show` gets the averaged networks and the step at every save.
    """
    path = out / "denoiser.pt"
    denoiser = Denoiser(networks).to(device)
    denoiser.unet.to(memory_format=torch.channels_last)
    average = MovingAverage(denoiser, 0.998)
    optimiser = Muon(denoiser, outer=("embed", "conv_in", "conv_out"), weight_decay=0.01)
    step, budget = 0, Budget(minutes, steps)
    state = load(path, device)
    if state is not None:
        denoiser.load_state_dict(state["denoiser"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, budget = state["step"], Budget(minutes, steps, state["seconds"])
    unet = torch.compile(denoiser.unet) if compiled else denoiser.unet
    alphas = alphas_cumprod(device)
    averaged = Networks(
        average.module.text_encoder, average.module.text_encoder_2, average.module.unet, networks.vae
    )

    def keep() -> None:
        save(
            path,
            {
                "denoiser": denoiser.state_dict(),
                "average": average.module.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": budget.spent_seconds,
            },
        )
        show(averaged, step)

    pool: Pool | None = None
    saved = budget.spent_seconds
    reported, since, total = step, budget.spent_seconds, torch.zeros((), device=device)
    while (fraction := budget.fraction(step)) < 1.0:
        side = SMALL if fraction < LARGE_FROM else SIDE
        if pool is None or pool.side != side:
            pool = make_pool(side, step)
            pool.fill(PREFILL)
        pool.renew()
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        count = batch if side == SIDE else 2 * batch
        loss = loss_of(denoiser, unet, pool.draw(count, generator), alphas, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        muon_rate = learning_rate(rate, step, fraction)
        optimiser.step(muon_rate, muon_rate / 2)
        average.update(step)
        total += loss.detach()
        step += 1
        if step % REPORT_EVERY == 0:
            part, seconds = step - reported, budget.spent_seconds - since
            report(
                f"denoiser step {step} {fraction:.0%} {part / seconds:.2f} it/s side {side} "
                f"loss {total.item() / part:.4f} made {pool.made}"
            )
            reported, since = step, budget.spent_seconds
            total.zero_()
        if budget.spent_seconds - saved > save_seconds:
            keep()
            saved = budget.spent_seconds
    keep()
    networks.text_encoder, networks.text_encoder_2 = averaged.text_encoder, averaged.text_encoder_2
    networks.unet = averaged.unet
    report(f"denoiser done: {step} steps")
