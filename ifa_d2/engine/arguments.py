"""Arguments that commands share, and errors in one line."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..commands import as_started
from ..data.parallel import default_workers
from ..evaluation import FORMATS
from .errors import error_sentence
from .inference import add_inference_arguments


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


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    """Add --workers, by default one for each processor."""
    parser.add_argument(
        "--workers",
        type=int,
        default=default_workers(),
        metavar="N",
        help="processes (default: one for each processor)",
    )


def add_process_arguments(parser: argparse.ArgumentParser, gpus: str, processes: str) -> None:
    """Add --num-gpus and --num-processes, which exclude each other, with what they count."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--num-gpus", type=int, default=1, metavar="N", help=f"{gpus} (default: 1)")
    group.add_argument("--num-processes", type=int, metavar="N", help=processes)


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
        choices=FORMATS,
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


@contextmanager
def errors_in_one_line(*others: type[Exception]) -> Iterator[None]:
    """End the command with status 1 and one line for what a user can mend.

    Args:
        others: errors to treat so besides ValueError and OSError, which mean a wrong value, and a
            file that is not there or cannot be read or written. An interrupt is a line too, with
            its own text if it has one, and the status that shells give it.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        said = f"interrupted: {error}" if str(error) else "interrupted"
        print(f"{os.path.basename(sys.argv[0])}: {said}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError, *others) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: error: {error_sentence(error)}")
