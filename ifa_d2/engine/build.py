"""Model, data loaders and evaluator of a config."""

import copy
import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.data import MetadataCatalog
from detectron2.engine import create_ddp_model
from detectron2.evaluation import COCOPanopticEvaluator, DatasetEvaluator, DatasetEvaluators
from detectron2.modeling import Backbone
from detectron2.utils import comm
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn
from torch.utils.data import DataLoader

from ..config import called_by
from ..data.bands import BANDS
from ..evaluation import PanopticEvaluator, SemSegEvaluator
from ..extras import check_extra
from ..modeling import FieldSegmentor, IFASemSegHead
from .settings import TrainSettings
from .yacs_config import to_lazy_config

_logger = logging.getLogger(__name__)
_NO_WEIGHTS = {"pretrained": False, "weights_file": ""}  # of a TimmBackbone
_CHANNELS = 3  # of pictures that are read in colours
_IGNORED = 255  # label that a mapper ignores where a config does not say


def build_model(cfg: CfgNode | DictConfig, *, pretrained: bool = True) -> nn.Module:
    """The model of a config, on its device, in training mode.

    Args:
        cfg: of either kind.
        pretrained: let a backbone fetch the weights that its training starts from. A model that is
            loaded afterwards needs none, and they may be out of reach.

    Raises:
        ValueError: a backbone of other pictures than are read, a head for other features than its
            backbone has, or one that learns the label that the training data ignore.
    """
    cfg = to_lazy_config(cfg)
    _check_channels(cfg)
    if not pretrained:
        cfg = without_pretrained(cfg)
    model = instantiate(cfg.model).to(TrainSettings.from_config(cfg).device)
    _check_features(cfg, model)
    _check_ignored_label(cfg, model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    _logger.info(f"{type(model).__name__} of {parameters / 1e6:.2f} M parameters")
    return model


def distribute_model(model: nn.Module, settings: TrainSettings) -> nn.Module:
    """Wrap a model for several processes; in one, it is what is returned."""
    with warnings.catch_warnings():  # Detectron2 passes what torch has deprecated
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
        return create_ddp_model(
            model,
            device_ids=[comm.get_local_rank()] if settings.device.startswith("cuda") else None,
            broadcast_buffers=False,
            find_unused_parameters=settings.find_unused_parameters,
            fp16_compression=settings.fp16_compression,
        )


def without_pretrained(cfg: CfgNode | DictConfig) -> DictConfig:
    """A config whose backbones start from nothing; the given one stays as it is."""
    cfg = copy.deepcopy(to_lazy_config(cfg))
    _leave_out_weights(cfg.model)
    return cfg


def _leave_out_weights(node: Any) -> None:
    """Clear the keys of a node, and of those in it, that name weights of timm's."""
    if isinstance(node, DictConfig):
        node.update({key: value for key, value in _NO_WEIGHTS.items() if key in node})
        for key in node:
            if not OmegaConf.is_missing(node, key):
                _leave_out_weights(node[key])


def _check_channels(cfg: DictConfig) -> None:
    """Raise a ValueError where a backbone expects other channels than pictures are read with."""
    key = "model.backbone.in_channels"
    channels = OmegaConf.select(cfg, key, default=None)
    if OmegaConf.select(cfg, "dataloader.test.mapper.image_format", default=None) == BANDS:
        count = len(instantiate(cfg.model.pixel_mean))
        if channels not in (None, count):
            raise ValueError(
                f"{key} must be {count}, as many bands as model.pixel_mean has, got {channels}"
            )
        target = called_by(cfg.model)
        if not (isinstance(target, type) and issubclass(target, FieldSegmentor)):
            raise ValueError(
                f"model must be a FieldSegmentor with image_format {BANDS!r}, got {target}: other "
                "models know no pixels without data"
            )
        return
    if channels not in (None, _CHANNELS):
        raise ValueError(
            f"{key} must be {_CHANNELS}, as pictures are read in colours, got {channels}"
        )


def _check_features(cfg: DictConfig, model: nn.Module) -> None:
    """Raise a ValueError where the head's ``input_shape`` is not what the backbone gives."""
    key = "model.sem_seg_head.levels.input_shape"
    node = OmegaConf.select(cfg, key, default=None)
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
                    f"{key}.{name}.{what} must be {real}, as the backbone's {name} has, got "
                    f"{declared}"
                )


