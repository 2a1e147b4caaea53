"""Precision and recall with a tolerance in the evaluator."""

import json
from pathlib import Path

import numpy as np
import pytest

from ifa_d2.evaluation import SemSegEvaluator
from ifa_d2.metrics.tolerance import tolerant_figures
from tests.metrics.test_tolerance import brute_force

from .conftest import CLASSES, IGNORE, NAME, Pictures, logits


def test_the_evaluator_sums_over_pictures_and_writes(pictures: Pictures, tmp_path: Path):
    rng = np.random.default_rng(1)
    pairs = rng.integers(0, 3, (2, 2, 11, 13))
    pairs[0, 0, :3] = IGNORE
    options = {"f1_classes": ["water", "grass"], "f1_tolerance": 1}
    inputs = [pictures.write(name, label) for name, (label, _) in zip("ab", pairs, strict=True)]
    evaluator = SemSegEvaluator(NAME, distributed=False, output_dir=str(tmp_path), **options)
    for one, (_, prediction) in zip(inputs, pairs, strict=True):
        evaluator.process([one], [logits(prediction)])
    figures = evaluator.evaluate()["sem_seg"]
    for name in options["f1_classes"]:
        counts = [
            brute_force(np.where(a == IGNORE, 3, a), b, 3, CLASSES.index(name), 1) for a, b in pairs
        ]
        for kind, value in tolerant_figures(np.sum(counts, axis=0)).items():
            assert figures[f"{kind}_1px-{name}"] == pytest.approx(value)
    assert "F1_1px-rock" not in figures
    rows = json.loads((tmp_path / "sem_seg_evaluation.json").read_text())["classes"]
    assert rows[0]["f1_1px"] == figures["F1_1px-grass"]
    assert "f1_1px" not in rows[1]


def test_they_are_off_by_default(pictures: Pictures):
    evaluator = SemSegEvaluator(NAME, distributed=False)
    label = np.zeros((4, 4), np.uint8)
    evaluator.process([pictures.write("a", label)], [logits(label)])
    assert not [key for key in evaluator.evaluate()["sem_seg"] if key.startswith("F1")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"f1_classes": ["grass", "sand"]}, r"f1_classes must be of \['grass',.*got \['sand'\]"),
        ({"f1_tolerance": -1}, "f1_tolerance must be 0 pixels or more, got -1"),
    ],
)
def test_mistakes_are_named(pictures: Pictures, options, message):
    with pytest.raises(ValueError, match=message):
        SemSegEvaluator(NAME, **options)
