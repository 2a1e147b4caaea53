"""The command in a process of its own: killed half-way, resumed, and its messages."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ifa_d2.choices import PREPARED_DATASETS
from ifa_d2.data.preparation import PREPARATIONS
from tests.data import miniatures

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, ROOT / "tools" / "prepare_datasets.py"]
COUNTS = {"train": 6, "val": 6}


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within a minute")


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def is_running(pid: int) -> bool:
    try:
        # Gone, or a zombie that nobody has asked for yet.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_killed_half_way_and_resumed(tmp_path: Path) -> None:
    root = miniatures.make_pascal_context(tmp_path, COUNTS)
    folder = root / "pascal_context"
    source = folder / "trainval" / "2008_000007.mat"
    content = source.read_bytes()
    source.unlink()
    os.mkfifo(source)  # who reads it waits for ever
    command = [*COMMAND, "pascal_context", root, "--allow-partial", "--workers", 2]
    process = subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    staged = folder / "annotations_60.partial"
    try:
        wait_until(lambda: len(list(staged.rglob("[!.]*.png"))) == 11)
        workers = children(process.pid)
        assert len(workers) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not any(is_running(worker) for worker in workers))
    # What is not complete has not the name that the data set is read under.
    assert not (folder / "annotations_60").exists()
    before = {path.name: path.stat().st_mtime_ns for path in staged.rglob("*.png")}

    source.unlink()
    source.write_bytes(content)
    leftover = staged / "val" / ".2008_000007.png.123.tmp"
    leftover.write_bytes(b"half a picture")
    done = miniatures.prepare("pascal_context", root)
    assert done.stdout.splitlines()[2].split() == ["pascal_context_60", "train", "6", "4998", "60"]
    assert "pascal_context_60 has 6 of 4998 images of train and 6 of 5105" in done.stderr
    assert not staged.exists()
    files = [path for path in (folder / "annotations_60").rglob("*") if path.is_file()]
    after = {path.name: path.stat().st_mtime_ns for path in files}
    assert len(after) == 12
    assert after.pop("2008_000007.png")
    assert after == before


def test_help_has_the_numbers_of_every_data_set() -> None:
    done = miniatures.prepare("--help", Path("."))
    text = " ".join(done.stdout.split())
    assert set(PREPARED_DATASETS) == set(PREPARATIONS)
    for name, preparations in PREPARATIONS.items():
        counts = " + ".join(map(str, preparations[-1].counts.values()))
        assert f"{counts} in {name}" in text


def test_mistakes_are_one_line_before_any_file_is_read(tmp_path: Path) -> None:
    done = miniatures.prepare("camvid", tmp_path / "nowhere", "--workers", 0, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("error: workers must be at least 1, got 0")
    assert "Traceback" not in done.stderr


def test_what_is_missing_is_a_list_and_no_traceback(tmp_path: Path) -> None:
    miniatures.make_cityscapes(tmp_path, {"train": 1})
    done = miniatures.prepare("cityscapes", tmp_path, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    header = next(line for line in lines if "cityscapes is not complete" in line)
    where = "_trainvaltest.zip, https://www.cityscapes-dataset.com/downloads/"
    rest = lines[lines.index(header) + 1 :]
    assert [line.split()[0] for line in rest] == [
        "cityscapes/leftImg8bit/val",
        "cityscapes/gtFine/val",
    ]
    assert all(where in line for line in rest)
