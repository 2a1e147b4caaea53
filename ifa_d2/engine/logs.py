"""Logs of a run: everything in its file, and on the terminal the part that users look for."""

import logging
import os

from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from .build import test_dataset_names
from .inputs import dataset_names
from .settings import TrainSettings

_LOGGERS = ("fvcore", "detectron2", "ifa_d2")
_LOG_FILE = "log.txt"
# Losses with the time that is left; how far an evaluation is.
_PROGRESS = {"detectron2.utils.events": "", "detectron2.evaluation.evaluator": "Inference done"}
# Says in many lines what the checkpointer says in one.
_REPEATED = "fvcore.common.checkpoint"
_handlers: list[tuple[logging.Logger, logging.Handler]] = []


def setup_logs(output_dir: str, rank: int, *, verbose: bool = False) -> None:
    """Start the logs of a run, in place of those of an earlier one in this process.

    Args:
        output_dir: its folder; ``log.txt`` in it gets everything, ``log.txt.rankN`` that of the
            process of rank N.
        rank: of this process; that of 0 alone writes to the terminal.
        verbose: the terminal gets everything too.
    """
    while _handlers:
        logger, handler = _handlers.pop()
        logger.removeHandler(handler)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        before = list(logger.handlers)
        setup_logger(os.path.join(output_dir, _LOG_FILE), distributed_rank=rank, name=name)
        for handler in logger.handlers:
            if handler not in before:
                _handlers.append((logger, handler))
        terminal = next((h for h in logger.handlers if h not in before), None)
        if rank == 0 and not verbose and terminal is not None:  # the first that Detectron2 adds
            terminal.addFilter(_is_for_users)


def _is_for_users(record: logging.LogRecord) -> bool:
    """Whether a record goes to the terminal of a user who has not asked for all of them."""
    if record.name in _PROGRESS:
        return record.levelno > logging.INFO or record.getMessage().startswith(
            _PROGRESS[record.name]
        )
    if record.name.startswith("ifa_d2"):
        return record.levelno >= logging.INFO
    return record.levelno >= logging.WARNING and record.name != _REPEATED


def plan_sentence(
    cfg: DictConfig, settings: TrainSettings, start_iter: int, pictures: int | None
) -> str:
    """Say what is trained on what, and for how long.

    Args:
        cfg: the LazyConfig of the run.
        settings: its settings.
        start_iter: its first iteration.
        pictures: how many there are to train on; None is not known.
    """
    known = f" ({pictures} pictures)" if pictures is not None else ""
    names = ", ".join(dataset_names(cfg, is_train=True)) or "its data"
    tests = ", ".join(test_dataset_names(cfg)) or "nothing"
    often = f"every {settings.eval_period} and " if settings.eval_period else ""
    return (
        f"Training on {names}{known}: iterations {start_iter} to {settings.max_iter} of "
        f"{settings.batch_size} pictures on {settings.device}, evaluated {often}at the end on "
        f"{tests}; everything goes to {settings.output_dir}"
    )