def _check_ignored_label(cfg: DictConfig, model: nn.Module) -> None:
    """Raise a ValueError where a head's criterion ignores another label than the data have."""
    head = getattr(model, "sem_seg_head", None)
    key = "dataloader.train.mapper"
    if "yacs" in cfg or not isinstance(head, IFASemSegHead) or not OmegaConf.select(cfg, key):
        return
    given = OmegaConf.select(cfg, f"{key}.ignore_value", default=_IGNORED)
    if given != head.ignore_value:
        raise ValueError(
            f"{key}.ignore_value must be {head.ignore_value}, which the criterion ignores, got "
            f"{given}: set one of them; in criteria of torch it is ignore_index"
        )


def build_train_loader(cfg: CfgNode | DictConfig) -> DataLoader:
    """The loader of training batches of a config.

    Of the keys of ``DATALOADER``, ``FILTER_EMPTY_ANNOTATIONS`` leaves out pictures without
    instances where masks are learned (``MODEL.MASK_ON``); semantic labels need none.
    ``ASPECT_RATIO_GROUPING`` is not read: a :class:`TrainingStream` keeps its order.

    Raises:
        ValueError: ``SAMPLER_TRAIN`` is not the one that a stream has.
    """
    return instantiate(to_lazy_config(cfg).dataloader.train)


def build_test_loader(cfg: CfgNode | DictConfig, dataset_name: str) -> DataLoader:
    """The loader of a data set to evaluate on, one image at a time.

    Raises:
        ValueError: the config does not evaluate on that data set.
    """
    cfg = to_lazy_config(cfg)
    names = test_dataset_names(cfg)
    if dataset_name not in names:
        raise ValueError(f"dataset_name must be one of {names}, got {dataset_name!r}")
    if len(names) > 1:
        cfg = copy.deepcopy(cfg)
        cfg.dataloader.test.dataset.names = dataset_name
    return instantiate(cfg.dataloader.test)


def build_test_mapper(cfg: CfgNode | DictConfig) -> Any:
    """Build the mapper from a dataset dict to a model's input of testing."""
    return instantiate(to_lazy_config(cfg).dataloader.test.mapper)


def build_evaluator(cfg: CfgNode | DictConfig, dataset_name: str) -> DatasetEvaluator:
    """The evaluator for a data set; all of them together where the config lists several.

    Raises:
        ImportError: panoptic quality is asked for, but what counts it is not installed.
    """
    evaluators = _evaluators(cfg, dataset_name)
    for one in evaluators:
        if isinstance(one, PanopticEvaluator):
            check_extra("panoptic", f"the panoptic quality of {dataset_name}")
        elif isinstance(one, COCOPanopticEvaluator) and find_spec("panopticapi") is None:
            raise ImportError(
                f"COCOPanopticEvaluator of {dataset_name} needs panopticapi, which is not "
                "installed: ifa_d2.evaluation.PanopticEvaluator has the same figures without it"
            )
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def _evaluators(cfg: CfgNode | DictConfig, dataset_name: str) -> list[DatasetEvaluator]:
    node = to_lazy_config(cfg).dataloader.evaluator
    if _is_by_name(node):
        node = node[dataset_name]
    evaluator = instantiate(node)
    return list(evaluator) if isinstance(evaluator, ListConfig | list) else [evaluator]


