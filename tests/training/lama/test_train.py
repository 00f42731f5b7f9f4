"""A training run of the compact LaMa: what its gradients reach, and that a stop costs nothing."""

from pathlib import Path

import cv2
import nexus_export
import pytest
import torch
from nexus_export.families.lama.checkpoint import load_checkpoint
from nexus_export.families.lama.generator import OUT_CHANNELS
from nexus_training.lama.crop_cache import CropCache
from nexus_training.lama.report import Report
from nexus_training.lama.schedule import Schedule
from nexus_training.lama.train import train
from nexus_training.lama.trainer import Trainer

from tests.training.support.photos import coarse_photo

CPU = torch.device("cpu")


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    """Across the steps where the norms stop."""
    schedule = Schedule(steps=4, batch=2, crop=32)
    photos = [coarse_photo(0), coarse_photo(1)]
    crops, report = CropCache(photos, 0, 10, 32, CPU), Report(photos, 32, CPU)

    def trainer(folder: str) -> Trainer:
        (tmp_path / folder).mkdir(exist_ok=True)
        return Trainer(schedule, crops, report, tmp_path / folder, CPU)

    unbroken = trainer("unbroken")
    train(unbroken, save_minutes=60)
    broken = trainer("broken")
    for _ in range(2):
        broken.train_step()
    broken.save()
    resumed = trainer("broken")
    assert resumed.step == 2
    train(resumed, save_minutes=60)
    averages = [trainer.average.module.state_dict() for trainer in (unbroken, resumed)]
    for name, tensor in averages[0].items():
        assert torch.equal(tensor, averages[1][name]), name
    exported = load_checkpoint(tmp_path / "unbroken" / "lama_compact.safetensors")
    # FP16 storage of weights below 2: half of its spacing there is 2 ** -11.
    weight = exported.state_dict()["model.1.ffc.convl2l.weight"]
    torch.testing.assert_close(weight, averages[0]["model.1.ffc.convl2l.weight"], atol=2**-11, rtol=0)
    sheet = cv2.imread(str(tmp_path / "unbroken" / "sheet.jpg"))
    assert sheet is not None
    assert sheet.shape == (8 * 32, 4 * 32, 3)


def test_states_keep_their_keys(tmp_path: Path) -> None:
    """Runs that were saved by earlier versions resume; those also hold an unused discriminator under "judge"."""
    crops, report = CropCache([coarse_photo(0)], 0, 5, 32, CPU), Report([coarse_photo(0)], 32, CPU)
    schedule = Schedule(steps=1, batch=1, crop=32)
    train(Trainer(schedule, crops, report, tmp_path, CPU), save_minutes=60)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    networks = {"generator", "generator_optimiser", "average"}
    assert set(state) == networks | {"gradient_norms", "step", "trained_seconds"}
    assert set(state["gradient_norms"]) == {"reconstruction", "structure", "grain"}
    torch.save(state | {"judge": {}}, tmp_path / "state.pt")
    assert Trainer(schedule, crops, report, tmp_path, CPU).step == 1


def test_a_run_begins_from_given_weights(tmp_path: Path) -> None:
    weights = Path(nexus_export.__file__).parent / "weights" / "lama_compact.safetensors"
    crops, report = CropCache([coarse_photo(0)], 0, 5, 32, CPU), Report([coarse_photo(0)], 32, CPU)
    trainer = Trainer(Schedule(batch=1, crop=32), crops, report, tmp_path, CPU, weights)
    given = load_checkpoint(weights).state_dict()
    assert all(
        torch.equal(tensor, given[name]) for name, tensor in trainer.average.module.state_dict().items()
    )


def test_texture_is_paid_for_by_the_grain_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spectral loss must not reach the correction, which then draws texture as a grid of dots."""
    crops, report = CropCache([coarse_photo(0)], 0, 5, 32, CPU), Report([coarse_photo(0)], 32, CPU)

    def gradient(share: float) -> torch.Tensor:
        schedule = Schedule(steps=100, batch=2, crop=32, grain_share=share)
        (folder := tmp_path / str(share)).mkdir()
        trainer = Trainer(schedule, crops, report, folder, CPU)
        # A step would drop the gradients.
        monkeypatch.setattr(trainer.generator_optimiser, "step", lambda *_rates: None)
        trainer.train_step()
        found = trainer.generator.model[-1].bias.grad
        assert isinstance(found, torch.Tensor)
        share_of_correction: torch.Tensor = found / found[:OUT_CHANNELS].norm()
        return share_of_correction

    with_texture, without = gradient(1.0), gradient(0.0)
    torch.testing.assert_close(with_texture[:OUT_CHANNELS], without[:OUT_CHANNELS], rtol=1e-4, atol=1e-5)
    assert (without[OUT_CHANNELS:] == 0).all()
    assert (with_texture[OUT_CHANNELS:] != 0).any()
