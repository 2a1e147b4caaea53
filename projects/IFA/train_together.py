"""Trainings on the same batches, in one process, so that a batch is loaded once.

Reading, scaling and jittering pictures takes more processor time than a step of a small network on
a GPU, so that networks that are to be compared on the same data are better trained in step.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from compared_runs import FINAL
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ifa_d2.engine import build
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.random_state import get_random_state, set_random_state
from ifa_d2.engine.solver import build_optimizer, build_scheduler
from ifa_d2.files import atomic_path

_logger = logging.getLogger(__name__)


@dataclass
class _Training:
    cfg: DictConfig
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    # Each draws its own dropout, as it would alone.
    random_state: dict[str, Any]

    @classmethod
    def build(cls, cfg: DictConfig) -> "_Training":
        seed_all_rng(cfg.train.seed)
        model = build.build_model(cfg).train()
        optimizer = build_optimizer(cfg, model)
        scheduler = build_scheduler(cfg, optimizer)
        return cls(cfg, model, optimizer, scheduler, get_random_state())

    def step(self, batch: Sequence[dict]) -> torch.Tensor:
        set_random_state(self.random_state)
        self.optimizer.zero_grad()
        loss = sum(self.model(batch).values())
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.random_state = get_random_state()
        return loss.detach()


class _SharedFeatures:
    """Frozen backbones of several trainings, of which one computes a batch's features for all."""

    def __init__(self, trainings: Sequence[_Training]) -> None:
        backbones = [getattr(t.model.backbone, "bottom_up", t.model.backbone) for t in trainings]
        self._backbones = [b for b in backbones if getattr(b, "frozen", False)]
        if len({type(b.net) for b in self._backbones}) > 1:
            raise ValueError("frozen backbones that are trained upon together must be of one kind")
        if self._backbones:
            most = max(self._backbones, key=lambda b: len(b.output_shape()))
            self._forward = most.forward
            for backbone in self._backbones:
                backbone.forward = self._features
        self.forget()

    def _features(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        if self._found is None:
            self._found = self._forward(image)
        return self._found

    def forget(self) -> None:
        """Drop the features of the last batch."""
        self._found: dict[str, torch.Tensor] | None = None

    def release(self) -> None:
        """Restore the backbones' own ``forward``."""
        for backbone in self._backbones:
            del backbone.forward


def train_together(cfgs: Sequence[DictConfig], *, seconds: float = 0, measured: int = 40) -> None:
    """Train on the batches of the first config's loader, and write each run's last checkpoint.

    Args:
        cfgs: of equal data, batch, seed and length; each with an output folder of its own.
        seconds: iterations are cut to what fits into this time, of all trainings alike; 0 leaves
            them. How many there were is in training.json.
        measured: iterations that are timed to find out how many fit into ``seconds``, after as
            many that are not.

    Raises:
        ValueError: configs whose data, batch, seed or length differ, or a loss that is not finite.
    """
    _check_alike(cfgs)
    trainings = [_Training.build(cfg) for cfg in cfgs]
    loader, shared = iter(build.build_train_loader(cfgs[0])), _SharedFeatures(trainings)
    max_iter, iteration, start = cfgs[0].train.max_iter, 0, time.monotonic()
    while iteration < max_iter:
        batch = next(loader)
        shared.forget()
        losses = [training.step(batch) for training in trainings]
        iteration += 1
        if iteration == measured:
            begin = time.monotonic()
        if seconds and iteration == 2 * measured:
            each = (time.monotonic() - begin) / measured
            left = max(0.0, seconds - (time.monotonic() - start))
            if iteration + int(left / each) < max_iter:
                max_iter = iteration + int(left / each)
                for training in trainings:
                    _shorten(training, max_iter)
        if iteration % 20 == 0 or iteration == max_iter:
            for training, loss in zip(trainings, losses, strict=True):
                _note(training, iteration, float(loss))
    shared.release()
    for training in trainings:
        _finish(training, max_iter, time.monotonic() - start)


def _check_alike(cfgs: Sequence[DictConfig]) -> None:
    def shared(cfg: DictConfig) -> tuple:
        data = OmegaConf.to_container(cfg.dataloader.train, resolve=False)
        return data, cfg.train.batch_size, cfg.train.seed, cfg.train.max_iter

    for cfg in cfgs[1:]:
        if shared(cfg) != shared(cfgs[0]):
            raise ValueError(
                "variants that are trained together must have the same data, batch, seed and "
                f"length: {cfgs[0].train.output_dir} and {cfg.train.output_dir} differ"
            )


def _shorten(training: _Training, max_iter: int) -> None:
    """End the schedule, a function of the share that is done, at another iteration."""
    done = training.scheduler.last_epoch
    cfg = OmegaConf.merge(training.cfg, {"train": {"max_iter": max_iter}})
    training.scheduler = build_scheduler(cfg, training.optimizer)
    for _ in range(done):
        training.scheduler.step()


def _note(training: _Training, iteration: int, loss: float) -> None:
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise ValueError(f"the loss of {training.cfg.train.output_dir} is {loss} at {iteration}")
    folder = Path(training.cfg.train.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.json").open("a") as file:
        file.write(json.dumps({"iteration": iteration - 1, "total_loss": round(loss, 5)}) + "\n")


def _finish(training: _Training, max_iter: int, seconds: float) -> None:
    folder = Path(training.cfg.train.output_dir)
    summary = {"iterations": max_iter, "seconds": round(seconds, 1), "torch": torch.__version__}
    with atomic_path(folder / "training.json") as temporary:
        temporary.write_text(json.dumps(summary))
    Checkpointer(training.model, str(folder)).save(FINAL.removesuffix(".pth"))