def sem_seg_evaluators(evaluator: DatasetEvaluator) -> list[SemSegEvaluator]:
    """List the evaluators of semantic segmentation in an evaluator, which may be of several."""
    if isinstance(evaluator, DatasetEvaluators):
        return [one for each in evaluator._evaluators for one in sem_seg_evaluators(each)]
    return [evaluator] if isinstance(evaluator, SemSegEvaluator) else []


def check_evaluation_needs(cfg: CfgNode | DictConfig) -> None:
    """Check, before there is a model, that it gives what the evaluators of a config need.

    Raises:
        ValueError: one needs logits, but the model gives labels.
    """
    cfg = to_lazy_config(cfg)
    target = called_by(OmegaConf.select(cfg, "model", default=None))
    given = OmegaConf.select(cfg, "inference.return_logits", default=None)
    if given is None:
        is_field = isinstance(target, type) and issubclass(target, FieldSegmentor)
        given = not is_field or bool(OmegaConf.select(cfg, "model.return_logits", default=False))
    if given:
        return
    for name in test_dataset_names(cfg):
        for one in (one for each in _evaluators(cfg, name) for one in sem_seg_evaluators(each)):
            if one.needs_logits:
                raise ValueError(
                    "dataloader.evaluator.calibration_bins needs logits, but the model gives "
                    "labels: model.return_logits=True"
                )


def check_evaluation_files(evaluators: Sequence[DatasetEvaluator], *, new: bool = False) -> None:
    """Check that evaluators write figures to a file each.

    Args:
        evaluators: of one evaluation.
        new: no file may be there before.

    Raises:
        ValueError: two write the same file, or, with ``new``, one is there.
    """
    found = [one.output_file for each in evaluators for one in sem_seg_evaluators(each)]
    files = [file for file in found if file is not None]
    for file in files:
        if files.count(file) > 1 or (new and file.is_file()):
            raise ValueError(
                f"{file} would be replaced by another evaluation: give dataloader.evaluator "
                "another output_dir, such as one below ${train.output_dir}"
            )


def build_data_set_evaluators(dataset_name: str, output_dir: str) -> list[DatasetEvaluator]:
    """The evaluators of a yacs config: of a panoptic data set its panoptic quality too."""
    evaluators = [SemSegEvaluator(dataset_name, output_dir=output_dir)]
    if is_panoptic(dataset_name):
        evaluators.append(PanopticEvaluator(dataset_name, output_dir))
    return evaluators


def is_panoptic(dataset_name: str) -> bool:
    """Whether a data set is evaluated for panoptic quality."""
    return MetadataCatalog.get(dataset_name).get("evaluator_type", "").endswith("panoptic_seg")


def evaluator_metric(cfg: CfgNode | DictConfig) -> str | None:
    """The figure of the first evaluator that models are chosen by, as its class says.

    An evaluator of another task than segmentation says it by an attribute ``best_metric``, such as
    ``"depth/delta_1"``; more must be better. None where there is none.
    """
    node = OmegaConf.select(to_lazy_config(cfg), "dataloader.evaluator", default=None)
    if _is_by_name(node):
        node = next(iter(node.values()), None)
    if isinstance(node, ListConfig):
        node = next(iter(node), None)
    return getattr(called_by(node), "best_metric", None)


def test_dataset_names(cfg: CfgNode | DictConfig) -> list[str]:
    """Names of the data sets that a config evaluates on."""
    evaluator = OmegaConf.select(to_lazy_config(cfg), "dataloader.evaluator", default=None)
    if _is_by_name(evaluator):
        return list(evaluator)
    if isinstance(evaluator, ListConfig) and evaluator:
        evaluator = evaluator[0]
    name = evaluator.get("dataset_name") if isinstance(evaluator, DictConfig) else None
    return [name] if name else []


def _is_by_name(evaluator: Any) -> bool:
    """Whether a node holds evaluators by their data sets' names."""
    return isinstance(evaluator, DictConfig) and "_target_" not in evaluator
