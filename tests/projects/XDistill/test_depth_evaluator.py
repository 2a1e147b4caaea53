"""Figures of depth against NumPy, their invariances, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from depth_evaluator import FIGURES, DepthEvaluator, depth_figures
from film_folder import write_depth

SIZE = (9, 13)


def test_figures_are_numpys() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(1, 50, 200)
    predicted = true * rng.uniform(0.5, 2, 200)
    found = depth_figures(predicted, true)
    ratios = [max(p / t, t / p) for p, t in zip(predicted, true, strict=True)]
    expected = {
        "abs_rel": sum(abs(p - t) / t for p, t in zip(predicted, true, strict=True)) / 200,
        "sq_rel": sum((p - t) ** 2 / t for p, t in zip(predicted, true, strict=True)) / 200,
        "rmse": (sum((p - t) ** 2 for p, t in zip(predicted, true, strict=True)) / 200) ** 0.5,
        "rmse_log": np.sqrt(
            np.mean([(np.log(p) - np.log(t)) ** 2 for p, t in zip(predicted, true, strict=True)])
        ),
        **{f"delta_{k}": sum(r < 1.25**k for r in ratios) / 200 for k in (1, 2, 3)},
    }
    assert found == pytest.approx(expected) and tuple(found) == FIGURES
    assert 0 < found["delta_1"] < found["delta_2"] < found["delta_3"] <= 1


def evaluated(
    folder: Path, predicted: np.ndarray, true: np.ndarray, **options: Any
) -> dict[str, float]:
    """Figures of frames, depths (frames, H, W)."""
    evaluator = DepthEvaluator("films", str(folder), **options)
    for index, (one, other) in enumerate(zip(predicted, true, strict=True)):
        path = folder / f"{index}.png"
        write_depth(path, other)
        record = {"file_name": "x.png", "image_id": str(index), "depth_file_name": str(path)}
        evaluator.process([record], [{"depth": torch.from_numpy(one)}])
    return evaluator.evaluate()["depth"]


def depths(frames: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    true = np.rint(256 * rng.uniform(2, 60, (frames, *SIZE))) / 256
    return true * rng.uniform(0.7, 1.4, true.shape), true


def test_means_over_frames(tmp_path: Path) -> None:
    predicted, true = depths()
    true[:, :2] = 0  # not known,
    true[0, 3] = 90  # and too far
    found = evaluated(tmp_path, predicted, true)
    each = []
    for one, other in zip(predicted, true, strict=True):
        known = (other > 0) & (other < 80)
        one, other = one[known], other[known]
        scaled = np.clip(one * np.median(other) / np.median(one), 1e-3, 80)
        each.append(depth_figures(scaled, other))
    for name in FIGURES:
        assert found[name] == pytest.approx(np.mean([one[name] for one in each]))
    content = json.loads((tmp_path / "depth_evaluation.json").read_text())
    assert content["figures"] == found and content["dataset"] == "films"
    assert [one["image_id"] for one in content["frames"]] == ["0", "1", "2"]
    assert content["frames"][1]["rmse"] == pytest.approx(each[1]["rmse"])


def test_median_scaling_takes_the_scale_away(tmp_path: Path) -> None:
    predicted, true = depths()
    found = evaluated(tmp_path, predicted, true)
    factors = np.array([0.02, 1.0, 30.0])[:, None, None]
    again = evaluated(tmp_path, factors * predicted, true)
    assert again.pop("scale_spread") > 1 > found.pop("scale_spread")
    assert again == pytest.approx(found)
    metric = evaluated(tmp_path, 2 * true, true, median_scaling=False)
    assert metric["abs_rel"] > 0.8 and metric["scale_spread"] == 0
    perfect = evaluated(tmp_path, 2 * true, true)
    assert perfect["abs_rel"] == pytest.approx(0, abs=1e-12) and perfect["delta_1"] == 1


def test_crop(tmp_path: Path) -> None:
    predicted, true = depths(1)
    part = (slice(4, 8), slice(2, 11))
    predicted[0][part] = 3 * true[0][part]
    options = {"crop": (0.5, 0.9, 0.2, 0.9)}
    assert evaluated(tmp_path, predicted, true)["abs_rel"] > 0.05
    assert evaluated(tmp_path, predicted, true, **options)["abs_rel"] == pytest.approx(0)


@pytest.mark.parametrize(
    ("predicted", "true", "words"),
    [
        (
            np.ones((3, 5)),
            np.ones(SIZE),
            r"0.png has \(height, width\) \(9, 13\), but \(3, 5\) was",
        ),
        (np.full(SIZE, np.nan), np.ones(SIZE), "depth of x.png must be finite and above 0"),
        (np.zeros(SIZE), np.ones(SIZE), r"above 0, but was predicted from 0.0 to 0.0"),
        (
            np.ones(SIZE),
            np.zeros(SIZE),
            r"0.png must have pixels from 0.001 to 80.0 metres, got no",
        ),
    ],
)
def test_depths_that_do_not_fit(
    tmp_path: Path, predicted: np.ndarray, true: np.ndarray, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        evaluated(tmp_path, predicted[None], true[None])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_depth": 0}, "min_depth must be above 0 and below max_depth, got 0 and 80"),
        ({"crop": (0.5, 0.4, 0, 1)}, r"crop must be \(top, bottom, left, right\) in \[0, 1\]"),
    ],
)
def test_mistakes(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DepthEvaluator("films", **options)


def test_nothing_was_evaluated() -> None:
    with pytest.raises(ValueError, match="films has no frames that were evaluated"):
        DepthEvaluator("films").evaluate()
