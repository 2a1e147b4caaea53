"""Data sets, records and mappers of a config."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.modeling import SemanticSegmentor
from omegaconf import DictConfig, OmegaConf

from ..config import called_by
from ..data import read_bands, read_picture
from ..data.bands import BANDS
from ..data.catalog import check_name, check_same_classes, list_records
from ..data.content import check_label_content
from ..data.scale import typical_short_edge
from ..listing import spread_indices
from .build import build_test_mapper, is_panoptic, test_dataset_names
from .random_state import seeded_sample
from .yacs_config import to_lazy_config

# Where it is that a head's number of classes is said, of the recipe's own or of yacs keys.
_NUM_CLASSES = ("model.sem_seg_head.num_classes", "yacs.MODEL.SEM_SEG_HEAD.NUM_CLASSES")
# Labels that do not count, which no class may have for its id.
_CRITERION = "model.sem_seg_head.criterion"
_IGNORE_VALUES = (
    "dataloader.train.mapper.ignore_value",
    "dataloader.test.mapper.ignore_value",
)
_YACS_IGNORE_VALUES = ("yacs.MODEL.SEM_SEG_HEAD.IGNORE_VALUE",)
_IGNORE_VALUE = 255  # where a config does not say
_FREE_VALUE = 65535

_LOOKED_AT = 16  # pictures of a data set, for their size
_MOST_SCALE = 1.5  # between training and testing, without a word


def dataset_names(cfg: CfgNode | DictConfig, *, is_train: bool) -> list[str]:
    """Names of the data sets that a config trains on, or tests on."""
    part = "train" if is_train else "test"
    names = OmegaConf.select(to_lazy_config(cfg), f"dataloader.{part}.dataset.names", default=None)
    return [names] if isinstance(names, str) else list(names or [])


def check_datasets(cfg: CfgNode | DictConfig, *, is_train: bool) -> None:
    """Check the data sets that a config trains on, or tests on.

    Raises:
        ValueError: one is not known, or has another number of classes than the model's head; or a
            label to ignore is one of these classes. Only semantic segmentors are compared: a
            panoptic model has a class of its own for things.
    """
    cfg = to_lazy_config(cfg)
    key, num_classes = _head_classes(cfg)
    for name in dataset_names(cfg, is_train=is_train):
        check_name(name, "dataset")
        classes = MetadataCatalog.get(name).get("stuff_classes")
        if num_classes is None or not classes or is_panoptic(name):
            continue
        if num_classes != len(classes):
            raise ValueError(
                f"{key} must be {len(classes)}, as many as {name} has classes, got {num_classes}"
            )
        _check_ignore_values(cfg, num_classes)


def _ignore_keys(cfg: DictConfig, key: str) -> list[str]:
    """Where it is that a criterion, or each part of a sum, says which label does not count."""
    node = OmegaConf.select(cfg, key, default=None)
    own = [name for name in ("ignore_value", "ignore_index") if name in (node or {})]
    parts = [f"{key}.criterion"] if "criterion" in (node or {}) else []
    if "criteria" in (node or {}):
        parts = [f"{key}.criteria[{index}]" for index in range(len(node.criteria))]
    if parts and not own:
        return [found for part in parts for found in _ignore_keys(cfg, part)]
    return [f"{key}.{own[0] if own else 'ignore_value'}"]


def _check_ignore_values(cfg: DictConfig, num_classes: int) -> None:
    keys = [*_ignore_keys(cfg, _CRITERION), *_IGNORE_VALUES]
    for key in _YACS_IGNORE_VALUES if "yacs" in cfg else keys:
        value = OmegaConf.select(cfg, key, default=_IGNORE_VALUE)
        if 0 <= value < num_classes:
            raise ValueError(
                f"{key} {value} is one of the {num_classes} classes: set it, and that of the "
                f"augmentations, to a label that is none, such as {_FREE_VALUE}"
            )


def check_training_data(cfg: CfgNode | DictConfig) -> list[str]:
    """Check that a semantic segmentor can learn from, and be tested on, its data sets.

    Returns:
        What is odd about the labels, but may be meant, a sentence each.

    Raises:
        ValueError: the data sets have other classes, or another order of them, than one another;
            the evaluator is of another data set than the test loader; or labels that teach nothing,
            see :func:`ifa_d2.data.content.check_label_content`.
        FileNotFoundError: a data set is not there.
    """
    cfg = to_lazy_config(cfg)
    names = {part: dataset_names(cfg, is_train=part) for part in (True, False)}
    evaluated = test_dataset_names(cfg)
    tested = names[False]
    if evaluated and tested and tested != evaluated:
        raise ValueError(
            "dataloader.test.dataset.names must be one data set, that of dataloader.evaluator, "
            f"got {tested}: test on others by --eval-only, one after the other"
        )
    if _head_classes(cfg)[1] is None:
        return []
    semantic = [name for name in (*names[True], *names[False]) if not is_panoptic(name)]
    check_same_classes(semantic)
    return [
        warning for name in names[True] if name in semantic for warning in check_label_content(name)
    ]


def check_scales(cfg: CfgNode | DictConfig) -> list[str]:
    """Compare the size at which pictures are trained on with that at which they are tested.

    Returns:
        A sentence if they differ by more than a factor of 1.5, in the median of the shorter side;
        crops do not count. Only semantic segmentors are looked at.
    """
    cfg = to_lazy_config(cfg)
    if _head_classes(cfg)[1] is None:
        return []
    edges = {is_train: _typical_edge(cfg, is_train=is_train) for is_train in (True, False)}
    train, test = edges[True], edges[False]
    if not train or not test or 1 / _MOST_SCALE <= test / train <= _MOST_SCALE:
        return []
    return [
        f"pictures are tested at another scale than they are trained at: the shorter side is "
        f"{test:.0f} pixels in testing, and {train:.0f} in training (medians, before the crop). "
        "Change dataloader.train.mapper.augmentations.short_edge (INPUT.MIN_SIZE_TRAIN in a "
        ".yaml), or resize in dataloader.test.mapper.augmentations (INPUT.MIN_SIZE_TEST)"
    ]


def _typical_edge(cfg: DictConfig, *, is_train: bool) -> float | None:
    """Median shorter side of pictures behind a mapper; None where it is not known."""
    augmentations = getattr(build_mapper(cfg, is_train=is_train), "augmentations", None)
    names = dataset_names(cfg, is_train=is_train)
    if not names or not isinstance(augmentations, T.AugmentationList):
        return None
    records = [one for name in names for one in _some_pictures(name)]
    with seeded_sample(0, 0):
        return typical_short_edge(records, augmentations.augs)


def _some_pictures(name: str) -> list[dict[str, Any]]:
    """Records of evenly spread pictures of a data set."""
    records = list_records(name)
    chosen = (records[index] for index in spread_indices(len(records), _LOOKED_AT))
    return [one for one in chosen if one.get("file_name")]


def _head_classes(cfg: DictConfig) -> tuple[str, int | None]:
    """A semantic segmentor's number of classes with its key; None of another model."""
    target = called_by(OmegaConf.select(cfg, "model", default=None))
    key = _NUM_CLASSES[-1 if "yacs" in cfg else 0]
    value = OmegaConf.select(cfg, key, default=None)
    is_semantic = isinstance(target, type) and issubclass(target, SemanticSegmentor)
    return key, value if is_semantic else None


