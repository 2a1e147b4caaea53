"""Arguments that commands share; nothing is imported for them that takes time."""

import argparse
import os
from fractions import Fraction
from typing import Any

from .choices import BLENDS, PREDICTION_FORMATS
from .commands import as_started


def command_parser(description: str) -> argparse.ArgumentParser:
    """A parser whose help begins with a command's docstring, line by line as it is written."""
    return argparse.ArgumentParser(
        description=as_started(description), formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_config_argument(
    parser: argparse.ArgumentParser, *, required: bool = True, purpose: str = ""
) -> None:
    """Add --config-file.

    Args:
        parser: that takes it.
        required: the command does nothing without.
        purpose: what the config is for, where that is not plain.
    """
    text = "a .py or .yaml file, or the name of a recipe such as shapes/ifa_r18.py"
    parser.add_argument(
        "--config-file",
        required=required,
        metavar="FILE",
        help=f"{text}: {purpose}" if purpose else text,
    )


def add_drawing_arguments(parser: argparse._ActionsContainer) -> None:
    """Add --outlines and --legend, what a drawing of classes may have besides their colours."""
    parser.add_argument("--outlines", action="store_true", help="draw lines between regions")
    parser.add_argument(
        "--legend", action="store_true", help="put colours and names of the classes underneath"
    )


def add_weights_argument(parser: argparse.ArgumentParser) -> None:
    """Add --weights, as :func:`ifa_d2.engine.predictor.load_model` takes it."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a checkpoint; by default the one that train.init_checkpoint=FILE (MODEL.WEIGHTS=FILE)"
        " names on the command line, else the last of the output directory, else the config's",
    )


class _Overrides(argparse.Action):
    """Takes the rest of a command line, of which argparse keeps a lone "--" in front."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        setattr(namespace, self.dest, values[1:] if values[:1] == ["--"] else values)


def add_overrides_argument(parser: argparse.ArgumentParser, *, rest: bool = False) -> None:
    """Add ``opts``, the changes of the config behind all other arguments.

    Args:
        parser: that takes them.
        rest: they begin with the first that is no option, whatever follows, as Detectron2's do;
            otherwise options may follow. A lone "--" may stand in front, and has to behind a list
            of values.
    """
    parser.add_argument(
        "opts",
        action=_Overrides,
        nargs=argparse.REMAINDER if rest else "*",
        metavar="key=value",
        help="changes of the config, as train.seed=2 (.py) or SEED=2 (.yaml), after all options; "
        "put -- before them where the last option takes a list",
    )


def _processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    """Add --workers, by default one for each processor."""
    parser.add_argument(
        "--workers",
        type=int,
        default=_processors(),
        metavar="N",
        help="processes (default: one for each processor)",
    )


def add_process_arguments(parser: argparse.ArgumentParser, gpus: str, processes: str) -> None:
    """Add --num-gpus and --num-processes, which exclude each other, with what they count."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--num-gpus", type=int, default=1, metavar="N", help=f"{gpus} (default: 1)")
    group.add_argument("--num-processes", type=int, metavar="N", help=processes)


class Renamed(argparse.Action):
    """Refuse a flag's old name, and name the new one."""

    def __init__(self, option_strings: list[str], dest: str, *, const: str) -> None:
        super().__init__(option_strings, dest, nargs="*", const=const, help=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """End the command with the new name."""
        parser.error(f"{self.option_strings[0]} is now {self.const}")


def add_inference_arguments(parser: argparse.ArgumentParser, *, crop: bool = False) -> None:
    """Add --tta, --sliding-window, --stride and --blend.

    Args:
        parser: that takes them.
        crop: it also has --crop, which --window once meant.
    """
    group = parser.add_argument_group("inference", "what the config says, unless given here")
    group.add_argument(
        "--tta",
        action="store_true",
        help="average over the config's scales and mirror images (inference.scales and flip, or "
        "TEST.AUG)",
    )
    add_window_arguments(group)

    sliding = "--sliding-window H W"
    window = f"--crop Y0 X0 Y1 X1 (a part of the picture; {sliding} slides)" if crop else sliding
    parser.add_argument("--window", action=Renamed, const=window)
    parser.add_argument("--slide", action=Renamed, const=sliding)


def add_window_arguments(
    group: argparse._ActionsContainer, *, window: str = "", blend: str = BLENDS[0]
) -> None:
    """Add --sliding-window, --stride and --blend.

    Args:
        group: that takes them.
        window, blend: taken where neither the flag nor the config says one.
    """
    default = f" (default: {window})" if window else ""
    group.add_argument(
        "--sliding-window",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="predict in windows of this size in pixels and average where they overlap" + default,
    )
    group.add_argument(
        "--stride",
        nargs=2,
        type=_stride,
        metavar=("H", "W"),
        help="from one window to the next: pixels, or fractions of the window (default: 2/3 2/3)",
    )
    group.add_argument(
        "--blend",
        choices=BLENDS,
        help="what windows weigh where they overlap: alike, or by a Gaussian that falls to their "
        f"edges (default: {blend})",
    )


def _stride(text: str) -> int | float:
    try:
        return int(text) if text.isdigit() else float(Fraction(text))
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(
            f"must be pixels, or a fraction such as 2/3 or 0.5, got {text!r}"
        ) from error


def training_parser(description: str) -> argparse.ArgumentParser:
    """The arguments of a command that trains or evaluates, named as Detectron2's."""
    parser = command_parser(description)
    add_config_argument(parser)
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the last checkpoint of the output directory",
    )
    parser.add_argument(
        "--save-predictions",
        metavar="DIR",
        help="with --eval-only: also write the predictions there, each format in its folder",
    )
    parser.add_argument(
        "--save-format",
        action="append",
        choices=PREDICTION_FORMATS,
        help="format of --save-predictions; give it again for another (default: ids)",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show all of log.txt on the terminal too"
    )
    add_inference_arguments(parser)
    add_process_arguments(parser, "GPUs of each machine", "processes on the CPU, instead of GPUs")
    parser.add_argument(
        "--num-machines",
        type=int,
        default=1,
        metavar="N",
        help="number of machines; run this command on each (default: 1)",
    )
    parser.add_argument(
        "--machine-rank",
        type=int,
        default=0,
        metavar="R",
        help="which of them this is, from 0 (default: 0)",
    )
    parser.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where the processes meet, as tcp://HOST:PORT; needed with several machines",
    )
    add_overrides_argument(parser, rest=True)
    return parser
