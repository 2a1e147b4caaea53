"""Models of known size beside one another."""

import pytest
import torch
from torch import nn

from ifa_d2.analysis.benchmarks.models import compare_models, inference, model_columns


class _Linear(nn.Module):
    """Multiplies each picture by a matrix of ``size`` x ``size``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, size, bias=False)

    def forward(self, inputs: list[dict]) -> torch.Tensor:
        assert not self.training and not torch.is_grad_enabled()
        return self.layer(inputs[0]["image"][:, : self.layer.in_features])


def test_counts_and_ratios_to_the_reference() -> None:
    models = {"small": _Linear(16), "large": _Linear(32)}
    picture = {"image": torch.ones(64, 32)}
    functions = {name: inference(model, picture) for name, model in models.items()}
    rows = compare_models(functions, models, reference="small", repeats=3, device="cpu")
    small, large = rows
    assert [row["model"] for row in rows] == ["small", "large"]
    assert (small["params"], large["params"]) == (16 * 16, 32 * 32)
    assert (small["macs"], large["macs"]) == (64 * 16 * 16, 64 * 32 * 32)
    assert small["mib"] >= 64 * 16 * 4 / 2**20  # the answer at the least
    for name in ("time", "memory", "macs", "params"):
        assert small[f"{name}_ratio"] == 1
    assert large["params_ratio"] == large["macs_ratio"] == 4
    assert large["memory_ratio"] == pytest.approx(large["mib"] / small["mib"])
    assert large["seconds"] > 0 and large["time_ratio"] > 0


def test_columns_have_the_digits_asked_for() -> None:
    row = {"seconds": 1.23456, "mib": 12.3, "macs": 2.5e9, "params": 1.26e6}
    row |= {f"{name}_ratio": 0.5 for name in ("time", "memory", "macs", "params")}
    columns = model_columns(row, seconds_digits=3, params_digits=1)
    assert columns["seconds"] == "1.235" and columns["M parameters"] == "1.3"
    assert columns["peak MiB"] == "12" and columns["G multiply-adds"] == "2.5"
    assert columns["time ratio"] == columns["memory ratio"] == "0.50"
    assert columns["multiply-adds ratio"] == "0.50"
