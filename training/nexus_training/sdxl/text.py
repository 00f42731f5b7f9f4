"""Stage two: pretrains both text encoders to classify what a caption asks for.

It takes seconds, on captions alone; a UNet that starts with random text encoders spends most of its training on the
words.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nexus_training.muon import Muon
from nexus_training.runtime import learning_rate, to_device
from nexus_training.sdxl.captions import (
    COLOURS,
    MATERIALS,
    SCENES,
    SHAPES,
    UNCONDITIONAL,
    SceneSpec,
    sample_spec,
)
from nexus_training.sdxl.networks import TEXT_WIDTHS, Networks, encode_text
from nexus_training.sdxl.tokenizer import END, Vocabulary

# Classes of shape, colour, material and scene; each has one more, for captions that do not name it.
CLASS_COUNTS = (len(SHAPES), len(COLOURS), len(MATERIALS), len(SCENES))

RATE = 2e-3
LOG_EVERY = 100


def caption_labels(spec: SceneSpec) -> tuple[int, ...]:
    """Class of shape, colour, material and scene that the caption names; the count of classes if it names none."""
    silent = spec.caption in UNCONDITIONAL
    scene_texts = list(SCENES.values())[spec.scene] if spec.scene >= 0 else ()
    scene = spec.scene if spec.caption.endswith(scene_texts) else -1
    # The colour precedes the object; that of "on green grass" is not the object's.
    words = spec.caption.partition(" on ")[0].partition(" in front of ")[0].split()
    colour = spec.colour if spec.shape >= 0 and list(COLOURS)[spec.colour] in words else -1
    named = (spec.shape, colour, spec.material, scene)
    return tuple(
        count if silent or value < 0 else value for count, value in zip(CLASS_COUNTS, named, strict=True)
    )


def train_text(
    networks: Networks,
    vocabulary: Vocabulary,
    device: torch.device,
    *,
    steps: int,
    batch: int,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Train both encoders in place; the classification heads are discarded."""
    torch.manual_seed(seed)
    encoders = nn.ModuleList([networks.text_encoder, networks.text_encoder_2]).to(device)
    total = sum(CLASS_COUNTS) + len(CLASS_COUNTS)
    heads = nn.ModuleList([nn.Linear(TEXT_WIDTHS[1], total), nn.Linear(sum(TEXT_WIDTHS), total)]).to(device)
    optimiser = Muon(nn.ModuleList([encoders, heads]), outer=("embed", "1.0.", "1.1."))
    correct: list[NDArray[np.bool_]] = []
    for step in range(steps):
        rng = np.random.default_rng((seed, step, 3))
        specs = [sample_spec(rng) for _ in range(batch)]
        ids = to_device(vocabulary.encode([spec.caption for spec in specs]), device)
        labels = to_device(np.array([caption_labels(spec) for spec in specs]), device)
        context, pooled = encode_text(encoders[0], encoders[1], ids)
        # With causal attention only the end token attends to the whole caption.
        end = (ids[0] == END).int().argmax(1)
        read = context[torch.arange(batch, device=device), end]
        logits = [heads[0](pooled), heads[1](read)]
        loss = torch.stack([_loss(one, labels) for one in logits]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        rate = learning_rate(RATE, step, step / steps)
        optimiser.step(rate, rate)
        correct.append((_predicted(logits[0]) == labels).all(1).cpu().numpy())
        if (step + 1) % LOG_EVERY == 0:
            log(f"text step {step + 1}: {np.mean(correct[-20:]):.1%} of captions understood")


def _split(logits: Tensor) -> tuple[Tensor, ...]:
    return torch.split(logits, [count + 1 for count in CLASS_COUNTS], 1)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([F.cross_entropy(part, labels[:, i]) for i, part in enumerate(_split(logits))]).sum()


def _predicted(logits: Tensor) -> Tensor:
    return torch.stack([part.argmax(1) for part in _split(logits)], 1)
