"""A trainer's loop, and what of it a resumed run continues."""

import logging
import os
from contextlib import nullcontext
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.evaluation.testing import verify_results
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig, OmegaConf

from .averaging import WeightAverage
from .checkpoint import Checkpointer, check_initial_weights
from .inputs import dataset_names
from .interrupts import Interrupts
from .loader import TrainingStream
from .logs import plan_sentence
from .output_dir import locked_output
from .random_state import gather_random_states, set_random_state
from .resume import check_averaging, check_optimizer, kept_settings, latest_losses
from .run_start import check_new_run, enter_folder
from .saved_config import changed_settings, config_text, write_config
from .settings import TrainSettings

_logger = logging.getLogger(__name__)


class ResumableTrainer(DefaultTrainer):
    """Detectron2's loop of a trainer that is built, and that can be interrupted and resumed.

    A resumed run continues the weights, their average, the optimiser, the schedule, the random
    numbers and the place in the data, and so equals the run that was not interrupted.

    Attributes:
        given_cfg, cfg: the LazyConfig, and the same scaled to the number of processes.
        settings: its settings of the run.
        average: of the weights, or None.
        start_iter, max_iter: the first iteration, and the one after the last.
        interrupts: of this process while it trains.
    """

    given_cfg: DictConfig
    cfg: DictConfig
    settings: TrainSettings
    average: WeightAverage | None
    checkpointer: Checkpointer
    max_iter: int

    def __init__(self) -> None:
        TrainerBase.__init__(self)
        self.start_iter, self._resume = 0, False
        self.interrupts = Interrupts()
        self._random_states: list[dict[str, Any]] | None = []
        self._losses: dict[str, float] = {}
        self._last_eval_results: dict[str, Any] = {}

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint of the output directory, or load initial weights.

        Args:
            resume: continue, if the output directory has a checkpoint; the initial weights are
                then not looked at. Otherwise training starts at iteration 0.

        Raises:
            FileNotFoundError: a file to load does not exist.
            ValueError: it is damaged, or fits nothing of the model; or, without ``resume``, the
                output directory holds a run already.
        """
        self._resume = resume
        check_new_run(self.settings.output_dir, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.checkpointer.resume()
            self._log_changes()
            self.start_iter = self.iter + 1
            return
        path = self.settings.init_checkpoint
        check_initial_weights(path)
        self.checkpointer.load_initial(path, partial=self.settings.partial_checkpoint)
        if self.average is not None:
            self.average.spread()
        if resume:
            _logger.info(f"No checkpoint in {self.settings.output_dir}: starting at iteration 0")

    def _log_changes(self) -> None:
        """Log in which settings a resumed run differs from the one that it continues."""
        path = self._config_file
        if not os.path.isfile(path) or not comm.is_main_process():
            return
        with open(path, encoding="utf-8") as file:
            for change in changed_settings(file.read(), self._config_text()):
                _logger.info(f"Resumed with {change}")

    @property
    def _config_file(self) -> str:
        return os.path.join(self.settings.output_dir, "config.yaml")

    def _config_text(self) -> str:
        cfg = self.given_cfg
        names = [name for part in (True, False) for name in dataset_names(cfg, is_train=part)]
        return config_text(cfg, list(dict.fromkeys(names)))

    def train(self) -> dict[str, Any]:
        """Train from ``start_iter`` to ``max_iter``.

        Writes ``config.yaml`` first, not before all is built and loaded: a run that cannot start
        leaves that of an earlier one in the same directory.

        Returns:
            The metrics of the last evaluation; empty but on the main process.

        Raises:
            ValueError: the output directory is that of another run.
        """
        enter_folder(self.given_cfg, resume=self._resume)
        text = self._config_text()  # now, not after what takes long
        stream = self._stream
        if stream is not None:
            stream.enter(self.start_iter, stream.seed)
        elif self.start_iter > 0:
            _logger.warning("The training data begin anew: their loader cannot be positioned.")
        if self.start_iter > 0:
            self._restore_random_state()
        with locked_output(self.settings.output_dir, enabled=comm.is_main_process()):
            write_config(self._config_file, text)
            pictures = None if stream is None else stream.num_records
            _logger.info(plan_sentence(self.cfg, self.settings, self.start_iter, pictures))
            self._run_iterations()
        if comm.is_main_process():
            expected = OmegaConf.select(self.cfg, "train.expected_results", default=[])
            test = CfgNode({"EXPECTED_RESULTS": list(expected)})
            verify_results(CfgNode({"TEST": test}), self._last_eval_results)
        return self._last_eval_results

    def _run_iterations(self) -> None:
        """Detectron2's loop; a run that is done already has no iteration, and ends as it did."""
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                self.iter = self.start_iter
                # Of several processes, not all are interrupted at the same iteration.
                alone = comm.get_world_size() == 1
                with self.interrupts.held_back() if alone else nullcontext():
                    while self.iter < self.max_iter:
                        self.before_step()
                        self.run_step()
                        self.after_step()
                        self.iter += 1
            except BaseException:
                _logger.debug("Training failed:", exc_info=True)  # into the log file
                self.iter = min(self.iter, self.max_iter - 1)  # so after_train knows of it
                raise
            finally:
                # Its workers end here: a garbage collection would wait 5 seconds for each of them.
                self._trainer._data_loader_iter_obj = None
                self.after_train()

    @property
    def _stream(self) -> TrainingStream | None:
        """The training data, if they can be entered at any place."""
        stream = getattr(self.data_loader, "dataset", None)
        return stream if isinstance(stream, TrainingStream) else None

    @property
    def data_seed(self) -> int | None:
        """Of the order of the training data and of their augmentations."""
        return self._stream.seed if self._stream is not None else None

    @property
    def last_losses(self) -> dict[str, float]:
        """Losses and rate of the iteration of the checkpoint that this run continues."""
        return self._losses

    def take_figures(self, figures: dict[str, float]) -> None:
        """Take the figures of metrics.json, ``task/name``, for those of the last evaluation."""
        self._last_eval_results = {}
        for key, value in figures.items():
            *parents, name = key.split("/")
            node = self._last_eval_results
            for parent in parents:
                node = node.setdefault(parent, {})
            if parents:
                node[name] = value

    def gather_random_states(self) -> None:
        """Take note of the random states of all processes for the next checkpoint."""
        self._random_states = gather_random_states()

    def end_after(self, iterations: int) -> None:
        """Let the training end with the iteration just done, the last of that many, and save it."""
        self.max_iter = iterations
        self.iter = iterations - 1
        self.gather_random_states()
        self.checkpointer.save("model_final", iteration=self.iter)

    def save_interrupted(self) -> None:
        """Save a checkpoint of the iteration just done, unless it has one."""
        name = f"model_{self.iter:07d}"
        if not os.path.isfile(os.path.join(self.settings.output_dir, f"{name}.pth")):
            self.gather_random_states()
            self.checkpointer.save(name, iteration=self.iter)

    def _restore_random_state(self) -> None:
        if self._random_states is None:
            self._random_states = []
        elif len(self._random_states) == comm.get_world_size():
            set_random_state(self._random_states[comm.get_rank()])
        else:
            _logger.warning(
                f"The checkpoint is of {len(self._random_states)} processes, not of "
                f"{comm.get_world_size()}: random numbers begin anew."
            )

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs besides the weights."""
        state = super().state_dict()
        state["random_states"] = self._random_states
        state["seed"] = self.settings.seed
        state["losses"] = latest_losses(self) or self._losses
        if self._stream is not None:
            state["data_seed"] = self.data_seed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave, but for what the config now says otherwise.

        Those are the settings of the optimizer and the seed.

        Raises:
            ValueError: the state is of another kind of optimizer, or of other groups of parameters.
        """
        path = self.checkpointer.get_checkpoint_file()
        check_optimizer(self.optimizer, state_dict["_trainer"]["optimizer"], path)
        check_averaging(self.average is not None, state_dict, path)
        with kept_settings(self.optimizer, self.scheduler):
            super().load_state_dict(state_dict)
        self._losses = state_dict.get("losses", {})
        if state_dict.get("seed", self.settings.seed) != self.settings.seed:
            _logger.info("Another seed: random numbers and the order of the data begin anew.")
            self._random_states = None
            return
        self._random_states = state_dict.get("random_states", [])
        if self._stream is not None and "data_seed" in state_dict:
            self._stream.enter(0, state_dict["data_seed"])
