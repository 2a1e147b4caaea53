"""The evaluator over a clip whose consistency is known."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import register_clip
from consistency import one_hot, perceptual_consistency
from detectron2.data import DatasetCatalog
from frame_features import FrameFeatures
from PIL import Image
from video_evaluator import VideoConsistencyEvaluator

from ifa_d2.data import read_picture
from tests.projects.PerceptualConsistency.clip_data import CLASSES, FRAMES, write_clip


@pytest.fixture(scope="module")
def features() -> FrameFeatures:
    torch.manual_seed(0)
    return FrameFeatures("resnet18", pretrained=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return register_clip(write_clip(tmp_path_factory.mktemp("moving")))


def labels_of(record: dict) -> np.ndarray:
    """The true labels, 1 where there is none."""
    return np.minimum(np.asarray(Image.open(record["sem_seg_file_name"])), 1)


def flickering(record: dict, share: float) -> np.ndarray:
    """The true labels, of which some are others, drawn anew in every frame."""
    labels = labels_of(record)
    rng = np.random.default_rng(sum(map(ord, record["file_name"])))
    return np.where(rng.random(labels.shape) < share, 1 - labels, labels)


def logits_of(labels: np.ndarray, certainty: float = 2.0) -> torch.Tensor:
    return certainty * one_hot(torch.from_numpy(labels), len(CLASSES))


def evaluate(clip: str, features: FrameFeatures, share: float, **options) -> dict[str, float]:
    evaluator = VideoConsistencyEvaluator(clip, features, **options)
    for record in DatasetCatalog.get(clip):
        evaluator.process([record], [{"sem_seg": logits_of(flickering(record, share))}])
    return evaluator.evaluate()["video"]


def test_figures_fall_as_labels_flicker(clip: str, features: FrameFeatures) -> None:
    found = [evaluate(clip, features, share) for share in (0.0, 0.05, 0.2)]
    for name in ("PC", "TC_dis", "mVC_8"):
        calm, some, more = (figures[name] for figures in found)
        assert calm > some > more, name
    assert found[0]["mVC_8"] == 100
    assert np.isnan(found[0]["mVC_16"])  # of ten frames
    for figures in found:
        assert figures["PC"] <= min(figures["PC_forward"], figures["PC_backward"])


def test_pc_is_the_mean_over_consecutive_frames(clip: str, features: FrameFeatures) -> None:
    records = DatasetCatalog.get(clip)
    scores, seen = [], []
    with torch.no_grad():
        for record in records:
            labels = torch.from_numpy(flickering(record, 0.1))
            at = features.at_positions(labels)
            seen.append((features(read_picture(record["file_name"])), one_hot(at, 2)))
    for (fa, sa), (fb, sb) in itertools.pairwise(seen):
        scores.append(float(perceptual_consistency(fa, fb, sa, sb).score))
    figures = evaluate(clip, features, 0.1)
    assert figures["PC"] == pytest.approx(100 * np.mean(scores))


def test_a_labelled_neighbour_tells_wrong_positions(clip: str, features: FrameFeatures) -> None:
    """All positions are as certain: confidence alone knows nothing."""
    figures = evaluate(clip, features, 0.2)
    assert figures["AUROC_confidence"] == pytest.approx(50, abs=1)
    assert figures["AUROC_consistency"] > 75
    assert figures["AUROC_product"] == pytest.approx(figures["AUROC_consistency"], abs=1)


def test_a_model_that_answers_with_labels_has_no_confidence(
    clip: str, features: FrameFeatures
) -> None:
    evaluator = VideoConsistencyEvaluator(clip, features)
    for record in DatasetCatalog.get(clip):
        labels = torch.from_numpy(flickering(record, 0.1))
        evaluator.process([record], [{"sem_seg": labels}])
    figures = evaluator.evaluate()["video"]
    expected = evaluate(clip, features, 0.1)
    for name, value in figures.items():
        if name.startswith("AUROC"):
            assert np.isnan(value)
        else:
            assert value == pytest.approx(expected[name], nan_ok=True), name


def test_a_clip_without_labels(tmp_path: Path, features: FrameFeatures) -> None:
    clip = register_clip(write_clip(tmp_path / "unlabelled", labelled=False))
    evaluator = VideoConsistencyEvaluator(clip, features)
    for record in DatasetCatalog.get(clip):
        evaluator.process([record], [{"sem_seg": torch.zeros(48, 64, dtype=torch.int64)}])
    figures = evaluator.evaluate()["video"]
    assert figures["PC"] == pytest.approx(100) and figures["TC_dis"] == 100
    assert all(np.isnan(figures[name]) for name in figures if name[:3] in ("mVC", "AUR"))


def test_frames_out_of_order_or_missing(clip: str, features: FrameFeatures) -> None:
    records = DatasetCatalog.get(clip)
    output = {"sem_seg": torch.zeros(48, 64, dtype=torch.int64)}
    evaluator = VideoConsistencyEvaluator(clip, features)
    evaluator.process(records[:1], [output])
    with pytest.raises(ValueError, match=r"in order: frame 1 is \S+clip_2.png, got \S+clip_4.png"):
        evaluator.process(records[2:3], [output])
    evaluator.process(records[1:3], [output] * 2)
    with pytest.raises(ValueError, match=rf"{FRAMES} frames, but 3 came: .*clip_6.png") as error:
        evaluator.evaluate()
    assert "\n" not in str(error.value)
    evaluator.process(records[3:], [output] * (FRAMES - 3))
    with pytest.raises(ValueError, match="came after them"):
        evaluator.process(records[:1], [output])
    evaluator.reset()
    with pytest.raises(ValueError, match="one size"):
        evaluator.process(records[:1], [{"sem_seg": torch.zeros(64, 48, dtype=torch.int64)}])
    with pytest.raises(ValueError, match="stuff_classes, got 'nothing'"):
        VideoConsistencyEvaluator("nothing", features)
