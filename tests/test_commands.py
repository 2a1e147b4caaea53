import os
import subprocess
import sys
from pathlib import Path

import pytest

from ifa_d2 import __version__, commands

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_help_waits_for_no_library(name: str) -> None:
    """A command imports torch, Detectron2 and NumPy only once it knows what it is asked for."""
    code = (
        "import runpy, sys\n"
        f"path = {str(commands.script_path(name))!r}\n"
        "sys.argv = [path, '--help']\n"
        "sys.path.insert(0, path.rpartition('/')[0])\n"
        "try:\n"
        "    runpy.run_path(path, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "    print({'torch', 'detectron2', 'numpy', 'omegaconf'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ") and done.stdout.endswith("set()\n")


def test_every_script_has_a_name_and_every_name_a_script() -> None:
    scripts = {commands.script_path(name) for name in commands.COMMANDS}
    assert all(path.is_file() for path in scripts)
    assert scripts == {
        *(ROOT / "tools").glob("*.py"),
        ROOT / "projects" / "FieldPage" / "serve_demo.py",
    }


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("tools/train_net.py", "python tools/demo.py --input 'a b.png'"),
        ("ifa-d2 train", "ifa-d2 demo --input 'a b.png'"),
    ],
)
def test_commands_are_said_as_this_one_was_started(
    started: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert commands.command_line("demo", "--input", "a b.png") == expected
    own = f"{started} --resume" if " " in started else f"python {started} --resume"
    assert commands.this_command_line("--resume") == own
    text = "as in python tools/demo.py --input x"
    assert commands.as_started(text) == ("as in ifa-d2 demo --input x" if " " in started else text)


def test_an_installation_says_its_own_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_PACKAGE", tmp_path / "ifa_d2")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert commands.script_path("page") == tmp_path / "ifa_d2" / "page" / "serve_demo.py"
    assert commands.command_line("prepare", "camvid") == "ifa-d2 prepare camvid"
    assert commands.command_line("eval") == "ifa-d2 eval"


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ifa_d2", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(arguments: tuple[str, ...]) -> None:
    result = _run(*arguments)
    assert result.returncode == 0, result.stderr
    assert all(f"\n  {name} " in result.stdout for name in commands.COMMANDS)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_version_and_unknown_commands() -> None:
    assert _run("--version").stdout.strip() == __version__
    result = _run("trian")
    assert result.returncode == 1
    assert result.stderr.startswith("ifa-d2: no command 'trian'; it must be one of train, eval,")


def test_help_of_a_command_is_in_its_own_words() -> None:
    result = _run("train", "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: ifa-d2 train ")
    assert "ifa-d2 train --config-file" in result.stdout
    assert "python tools/" not in result.stdout


def test_eval_is_train_with_an_option_and_says_what_is_missing(tmp_path: Path) -> None:
    result = _run("eval", "--config-file", "shapes/ifa_r18.py", f"train.output_dir={tmp_path}")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ifa-d2 eval: error: ")
