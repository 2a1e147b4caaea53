"""From a data set's record to what a segmentation model takes."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from .augmentation import build_sem_seg_augmentations
from .labels import LabelAugInput, read_label, translate_label


class SemSegMapper:
    """Reads an image and its label, augments both alike, and gives tensors.

    Called with a dict of Detectron2's data set format it returns a copy with

    - `image`: (3, H, W) uint8, channels in the order of `image_format`
    - `sem_seg`: (H, W) int64, class ids and `ignore_value`; absent for a record without label

    The record may hold `sem_seg_file_name`, `ignore_label` and `num_classes`; those of
    `register_sem_seg_folder` do.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[T.Augmentation | T.Transform] = (),
        image_format: str = "RGB",
        ignore_value: int = 255,
        ignore_label: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        """
        Args:
            is_train: a record without label is an error then
            augmentations: applied in order; none leaves image and label in their files' size
            image_format: "RGB" or "BGR", as the model's pixel mean
            ignore_value: the label that the model skips
            ignore_label: its value in the files of records that do not say; default `ignore_value`
            num_classes: of records that do not say; None leaves their ids unchecked

        Raises:
            ValueError: bad `image_format`, or `augmentations` that pad with another label.
        """
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be 'RGB' or 'BGR', got {image_format!r}")
        for augmentation in augmentations:
            if isinstance(augmentation, T.FixedSizeCrop) and augmentation.pad:
                if augmentation.seg_pad_value != ignore_value:
                    raise ValueError(
                        f"augmentations pad labels with {augmentation.seg_pad_value}, but "
                        f"ignore_value is {ignore_value}: they must be the same"
                    )
        self.is_train = is_train
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.ignore_value = ignore_value
        self.ignore_label = ignore_value if ignore_label is None else ignore_label
        self.num_classes = num_classes

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Arguments from yacs keys: INPUT.* and MODEL.SEM_SEG_HEAD.IGNORE_VALUE.

        INPUT.SCALE_RANGE () leaves scales to MIN_SIZE_TRAIN, as in Detectron2. INPUT.CROP.TYPE
        "absolute" crops to CROP.SIZE pixels and pads smaller images.
        """
        inputs, ignore_value = cfg.INPUT, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        if is_train:
            augmentations = _train_augmentations(inputs, ignore_value)
        else:
            resize = T.ResizeShortestEdge(inputs.MIN_SIZE_TEST, inputs.MAX_SIZE_TEST)
            augmentations = [resize] if inputs.MIN_SIZE_TEST > 0 else []
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": inputs.FORMAT,
            "ignore_value": ignore_value,
        }

    def __call__(self, record: dict) -> dict:
        """Read one record; it is not changed.

        Raises:
            FileNotFoundError: the image or the label is missing.
            ValueError: a file is damaged; the label has another size than the image, holds colours
                or an id that is no class; or a training record names no label. The message names
                the file.
        """
        record = copy.deepcopy(record)
        image = _read_image(record["file_name"], self.image_format)
        utils.check_image_size(record, image)
        inputs = LabelAugInput(image, sem_seg=self._read_label(record, image.shape[:2]))
        self.augmentations(inputs)
        record["image"] = torch.from_numpy(np.array(inputs.image.transpose(2, 0, 1), order="C"))
        if inputs.sem_seg is not None:
            record["sem_seg"] = torch.from_numpy(np.array(inputs.sem_seg, np.int64, order="C"))
        return record

    def _read_label(self, record: dict, size: tuple[int, int]) -> np.ndarray | None:
        path = record.get("sem_seg_file_name")
        if path is None:
            if self.is_train:
                raise ValueError(f"{record['file_name']!r} has no sem_seg_file_name to train on")
            return None
        label = read_label(path)
        if label.shape != size:
            raise utils.SizeMismatchError(
                f"label {path!r} has (height, width) {label.shape}, but its image "
                f"{record['file_name']!r} has {size}"
            )
        return translate_label(
            label,
            path,
            num_classes=record.get("num_classes", self.num_classes),
            ignore_label=record.get("ignore_label", self.ignore_label),
            ignore_value=self.ignore_value,
        )


def _read_image(path: str, image_format: str) -> np.ndarray:
    try:
        return utils.read_image(path, format=image_format)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow raises anything from SyntaxError to zlib.error
        raise ValueError(f"cannot read the image {path!r}: {error}") from error


def _train_augmentations(inputs: CfgNode, ignore_value: int) -> list[T.Augmentation]:
    edges = inputs.MIN_SIZE_TRAIN
    if inputs.MIN_SIZE_TRAIN_SAMPLING != "choice":
        raise ValueError(
            f"INPUT.MIN_SIZE_TRAIN_SAMPLING must be 'choice', got "
            f"{inputs.MIN_SIZE_TRAIN_SAMPLING!r}: use INPUT.SCALE_RANGE for a range"
        )
    return build_sem_seg_augmentations(
        short_edge=edges,
        scale_range=inputs.SCALE_RANGE or None,
        crop_size=inputs.CROP.SIZE if inputs.CROP.ENABLED else None,
        crop_type=inputs.CROP.TYPE,
        max_size=inputs.MAX_SIZE_TRAIN,
        flip=inputs.RANDOM_FLIP,
        color_jitter=inputs.COLOR_JITTER,
        ignore_value=ignore_value,
    )
