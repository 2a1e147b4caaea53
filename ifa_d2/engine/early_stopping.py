"""The end of a training that has stopped to improve."""

import logging
import math

from detectron2.engine import HookBase
from detectron2.utils import comm

from .writers import read_metrics

_logger = logging.getLogger(__name__)


class EarlyStopping(HookBase):
    """Ends a training when its best figure was not surpassed in a number of evaluations.

    Goes after the hook that evaluates and before those that keep the best and write. The figures
    before a resume are those of metrics.json.
    """

    def __init__(self, eval_period: int, patience: int, metric: str) -> None:
        """
        Args:
            eval_period: iterations between two evaluations.
            patience: evaluations without a better figure, after which training ends.
            metric: name of the figure, as "sem_seg/mIoU".
        """
        self._period = eval_period
        self._patience = patience
        self._metric = metric
        self._figures: list[float] = []

    def before_train(self) -> None:
        """Read the figures so far; end at once where the run was about to."""
        start = self.trainer.start_iter
        rows = read_metrics(self.trainer.settings.output_dir) if comm.is_main_process() else []
        found = {row["iteration"]: row[self._metric] for row in rows if self._metric in row}
        latest = self.trainer.storage.latest().get(self._metric)
        if latest is not None:  # just evaluated, for the run before
            found[latest[1]] = latest[0]
        evaluated = [i for i in sorted(found) if i < start and (i + 1) % self._period == 0]
        self._figures = [found[i] for i in evaluated]
        if 0 < start < self.trainer.max_iter and start % self._period == 0:
            self._decide(start)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period or done >= self.trainer.max_iter:
            return
        value, iteration = self.trainer.storage.latest().get(self._metric, (math.nan, -1))
        self._figures.append(value if iteration == self.trainer.iter else math.nan)
        self._decide(done)

    def _decide(self, done: int) -> None:
        """End the training after that many iterations, if its figures say so; on all processes."""
        since = evaluations_since_best(self._figures)
        if comm.all_gather(since >= self._patience)[0]:
            _logger.info(
                f"{self._metric} was not above its best in {since} evaluations "
                f"(train.early_stopping.patience): training ends after {done} iterations"
            )
            self.trainer.end_after(done)


def evaluations_since_best(figures: list[float]) -> int:
    """How many figures come after the first that is the highest; those that are none count."""
    finite = [value for value in figures if math.isfinite(value)]
    return len(figures) - 1 - figures.index(max(finite)) if finite else len(figures)
