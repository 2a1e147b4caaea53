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
_FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"
# Losses with the time that is left; how far an evaluation is.
_PROGRESS = {"detectron2.utils.events": "", "detectron2.evaluation.evaluator": "Inference done"}
# Says in many lines what the checkpointer says in one.
_REPEATED = "fvcore.common.checkpoint"
_handlers: list[tuple[logging.Logger, logging.Handler]] = []


def setup_logs(output_dir: str | None, rank: int, *, verbose: bool = False) -> None:
    """Start the logs of a run, in place of those of an earlier one in this process.

    Args:
        output_dir: its folder; ``log.txt`` in it gets everything, ``log.txt.rankN`` that of the
            process of rank N. None writes no file.
        rank: of this process; that of 0 alone writes to the terminal.
        verbose: the terminal gets everything too.
    """
    while _handlers:
        logger, handler = _handlers.pop()
        logger.removeHandler(handler)
        handler.close()
    file = None
    if output_dir is not None:
        os.makedirs(output_dir, exist_ok=True)
        name = _LOG_FILE if rank == 0 else f"{_LOG_FILE}.rank{rank}"
        file = logging.FileHandler(os.path.join(output_dir, name), encoding="utf-8")
        file.setFormatter(logging.Formatter(_FORMAT, datefmt="%m/%d %H:%M:%S"))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        before, level = list(logger.handlers), logger.level
        # Not by way of its cache, which would start nothing for the next run in this process.
        setup_logger.__wrapped__(distributed_rank=rank, name=name)
        if level > logging.INFO:  # whoever set it wants it quiet
            logger.setLevel(level)
        if file is not None:
            logger.addHandler(file)
        added = [handler for handler in logger.handlers if handler not in before]
        _handlers.extend((logger, handler) for handler in added)
        if rank == 0 and not verbose:  # the first is the terminal's
            added[0].addFilter(_is_for_users)


def has_logs(output_dir: str) -> bool:
    """Whether the logs that were started in this process are those of a folder."""
    folder = os.path.abspath(output_dir)
    files = (h.baseFilename for _, h in _handlers if isinstance(h, logging.FileHandler))
    return any(os.path.dirname(name) == folder for name in files)


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
    period = settings.eval_period
    often = f"every {period} and " if 0 < period < settings.max_iter else ""
    return (
        f"Training on {names}{known}: iterations {start_iter} to {settings.max_iter} of "
        f"{settings.batch_size} pictures on {settings.device}, evaluated {often}at the end on "
        f"{tests}; everything goes to {settings.output_dir}"
    )
