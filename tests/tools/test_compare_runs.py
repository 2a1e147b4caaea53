"""The command that compares runs."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from ifa_d2.evaluation.picture_counts import PICTURE_COUNTS, PictureCounts, nonzero_counts
from ifa_d2.metrics import SegmentationMetrics
from tests.tiny import train_tiny

COMMAND = Path(__file__).parents[2] / "tools" / "compare_runs.py"
RUNS = ("a=a_1", "a=a_2", "b=b_1", "b=b_2")


def run(*arguments: object) -> None:
    runpy.run_path(str(COMMAND))["main"]([str(part) for part in arguments])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs of methods a and b; b labels more pixels right."""
    label = np.random.default_rng(0).integers(0, 2, (6, 8, 9))
    for method, share in (("a", 0.5), ("b", 0.9)):
        for seed in (1, 2):
            rng = np.random.default_rng(seed)
            metrics = SegmentationMetrics(["road", "sky"], f1_classes=["sky"])
            found = {}
            for index, one in enumerate(label):
                prediction = np.where(rng.random(one.shape) < share, one, 1 - one)
                found[f"{index}.png"] = nonzero_counts(metrics.update(one, prediction))
            folder = tmp_path / f"{method}_{seed}"
            folder.mkdir()
            PictureCounts.of(metrics, found).write(folder / PICTURE_COUNTS)
            (folder / "figures.json").write_text(json.dumps(metrics.compute()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tables_have_means_and_differences(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*RUNS, "--json", "compared.json")
    said = capsys.readouterr().out
    assert said.startswith("percent, of 6 pictures and 2 runs a method\n")
    figures = {
        name: [json.loads(Path(f"{name}_{seed}/figures.json").read_text()) for seed in (1, 2)]
        for name in "ab"
    }
    written = json.loads(Path("compared.json").read_text())
    for name in "ab":
        miou = [one["mIoU"] for one in figures[name]]
        assert written["figures"][name]["mIoU"] == pytest.approx(miou)
        text = f"{np.mean(miou):.1f} ± {np.std(miou, ddof=1):.1f}"
        assert f"| {name}        | {text}" in said
    interval = written["minus it"]["b"]["mIoU"]
    assert written["baseline"] == "a"
    assert interval["mean"] == pytest.approx(
        np.subtract(written["figures"]["b"]["mIoU"], written["figures"]["a"]["mIoU"]).mean()
    )
    assert 0 < interval["low"] < interval["mean"] < interval["high"]
    assert f"{interval['mean']:+.2f} [{interval['low']:+.2f}, {interval['high']:+.2f}]" in said
    heads = ["mIoU", "mBoundaryIoU_0.5pct", "mBoundaryIoU_2pct"]
    heads += [*(f"trimap_mIoU_{width}px" for width in (1, 3, 9)), "F1_2px-sky"]
    assert [head.strip() for head in said.splitlines()[2].split("|")[2:-1]] == heads


def test_another_baseline_and_other_figures(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*RUNS, "--baseline", "b", "--figures", "IoU-sky", "ACC-road")
    lines = capsys.readouterr().out.splitlines()
    assert [head.strip() for head in lines[2].split("|")[1:-1]] == ["method", "IoU-sky", "ACC-road"]
    assert lines[-1].startswith("| a - b")
    assert lines[-1].split("|")[2].strip().startswith("-")


def test_one_method_has_a_table_alone(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("a_1")
    said = capsys.readouterr().out
    assert "| a_1" in said and "difference" not in said and "±" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a=a_1", "b=none"], r"none/picture_counts\.npz does not exist: evaluate with .*=True"),
        (["a=a_1", "b=./a_1"], r"runs must be different folders, got \./a_1 twice"),
        ([*RUNS[:3]], "as many runs as each other"),
        ([*RUNS, "--baseline", "c"], "--baseline must be one of a, b, got 'c'"),
        ([*RUNS, "--figures", "IoU-tree"], "--figures must be of mIoU, .*, got 'IoU-tree'"),
    ],
)
def test_wrong_arguments_are_refused(folders: Path, arguments: list[str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(*arguments, "--json", "compared.json")
    assert not Path("compared.json").exists()


def test_counts_stay(folders: Path) -> None:
    before = Path("a_1", PICTURE_COUNTS).read_bytes()
    with pytest.raises(ValueError, match="would replace the run's counts"):
        run(*RUNS, "--json", f"b_1/../a_1/{PICTURE_COUNTS}")
    assert Path("a_1", PICTURE_COUNTS).read_bytes() == before


def test_a_training_leaves_what_is_compared(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(tmp_path / "run", "train.max_iter=1", "dataloader.evaluator.picture_counts=true",
               f"dataloader.evaluator.output_dir={tmp_path / 'run'}")  # fmt: skip
    capsys.readouterr()
    run(f"tiny={tmp_path / 'run'}", "--figures", "mIoU")
    found = float(capsys.readouterr().out.splitlines()[-1].split("|")[2])
    lines = (tmp_path / "run" / "metrics.json").read_text().splitlines()
    assert found == pytest.approx(json.loads(lines[-1])["sem_seg/mIoU"], abs=0.06)
