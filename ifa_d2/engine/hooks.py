"""Hooks of training where Detectron2's own lose something."""

import logging
import math
import os
import re
import shutil
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter

from ..files import atomic_path
from .checkpoint import Checkpointer
from .random_state import preserved_random_state
from .writers import figures_at, read_metrics

_logger = logging.getLogger(__name__)


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's, run by all processes, so that all their random states can be saved.

    The trainer's ``gather_random_states`` is called before a checkpoint is due; only the main
    process writes. A resumed run counts the checkpoints before it among those to keep, and one that
    was stopped between its last two checkpoints, which hold the same, gets the final one.
    """

    def before_train(self) -> None:
        """Look for the checkpoints of the run that this one continues."""
        super().before_train()
        pattern = re.compile(rf"{re.escape(self.file_prefix)}_(\d{{7}})\.pth")
        found = map(pattern.fullmatch, sorted(os.listdir(self.checkpointer.save_dir)))
        self.recent_checkpoints = [
            os.path.join(self.checkpointer.save_dir, match[0])
            for match in found
            if match and int(match[1]) < self.trainer.start_iter
        ]
        final = os.path.join(self.checkpointer.save_dir, f"{self.file_prefix}_final.pth")
        done = self.recent_checkpoints and self.trainer.start_iter >= self.trainer.max_iter
        if done and comm.is_main_process():
            if not os.path.isfile(final):
                with atomic_path(final) as temporary:
                    shutil.copyfile(self.recent_checkpoints[-1], temporary)
            self.checkpointer.tag_last_checkpoint(os.path.basename(final))

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if (iteration + 1) % self.period and iteration < self.trainer.max_iter - 1:
            if self.trainer.interrupts.pending:
                self.trainer.save_interrupted()
                self.trainer.interrupts.check()
            return
        self.trainer.gather_random_states()
        if comm.is_main_process():
            self.step(iteration)
            # One of them the step has removed, if there was one too many.
            while self.max_to_keep and len(self.recent_checkpoints) > self.max_to_keep:
                self.path_manager.rm(self.recent_checkpoints.pop(0))
        self.trainer.interrupts.check()


class PreciseBN(hooks.PreciseBN):
    """Precise BatchNorm of Detectron2, on batches that depend on the iteration alone."""

    def update_stats(self) -> None:
        """Estimate the statistics from the batches that follow this iteration's."""
        stream = getattr(self._data_loader, "dataset", None)
        if hasattr(stream, "enter"):
            stream.enter(self.trainer.iter + 1, self.trainer.data_seed)
        with preserved_random_state():
            super().update_stats()
        self._data_iter = None


class EvalHook(hooks.EvalHook):
    """Detectron2's, which a resumed run catches up with.

    A run may be stopped between a checkpoint and the end of the evaluation that belongs to it; the
    resumed run begins with that one. A run that was already evaluated at its end is not evaluated
    again.
    """

    def before_train(self) -> None:
        """Evaluate what the run before this one was stopped at."""
        start = self.trainer.start_iter
        due = self._period > 0 and 0 < start < self.trainer.max_iter and start % self._period == 0
        if due and self._known(start - 1) is None:
            self.trainer.iter = self.trainer.storage.iter = start - 1
            self._do_eval()

    def after_step(self) -> None:
        """Evaluate when it is due; an interrupt is not kept back until the evaluation's end."""
        try:
            with self.trainer.interrupts.let_through():
                super().after_step()
        except KeyboardInterrupt:
            self.trainer.save_interrupted()
            raise

    def after_train(self) -> None:
        """Evaluate at the end; not after a training that failed."""
        if self.trainer.iter < self.trainer.max_iter:
            return
        trainer, known = self.trainer, None
        if trainer.start_iter >= trainer.max_iter:
            known = self._known(trainer.max_iter)
        if known is None and trainer.max_iter < trainer.settings.max_iter:
            known = self._known(trainer.max_iter - 1)  # it ended early, after an evaluation
        if known is None:
            self._do_eval()
            return
        if trainer.start_iter >= trainer.max_iter:
            _logger.info("The run was trained and evaluated to its end already.")
        trainer.take_figures(known)

    def _known(self, iteration: int) -> dict[str, Any] | None:
        """The figures of an iteration, as the main process finds them."""
        trainer = self.trainer
        known = figures_at(trainer.settings.output_dir, iteration, trainer.best_metric())
        return comm.all_gather(known)[0]


