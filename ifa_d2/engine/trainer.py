"""The trainer, of LazyConfig recipes and yacs configs."""

import logging
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.engine import HookBase, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from fvcore.nn.precise_bn import get_bn_modules
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ..modeling.blocks import recompute_activations
from . import build
from .averaging import WeightAverage
from .checkpoint import Checkpointer
from .early_stopping import EarlyStopping
from .evaluate import evaluate_model
from .hooks import BestCheckpointer, EvalHook, PeriodicCheckpointer, PeriodicWriter, PreciseBN
from .inference import check_inference
from .inputs import check_scales, check_training_data
from .random_state import preserved_random_state
from .resumable import ResumableTrainer
from .run_start import start_alone, with_output_dir
from .settings import TrainSettings
from .solver import build_optimizer, build_scheduler, scale_config
from .step import StepTrainer
from .writers import build_writers
from .yacs_config import to_lazy_config

_logger = logging.getLogger(__name__)
BEST_METRIC = "sem_seg/mIoU"
BEST_PANOPTIC_METRIC = "panoptic_seg/PQ"


class Trainer(ResumableTrainer):
    """Detectron2's ``DefaultTrainer`` for either kind of config.

    The ``build_*`` methods may be overridden by a subclass, as those of ``DefaultTrainer``; they
    are given the LazyConfig. What a resumed run continues: :class:`ResumableTrainer`.

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
        super().__init__()
        self.given_cfg = with_output_dir(cfg)
        self.cfg = cfg = scale_config(self.given_cfg, comm.get_world_size())
        self.settings = settings = TrainSettings.from_config(cfg)
        settings.check_world_size(comm.get_world_size())
        start_alone(settings)
        check_inference(cfg)  # now, not at the first evaluation
        build.check_evaluation_needs(cfg)
        instantiate(cfg.lr_multiplier)  # nor after all else is built
        if comm.is_main_process():
            for warning in (*check_training_data(cfg), *check_scales(cfg)):
                _logger.warning(warning)

        started = Checkpointer(nn.Identity(), settings.output_dir).has_checkpoint()
        fetched = build.without_pretrained(cfg) if resume and started else cfg
        model = self.build_model(fetched)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        self.average = WeightAverage(model, settings.ema_decay) if settings.ema_decay else None
        if settings.activation_checkpointing:
            recompute_activations(getattr(model, "backbone", model))
        self._trainer = StepTrainer(
            build.distribute_model(model, settings),
            data_loader,
            optimizer,
            device=settings.device,
            amp_dtype=settings.amp_dtype,
            parts=settings.accumulation_steps,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # The trained weights are in the average's state, if there is one.
        self.checkpointer = Checkpointer(
            self.evaluated_model, settings.output_dir, trainer=weakref.proxy(self)
        )
        self.max_iter, self._resume = settings.max_iter, resume
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[HookBase | None]:
        """Timing, schedule, checkpoints, evaluation, the best checkpoint and writers."""
        settings = self.settings
        main = comm.is_main_process()
        metric = self.best_metric()
        ret: list[HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler(), self.average]
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
        if settings.patience:
            ret.append(EarlyStopping(settings.eval_period, settings.patience, metric))
        if main:
            ret += [
                BestCheckpointer(settings.eval_period, self.checkpointer, metric),
                PeriodicWriter(settings.log_period, settings.eval_period),
            ]
        return ret

    def best_metric(self) -> str:
        """The figure that chooses the best checkpoint: panoptic quality, or else mIoU.

        An evaluator of another task names its own, see :func:`.build.evaluator_metric`. With
        several data sets it is that of the first, and begins with its name.
        """
        names = build.test_dataset_names(self.cfg)
        panoptic = bool(names) and all(map(build.is_panoptic, names))
        metric = BEST_PANOPTIC_METRIC if panoptic else BEST_METRIC
        metric = build.evaluator_metric(self.cfg) or metric
        return f"{names[0]}/{metric}" if len(names) > 1 else metric

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is evaluated and saved: the averaged one, or else the trained one."""
        if self.average is not None:
            return self.average.model
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    def _evaluate(self) -> dict[str, Any]:
        model = self.evaluated_model
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

        Returns, raises: see :func:`ifa_d2.engine.evaluate.evaluate_model`.
        """
        cfg = to_lazy_config(cfg)
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is None:
            evaluators = [cls.build_evaluator(cfg, name) for name in build.test_dataset_names(cfg)]
        return evaluate_model(
            cfg, model, evaluators, weights=weights, build_loader=cls.build_test_loader
        )
