"""Model, data loaders and evaluator of a config, of either kind."""

import copy
import logging
import os
from importlib.util import find_spec
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.data import (
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.evaluation import COCOPanopticEvaluator, DatasetEvaluator, DatasetEvaluators
from detectron2.modeling import Backbone
from detectron2.modeling import build_model as build_yacs_model
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn
from torch.utils.data import DataLoader

from ..data import PanopticInstanceMapper, SemSegMapper
from ..evaluation import SemSegEvaluator
from .loader import build_train_loader as build_stream_loader
from .settings import TrainSettings, is_yacs

_logger = logging.getLogger(__name__)
_NO_WEIGHTS = {"pretrained": False, "weights_file": ""}  # of a TimmBackbone
_CHANNELS = 3  # of pictures as they are read
_SAMPLER = "TrainingSampler"  # as Detectron2 calls that of a TrainingStream


def build_model(cfg: CfgNode | DictConfig, *, pretrained: bool = True) -> nn.Module:
    """The model of a config, on its device, in training mode.

    Args:
        cfg: of either kind.
        pretrained: let a backbone fetch the weights that its training starts from. A model that is
            loaded afterwards needs none, and they may be out of reach.

    Raises:
        ValueError: a backbone of other pictures than are read, or a head that a LazyConfig makes
            for other features than its backbone has.
    """
    _check_channels(cfg)
    if not pretrained:
        cfg = without_pretrained(cfg)
    if is_yacs(cfg):
        model = build_yacs_model(cfg)
    else:
        model = instantiate(cfg.model).to(TrainSettings.from_config(cfg).device)
        _check_features(cfg, model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    _logger.info(f"{type(model).__name__} of {parameters / 1e6:.2f} M parameters")
    return model


def without_pretrained(cfg: CfgNode | DictConfig) -> CfgNode | DictConfig:
    """A config whose backbones start from nothing; the given one stays as it is."""
    if is_yacs(cfg):
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.TIMM.update(PRETRAINED=False, WEIGHTS_FILE="")
        cfg.freeze()
        return cfg
    cfg = copy.deepcopy(cfg)
    _leave_out_weights(cfg.model)
    return cfg


def _leave_out_weights(node: Any) -> None:
    """Clear the keys of a LazyConfig's node, and of those in it, that name weights of timm's."""
    if isinstance(node, DictConfig):
        node.update({key: value for key, value in _NO_WEIGHTS.items() if key in node})
        for key in node:
            if not OmegaConf.is_missing(node, key):
                _leave_out_weights(node[key])


def _check_channels(cfg: CfgNode | DictConfig) -> None:
    """Raise a ValueError where a backbone expects pictures of other than three channels."""
    if is_yacs(cfg):
        key, channels = "the length of MODEL.PIXEL_MEAN", len(cfg.MODEL.PIXEL_MEAN)
    else:
        key = "model.backbone.in_channels"
        channels = OmegaConf.select(cfg, key, default=_CHANNELS)
    if channels != _CHANNELS:
        raise ValueError(
            f"{key} must be {_CHANNELS}, as pictures are read in colours, got {channels}"
        )


def _check_features(cfg: DictConfig, model: nn.Module) -> None:
    """Raise a ValueError where ``sem_seg_head.input_shape`` is not what the backbone gives."""
    node = OmegaConf.select(cfg, "model.sem_seg_head.input_shape", default=None)
    backbone = getattr(model, "backbone", None)
    if node is None or not isinstance(backbone, Backbone):
        return
    given = backbone.output_shape()
    for name, shape in instantiate(node).items():
        if name not in given:
            continue  # the head says so if it needs it
        for what in ("channels", "stride"):
            declared, real = getattr(shape, what), getattr(given[name], what)
            if declared != real:
                raise ValueError(
                    f"model.sem_seg_head.input_shape.{name}.{what} must be {real}, as the "
                    f"backbone's {name} has, got {declared}"
                )


def build_train_loader(cfg: CfgNode | DictConfig) -> DataLoader:
    """The loader of training batches of a config.

    Of the keys of ``DATALOADER``, ``FILTER_EMPTY_ANNOTATIONS`` leaves out pictures without
    instances where masks are learned (``MODEL.MASK_ON``); semantic labels need none.
    ``ASPECT_RATIO_GROUPING`` is not read: a :class:`TrainingStream` keeps its order.

    Raises:
        ValueError: ``SAMPLER_TRAIN`` is not the one that a stream has.
    """
    if not is_yacs(cfg):
        return instantiate(cfg.dataloader.train)
    if cfg.DATALOADER.SAMPLER_TRAIN != _SAMPLER:
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN must be {_SAMPLER!r}, whose order a resumed run can enter, "
            f"got {cfg.DATALOADER.SAMPLER_TRAIN!r}"
        )
    filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and cfg.MODEL.MASK_ON
    return build_stream_loader(
        get_detection_dataset_dicts(list(cfg.DATASETS.TRAIN), filter_empty=filter_empty),
        mapper=build_yacs_mapper(cfg, is_train=True),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED,
    )


def build_test_loader(cfg: CfgNode | DictConfig, dataset_name: str) -> DataLoader:
    """The loader of a data set to evaluate on, one image at a time.

    Raises:
        ValueError: a LazyConfig whose test loader is of another data set.
    """
    if is_yacs(cfg):
        return build_detection_test_loader(
            cfg, dataset_name, mapper=build_yacs_mapper(cfg, is_train=False)
        )
    if dataset_name not in test_dataset_names(cfg):
        raise ValueError(
            f"dataset_name must be one of {test_dataset_names(cfg)}, got {dataset_name!r}"
        )
    return instantiate(cfg.dataloader.test)


def build_test_mapper(cfg: CfgNode | DictConfig) -> Any:
    """Build the mapper from a dataset dict to a model's input of testing."""
    if is_yacs(cfg):
        return build_yacs_mapper(cfg, is_train=False)
    return instantiate(cfg.dataloader.test.mapper)


def build_yacs_mapper(cfg: CfgNode, *, is_train: bool) -> SemSegMapper | DatasetMapper:
    """The mapper of a yacs config: Detectron2's own where instance masks are learned too."""
    if not cfg.MODEL.MASK_ON:
        return SemSegMapper(cfg, is_train=is_train)
    if cfg.INPUT.MASK_FORMAT == "bitmask":
        return PanopticInstanceMapper(cfg, is_train=is_train)
    return DatasetMapper(cfg, is_train=is_train)


def build_evaluator(cfg: CfgNode | DictConfig, dataset_name: str) -> DatasetEvaluator:
    """The evaluator for a data set; all of them together where a LazyConfig lists several.

    With a yacs config a panoptic data set has its panoptic quality too, and it writes to
    OUTPUT_DIR, or where there are several data sets to a folder of the data set's name in it.

    Raises:
        ImportError: panoptic quality is asked for, but Detectron2 has no panopticapi to find it.
    """
    evaluators = _evaluators(cfg, dataset_name)
    panoptic = any(isinstance(evaluator, COCOPanopticEvaluator) for evaluator in evaluators)
    if panoptic and find_spec("panopticapi") is None:
        raise ImportError(
            f"{dataset_name} is evaluated by panopticapi, which is not installed: "
            "`python -m pip install panopticapi-lite`"
        )
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def _evaluators(cfg: CfgNode | DictConfig, dataset_name: str) -> list[DatasetEvaluator]:
    if not is_yacs(cfg):
        evaluator = instantiate(cfg.dataloader.evaluator)
        return list(evaluator) if isinstance(evaluator, ListConfig) else [evaluator]
    several = len(test_dataset_names(cfg)) > 1
    folder = os.path.join(cfg.OUTPUT_DIR, dataset_name) if several else cfg.OUTPUT_DIR
    evaluators = [SemSegEvaluator(dataset_name, output_dir=folder)]
    if is_panoptic(dataset_name):
        evaluators.append(COCOPanopticEvaluator(dataset_name, folder))
    return evaluators


def is_panoptic(dataset_name: str) -> bool:
    """Whether a data set is evaluated for panoptic quality."""
    return MetadataCatalog.get(dataset_name).get("evaluator_type", "").endswith("panoptic_seg")


def test_dataset_names(cfg: CfgNode | DictConfig) -> list[str]:
    """Names of the data sets that a config evaluates on."""
    if is_yacs(cfg):
        return list(cfg.DATASETS.TEST)
    evaluator = OmegaConf.select(cfg, "dataloader.evaluator", default=None)
    if isinstance(evaluator, ListConfig) and evaluator:
        evaluator = evaluator[0]
    name = evaluator.get("dataset_name") if isinstance(evaluator, DictConfig) else None
    return [name] if name else []
