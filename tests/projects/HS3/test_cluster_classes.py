"""Statistics of stages, and the command's lines in a recipe."""

import json
import sys
from pathlib import Path

import cluster_classes
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cluster_classes import StageClusters, recipe_lines
from detectron2.config import instantiate
from omegaconf import DictConfig
from stage_statistics import check_stages, count_stages
from torch import nn

from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config
from ifa_d2.metrics.confusion import count_pairs
from ifa_d2.modeling import compute_fields
from tests.tiny import RECIPE, tiny_config

# Of a head at res2 too, whose weights the run of one at res3 has not.
TWO_HEADS = """
import copy
from tests.tiny_recipe import dataloader, lr_multiplier, optimizer, train
from tests.tiny_recipe import model as _tiny
model = copy.deepcopy(_tiny)
model.sem_seg_head.aux_heads = [copy.deepcopy(model.sem_seg_head.aux_heads[0]) for _ in range(2)]
model.sem_seg_head.aux_heads[0].update(
    feature="res2", in_channels="${...levels.input_shape.res2.channels}"
)
"""


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["cluster_classes.py", *map(str, arguments)])
    cluster_classes.main()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with heads at both stages."""
    (tmp_path / "two.py").write_text(TWO_HEADS)
    return tmp_path / "two.py"


def drawn(cfg: DictConfig) -> nn.Module:
    """A model of random weights that tells classes apart at all stages, all of them alike."""
    model = instantiate(cfg.model).eval()
    one = instantiate(cfg.dataloader.test.mapper)(instantiate(cfg.dataloader.test.dataset)[0])
    head = model.sem_seg_head
    with torch.no_grad():
        features = model.backbone((one["image"][None] - model.pixel_mean) / model.pixel_std)
        parts = [head.alignment, *head.aux_heads]
        for part in parts:
            nn.init.normal_(part.predictor.weight)
        for part, logits in zip(
            parts, [head.layers(features), *head.auxiliary_logits(features)], strict=True
        ):
            part.predictor.bias -= logits.mean(dim=(0, 2, 3))
    return model


def test_counts_are_those_of_logits_at_the_pixels(trained: Path, recipe: Path) -> None:
    cfg = load_config(str(recipe))
    model = drawn(cfg)
    loader = instantiate(cfg.dataloader.test)
    counts = count_stages(model, loader, "tiny")
    assert list(counts) == ["res2", "res3", "final"]
    expected = {name: np.zeros((4, 4), np.int64) for name in counts}
    for (one,) in loader:
        image = (one["image"][None] - model.pixel_mean) / model.pixel_std
        label = one["sem_seg"].numpy()
        label = np.where(label == 255, 3, label).astype(np.uint8)
        with torch.no_grad():
            features = model.backbone(image)
            stages = [aux(features[aux.feature]) for aux in model.sem_seg_head.aux_heads]
            stages = [
                F.interpolate(logits, label.shape, mode="bilinear").argmax(1)[0]
                for logits in stages
            ]
        stages.append(compute_fields(model, [one])[0].labels())
        for name, labels in zip(expected, stages, strict=True):
            expected[name] += count_pairs(label, labels.numpy().astype(np.uint8), 3)
    for name, matrix in counts.items():
        assert np.array_equal(matrix, expected[name]), name
        assert (matrix[:-1].sum(axis=0) > 0).sum() > 1  # it has told classes apart


def test_pictures_of_any_size_are_counted_at_their_own_pixels(trained: Path, recipe: Path) -> None:
    """Shown at 37 x 44, padded to 40 x 48, and compared at the 40 x 48 of the labels."""
    shown = "[{_target_: detectron2.data.transforms.ResizeShortestEdge, short_edge_length: 37}]"
    cfg = load_config(str(recipe), [f"dataloader.test.mapper.augmentations={shown}"])
    model = drawn(cfg)
    counts = count_stages(model, instantiate(cfg.dataloader.test), "tiny")
    whole = count_stages(model, instantiate(load_config(str(recipe)).dataloader.test), "tiny")
    for name, matrix in counts.items():
        assert matrix.sum() == 7 * 40 * 48
        assert np.array_equal(matrix.sum(axis=1), whole[name].sum(axis=1))  # the labels


def test_the_command_prints_lines_that_a_recipe_loads(
    trained: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    cfg = load_config(str(recipe))
    torch.save({"model": drawn(cfg).state_dict()}, tmp_path / "two.pth")
    run(
        monkeypatch,
        *("--config-file", recipe, "--weights", tmp_path / "two.pth"),
        *("--json", tmp_path / "clusters.json"),
    )
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "clusters.json").read_text())
    assert [stage["feature"] for stage in found["stages"]] == ["res2", "res3"]
    assert found["dataset"] == "tiny" and found["classes"] == ["left", "right", "middle"]
    (tmp_path / "clusters.py").write_text(TWO_HEADS + printed)
    loaded = load_config(str(tmp_path / "clusters.py"))
    heads = instantiate(loaded.model).sem_seg_head.aux_heads
    for head, stage in zip(heads, found["stages"], strict=True):
        groups, number = stage["class_groups"], stage["num_clusters"]
        assert (groups is None) == (number == 3)
        assert head.num_groups == number
        assert groups is None or head.class_groups.tolist() == groups == stage["clusters"]["2"]


def test_lines_of_many_classes_are_wrapped(recipe: Path, tmp_path: Path) -> None:
    clusters = {150: tuple(range(150)), 40: tuple(k % 40 for k in range(150))}
    names = [f"class {k}" for k in range(150)]
    scores = {150: 0.1, 40: 0.3}
    stages = [
        StageClusters(name, np.zeros((151, 151), int), clusters, scores, chosen)
        for name, chosen in (("res2", 40), ("res3", 150))
    ]
    lines = recipe_lines(stages, names)
    assert max(map(len, lines)) <= 100
    assert "# res2: mIoU 10.0 of 150 classes, 30.0 of 40 clusters: class 0, class 40" in lines[0]
    (tmp_path / "many.py").write_text("\n".join([TWO_HEADS, *lines]))
    first, second = load_config(str(tmp_path / "many.py")).model.sem_seg_head.aux_heads
    assert list(first.class_groups) == [*clusters[40]] and second.class_groups is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.sem_seg_head.aux_heads=[]"], r"aux_heads must be one or more.*got \[\]"),
        (
            ["model.sem_seg_head.aux_heads.0.class_groups=[0,1,1]"],
            r"aux_heads of \['res3'\] have class_groups already",
        ),
    ],
)
def test_models_without_heads_of_all_classes(
    tmp_path: Path, overrides: list[str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        check_stages(instantiate(tiny_config(tmp_path, *overrides).model))


def test_two_heads_at_a_feature_or_other_parts(recipe: Path) -> None:
    cfg = load_config(str(recipe))
    cfg.model.sem_seg_head.aux_heads[0] = cfg.model.sem_seg_head.aux_heads[1]
    with pytest.raises(ValueError, match=r"of different features, got \['res3', 'res3'\]"):
        check_stages(instantiate(cfg.model))
    with pytest.raises(ValueError, match="must be an IFASemSegHead, got NoneType"):
        check_stages(nn.Identity())
    model = instantiate(load_config(str(recipe)).model)
    model.sem_seg_head.aux_heads[1] = nn.Identity()
    with pytest.raises(ValueError, match=r"must be AuxiliaryHeads, .* got a Identity"):
        check_stages(model)


def test_heads_that_were_not_trained_are_refused(
    trained: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions need no auxiliary weights, statistics of the heads do."""
    weights = trained / "out" / "model_final.pth"
    load_model(load_config(str(recipe)), str(weights))
    with pytest.raises(ValueError, match=r"lacks .* of .*aux_heads\.1\."):
        run(monkeypatch, "--config-file", recipe, "--weights", weights)


def test_what_the_command_refuses(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = trained / "out" / "model_final.pth"
    (tmp_path / "windows.py").write_text(RECIPE.read_text() + "inference = dict(window=(32, 32))\n")
    call = ("--config-file", tmp_path / "windows.py", "--weights", weights)
    with pytest.raises(ValueError, match="would replace the weights"):
        run(monkeypatch, *call, "--json", weights)
    with pytest.raises(ValueError, match="inference must leave pictures whole"):
        run(monkeypatch, *call)
