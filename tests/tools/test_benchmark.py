"""Each command as a user runs it, at sizes that take seconds."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked_python import forked_python

COMMAND = Path(__file__).parents[2] / "tools" / "benchmark.py"


def _run(folder: Path, *arguments: str) -> tuple[dict, str]:
    """The JSON a command wrote, and what it printed; its tables are those of its markdown."""
    path, markdown = folder / "made" / "rows.json", folder / "made" / "tables.md"
    files = ["--json", str(path), "--markdown", str(markdown)]
    process = subprocess.run(
        [forked_python(), str(COMMAND), *arguments, "--repeats", "1", *files],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "USDT" not in process.stderr
    result = json.loads(path.read_text())
    assert result["machine"]["threads"] == 1
    assert result["machine"]["device"] in process.stdout
    tables = process.stdout.rpartition("\n\n")[0]
    assert markdown.read_text().endswith(f"\n\n{tables}\n")
    assert f"python tools/benchmark.py {arguments[0]} " in markdown.read_text()
    return result, process.stdout


def test_head(tmp_path: Path) -> None:
    result, _ = _run(tmp_path, "head", "--input-size", "192", "288")
    rows = result["rows"]
    assert [(row["input"], row["pass"]) for row in rows] == [
        ([192, 288], "forward"),
        ([192, 288], "train"),
    ]
    for row in rows:
        ours, textbook = row["ours_seconds"], row["textbook_seconds"]
        assert row["time_ratio"] == pytest.approx(textbook / ours)
        assert row["gemm_ratio"] == pytest.approx(ours / row["products_seconds"])
        assert row["memory_ratio"] == pytest.approx(row["textbook_mib"] / row["ours_mib"])
    # what a backward pass needs is held in training
    assert rows[1]["ours_mib"] > rows[0]["ours_mib"] > 0


def test_growth(tmp_path: Path) -> None:
    plot = tmp_path / "growth.png"
    sweep = ["--megapixels", "0.01", "0.04", "--classes", "3", "300", "--class-megapixels", "0.01"]
    size = ["--input-size", "32", "64", "--stride-ratios", "2", "--points", "50"]
    result, printed = _run(tmp_path, "growth", *size, *sweep, "--plot", str(plot))
    rows = result["rows"]
    grids = [(row["megapixels"], row["classes"]) for row in rows]
    assert grids == [(0.01, 3), (0.04, 3), (0.01, 300)]
    assert all(row["seconds"] > 0 and row["tensor_mib"] > 0 for row in rows)
    assert all(0 <= row["peak_mib"] < 256 for row in rows)
    assert [row["stride_ratio"] for row in result["stride_ratios"]] == [2]
    assert [row["points"] for row in result["points"]] == [50]
    assert {row["over"] for row in result["exponents"]} == {"megapixels", "classes"}
    assert "exponent over" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_peers(tmp_path: Path) -> None:
    result, printed = _run(tmp_path, "peers", "--input-size", "64", "64")
    names = ["IFA", "SemSegFPNHead", "PointRendSemSegHead", "DeepLabV3PlusHead"]
    rows = result["rows"]
    assert [row["model"] for row in rows] == 2 * names
    assert [row["pass"] for row in rows] == 4 * ["forward"] + 4 * ["train"]
    assert all(row["input"] == [64, 64] for row in rows)
    for ours in (rows[0], rows[4]):
        assert (ours["time_ratio"], ours["memory_ratio"], ours["macs_ratio"]) == (1, 1, 1)
    assert all(row["time_ratio"] > 0 and row["memory_ratio"] > 0 for row in rows)
    assert all(name in printed for name in names)
    assert result["memory_format"] == "channels_last"


def test_evaluator(tmp_path: Path) -> None:
    result, printed = _run(tmp_path, "evaluator", "--input-size", "64", "96", "--classes", "5")
    rows = {row["evaluator"]: row for row in result["rows"]}
    names = ["Detectron2", "ours", "ours, no boundaries", "ours, of labels"]
    assert list(rows) == names and all(name in printed for name in names)
    assert (result["input"], result["classes"]) == ([64, 96], 5)
    theirs = rows["Detectron2"]
    assert theirs["time_ratio"] == 1 and 20 < theirs["miou"] < 100
    for row in rows.values():
        assert row["miou"] == pytest.approx(theirs["miou"])
        assert row["time_ratio"] == pytest.approx(theirs["seconds"] / row["seconds"])


def test_panoptic(tmp_path: Path) -> None:
    arguments = ["--input-size", "64", "96", "--parts", "branch"]
    result, printed = _run(tmp_path, "panoptic", *arguments)
    rows = result["rows"]
    assert [row["pass"] for row in rows] == ["forward", "forward", "train", "train"]
    assert [row["model"] for row in rows] == 2 * ["IFA", "SemSegFPNHead"]
    assert {row["part"] for row in rows} == {"branch"} and result["input"] == [64, 96]
    assert all(row["time_ratio"] > 0 and row["mib"] > 0 for row in rows)
    assert "semantic branch" in printed


def test_upsamplers(tmp_path: Path) -> None:
    arguments = ["--sides", "64", "96", "--classes", "5", "--max-gib", "0.003"]
    result, printed = _run(tmp_path, "upsamplers", *arguments)
    measured = [(row["side"], row["method"]) for row in result["measured"]]
    # SAPA would hold more than 3 MiB at 64 pixels, and all but ours and the reference at 96.
    ours = ("linear + bilinear", "IFA")
    assert measured == [(64, name) for name in (*ours, "CARAFE")] + [(96, name) for name in ours]
    by_name = {row["method"]: row for row in result["measured"] if row["side"] == 64}
    assert by_name["linear + bilinear"]["time_ratio"] == 1
    # Scores once a cell; hidden layers of 256 and 128 at each pixel, the first from the cells.
    assert by_name["linear + bilinear"]["macs"] == 384 * 5 / 16**2
    assert by_name["IFA"]["macs"] >= 256 * 128 + 128 * 5
    assert {row["method"] for row in result["reckoned"]} == {"FeatUp", "JAFAR", "AnyUp", "NAF"}
    assert "reckoned" in printed


def test_startup(tmp_path: Path) -> None:
    result, printed = _run(tmp_path, "startup", "--commands", "train", "check")
    seconds = {row["command"]: row["seconds"] for row in result["rows"]}
    helps = {name for name in seconds if name.endswith("--help")}
    assert helps == {"train --help", "check --help"}
    assert min(seconds.values()) > 0 and "train, first line" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluator", "--classes", "255"], "--classes must be from 2 to 254, got 255"),
        (["head", "--input-size", "0", "64"], r"--input-size must be at least 1, got \[0, 64\]"),
        (["peers", "--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["growth", "--classes", "19", "-2"], r"--classes must be at least 1, got \[19, -2\]"),
        (["growth", "--megapixels", "nan"], r"--megapixels must be in \(0, 1e6\], got \[nan\]"),
        (["peers", "--memory-format", "odd"], "--memory-format: invalid choice: 'odd'"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    command = runpy.run_path(str(COMMAND))
    monkeypatch.setattr(sys, "argv", [str(COMMAND), *arguments])
    with pytest.raises(SystemExit) as stop:
        command["main"]()
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="device nothing cannot be used"):
        runpy.run_path(str(COMMAND))["main"](["growth", "--device", "nothing"])
