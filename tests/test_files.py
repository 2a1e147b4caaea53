"""Files are whole or not there."""

import errno
import os
import re
from pathlib import Path

import pytest

from ifa_d2.files import atomic_path, check_outputs


def test_appears_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_said_with_the_file_s_name(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    with pytest.raises(OSError, match=r"No space left on device: .*file\.txt'"):
        with atomic_path(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_no_inputs(tmp_path: Path) -> None:
    """By name, through a link, a hard link and a folder that is a link; what is not there may be
    written."""
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.png"
    source.write_text("original")
    (tmp_path / "soft.png").symlink_to(source)
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "folder").symlink_to(tmp_path / "in")
    for name in ("in/a.png", "in/../in/a.png", "soft.png", "hard.png", "folder/a.png"):
        output = tmp_path / name
        message = f"output {output} would replace the label {source}"
        with pytest.raises(ValueError, match=re.escape(message)):
            check_outputs(
                [tmp_path / "b.png", output], {"picture": [None, "gone"], "label": [source]}
            )
    new = [tmp_path / "in" / "b.png", tmp_path / "away" / "a.png"]
    check_outputs(new, {"label": [source, None, "https://host/a.png", "nul\0"]})
    new[0].write_text("another file")
    check_outputs(new, {"label": [source]})
