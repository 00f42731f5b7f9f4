"""Scaling the grain of trained weights."""

from pathlib import Path

import torch
from nexus_export.families.lama.checkpoint import read_compact
from nexus_export.families.lama.generator import OUT_CHANNELS
from nexus_export.paths import WEIGHTS
from nexus_training.lama.scale_grain import scale_grain


def test_the_amplitudes_alone_are_scaled(tmp_path: Path) -> None:
    given, out = WEIGHTS / "lama_compact.safetensors", tmp_path / "scaled.safetensors"
    scale_grain(given, out, 0.5)
    before, after = read_compact(given), read_compact(out)
    for weight, scaled in zip(before.model[-1].parameters(), after.model[-1].parameters(), strict=True):
        assert torch.equal(scaled[:OUT_CHANNELS], weight[:OUT_CHANNELS])
        # Halves of FP16 values are exact but for the smallest, whose spacing is 2 ** -24.
        torch.testing.assert_close(scaled[OUT_CHANNELS:], 0.5 * weight[OUT_CHANNELS:], atol=2**-25, rtol=0)
    inner = [name for name in before.state_dict() if not name.startswith(f"model.{len(before.model) - 1}.")]
    assert all(torch.equal(after.state_dict()[name], before.state_dict()[name]) for name in inner)
