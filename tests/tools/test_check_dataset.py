"""The command on prepared miniatures, whole and damaged."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifa_d2.data.preparation import PREPARATIONS, prepare
from tests.data import miniatures
from tests.forked_python import forked_python

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    miniatures.make_pascal_context(tmp_path)
    for preparation in PREPARATIONS["pascal_context"]:
        prepare(preparation, tmp_path, allow_partial=True)
    return tmp_path


def run(root: Path, *arguments: object, **env: str) -> subprocess.CompletedProcess:
    command = [forked_python(), ROOT / "tools" / "check_dataset.py", *arguments, "--workers", 1]
    return subprocess.run(
        [str(part) for part in command],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "DETECTRON2_DATASETS": str(root),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_damage_is_named_and_the_status_says_so(root: Path, tmp_path: Path) -> None:
    labels = root / "pascal_context" / "annotations_60" / "train"
    image = root / "VOCdevkit" / "VOC2010" / "JPEGImages" / "2008_000001.jpg"
    image.write_bytes(image.read_bytes()[:300])
    (labels / "2008_000002.png").write_bytes(b"")
    Image.fromarray(np.full(miniatures.SIZE, 60, np.uint8)).save(labels / "2008_000003.png")
    names = [f"pascal_context_{part}" for part in ("60_train", "60_val", "59_train")]
    done = run(root, "--dataset", *names, "--json", tmp_path / "report.json")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    train, val, other = json.loads((tmp_path / "report.json").read_text())
    bad = {str(image), str(labels / "2008_000002.png"), str(labels / "2008_000003.png")}
    assert {fault["file"] for fault in train["faults"]} == bad
    assert (train["images"], val["images"]) == (4, 2)
    assert (train["ok"], val["ok"], other["ok"]) == (False, True, False)
    assert [fault["file"] for fault in other["faults"]] == [str(image)]
    for file in bad:
        assert f"bad: {file}: " in done.stdout
    pixels = {row["name"]: row["pixels"] for row in val["classes"] if row["pixels"]}
    assert set(pixels) == {"background", "table", "cloth", "sky", "wood"}
    assert sum(pixels.values()) == 2 * 60 * 80
    assert "pascal_context_60_val: 2 images, 0.00 % of the pixels ignored" in done.stdout


def test_cityscapes_test_has_no_labels_to_check(tmp_path: Path) -> None:
    miniatures.make_cityscapes_test(tmp_path)
    name = "cityscapes_fine_sem_seg_test"
    done = run(tmp_path, "--dataset", name, "--json", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{name}: 3 images without labels, 0 bad files"
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert (report["ok"], report["has_labels"], report["images"]) == (True, False, 3)
    done = run(tmp_path, "--dataset", "cityscapes_test")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"got 'cityscapes_test'; the nearest are {name}, " in done.stderr
    assert "keypoints" not in done.stderr and "lvis" not in done.stderr


def test_the_data_sets_of_a_config(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text(
        "dataloader = dict(\n"
        "    train=dict(dataset=dict(names='pascal_context_59_train')),\n"
        "    test=dict(dataset=dict(names='pascal_context_59_val')),\n"
        ")\n"
        "train = dict(output_dir='')\n"
    )
    done = run(root, "--config-file", config, "--class-weights", 0.5)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("model.")]
    found = [
        re.fullmatch(r"model\.sem_seg_head\.criterion\.class_weights=\[(.+)\]", x) for x in lines
    ]
    assert [len(match[1].split(",")) for match in found] == [59, 59]
    for name in ("train: 4 images", "val: 2 images"):
        assert f"pascal_context_59_{name}" in done.stdout
    assert "0 bad files" in done.stdout


def test_any_file_name_is_reported(tmp_path: Path) -> None:
    names = [b"caf\xe9.png", "道路.png".encode()]
    folder = tmp_path / "images"
    folder.mkdir()
    try:
        for name in names:
            (folder / os.fsdecode(name)).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    config = tmp_path / "config.py"
    config.write_text(
        "from ifa_d2.data import register_sem_seg_folder\n"
        f"register_sem_seg_folder('mine', {str(folder)!r}, None, ['a', 'b'])\n"
        "dataloader = dict(test=dict(dataset=dict(names='mine')))\n"
        "train = dict(output_dir='')\n"
    )
    for encoding in ("utf-8", "ascii"):
        report = tmp_path / f"{encoding}.json"
        done = run(tmp_path, "--config-file", config, "--json", report, PYTHONIOENCODING=encoding)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert "caf\\udce9.png: cannot be read" in done.stdout
        assert done.stdout.strip().endswith("mine: 2 images without labels, 2 bad files")
        faults = json.loads(report.read_text())[0]["faults"]
        found = {os.fsencode(os.path.basename(fault["file"])) for fault in faults}
        assert found == set(names)
