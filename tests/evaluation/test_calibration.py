"""Calibration error against its definition, and temperatures against those that were drawn with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ifa_d2.evaluation import SemSegEvaluator, calibration
from ifa_d2.evaluation.calibration import (
    LogitSample,
    Reliability,
    fit_temperature,
    held_out_sample,
)
from tests.evaluation.conftest import CLASSES, IGNORE, NAME, Pictures, labels

BINS = 15


def by_definition(logits: Tensor, label: np.ndarray, bins: int = BINS) -> float:
    """Guo et al. 2017, Eq. 3: bin m of 1..M is ((m - 1) / M, m / M]."""
    confidence, predicted = logits.double().softmax(dim=0).max(dim=0)
    known = label < len(logits)
    confidence, right = confidence.numpy()[known], (predicted.numpy() == label)[known]
    error = 0.0
    for index in range(bins):
        inside = (confidence > index / bins) & (confidence <= (index + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def picture(seed: int, size: tuple[int, int]) -> tuple[Tensor, np.ndarray]:
    """Logits (3, H, W), and labels that are right more often than not; 3 is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, *size, generator=generator)
    noisy = logits + 2 * torch.randn(3, *size, generator=generator)
    label = noisy.argmax(dim=0).numpy().astype(np.uint8)
    label[0] = 3
    return logits, label


def reliability(logits: Tensor, label: np.ndarray, bins: int = BINS) -> Reliability:
    return Reliability.of(logits, label, logits.argmax(dim=0).byte().numpy(), bins)


@pytest.mark.parametrize("bins", [1, 7, 15, 100])
def test_error_is_that_of_the_definition(bins: int) -> None:
    logits, label = picture(0, (37, 41))
    found = reliability(logits, label, bins)
    assert found.error == pytest.approx(by_definition(logits, label, bins), abs=1e-6)
    assert found.pixels.sum() == 36 * 41


def test_a_bin_ends_with_its_upper_edge() -> None:
    logits, label = torch.zeros(2, 4, 5), np.zeros((4, 5), np.uint8)  # confidences of 1 / 2
    label[2:] = 1
    found = reliability(logits, label, 2)
    assert found.pixels.tolist() == [20, 0] and found.error == 0
    assert found.confidence[0] == 0.5 and found.accuracy[0] == 0.5
    assert np.isnan(found.confidence[1]) and np.isnan(found.accuracy[1])
    sure = reliability(torch.tensor([[[200.0]], [[0.0]]]), np.array([[1]], np.uint8), 2)
    assert sure.pixels.tolist() == [0, 1] and sure.error == 1