class PeriodicWriter(hooks.PeriodicWriter):
    """Detectron2's, with the trainer's writers, made when the first iteration is known.

    It also writes whenever there are new figures of an evaluation, so that they are kept if the run
    is stopped before it is due; the first iteration's losses go to the terminal at once.
    """

    def __init__(self, period: int, eval_period: int) -> None:
        """
        Args:
            period: iterations between two times of writing.
            eval_period: iterations between two evaluations; 0 is only at the end.
        """
        super().__init__([], period)
        self._eval_period = eval_period

    def before_train(self) -> None:
        """Make the writers; write what the run before this one did not get to."""
        output_dir, last = self.trainer.settings.output_dir, self.trainer.start_iter - 1
        rows = read_metrics(output_dir)
        self._writers = self.trainer.build_writers()
        storage = self.trainer.storage
        if last >= 0 and self._is_due(last) and all(row["iteration"] != last for row in rows):
            for name, value in self.trainer.last_losses.items():
                storage.put_scalar(name, value, smoothing_hint="loss" in name, cur_iter=last)
        if storage.latest():
            self._write([w for w in self._writers if not isinstance(w, CommonMetricPrinter)])

    def after_step(self) -> None:
        if self._is_due(self.trainer.iter) or self.trainer.iter == self.trainer.max_iter - 1:
            self._write(self._writers)
        elif self.trainer.iter == self.trainer.start_iter:  # on a slow machine a minute earlier
            self._write([w for w in self._writers if isinstance(w, CommonMetricPrinter)])

    def after_train(self) -> None:
        """Write what is left, unless the training failed, and close the writers."""
        if self.trainer.iter >= self.trainer.max_iter:
            self._write(self._writers)
        for writer in self._writers:
            writer.close()

    def _is_due(self, iteration: int) -> bool:
        periods = (self._period, self._eval_period)
        return any(period > 0 and (iteration + 1) % period == 0 for period in periods)

    @staticmethod
    def _write(writers: Sequence[EventWriter]) -> None:
        for writer in writers:
            writer.write()


class BestCheckpointer(HookBase):
    """Keeps the weights of the best figure so far, beside the last checkpoint.

    The figure is kept in the checkpoint itself and read again by a resumed run, and the
    checkpoint never becomes the one to resume from. Goes after the hook that evaluates, on the
    main process.

    Attributes:
        best: the best figure so far, or None.
    """

    def __init__(
        self, eval_period: int, checkpointer: Checkpointer, metric: str, name: str = "model_best"
    ) -> None:
        """
        Args:
            eval_period: iterations between two evaluations; 0 is only at the end.
            checkpointer: what writes the file.
            metric: name of the figure to maximise, as "sem_seg/mIoU".
            name: of the file, without suffix.
        """
        self._period = eval_period
        self._checkpointer = checkpointer
        self._metric = metric
        self._name = name
        self.best: float | None = None

    def before_train(self) -> None:
        """Read the best figure so far, if this run is a resumed one."""
        path = os.path.join(self._checkpointer.save_dir, f"{self._name}.pth")
        if self.trainer.start_iter > 0 and os.path.isfile(path):
            try:
                # Memory mapped: only the figure is wanted.
                saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                self.best = saved.get("best_metric")
            except Exception as error:  # anything, of a damaged file
                _logger.warning(f"{path} is damaged ({type(error).__name__}) and is replaced")
        if self._metric in self.trainer.storage.latest():  # just evaluated, for the run before
            self._compare()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._compare()

    def after_train(self) -> None:
        # Not after a training that failed, nor where nothing was left to do.
        latest = self.trainer.storage.latest()
        if self.trainer.iter >= self.trainer.max_iter and (
            self._metric in latest or self.trainer.start_iter < self.trainer.max_iter
        ):
            self._compare()

    def _compare(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._metric, (math.nan, -1))
        if not math.isfinite(value):
            _logger.warning(f"No {self._metric} to choose the best checkpoint by.")
        elif self.best is None or value > self.best:
            _logger.info(f"Best {self._metric} so far: {value:.4f}")
            self.best = float(value)
            self._checkpointer.save(
                self._name, tag=False, iteration=iteration, best_metric=self.best
            )
        else:
            _logger.info(f"{self._metric} {value:.4f} is not above the best, {self.best:.4f}")
