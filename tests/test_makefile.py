"""The environment that make keeps, and a user's own."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", *(path.name for path in ROOT.glob("requirements*.txt"))):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "kept").touch()
    return tmp_path


def _make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("target", ["setup", "test", "demo", "lint", "clean"])
def test_make_leaves_an_environment_of_others_alone(folder: Path, target: str) -> None:
    done = _make(folder, target)
    assert done.returncode == 2
    assert "make: .venv is there and was not made by make" in done.stderr
    assert f"'make {target} VENV=.venv-ifa'" in done.stderr
    assert (folder / ".venv" / "kept").is_file()


@pytest.mark.parametrize("mark", [".made-by-make", ".ready"])
def test_make_removes_its_own(folder: Path, mark: str) -> None:
    (folder / ".venv" / mark).touch()
    assert _make(folder, "clean").returncode == 0
    assert not (folder / ".venv").exists()


def test_without_a_newer_python_one_line_says_so(folder: Path) -> None:
    done = _make(folder, "smoke", "NEWEST=")
    assert (done.returncode, done.stderr) == (0, "")
    # Of a make within another, as make test, lines say which folder it is in.
    said = [line for line in done.stdout.splitlines() if not line.startswith("make[")]
    assert said == ["make: there is no Python 3.12 or 3.13: no test was run with one"]


def test_a_newer_python_runs_tests_in_its_own_environment(folder: Path) -> None:
    done = _make(folder, "--dry-run", "smoke", "NEWEST=/elsewhere/python3.13")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "/elsewhere/python3.13 -m venv --clear .venv-python3.13" in lines
    (tests,) = [line.split(" -m pytest ")[1] for line in lines if " -m pytest " in line]
    named = [word.split("::") for word in tests.split() if word.startswith("tests/")]
    assert len(named) > 5 and all((ROOT / path).exists() for path, *_ in named)
    assert all(
        f"def {test}(" in (ROOT / path).read_text() for path, *tests in named for test in tests
    )
    assert ".venv/bin" not in done.stdout