def choose_records(name: str, num: int) -> list[dict[str, Any]]:
    """Choose ``num`` records of a data set, evenly spread, or all if it has fewer.

    Raises:
        ValueError: no such data set, or ``num`` below 1.
    """
    check_name(name, "dataset")
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    records = DatasetCatalog.get(name)
    return [records[index] for index in spread_indices(len(records), num)]


def read_input(
    path: str | os.PathLike[str],
    image_format: str,
    bands: int | None = None,
    nodata: float | None = None,
) -> np.ndarray:
    """Read a picture for a model: (H, W, 3) uint8 RGB, or (H, W, C) float32 of bands.

    Args:
        path: of the picture.
        image_format: "RGB", "BGR" or "bands".
        bands: how many bands it must have; None takes any number.
        nodata: of bands, a value that means no data, besides the one that the file names.

    Raises:
        FileNotFoundError, ValueError: see :func:`ifa_d2.data.read_picture` and
            :func:`ifa_d2.data.read_bands`.
    """
    return read_bands(path, bands, nodata) if image_format == BANDS else read_picture(path)


def picture_input(
    image: np.ndarray,
    augmentations: T.AugmentationList,
    image_format: str,
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """A model's input for a picture, in Detectron2's format.

    Args:
        image: as of :func:`read_input`; it is not changed.
        augmentations: before the model, such as a resize.
        image_format: of the model's input, "RGB", "BGR" or "bands".
        size: (height, width) of the model's output; None is the picture's.
    """
    inputs = T.AugInput(np.array(image[:, :, ::-1] if image_format == "BGR" else image, order="C"))
    augmentations(inputs)
    tensor = torch.from_numpy(np.array(inputs.image.transpose(2, 0, 1), order="C"))
    height, width = size or image.shape[:2]
    return {"image": tensor, "height": height, "width": width}


def build_mapper(cfg: CfgNode | DictConfig, *, is_train: bool) -> Callable[[dict], dict]:
    """Build the mapper from a record to a model's input, of training or of testing."""
    if not is_train:
        return build_test_mapper(cfg)
    return instantiate(to_lazy_config(cfg).dataloader.train.mapper)
