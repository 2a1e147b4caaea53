"""Evaluation of a model on the data sets of a config."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn
from torch.utils.data import DataLoader

from ..errors import plain_worker_errors
from ..evaluation import per_class_table
from . import build
from .inference import build_inference_model, describe_views

_logger = logging.getLogger(__name__)


def evaluate_model(
    cfg: DictConfig,
    model: nn.Module,
    evaluators: Sequence[DatasetEvaluator],
    *,
    weights: str | None,
    build_loader: Callable[[DictConfig, str], DataLoader] = build.build_test_loader,
) -> dict[str, Any]:
    """Evaluate a model on the config's data sets, as the config wants pictures shown to it.

    Args:
        cfg: the LazyConfig.
        model: with the weights to evaluate.
        evaluators: one for each data set.
        weights: where the weights are from, for the evaluation's file.
        build_loader: makes the loader of a data set.

    Returns:
        Task to figure to value; with several data sets, all that by data set name. Empty but on the
        main process.

    Raises:
        ValueError: the number of evaluators is not that of data sets, or two would write the same
            file.
    """
    names = build.test_dataset_names(cfg)
    if len(evaluators) != len(names):
        raise ValueError(f"evaluators must be one for each of {names}, got {len(evaluators)}")
    build.check_evaluation_files(evaluators)
    shown = build_inference_model(cfg, model)
    if shown is not model:
        _logger.info(f"Inference settings: {shown.views}")
    results: dict[str, Any] = OrderedDict()
    for name, evaluator in zip(names, evaluators, strict=True):
        loader = build_loader(cfg, name)
        for one in build.sem_seg_evaluators(evaluator):
            one.conditions = {"weights": weights, **describe_views(shown)}
        with plain_worker_errors():
            results[name] = inference_on_dataset(shown, loader, evaluator)
        if comm.is_main_process() and "sem_seg" in results[name]:
            classes = MetadataCatalog.get(name).stuff_classes
            table = per_class_table(results[name]["sem_seg"], classes)
            _logger.info(f"Evaluation on {name}:\n{table}")
    return next(iter(results.values())) if len(results) == 1 else results
