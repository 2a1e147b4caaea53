"""The trainer, of LazyConfig recipes and yacs configs."""

import logging
import os
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.evaluation.testing import verify_results
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter
from fvcore.nn.precise_bn import get_bn_modules
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ..evaluation import per_class_table
from . import build
from .checkpoint import Checkpointer, check_initial_weights
from .errors import plain_worker_errors
from .hooks import BestCheckpointer, EvalHook, PeriodicCheckpointer, PeriodicWriter, PreciseBN
from .inference import build_inference_model, check_inference, describe_views
from .inputs import check_scales, check_training_data, dataset_names
from .interrupts import Interrupts
from .loader import TrainingStream
from .output_dir import locked_output
from .random_state import gather_random_states, preserved_random_state, set_random_state
from .resume import check_optimizer, kept_settings
from .run_start import check_new_run, enter_folder, start_alone, with_output_dir
from .saved_config import changed_settings, config_text, write_config
from .settings import TrainSettings
from .solver import build_optimizer, build_scheduler, scale_config
from .step import build_step_trainer
from .writers import build_writers
from .yacs_config import to_lazy_config

_logger = logging.getLogger(__name__)
BEST_METRIC = "sem_seg/mIoU"
BEST_PANOPTIC_METRIC = "panoptic_seg/PQ"


