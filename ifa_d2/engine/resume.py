"""Settings that a resumed run takes from its config, past its checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import TrainerBase
from torch.optim.lr_scheduler import LRScheduler

from .averaging import WeightAverage
from .checkpoint import refuse_to_resume

_OF_THE_MOMENT = ("params", "lr")  # of a group: what is no setting


def check_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], path: str) -> None:
    """Check that an optimizer can take a state that was saved.

    Args:
        optimizer: of the config.
        state: its ``state_dict`` in the checkpoint.
        path: the checkpoint, for the error.

    Raises:
        ValueError: the state is of another kind of optimizer, or of other groups of parameters.
    """
    groups, saved = optimizer.param_groups, state["param_groups"]
    for group, other in zip(groups, saved, strict=False):
        # The schedule adds its own.
        ours, theirs = group.keys() - {"initial_lr"}, other.keys() - {"initial_lr"}
        if ours != theirs:
            kind = type(optimizer).__name__
            differing = ", ".join(sorted(ours ^ theirs))
            reason = f"its optimizer is no {kind}, the settings {differing} differ"
            raise refuse_to_resume(path, reason)
    if [len(g["params"]) for g in groups] != [len(g["params"]) for g in saved]:
        reason = (
            f"its optimizer has {len(saved)} groups of parameters, not the {len(groups)} of the "
            "config"
        )
        raise refuse_to_resume(path, reason)


def check_averaging(averages: bool, state: dict[str, Any], path: str) -> None:
    """Check that a trainer and the state to resume from average weights alike.

    Raises:
        ValueError: one of them does; the weights of the checkpoint are then others than needed.
    """
    saved = WeightAverage.__qualname__ in state.get("hooks", {})
    if saved != averages:
        words = ("averaged", "are not") if saved else ("not averaged", "are")
        reason = f"its weights are {words[0]}, and those of the config {words[1]} (train.ema.decay)"
        raise refuse_to_resume(path, reason)


def latest_losses(trainer: TrainerBase) -> dict[str, float]:
    """The losses and the rate of a trainer's last iteration; none before the first."""
    latest = trainer.storage.latest() if hasattr(trainer, "storage") else {}
    return {
        name: value
        for name, (value, iteration) in latest.items()
        if iteration == trainer.iter and ("loss" in name or name == "lr")
    }


@contextmanager
def kept_settings(optimizer: torch.optim.Optimizer, scheduler: LRScheduler) -> Iterator[None]:
    """Let an optimizer and its schedule keep their settings while they load a state.

    The rate of the next iteration is that of the schedule.
    """
    given = [
        {key: value for key, value in group.items() if key not in _OF_THE_MOMENT}
        for group in optimizer.param_groups
    ]
    rates = list(scheduler.base_lrs)
    yield
    for group, settings in zip(optimizer.param_groups, given, strict=True):
        group.update(settings)
    if list(scheduler.base_lrs) != rates:
        scheduler.base_lrs = rates
        for group, rate in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
            group["lr"] = rate
