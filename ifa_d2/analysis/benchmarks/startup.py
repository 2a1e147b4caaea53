"""How long commands take until they say something."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...commands import script_path
from ...data.builtin import prepare_builtin_shapes
from ..measure import alternate
from .tables import github_table, number

_RECIPE = "shapes/ifa_r18.py"
# What no command can be quicker than, beside them.
_IMPORTS = ("torch", "detectron2.modeling")


def run_startup(*, commands: Sequence[str], repeats: int) -> dict[str, Any]:
    """Measure the time to a command's help, and to the first line of a training.

    Each is a process of its own, as a user starts it, in turn with the others. A training is
    stopped when it has said its first line; its data are drawn before, and do not count.

    Args:
        commands: of ``ifa-d2``, whose help is waited for.
        repeats: timed turns, after one that fills the machine's cache of files.
    """
    prepare_builtin_shapes()
    with tempfile.TemporaryDirectory() as folder:
        train = [sys.executable, str(script_path("train")), "--config-file", _RECIPE, "--resume"]
        train.append(f"train.output_dir={Path(folder, 'run')}")
        helps = {
            f"{name} --help": [sys.executable, str(script_path(name)), "--help"]
            for name in commands
        }
        imports = {
            f"import {name}": [sys.executable, "-W", "ignore", "-c", f"import {name}; print()"]
            for name in _IMPORTS
        }
        cases = {**helps, "train, first line": train, **imports}
        times = alternate(
            {name: lambda case=case: _first_line(case) for name, case in cases.items()},
            repeats=repeats,
        )
    rows = [{"command": name, "seconds": statistics.median(found)} for name, found in times.items()]
    return {"rows": rows}


def startup_tables(result: dict[str, Any]) -> str:
    """Format the content of ``run_startup`` as a table."""
    return github_table(
        [{"": row["command"], "seconds": number(row["seconds"], 2)} for row in result["rows"]]
    )


def _first_line(command: list[str]) -> None:
    """Run a command until it has written a line, then end it and what it started.

    Raises:
        RuntimeError: it ends without a line.
    """
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            if not process.stdout.readline():
                raise RuntimeError(f"{' '.join(command)} wrote nothing")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