def test_sums_are_exact_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the number of processes changes no figure."""
    whole = [reliability(*picture(seed, (30, 50))).counts for seed in range(4)]
    assert np.array_equal(sum(whole), sum(reversed(whole)))
    logits, label = picture(0, (30, 50))
    halves = [reliability(logits[:, rows], label[rows]) for rows in (np.s_[:11], np.s_[11:])]
    assert np.array_equal(whole[0], halves[0].counts + halves[1].counts)
    monkeypatch.setattr(calibration, "_BAND", 60)
    assert np.array_equal(whole[0], reliability(logits, label).counts)


def test_nothing_labelled_has_no_error() -> None:
    assert np.isnan(reliability(torch.zeros(3, 2, 2), np.full((2, 2), 3, np.uint8)).error)


def test_the_evaluator_counts_all_pictures(pictures: Pictures, tmp_path: Path) -> None:
    pairs = [picture(seed, size) for seed, size in ((0, (20, 31)), (1, (9, 17)))]
    inputs = []
    for index, (_, label) in enumerate(pairs):
        inputs.append(pictures.write(str(index), np.where(label == 3, IGNORE, label)))
    out = tmp_path / "out"
    evaluator = SemSegEvaluator(NAME, distributed=False, output_dir=str(out), calibration_bins=BINS)
    for one, (logits, _) in zip(inputs, pairs, strict=True):
        evaluator.process([one], [{"sem_seg": logits}])
    figures = evaluator.evaluate()["sem_seg"]
    flat = torch.cat([logits.flatten(1) for logits, _ in pairs], dim=1)
    label = np.concatenate([label.ravel() for _, label in pairs])
    assert figures["ECE"] == pytest.approx(100 * by_definition(flat, label), abs=1e-4)
    content = json.loads((out / "sem_seg_evaluation.json").read_text())
    assert content["figures"]["ECE"] == figures["ECE"]
    rows = content["reliability"]
    assert len(rows) == BINS and rows[0]["above"] == 0 and rows[-1]["up_to"] == 1
    assert sum(row["pixels"] for row in rows) == 19 * 31 + 8 * 17
    right = sum(row["pixels"] * row["accuracy"] for row in rows if row["pixels"])
    assert 100 * right / (19 * 31 + 8 * 17) == pytest.approx(figures["pACC"])
    drawn = np.asarray(Image.open(out / "reliability.png").convert("RGB"))
    assert drawn.std() > 20 and min(drawn.shape[:2]) > 400
    evaluator.reset()
    evaluator.process([inputs[1]], [{"sem_seg": pairs[1][0]}])
    alone = evaluator.evaluate()["sem_seg"]["ECE"]
    assert alone == pytest.approx(100 * by_definition(*pairs[1]), abs=1e-4)


def test_by_default_there_is_none(pictures: Pictures, tmp_path: Path) -> None:
    logits, label = picture(0, (6, 7))
    one = pictures.write("0", np.where(label == 3, IGNORE, label))
    evaluator = SemSegEvaluator(NAME, distributed=False, output_dir=str(tmp_path / "out"))
    evaluator.process([one], [{"sem_seg": logits}])
    assert not evaluator.needs_logits and "ECE" not in evaluator.evaluate()["sem_seg"]
    assert "reliability" not in (tmp_path / "out" / "sem_seg_evaluation.json").read_text()
    assert not (tmp_path / "out" / "reliability.png").exists()


def test_what_it_needs_is_said(pictures: Pictures) -> None:
    one = pictures.write("0", np.zeros((4, 5), np.uint8))
    evaluator = SemSegEvaluator(NAME, distributed=False, calibration_bins=BINS)
    with pytest.raises(ValueError, match=r"calibration_bins need logits of 3 .*return_logits=True"):
        evaluator.process([one], [labels(np.zeros((4, 5), np.int64))])
    with pytest.raises(ValueError, match="calibration_bins must be 0 or more, got -1"):
        SemSegEvaluator(NAME, distributed=False, calibration_bins=-1)


def sample(temperature: float, count: int = 40_000, pictures: int = 4, seed: int = 0):
    """Pixels whose labels are drawn from the softmax of their logits over a temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, len(CLASSES), generator=generator)
    shares = (logits / temperature).softmax(dim=1)
    drawn = torch.multinomial(shares, 1, generator=generator)[:, 0]
    place = torch.arange(count) * pictures // count
    return LogitSample(logits, drawn, torch.ones(count, dtype=torch.double), place)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    found = sample(temperature)
    fitted = fit_temperature(found)
    assert fitted == pytest.approx(temperature, rel=0.04)
    assert found.calibration_error(fitted) < 0.01
    if temperature != 1:
        assert found.calibration_error() > 0.05
    for other in (0.98 * fitted, 1.02 * fitted):
        assert found.nll(other) > found.nll(fitted)


def test_nll_and_error_are_those_of_probabilities() -> None:
    found = sample(2.0, count=500)
    shares = (found.logits.double() / 1.7).softmax(dim=1)
    expected = -shares[torch.arange(500), found.labels].log().mean()
    assert found.nll(1.7) == pytest.approx(float(expected))
    logits = (found.logits / 1.7).t()[:, None]
    expected = by_definition(logits, found.labels[None].numpy())
    assert found.calibration_error(1.7) == pytest.approx(expected, abs=1e-6)


def test_a_weight_is_a_number_of_pixels() -> None:
    found = sample(2.0, count=300)
    found.weights[:100] = 3
    again = LogitSample.joined([found, *[found.where(torch.arange(300) < 100)] * 2])
    again.weights[:] = 1
    assert fit_temperature(found) == pytest.approx(fit_temperature(again), rel=1e-4)
    assert found.nll() == pytest.approx(again.nll())
    assert found.calibration_error() == pytest.approx(again.calibration_error())


def test_halves_are_measured_with_the_others_temperature() -> None:
    parts = [sample(temperature, pictures=2) for temperature in (0.5, 2.0)]
    parts[1].pictures.add_(2)
    divided, fitted = held_out_sample(LogitSample.joined(parts))
    assert fitted == pytest.approx((0.5, 2.0), rel=0.05)
    count = len(parts[0].labels)
    assert torch.equal(divided.logits[:count], parts[0].logits / fitted[1])
    assert torch.equal(divided.logits[count:], parts[1].logits / fitted[0])
    with pytest.raises(ValueError, match="pixels of 2 pictures or more"):
        held_out_sample(sample(1.0, pictures=1))


@pytest.mark.parametrize(("right", "said"), [(True, "all sampled"), (False, "do not know")])
def test_no_temperature_fits(right: bool, said: str) -> None:
    found = sample(1.0, count=100)
    found.labels[:] = found.logits.argmax(dim=1) if right else found.logits.argmin(dim=1)
    with pytest.raises(ValueError, match=f"no temperature from 0.01 to 100.0 fits: .*{said}"):
        fit_temperature(found)
