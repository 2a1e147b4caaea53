"""A temperature: fitted on pixels of a data set, kept in checkpoints, used where logits are."""

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ifa_d2.data import read_label
from ifa_d2.engine.build import build_model
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.predictor import Predictor, load_model
from ifa_d2.engine.temperature import sample_logits, save_with_temperature
from tests.tiny import COUNT, assert_same, tiny_config, train_tiny

KEY = "sem_seg_head.temperature"


@pytest.fixture(scope="module")
def weights(trained: Path) -> Path:
    """The trained model with another last layer, whose answers vary, and its training's state."""
    path = trained / "out" / "model_final.pth"
    content = torch.load(path, weights_only=True)
    weight = content["model"]["sem_seg_head.alignment.predictor.weight"]
    weight.copy_(torch.randn(weight.shape, generator=torch.manual_seed(3)))
    torch.save(content, trained / "varied.pth")
    return trained / "varied.pth"


def predictor(trained: Path, weights: Path) -> Predictor:
    return Predictor.build(tiny_config(trained / "out"), str(weights))


def calibrated(trained: Path, weights: Path, temperature: float = 0.4) -> Path:
    path = trained / f"calibrated_{temperature}.pth"
    model = load_model(tiny_config(trained / "out"), str(weights))
    save_with_temperature(model, str(weights), temperature, path)
    return path


def test_sampled_pixels_are_those_of_the_field(trained: Path, weights: Path) -> None:
    made = predictor(trained, weights)
    made.model.sem_seg_head.temperature = 3.0  # a former one does not matter
    everything = sample_logits(made, "tiny", pixels=10**6)
    assert everything.labels.shape == (COUNT * 38 * 48,)  # two of 40 rows have no label
    assert everything.weights.unique().tolist() == [1.0]
    assert everything.pictures.unique().tolist() == list(range(COUNT))
    label = read_label(str(trained / "labels" / "2.png"))
    own = everything.where(everything.pictures == 2)
    assert own.labels.bincount().tolist() == np.bincount(label[2:].ravel()).tolist()
    made.model.sem_seg_head.temperature = 1.0
    logits = made(trained / "images" / "2.png").logits()[:, 2:].flatten(1).t()
    # Each pixel once, in some order.
    for column in range(3):
        found = own.logits[:, column].sort().values
        torch.testing.assert_close(found, logits[:, column].sort().values, atol=1e-5, rtol=1e-5)

    few = sample_logits(made, "tiny", pixels=100, seed=1)
    assert len(few.labels) == COUNT * 15 and few.weights.sum() == COUNT * 38 * 48
    assert_same(few.logits, sample_logits(made, "tiny", pixels=100, seed=1).logits)
    assert not torch.equal(few.logits, sample_logits(made, "tiny", pixels=100, seed=2).logits)


@pytest.mark.parametrize(
    ("name", "pixels", "said"),
    [
        ("tini", 9, "dataset"),
        ("camvid_val", 9, "dataset must have 3 classes, as the model, got 11 of 'camvid_val'"),
        ("tiny", 0, "pixels must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_sampled(
    trained: Path, weights: Path, name: str, pixels: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        sample_logits(predictor(trained, weights), name, pixels=pixels)


def test_the_checkpoint_keeps_all_else(trained: Path, weights: Path) -> None:
    before = torch.load(weights, weights_only=True)
    after = torch.load(calibrated(trained, weights), weights_only=True)
    assert after["model"].pop(KEY).item() == pytest.approx(0.4)
    assert_same(dict(after["model"]), dict(before["model"]))
    assert {"trainer", "iteration"} < after.keys()
    assert_same(*({k: v for k, v in one.items() if k != "model"} for one in (after, before)))
    with pytest.raises(ValueError, match=r"output must end in \.pth, got 'a\.pt'"):
        save_with_temperature(nn.Identity(), str(weights), 1.0, "a.pt")


def test_probabilities_follow_and_labels_stay(trained: Path, weights: Path) -> None:
    plain, sharp = (predictor(trained, path) for path in (weights, calibrated(trained, weights)))
    assert sharp.model.sem_seg_head.temperature == pytest.approx(0.4)
    for index in range(COUNT):
        one, other = (made(trained / "images" / f"{index}.png") for made in (plain, sharp))
        assert torch.equal(one.labels(), other.labels())
        assert torch.equal(one.refined_labels((80, 96)), other.refined_labels((80, 96)))
        torch.testing.assert_close(other.logits(), one.logits() / 0.4)
        expected = (one.logits() / 0.4).softmax(dim=0)
        torch.testing.assert_close(other.probabilities(), expected)
        points = [[0.1, 0.7], [0.9, 0.2]]
        torch.testing.assert_close(other.at(points), one.at(points) / 0.4)
        assert other.entropy().mean() < one.entropy().mean()
    # Detectron2's own segmentor around the head, too.
    image = {"image": torch.randint(0, 255, (3, 40, 48)).float()}
    with torch.no_grad():
        one, other = (made.model([image])[0]["sem_seg"] for made in (plain, sharp))
    torch.testing.assert_close(other, one / 0.4)
    assert torch.equal(one.argmax(dim=0), other.argmax(dim=0))


def test_without_one_nothing_is_new(
    trained: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(tiny_config(trained / "out"), str(weights))
    assert KEY not in model.state_dict()
    with caplog.at_level(logging.WARNING):
        for path in (weights, calibrated(trained, weights), weights):
            Checkpointer(model).load_trained(str(path))
            expected = 1.0 if path == weights else 0.4
            assert model.sem_seg_head.temperature == pytest.approx(expected)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    strict = copy.deepcopy(model)
    model.sem_seg_head.temperature = 0.7
    strict.load_state_dict(model.state_dict(), strict=True)
    assert strict.sem_seg_head.temperature == 0.7


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none(trained: Path, weights: Path, value: float) -> None:
    content = torch.load(weights, weights_only=True)
    content["model"][KEY] = torch.tensor(value)
    torch.save(content, trained / "wrong.pth")
    with pytest.raises(ValueError, match=r"sem_seg_head\.temperature must be above 0, got"):
        load_model(tiny_config(trained / "out"), str(trained / "wrong.pth"))


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_trainings_carry_it(trained: Path, tmp_path: Path, average: float) -> None:
    """Resumed from a checkpoint with it, and begun from one; losses do not know it."""
    options = [f"train.ema.decay={average}"]
    train_tiny(tmp_path / "first", "train.max_iter=2", *options)
    last = tmp_path / "first" / "model_final.pth"
    model = build_model(tiny_config(tmp_path / "first"))
    Checkpointer(model).load_trained(str(last))
    save_with_temperature(model, str(last), 0.4, tmp_path / "with.pth")
    (tmp_path / "second").mkdir()
    for folder, path in (("first", last), ("second", tmp_path / "with.pth")):
        (tmp_path / folder / "last.pth").write_bytes(path.read_bytes())
        (tmp_path / folder / "last_checkpoint").write_text("last.pth")
    ends = [
        train_tiny(tmp_path / folder, "train.max_iter=3", *options, resume=True)["model"]
        for folder in ("first", "second")
    ]
    assert KEY not in ends[0] and ends[1].pop(KEY) == pytest.approx(0.4)
    assert_same(dict(ends[0]), dict(ends[1]))
    begun = f"train.init_checkpoint={tmp_path / 'with.pth'}"
    end = train_tiny(tmp_path / "third", "train.max_iter=1", begun, *options)
    assert end["model"][KEY] == pytest.approx(0.4)
    torch.use_deterministic_algorithms(False)