class Trainer(DefaultTrainer):
    """Detectron2's ``DefaultTrainer`` for either kind of config.

    The ``build_*`` methods may be overridden by a subclass, as those of ``DefaultTrainer``; they
    are given the LazyConfig. A resumed run continues the weights, the optimiser, the schedule, the
    random numbers and the place in the data, and so equals the run that was not interrupted.

    Attributes:
        cfg: the LazyConfig, of a yacs config the one that
            :func:`ifa_d2.engine.yacs_config.to_lazy_config` makes of it; its rate and length are
            scaled to the number of processes.
        settings: its settings of the run.
        interrupts: of this process while it trains.
    """

    def __init__(self, cfg: CfgNode | DictConfig, *, resume: bool = False) -> None:
        """
        Args:
            cfg: the config, of either kind; it is not changed. ``setup_run`` is not needed.
            resume: :meth:`resume_or_load` will continue a run. If that has a checkpoint, a backbone
                does not fetch the weights that its training started from.

        Raises:
            ValueError: a setting that is out of its range, a batch that does not divide evenly
                among the processes, or data that cannot be learned from, see
                :func:`ifa_d2.engine.inputs.check_training_data`.
        """
        TrainerBase.__init__(self)
        self._given_cfg = with_output_dir(cfg)
        self.cfg = cfg = scale_config(self._given_cfg, comm.get_world_size())
        self.settings = settings = TrainSettings.from_config(cfg)
        settings.check_world_size(comm.get_world_size())
        start_alone(settings)
        check_inference(cfg)  # now, not at the first evaluation
        instantiate(cfg.lr_multiplier)  # nor after all else is built
        if comm.is_main_process():
            for warning in (*check_training_data(cfg), *check_scales(cfg)):
                _logger.warning(warning)

        started = Checkpointer(nn.Identity(), settings.output_dir).has_checkpoint()
        fetched = build.without_pretrained(cfg) if resume and started else cfg
        model = self.build_model(fetched)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        with warnings.catch_warnings():  # Detectron2 passes what torch has deprecated
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            model = create_ddp_model(
                model,
                device_ids=[comm.get_local_rank()] if settings.device.startswith("cuda") else None,
                broadcast_buffers=False,
                find_unused_parameters=settings.find_unused_parameters,
                fp16_compression=settings.fp16_compression,
            )
        self._trainer = build_step_trainer(
            model,
            data_loader,
            optimizer,
            device=settings.device,
            amp_dtype=settings.amp_dtype,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(model, settings.output_dir, trainer=weakref.proxy(self))
        self.start_iter, self._resume = 0, resume
        self.max_iter = settings.max_iter
        self.interrupts = Interrupts()
        self._random_states: list[dict[str, Any]] | None = []
        self._losses: dict[str, float] = {}
        self._last_eval_results: dict[str, Any] = {}
        self.register_hooks(self.build_hooks())

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
        cfg = self._given_cfg
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
        enter_folder(self._given_cfg, resume=self._resume)
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
            self._log_plan()
            self._run_iterations()
        if comm.is_main_process():
            expected = OmegaConf.select(self.cfg, "train.expected_results", default=[])
            test = CfgNode({"EXPECTED_RESULTS": list(expected)})
            verify_results(CfgNode({"TEST": test}), self._last_eval_results)
        return self._last_eval_results

    def _log_plan(self) -> None:
        """Log in a line what is trained on what, and for how long."""
        settings, stream = self.settings, self._stream
        pictures = f" ({stream.num_records} pictures)" if stream is not None else ""
        names = ", ".join(dataset_names(self.cfg, is_train=True)) or "its data"
        tests = ", ".join(build.test_dataset_names(self.cfg)) or "nothing"
        often = f"every {settings.eval_period} and " if settings.eval_period else ""
        _logger.info(
            f"Training on {names}{pictures}: iterations {self.start_iter} to {self.max_iter} of "
            f"{settings.batch_size} pictures on {settings.device}, evaluated {often}at the end on "
            f"{tests}; everything goes to {settings.output_dir}"
        )

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
                self.after_train()

    def run_step(self) -> None:
        """One step of training.

        Raises:
            ValueError: a batch norm saw one value a channel, of which there are no statistics.
        """
        try:
            with plain_worker_errors():
                super().run_step()
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            share = self.settings.batch_size // comm.get_world_size()
            raise ValueError(
                f"a batch norm has one value a channel to learn from, with {share} picture(s) in "
                "each process and features of one cell: raise train.batch_size "
                "(SOLVER.IMS_PER_BATCH) or the crop, or choose another norm, such as FrozenBN or GN"
            ) from error

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
        latest = self.storage.latest() if hasattr(self, "storage") else {}
        state["losses"] = {
            name: value
            for name, (value, iteration) in latest.items()
            if iteration == self.iter and ("loss" in name or name == "lr")
        }
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

    def build_hooks(self) -> list[HookBase | None]:
        """Timing, schedule, checkpoints, evaluation, the best checkpoint and writers."""
        settings = self.settings
        main = comm.is_main_process()
        ret: list[HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if settings.precise_bn_iters and get_bn_modules(self.model):
            loader = self.build_train_loader(self.cfg)
            iters = settings.precise_bn_iters
            ret.append(PreciseBN(settings.eval_period, self.model, loader, iters))
        ret += [
            PeriodicCheckpointer(
                self.checkpointer,
                settings.checkpoint_period,
                max_to_keep=settings.checkpoints_to_keep,
            ),
            # After the checkpoint, which is there to look into should this fail.
            EvalHook(settings.eval_period, self._evaluate),
        ]
        if main:
            ret += [
                BestCheckpointer(settings.eval_period, self.checkpointer, self.best_metric()),
                PeriodicWriter(settings.log_period, settings.eval_period),
            ]
        return ret

    def best_metric(self) -> str:
        """The figure that chooses the best checkpoint: panoptic quality, or else mIoU.

        With several data sets it is that of the first, and begins with its name.
        """
        names = build.test_dataset_names(self.cfg)
        panoptic = bool(names) and all(map(build.is_panoptic, names))
        metric = BEST_PANOPTIC_METRIC if panoptic else BEST_METRIC
        return f"{names[0]}/{metric}" if len(names) > 1 else metric

    def _evaluate(self) -> dict[str, Any]:
        model = self.model
        if isinstance(model, DistributedDataParallel):
            model = model.module
        # Running statistics are the main process's in the checkpoint, so here as well.
        if comm.get_world_size() > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)
        with preserved_random_state():
            done = min(self.iter + 1, self.max_iter)
            weights = f"{self.settings.output_dir} after {done} iterations"
            self._last_eval_results = self.test(self.cfg, model, weights=weights)
        self.gather_random_states()
        return self._last_eval_results

    def build_writers(self) -> list[EventWriter]:
        """The terminal's, metrics.json and TensorBoard; made when the first iteration is known."""
        return build_writers(self.settings.output_dir, self.start_iter, self.max_iter)

    @classmethod
    def build_model(cls, cfg: CfgNode | DictConfig) -> nn.Module:
        """The model, on its device."""
        return build.build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode | DictConfig, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode | DictConfig, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rate schedule."""
        return build_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode | DictConfig) -> DataLoader:
        """The loader of training batches."""
        return build.build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode | DictConfig, dataset_name: str) -> DataLoader:
        """The loader of a data set to evaluate on."""
        return build.build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode | DictConfig, dataset_name: str) -> DatasetEvaluator:
        """The evaluator for a data set."""
        return build.build_evaluator(cfg, dataset_name)

    @classmethod
    def test(
        cls,
        cfg: CfgNode | DictConfig,
        model: nn.Module,
        evaluators: Sequence[DatasetEvaluator] | DatasetEvaluator | None = None,
        *,
        weights: str | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model on the config's data sets, as the config wants pictures shown to it.

        Args:
            cfg: the config, of either kind.
            model: with the weights to evaluate.
            evaluators: one for each data set; None builds them.
            weights: where the weights are from, for the evaluation's file.

        Returns:
            Task to figure to value; with several data sets, all that by data set name. Empty but
            on the main process.

        Raises:
            ValueError: the number of evaluators is not that of data sets, or two would write the
                same file.
        """
        cfg = to_lazy_config(cfg)
        names = build.test_dataset_names(cfg)
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is None:
            evaluators = [cls.build_evaluator(cfg, name) for name in names]
        if len(evaluators) != len(names):
            raise ValueError(f"evaluators must be one for each of {names}, got {len(evaluators)}")
        build.check_evaluation_files(evaluators)
        shown = build_inference_model(cfg, model)
        if shown is not model:
            _logger.info(f"Inference settings: {shown.views}")
        results: dict[str, Any] = OrderedDict()
        for name, evaluator in zip(names, evaluators, strict=True):
            loader = cls.build_test_loader(cfg, name)
            for one in build.sem_seg_evaluators(evaluator):
                one.conditions = {"weights": weights, **describe_views(shown)}
            with plain_worker_errors():
                results[name] = inference_on_dataset(shown, loader, evaluator)
            if comm.is_main_process() and "sem_seg" in results[name]:
                classes = MetadataCatalog.get(name).stuff_classes
                table = per_class_table(results[name]["sem_seg"], classes)
                _logger.info(f"Evaluation on {name}:\n{table}")
        return next(iter(results.values())) if len(results) == 1 else results
