"""Which files of a folder count."""

import os
from pathlib import Path

from ifa_d2.data.folders import files_below


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
