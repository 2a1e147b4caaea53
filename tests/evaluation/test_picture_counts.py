"""Counts of pictures: an evaluation's parts, their file, and comparisons of methods."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ifa_d2.evaluation import SemSegEvaluator
from ifa_d2.evaluation.comparison import compare, mean_and_deviation, mean_figures
from ifa_d2.evaluation.picture_counts import PICTURE_COUNTS, PictureCounts, check_alike
from ifa_d2.metrics import SegmentationMetrics
from tests.evaluation.conftest import CLASSES, IGNORE, NAME, Pictures, labels

OPTIONS = {"trimap_widths": [2], "f1_classes": ["rock"]}
Evaluate = Callable[..., tuple[dict[str, float], PictureCounts]]


@pytest.fixture
def evaluate(pictures: Pictures, tmp_path: Path) -> Evaluate:
    """Evaluate random predictions of five pictures; a share is right."""
    rng = np.random.default_rng(0)
    truths = [rng.integers(0, 3, (9 + i, 14)) for i in range(5)]
    for truth in truths:
        truth[:2] = IGNORE
    inputs = [pictures.write(f"{i}/{i}", truth) for i, truth in enumerate(truths)]

    def evaluate(seed: int, right: float, **options: Any) -> tuple[dict, PictureCounts]:
        rng, output = np.random.default_rng(seed), tmp_path / f"out {seed} {right}"
        evaluator = SemSegEvaluator(
            NAME, False, str(output), picture_counts=True, **{**OPTIONS, **options}
        )
        for one, truth in zip(inputs, truths, strict=True):
            wrong = (rng.random(truth.shape) > right) | (truth == IGNORE)
            prediction = np.where(wrong, rng.integers(0, 3, truth.shape), truth)
            evaluator.process([one], [labels(prediction)])
        figures = evaluator.evaluate()["sem_seg"]
        return figures, PictureCounts.read(output / PICTURE_COUNTS)

    return evaluate


def test_the_pictures_add_up_to_the_evaluation(evaluate: Evaluate) -> None:
    figures, found = evaluate(0, 0.5)
    assert found.pictures == tuple(f"{i}/{i}.png" for i in range(5))
    of_all = found.metrics(found.total)
    assert of_all.keys() == figures.keys()
    assert {key: float(value) for key, value in of_all.items()} == pytest.approx(figures)
    assert found.options["class_names"] == list(CLASSES)


def test_metrics_of_many_data_sets_are_each_ones(evaluate: Evaluate) -> None:
    """The first picture alone, the others, all of them; classes may be missing."""
    counts = evaluate(0, 0.5)[1]
    dense = counts.counts.toarray()
    parts = np.stack([dense[0], dense[1:].sum(0), 0 * dense[0]])
    together = counts.metrics(np.stack([parts, parts[::-1]]).astype(float))
    for index, part in enumerate(parts):
        alone = counts.metrics(part)
        assert alone.keys() == together.keys()
        for key, values in together.items():
            assert values.shape == (2, 3)
            expected = [float(alone[key])] * 2
            assert [values[0, index], values[1, 2 - index]] == pytest.approx(expected, nan_ok=True)


def test_counts_of_processes_are_joined_in_order(
    evaluate: Evaluate, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(0, 1.0)[1]
    inputs = [{"file_name": str(pictures.root / "images" / f"{i}/{i}.png")} for i in range(5)]

    def part(chosen: slice) -> SemSegEvaluator:
        out = str(tmp_path / "both")
        evaluator = SemSegEvaluator(NAME, output_dir=out, picture_counts=True, **OPTIONS)
        for one in inputs[chosen]:
            record = evaluator._labelled_record(one)
            label = evaluator._read_label(record, (9 + int(Path(one["file_name"]).stem), 14))
            answer = np.where(label == len(CLASSES), 0, label)
            evaluator.process([one], [labels(answer)])
        return evaluator

    first, second = part(slice(0, 2)), part(slice(2, 5))
    gathered = []
    monkeypatch.setattr(
        "ifa_d2.evaluation.sem_seg.comm.gather", lambda p: gathered.append(p) or [p]
    )
    second.evaluate()
    monkeypatch.setattr("ifa_d2.evaluation.sem_seg.comm.gather", lambda p: [p, *gathered])
    first.evaluate()
    found = PictureCounts.read(tmp_path / "both" / PICTURE_COUNTS)
    assert found.pictures == whole.pictures
    labelled = 12  # of the confusion matrix; answers on ignored pixels are not the same
    first, second = (one.counts.toarray()[:, :labelled] for one in (found, whole))
    assert np.array_equal(first, second)


def test_a_method_is_compared_with_another(evaluate: Evaluate) -> None:
    ours = {str(seed): evaluate(seed, 0.9)[1] for seed in range(3)}
    figures = [evaluate(seed, 0.5) for seed in range(3)]
    theirs = {str(seed): counts for seed, (_, counts) in enumerate(figures)}
    mean = mean_figures(theirs)
    assert mean["mIoU"] == pytest.approx([one["mIoU"] for one, _ in figures])
    found = compare(ours, theirs)
    expected = np.mean(mean_figures(ours)["mIoU"]) - np.mean(mean["mIoU"])
    assert found["mIoU"].mean == pytest.approx(expected)
    assert 10 < found["mIoU"].low < expected < found["mIoU"].high < 90
    back = compare(theirs, ours)["F1_2px-rock"]
    assert back.mean == pytest.approx(-found["F1_2px-rock"].mean)
    same = compare(ours, ours)["mIoU"]
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_what_cannot_be_compared_is_refused(evaluate: Evaluate) -> None:
    one, other = evaluate(0, 0.9)[1], evaluate(1, 0.9, trimap_widths=[3])[1]
    with pytest.raises(ValueError, match=r"a and b must be counted alike, got trimap_widths \[2\]"):
        check_alike([("a", one), ("b", other)])
    fewer = PictureCounts(one.options, one.pictures[1:], one.counts[1:])
    with pytest.raises(
        ValueError, match=r"same pictures, got 5 from '0/0\.png' and 4 from '1/1\.png'"
    ):
        check_alike([("a", one), ("b", fewer)])
    with pytest.raises(ValueError, match=r"as many runs as each other, got 1 \(a\) and 2 \(b, c\)"):
        compare({"a": one}, {"b": one, "c": one})


def test_counts_need_a_folder(pictures: Pictures) -> None:
    with pytest.raises(ValueError, match="picture_counts are written to output_dir"):
        SemSegEvaluator(NAME, distributed=False, picture_counts=True)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no archive", b"text"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / PICTURE_COUNTS
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PictureCounts.read(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not hold counts of pictures"):
        PictureCounts.read(path)
    torch.save({"a": 1}, path)
    with pytest.raises(ValueError, match="does not hold counts of pictures"):
        PictureCounts.read(path)


def test_options_make_the_same_metrics() -> None:
    metrics = SegmentationMetrics(
        CLASSES, 9, boundary_widths=(0.1, 3), trimap_widths=(), f1_classes=["water"], f1_tolerance=1
    )
    again = SegmentationMetrics(**copy.deepcopy(metrics.options))
    assert again.options == metrics.options
    label = np.arange(12).reshape(3, 4) % 3
    for one in (metrics, again):
        one.update(label, label[::-1].copy())
    assert again.compute() == pytest.approx(metrics.compute(), nan_ok=True)


@pytest.mark.parametrize(
    ("values", "text"), [([], "-"), ([50.0], "50.0"), ([50.0, 52.0, float("nan")], "51.0 ± 1.4")]
)
def test_mean_and_deviation(values: list[float], text: str) -> None:
    assert mean_and_deviation(values) == text
