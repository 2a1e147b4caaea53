"""Mapper from a data set's record to a segmentation model's input."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from .augmentation import build_sem_seg_augmentations
from .bands import BANDS, read_record_bands
from .labels import LabelAugInput, check_label_size, read_record_label, translate_label
from .pictures import read_picture
from .points import PointSampler, labels_at, pixel_footprint, trace_back

_OF_COLORS = (T.RandomBrightness, T.RandomContrast, T.RandomSaturation, T.RandomLighting)


class SemSegMapper:
    """Read an image and its label, augment both alike, and convert them to tensors.

    Called with a dict of Detectron2's data set format it returns a copy with

    - `image`: (3, H, W) uint8, channels in the order of `image_format`; or (C, H, W) float32 bands,
      NaN where there is no data
    - `sem_seg`: (H, W) int64, class ids and `ignore_value`; absent for a record without label
    - with `num_points`, `sem_seg_points`: (P, 2) float32 (y, x) in [0, 1] of the image;
      `sem_seg_point_labels`: (P,) int64, read from the annotation before it was resized;
      `sem_seg_num_uniform_points`: number of uniform points, which come first;
      `sem_seg_point_footprint`: (2,) float32 size (y, x) of an annotation's pixel, as shares of
      the image's sides

    The record may hold `sem_seg_file_name`, `ignore_label`, `num_classes` and `label_table`, as the
    records of `register_sem_seg_folder` do, or COCO's annotations, as those of
    `register_coco_sem_seg`.
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
        num_points: int = 0,
        point_sampling: str = "uniform",
        importance_ratio: float = 0.75,
        boundary_width: int = 4,
        point_balance: float = 1.0,
    ) -> None:
        """
        Args:
            is_train: a record without label is an error then
            augmentations: applied in order; none leaves image and label in their files' size
            image_format: "RGB" or "BGR", as the model's pixel mean; or "bands" of a data set that
                is registered with `bands`: `augmentations` must then not change colours, and must
                pad with NaN, which means no data
            ignore_value: the label that the model skips
            ignore_label: its value in the files, for records without `ignore_label`; default
                `ignore_value`
            num_classes: for records without `num_classes`; None leaves their ids unchecked
            num_points: P, labelled points of each image (for a `FieldSegmentor` whose head's
                targets are points); 0 gives none
            point_sampling: where those that are not uniform lie: "uniform", "boundary",
                "class_balanced" or "balanced_boundary", see :class:`.PointSampler`
            importance_ratio: share of the points that follow `point_sampling`, in [0, 1)
            boundary_width: up to which distance a pixel is near a boundary, in pixels
            point_balance: of the balanced samplings, classes are drawn in proportion to their
                pixels to the power 1 - this, in [0, 1]

        Raises:
            ValueError: bad `image_format`, `augmentations` that pad with another label, or an
                argument of the points out of its range.
        """
        check_image_format(image_format)
        if image_format == BANDS:
            _check_band_augmentations(augmentations)
        for augmentation in augmentations:
            if isinstance(augmentation, T.FixedSizeCrop) and augmentation.pad:
                if augmentation.seg_pad_value != ignore_value:
                    raise ValueError(
                        f"augmentations pad labels with {augmentation.seg_pad_value}, but "
                        f"ignore_value is {ignore_value}: they must be the same"
                    )
        if num_points < 0:
            raise ValueError(f"num_points must be 0 or a number above, got {num_points}")
        self.points: PointSampler | None = None
        if num_points:
            self.points = PointSampler(
                num_points=num_points,
                sampling=point_sampling,
                importance_ratio=importance_ratio,
                boundary_width=boundary_width,
                balance=point_balance,
                ignore_value=ignore_value,
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

        INPUT.POINTS counts in training alone.

        INPUT.SCALE_RANGE () leaves scales to MIN_SIZE_TRAIN, as in Detectron2. INPUT.CROP.TYPE
        "absolute" crops to CROP.SIZE pixels and pads smaller images, those of INPUT.FORMAT "bands"
        with no data.
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
            "num_points": inputs.POINTS.NUM_POINTS if is_train else 0,
            "point_sampling": inputs.POINTS.SAMPLING,
            "importance_ratio": inputs.POINTS.IMPORTANCE_RATIO,
            "boundary_width": inputs.POINTS.BOUNDARY_WIDTH,
            "point_balance": inputs.POINTS.BALANCE,
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
        image = self._read_image(record)
        utils.check_image_size(record, image)
        annotation = self._read_label(record, image)
        inputs = LabelAugInput(image, sem_seg=annotation, ignore_value=self.ignore_value)
        transform = self.augmentations(inputs)
        record["image"] = torch.from_numpy(np.array(inputs.image.transpose(2, 0, 1), order="C"))
        if self.is_train:
            record.pop("sem_seg_annotations", None)  # which an evaluator needs, and no model
        if inputs.sem_seg is not None:
            record["sem_seg"] = torch.from_numpy(np.array(inputs.sem_seg, np.int64, order="C"))
            if self.points is not None:
                record.update(self._draw_points(record["sem_seg"], annotation, transform))
        return record

    def _read_image(self, record: dict) -> np.ndarray:
        path, bands = record["file_name"], record.get("bands")
        if (bands is not None) != (self.image_format == BANDS):
            said = "without bands" if bands is None else f"with bands={bands}"
            raise ValueError(
                f"{path!r} is registered {said}, but the mapper's image_format is "
                f"{self.image_format!r}: pictures of bands need image_format {BANDS!r}, others "
                "'RGB' or 'BGR', in dataloader.train.mapper and dataloader.test.mapper "
                "(INPUT.FORMAT in a .yaml)"
            )
        return read_picture(path, self.image_format) if bands is None else read_record_bands(record)

    def _draw_points(
        self, sem_seg: torch.Tensor, annotation: np.ndarray, transform: T.Transform
    ) -> dict[str, torch.Tensor | int]:
        """Draw points of the augmented image, labelled by the annotation before augmentation."""
        points = self.points(sem_seg[None])
        source = trace_back(points[0], transform, annotation.shape, tuple(sem_seg.shape))
        labels = labels_at(torch.from_numpy(annotation)[None], source[None]).long()
        # Padding may hide a part of the picture that lies there.
        shown = labels_at(sem_seg[None], points) != self.ignore_value
        inside = ((source >= 0) & (source < 1)).all(dim=-1)
        return {
            "sem_seg_points": points[0],
            "sem_seg_point_labels": labels.where(shown & inside, self.ignore_value)[0],
            "sem_seg_num_uniform_points": self.points.num_uniform,
            "sem_seg_point_footprint": pixel_footprint(
                transform, annotation.shape, tuple(sem_seg.shape)
            ),
        }

    def _read_label(self, record: dict, image: np.ndarray) -> np.ndarray | None:
        path = record.get("sem_seg_file_name")
        if path is None:
            if self.is_train:
                raise ValueError(f"{record['file_name']!r} has no sem_seg_file_name to train on")
            return None
        label = read_record_label(record, image=image)
        check_label_size(label, path, image, record["file_name"])
        return translate_label(
            label,
            path,
            num_classes=record.get("num_classes", self.num_classes),
            ignore_label=record.get("ignore_label", self.ignore_label),
            ignore_value=self.ignore_value,
        )


def check_image_format(image_format: str) -> None:
    """Raise a ValueError unless pictures can be read in a format."""
    if image_format not in ("RGB", "BGR", BANDS):
        raise ValueError(f"image_format must be 'RGB', 'BGR' or {BANDS!r}, got {image_format!r}")


def _check_band_augmentations(augmentations: Sequence[T.Augmentation | T.Transform]) -> None:
    """Raise a ValueError for what changes colours, or pads with a value."""
    for each in augmentations:
        if isinstance(each, _OF_COLORS):
            raise ValueError(
                f"augmentations have {type(each).__name__}, which is of colours: with image_format "
                f"{BANDS!r} set color_jitter=False (INPUT.COLOR_JITTER False in a .yaml)"
            )
        if isinstance(each, T.FixedSizeCrop) and each.pad and not np.isnan(each.pad_value):
            raise ValueError(
                f"augmentations pad images with {each.pad_value}: with image_format {BANDS!r} "
                "pad_value must be float('nan'), no data, for which a model takes its pixel_mean"
            )


def _train_augmentations(inputs: CfgNode, ignore_value: int) -> list[T.Augmentation]:
    edges = inputs.MIN_SIZE_TRAIN
    if inputs.MIN_SIZE_TRAIN_SAMPLING != "choice":
        raise ValueError(
            f"INPUT.MIN_SIZE_TRAIN_SAMPLING must be 'choice', got "
            f"{inputs.MIN_SIZE_TRAIN_SAMPLING!r}: use INPUT.SCALE_RANGE for a range"
        )
    return build_sem_seg_augmentations(
        short_edge=edges or None,
        scale_range=inputs.SCALE_RANGE or None,
        scale_law=inputs.SCALE_LAW,
        crop_size=inputs.CROP.SIZE if inputs.CROP.ENABLED else None,
        crop_type=inputs.CROP.TYPE,
        max_size=inputs.MAX_SIZE_TRAIN,
        flip=inputs.RANDOM_FLIP,
        color_jitter=inputs.COLOR_JITTER,
        ignore_value=ignore_value,
        **({"pad_value": float("nan")} if inputs.FORMAT == BANDS else {}),
    )
