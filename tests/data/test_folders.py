"""Which files of a folder count."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from ifa_d2.data import register_sem_seg_folder
from ifa_d2.data.check import check_dataset
from ifa_d2.data.content import check_label_content
from ifa_d2.data.folders import files_below
from ifa_d2.demo import find_pictures


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def below(root: Path, *, follow_links: bool = True) -> list[str]:
    found = files_below(root, follow_links=follow_links)
    return [os.path.relpath(path, root) for path in found]


def test_hidden_files_and_folders_do_not_count(tmp_path: Path) -> None:
    root = tmp_path / ".cache" / "images"
    make(root, "b.png", "a.png", "town/c.png", "a.b/d.png")
    make(root, "._a.png", ".ipynb_checkpoints/a.png", "town/.trash/deep/e.png", "town/.c.png")
    assert below(root) == ["a.png", "b.png", "a.b/d.png", "town/c.png"]


def test_links(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "a.png", ".b.png")
    root = tmp_path / "root"
    make(root, "z.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "broken.png").symlink_to("away.png")
    assert below(root, follow_links=False) == ["broken.png", "z.png"]
    assert below(root) == ["broken.png", "z.png", "linked/a.png"]


def test_a_folder_that_cannot_be_listed_is_named(
    write, tmp_path: Path, closed_folder: Callable[[Path], None]
) -> None:
    write()
    register_sem_seg_folder("mine", tmp_path / "images", tmp_path / "labels", ["a", "b", "c"])
    assert len(DatasetCatalog.get("mine")) == 1
    for kind in ("images", "labels"):
        closed_folder(tmp_path / kind)
    below = f"cannot list the folder '{tmp_path / 'images'}/dddd.*make it readable"
    for look in (DatasetCatalog.get, check_dataset, check_label_content):
        with pytest.raises(OSError, match=below):
            look("mine")
    with pytest.raises(OSError, match=below):
        find_pictures([str(tmp_path / "images")])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_folder_without_permission_is_named(write, tmp_path: Path) -> None:
    write()
    write("closed/a")
    register_sem_seg_folder("mine", tmp_path / "images", None, ["a", "b"])
    folder = tmp_path / "images" / "closed"
    folder.chmod(0)
    try:
        with pytest.raises(PermissionError, match=f"cannot list the folder '{folder}'"):
            DatasetCatalog.get("mine")
    finally:
        folder.chmod(0o755)
