"""The comparison of training targets, by its command and by its parts."""

import argparse
import csv
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType

import cv2
import pytest

from ifa_d2.engine import build
from ifa_d2.engine.run import load_config
from tests.forked_python import forked_python
from tests.tiny import RECIPE

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "projects" / "IFA" / "compare_targets.py"


@pytest.fixture(scope="module")
def driver() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_targets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("targets", ["grid", "jittered_spacings", "class_balanced", "uncertain"])
def test_every_target_asks_as_many_places(driver: ModuleType, trained: Path, targets: str) -> None:
    overrides = driver.overrides_of(str(RECIPE), targets, True, ["train.max_iter=3"])
    cfg = load_config(str(RECIPE), overrides)
    assert cfg.train.max_iter == 3
    model = build.build_model(cfg)
    assert model.sem_seg_head.alignment.local_ensemble
    asked = []
    decode = model.sem_seg_head.decode
    model.sem_seg_head.decode = lambda levels, query: asked.append(query) or decode(levels, query)
    model(next(iter(build.build_train_loader(cfg))))
    count = 1
    for side in asked[-1].size:
        count *= side
    assert count == 64  # 8 x 8 cells of stride 4 in crops of 32 x 32
    assert len(asked) == (2 if targets == "uncertain" else 1)


@pytest.mark.slow
def test_the_command_trains_compares_and_does_not_train_again(
    driver: ModuleType, trained: Path
) -> None:
    output = trained / "targets"
    opts = ["train.max_iter=2"]
    args = argparse.Namespace(
        config_file=str(RECIPE),
        output=str(output),
        targets=["grid"],
        local_ensemble="yes",
        seeds=[5],
        repeats=0,
        opts=opts,
    )
    assert "| grid" in driver.run(args)
    weights = output / "grid_ensemble" / "seed5" / "model_final.pth"
    before = weights.stat().st_mtime_ns
    command = ["--config-file", RECIPE, "--output", output, "--local-ensemble", "yes"]
    command += ["--targets", "grid", "boundary", "--repeats", 1, "--", *opts]
    done = subprocess.run(
        [forked_python(), str(SCRIPT), *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=trained,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert weights.stat().st_mtime_ns == before
    assert done.stdout == (output / "targets.md").read_text()
    height, width = cv2.imread(str(output / "targets.png")).shape[:2]
    assert width > height > 200
    with (output / "targets.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["targets"] for row in rows] == ["grid", "boundary"]
    assert {row["local ensemble"] for row in rows} == {"yes"}
    results = json.loads((output / "targets.json").read_text())
    for row, result in zip(rows, results, strict=True):
        assert result["seconds"] > 0 and result["mib"] > 0
        for stride in ("8", "4", "2", "1"):
            value = result["miou"]["5"][stride]
            assert 0 < value <= 100
            assert row[f"mIoU, stride {stride}"] == f"{value:.1f}"
    args.opts = ["train.max_iter=4"]
    with pytest.raises(ValueError, match="holds a run of other settings"):
        driver.run(args)


def test_several_seeds_show_as_mean_and_deviation(driver: ModuleType) -> None:
    figures = {stride: 40.0 for stride in ("8", "4", "2")}
    miou = {"1": {**figures, "1": 50.0}, "2": {**figures, "1": 52.0}}
    result = {"targets": "grid", "local_ensemble": False, "miou": miou}
    (row,) = driver.table_rows([result])
    assert row["mIoU, stride 1"] == "51.0 ± 1.4"
    assert row["mIoU, stride 8"] == "40.0 ± 0.0"
    assert row["step, s"] == "-"
