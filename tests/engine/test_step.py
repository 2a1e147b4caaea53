"""A batch in parts."""

from pathlib import Path

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ifa_d2.engine.settings import TrainSettings
from ifa_d2.engine.step import StepTrainer
from tests.tiny import tiny_config, train_tiny, write_tiny_data


class Regression(nn.Module):
    """Two losses, each the mean over pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

    def forward(self, batch: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        images = torch.stack([one["image"] for one in batch])
        found = self.layers(images)
        return {"loss_square": found.square().mean(), "loss_size": found.abs().mean()}


def _train(parts: int, amp_dtype: torch.dtype | None = None) -> tuple[list[Tensor], list[float]]:
    torch.manual_seed(0)
    model = Regression().double()
    batches = [[{"image": torch.randn(4).double()} for _ in range(12)] for _ in range(5)]
    optimizer = torch.optim.AdamW(model.parameters(), 0.05)
    trainer = StepTrainer(model, batches, optimizer, device="cpu", amp_dtype=amp_dtype, parts=parts)
    losses = []
    with EventStorage() as storage:
        for trainer.iter in range(5):
            trainer.run_step()
            losses.append(storage.latest()["total_loss"][0])
    return [p.detach() for p in model.parameters()], losses


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_parts_give_the_step_of_the_whole(parts: int) -> None:
    for one, other in zip(_train(1), _train(parts), strict=True):
        for value, expected in zip(one, other, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)


def test_parts_of_a_training_give_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model without BatchNorm, where as many pixels count in each part."""
    (tmp_path / "data").mkdir()
    write_tiny_data(tmp_path / "data", unlabelled=False)
    monkeypatch.setenv("TINY_DATA", str(tmp_path / "data"))
    keys = (
        *("train.max_iter=3", "train.eval_period=0", "model.backbone.stem.norm=FrozenBN"),
        "model.sem_seg_head.aux_heads=[]",  # which drops channels at random
        "dataloader.train.mapper.augmentations.scale_range=[1,1.5]",  # nothing is padded
    )
    whole, parts = (
        train_tiny(tmp_path / f"{count}", *keys, f"train.accumulation_steps={count}")["model"]
        for count in (1, 4)
    )
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


def test_parts_divide_a_batch(tmp_path: Path) -> None:
    settings = TrainSettings.from_config(tiny_config(tmp_path, "train.accumulation_steps=2"))
    settings.check_world_size(2)
    with pytest.raises(ValueError, match=r"accumulation_steps must divide .* 1, got 2"):
        settings.check_world_size(4)
    with pytest.raises(ValueError, match=r"accumulation_steps must be a positive whole .* got 0"):
        TrainSettings.from_config(tiny_config(tmp_path, "train.accumulation_steps=0"))


def test_a_state_in_float32_is_taken_over_by_mixed_precision() -> None:
    model = Regression()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    plain = StepTrainer(model, [], optimizer, device="cpu")
    scaled = StepTrainer(model, [], optimizer, device="cpu", amp_dtype=torch.float16)
    before = scaled.grad_scaler.state_dict()
    for state in (plain.state_dict(), {"iteration": 3, "optimizer": optimizer.state_dict()}):
        scaled.load_state_dict(state)
        assert scaled.grad_scaler.state_dict() == before and before["scale"] > 1
