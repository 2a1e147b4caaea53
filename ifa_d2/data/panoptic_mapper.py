"""Detectron2's mapper for panoptic models, with the checks of files that our mapper makes."""

import copy
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.structures import BoxMode
from pycocotools import mask as rle

from .labels import LabelAugInput, check_label_size, read_record_label
from .pictures import read_picture


class PanopticMapper(DatasetMapper):
    """Detectron2's mapper, with this package's reader of pictures and labels.

    Detectron2's own cuts 16-bit files off, turns a TIFF twice by its orientation tag, and takes the
    colours of a label with a palette for ids.

    Args:
        args, kwargs: arguments of ``DatasetMapper``; ``image_format`` must be "RGB" or "BGR".

    Raises:
        ValueError: another ``image_format``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be 'RGB' or 'BGR', got {self.image_format!r}")

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map a record as ``DatasetMapper`` does.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file that ``read_picture`` or ``read_label`` refuses, or a label of
                another size than its image.
        """
        record = copy.deepcopy(dataset_dict)
        image = read_picture(record["file_name"], self.image_format)
        utils.check_image_size(record, image)
        label_file, label = record.get("sem_seg_file_name"), None
        if label_file is not None:
            label = read_record_label(record)
            del record["sem_seg_file_name"]
            check_label_size(label, label_file, image, record["file_name"])
        inputs = LabelAugInput(image, sem_seg=label)
        transforms = self.augmentations(inputs)
        size = inputs.image.shape[:2]
        record["image"] = torch.from_numpy(np.array(inputs.image.transpose(2, 0, 1), order="C"))
        if label is not None:
            record["sem_seg"] = torch.from_numpy(np.array(inputs.sem_seg, np.int64, order="C"))
        if self.proposal_topk is not None:
            utils.transform_proposals(record, size, transforms, proposal_topk=self.proposal_topk)
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            self._transform_annotations(record, transforms, size)
        return record


class PanopticInstanceMapper(PanopticMapper):
    """Detectron2's mapper for data sets whose instances are in panoptic pictures alone.

    In training a record with ``pan_seg_file_name`` and ``segments_info`` (``isthing`` and
    ``category_id`` of the things' classes) gets ``annotations``: boxes and bit masks of its things.
    A record that has annotations keeps them.

    Args:
        args, kwargs: arguments of ``DatasetMapper``; ``instance_mask_format`` must be "bitmask"
            where ``use_instance_mask`` is set.

    Raises:
        ValueError: another mask format.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.use_instance_mask and self.instance_mask_format != "bitmask":
            raise ValueError(
                f"instance_mask_format must be 'bitmask', got {self.instance_mask_format!r}"
            )

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map a record as ``DatasetMapper`` does."""
        if self.is_train and "annotations" not in dataset_dict:
            dataset_dict = {**dataset_dict, "annotations": read_instances(dataset_dict)}
        return super().__call__(dataset_dict)


def segment_ids(picture: np.ndarray) -> np.ndarray:
    """Decode a panoptic label picture (H, W, 3) uint8 RGB to segment ids (H, W) int32.

    COCO's format, R + 256 G + 65536 B.
    """
    return picture.astype(np.int32) @ np.array([1, 256, 65536], np.int32)


def segment_picture(ids: np.ndarray) -> np.ndarray:
    """Encode segment ids (H, W), below 2**24, as :func:`segment_ids` decodes them: uint8 RGB."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def read_instances(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the things of a panoptic record as annotations in Detectron2's format.

    Args:
        record: with ``pan_seg_file_name`` and ``segments_info``.

    Raises:
        ValueError: a thing that the picture does not show.
    """
    ids = segment_ids(read_picture(record["pan_seg_file_name"]))
    annotations = []
    for segment in record["segments_info"]:
        if not segment["isthing"]:
            continue
        mask = ids == segment["id"]
        if not mask.any():
            raise ValueError(f"{record['pan_seg_file_name']} has no segment {segment['id']}")
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        annotations.append(
            {
                "bbox": [float(side) for side in box],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": segment["category_id"],
                "iscrowd": int(segment.get("iscrowd", 0)),
                "segmentation": rle.encode(np.asfortranarray(mask, dtype=np.uint8)),
            }
        )
    return annotations
