"""Stage two: both text encoders learn to tell what a caption asks for, before the UNet listens to them.

Seconds of training on captions alone; a UNet that begins with random text takes most of its time to find the words.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nexus_training.muon import Muon
from nexus_training.runtime import learning_rate, sent
from nexus_training.sdxl.captions import (
    COLOURS,
    MATERIALS,
    SCENES,
    SHAPES,
    UNCONDITIONAL,
    Wish,
    draw_wish,
)
from nexus_training.sdxl.networks import TEXT_WIDTHS, Networks, encode_text
from nexus_training.sdxl.tokenizer import END, Vocabulary

# Each has one answer more: that the caption does not say.
QUESTIONS = (len(SHAPES), len(COLOURS), len(MATERIALS), len(SCENES))

RATE = 2e-3
REPORT_EVERY = 100


def answers(wish: Wish) -> tuple[int, ...]:
    """What the caption says of shape, colour, material and scene; the questions' length where it says nothing."""
    silent = wish.caption in UNCONDITIONAL
    scene_texts = list(SCENES.values())[wish.scene] if wish.scene >= 0 else ()
    scene = wish.scene if wish.caption.endswith(scene_texts) else -1
    # The colour stands before the object; "on green grass" says nothing of it.
    words = wish.caption.partition(" on ")[0].partition(" in front of ")[0].split()
    colour = wish.colour if wish.shape >= 0 and list(COLOURS)[wish.colour] in words else -1
    said = (wish.shape, colour, wish.material, scene)
    return tuple(
        count if silent or value < 0 else value for count, value in zip(QUESTIONS, said, strict=True)
    )


def train_text(
    networks: Networks,
    vocabulary: Vocabulary,
    device: torch.device,
    *,
    steps: int,
    batch: int,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Train both encoders in place; the heads that ask the questions are thrown away."""
    torch.manual_seed(seed)
    encoders = nn.ModuleList([networks.text_encoder, networks.text_encoder_2]).to(device)
    total = sum(QUESTIONS) + len(QUESTIONS)
    heads = nn.ModuleList([nn.Linear(TEXT_WIDTHS[1], total), nn.Linear(sum(TEXT_WIDTHS), total)]).to(device)
    optimiser = Muon(nn.ModuleList([encoders, heads]), outer=("embed", "1.0.", "1.1."))
    right: list[NDArray[np.bool_]] = []
    for step in range(steps):
        rng = np.random.default_rng((seed, step, 3))
        wishes = [draw_wish(rng) for _ in range(batch)]
        ids = sent(vocabulary.encode([wish.caption for wish in wishes]), device)
        asked = sent(np.array([answers(wish) for wish in wishes]), device)
        context, pooled = encode_text(encoders[0], encoders[1], ids)
        # The end token is the only one that has read the whole caption.
        end = (ids[0] == END).int().argmax(1)
        read = context[torch.arange(batch, device=device), end]
        logits = [heads[0](pooled), heads[1](read)]
        loss = torch.stack([_loss(one, asked) for one in logits]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        rate = learning_rate(RATE, step, step / steps)
        optimiser.step(rate, rate)
        right.append((_answered(logits[0]) == asked).all(1).cpu().numpy())
        if (step + 1) % REPORT_EVERY == 0:
            report(f"text step {step + 1}: {np.mean(right[-20:]):.1%} of captions understood")


def _parts(logits: Tensor) -> tuple[Tensor, ...]:
    return torch.split(logits, [count + 1 for count in QUESTIONS], 1)


def _loss(logits: Tensor, asked: Tensor) -> Tensor:
    return torch.stack([F.cross_entropy(part, asked[:, i]) for i, part in enumerate(_parts(logits))]).sum()


def _answered(logits: Tensor) -> Tensor:
    return torch.stack([part.argmax(1) for part in _parts(logits)], 1)
