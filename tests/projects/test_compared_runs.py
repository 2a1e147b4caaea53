"""Runs of a comparison: their folders, figures by stride, and tables."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from compared_runs import (
    check_settings,
    evaluate_strides,
    stride_figures,
    train,
    write_tables,
)
from detectron2.evaluation import inference_on_dataset

from ifa_d2.engine import build
from ifa_d2.engine.predictor import load_model
from tests.tiny import tiny_config


@pytest.mark.parametrize(
    ("meta", "stride"), [("detectron2.modeling.SemanticSegmentor", 4), (None, 1)]
)
def test_strides_are_what_the_meta_architectures_decode(
    trained: Path, meta: str | None, stride: int
) -> None:
    """Stride 4 is Detectron2's answer with the paper's grid, stride 1 the FieldSegmentor's."""
    meta = meta or "ifa_d2.modeling.FieldSegmentor"
    cfg = tiny_config(trained / "out", f"model._target_={meta}")
    model = load_model(cfg, str(trained / "out" / "model_final.pth"))
    loader = build.build_test_loader(cfg, "tiny")
    expected = inference_on_dataset(model, loader, build.build_evaluator(cfg, "tiny"))
    figures = evaluate_strides(model, loader)
    assert set(figures) == {8, 4, 2, 1}
    assert figures[stride] == pytest.approx(expected["sem_seg"]["mIoU"], abs=1e-4)


def test_strides_are_of_the_classes_that_are_there(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class that is predicted, but nowhere true, lowers the others alone."""
    cfg = tiny_config(trained / "out")
    model = load_model(cfg, str(trained / "out" / "model_final.pth"))
    predicted = torch.tensor([[0, 0, 0, 1, 2, 2], [1, 1, 1, 1, 0, 2]])
    truth = torch.tensor([[0, 0, 0, 0, 0, 255], [1, 1, 1, 1, 255, 255]])
    field = SimpleNamespace(logits=lambda size: F.one_hot(predicted, 3).permute(2, 0, 1).float())
    monkeypatch.setattr("compared_runs.compute_fields", lambda model, batch: [field])
    batch = [{"image": torch.zeros(3, 2, 6), "sem_seg": truth}]
    expected = 100 * (3 / 5 + 4 / 5) / 2
    assert evaluate_strides(model, [batch], (1,)) == {1: pytest.approx(expected)}
    with pytest.raises(ValueError, match="no labelled pixel"):
        evaluate_strides(model, [[{**batch[0], "sem_seg": torch.full((2, 6), 255)}]], (1,))


def test_figures_are_kept(trained: Path) -> None:
    output = trained / "out"
    cfg = tiny_config(output)
    first = stride_figures(cfg, output, (4, 1))
    kept = json.loads((output / "strides.json").read_text())
    assert kept == first and list(first) == ["4", "1"]
    (output / "strides.json").write_text(json.dumps({"4": 12.5, "1": 25.0}))
    assert stride_figures(cfg, output, (1,)) == {"1": 25.0}
    assert stride_figures(cfg, output, (4, 1, 2))["4"] == first["4"]  # one was not there


def test_a_folder_is_of_one_run(tmp_path: Path) -> None:
    check_settings(tmp_path / "a", {"overrides": ["train.seed=1"]})
    check_settings(tmp_path / "a", {"overrides": ["train.seed=1"]})
    with pytest.raises(ValueError, match=r"a holds a run of other settings, see .*overrides.json"):
        check_settings(tmp_path / "a", {"overrides": ["train.seed=2"]})


def test_a_failing_training_says_why(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("import sys\nprint(sys.argv[1:])\nsys.exit('no such weights')\n")
    with pytest.raises(RuntimeError, match=r"ended with status 1: no such weights"):
        train(script, "x.py", tmp_path, ["train.seed=1"], log=tmp_path / "log")
    said = (tmp_path / "log").read_text()
    assert f"'x.py', 'train.output_dir={tmp_path}', 'train.seed=1'" in said
    (tmp_path / "model_final.pth").touch()
    train(script, "x.py", tmp_path, [])  # is done, so not started


def test_tables_in_three_formats(tmp_path: Path) -> None:
    rows = [{"row": "a, b", "mIoU": "51.0 ± 1.4"}, {"row": "c", "mIoU": "-"}]
    write_tables(tmp_path, "table1", "text ±\n", rows, {"rows": [{"miou": {"1": 50.0}}]})
    assert (tmp_path / "table1.md").read_text(encoding="utf-8") == "text ±\n"
    with (tmp_path / "table1.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == rows
    assert json.loads((tmp_path / "table1.json").read_text())["rows"][0]["miou"] == {"1": 50.0}
    assert len(list(tmp_path.iterdir())) == 3
