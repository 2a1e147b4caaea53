"""The command ``ifa-d2``: scripts of tools/ and the page, by short names.

    ifa-d2 train --config-file shapes/ifa_r18.py

is ``python tools/train_net.py --config-file shapes/ifa_r18.py`` in an installation that has no
tools/.
"""

import ast
import shlex
import sys
import textwrap
from pathlib import Path
from types import ModuleType

from ifa_d2 import __version__

PROGRAM = "ifa-d2"
# Scripts, with options that go before the user's.
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("tools/train_net.py",),
    "eval": ("tools/train_net.py", "--eval-only"),
    "demo": ("tools/demo.py",),
    "page": ("projects/FieldPage/serve_demo.py",),
    "segment": ("tools/segment_raster.py",),
    "export": ("tools/export_model.py",),
    "prepare": ("tools/prepare_datasets.py",),
    "check": ("tools/check_dataset.py",),
    "browse": ("tools/browse_dataset.py",),
    "statistics": ("tools/dataset_statistics.py",),
    "calibrate": ("tools/fit_temperature.py",),
    "analyze": ("tools/analyze_model.py",),
    "plot": ("tools/plot_metrics.py",),
    "compare": ("tools/compare_runs.py",),
    "benchmark": ("tools/benchmark.py",),
    "convert-imagenet": ("tools/convert_imagenet_checkpoint.py",),
    "convert-reference": ("tools/convert_reference_checkpoint.py",),
}
_PACKAGE = Path(__file__).resolve().parent
# Folders of a checkout, and where an installation has them.
_INSTALLED = {"tools": "tools", "projects/FieldPage": "page"}


def script_path(command: str) -> Path:
    """The file of a command: of the checkout that the package lies in, or of the installation."""
    script = Path(COMMANDS[command][0])
    if (_PACKAGE.parent / script).is_file() and (_PACKAGE.parent / "configs").is_dir():
        return _PACKAGE.parent / script
    return _PACKAGE / _INSTALLED[script.parent.as_posix()] / script.name


def command_line(command: str, *arguments: str) -> str:
    """Spell a command as a user types it: ``ifa-d2 ...`` or ``python tools/...``.

    The latter in a checkout, unless this process was itself started as the former.
    """
    script, *options = COMMANDS[command]
    if sys.argv[0].startswith(f"{PROGRAM} ") or _PACKAGE in script_path(command).parents:
        return shlex.join([PROGRAM, command, *arguments])
    return shlex.join(["python", script, *options, *arguments])


def this_command_line(*arguments: str) -> str:
    """Spell this process's command with other arguments, as a user types it."""
    if sys.argv[0].startswith(f"{PROGRAM} "):
        return shlex.join([*sys.argv[0].split(), *arguments])
    return shlex.join(["python", sys.argv[0], *arguments])


def as_started(text: str) -> str:
    """A text on commands in the words that started this process, ``ifa-d2 ...`` or its script."""
    if not sys.argv[0].startswith(f"{PROGRAM} "):
        return text
    for name, (script, *options) in COMMANDS.items():
        if not options:
            text = text.replace(f"python {script}", f"{PROGRAM} {name}")
    return text


def _usage() -> str:
    """The commands, each with the first line of its script."""
    lines = []
    for name in COMMANDS:
        text = ast.get_docstring(ast.parse(script_path(name).read_text(encoding="utf-8"))) or ""
        first = "Evaluate a model." if name == "eval" else text.splitlines()[0]
        lines.append(textwrap.fill(f"  {name:<19}{first}", 80, subsequent_indent=" " * 21))
    commands = "\n".join(lines)
    return f"usage: {PROGRAM} COMMAND ...\n\n{commands}\n\n{PROGRAM} COMMAND --help says more."


def main() -> None:
    """Run the script of a command as Python runs a script, with the rest of the arguments."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_usage())
        return
    if name == "--version":
        print(__version__)
        return
    if name not in COMMANDS:
        sys.exit(f"{PROGRAM}: no command {name!r}; it must be one of {', '.join(COMMANDS)}")
    path = script_path(name)
    sys.argv = [f"{PROGRAM} {name}", *COMMANDS[name][1:], *arguments]
    sys.path.insert(0, str(path.parent))  # as of any script
    script = ModuleType("__main__")  # where processes that it starts look for its functions
    script.__file__ = str(path)
    sys.modules["__main__"] = script
    exec(compile(path.read_bytes(), path, "exec"), script.__dict__)


if __name__ == "__main__":
    main()
