"""Reading and transforming label files without changing their ids."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError
from fvcore.transforms.transform import Transform, TransformList
from PIL import Image, ImageOps

from ..listing import join_some
from . import labelme
from .annotations import draw_annotations
from .bands import read_record_bands, without_data
from .label_table import LabelTable
from .pictures import decode, opened, page_count, pixel_type, refusal, stored_maximum, verify

# One number a pixel: bilevel, 8-bit grey, palette, and what Pillow makes of 16-bit grey.
_LABEL_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N", "I")
LOSSY = ("JPEG", "JPEG2000", "MPO")
_NAMED = 8  # how many values an error lists


def read_record_label(
    record: Mapping[str, Any],
    *,
    table: LabelTable | None = None,
    strict: bool = False,
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Read the label of a data set's record, (H, W) ids.

    Args:
        record: with `sem_seg_file_name`; and maybe `label_table`, or of COCO's instances
            `sem_seg_annotations`, `background`, `overlap`, `height` and `width`; or `bands`,
            maybe `nodata`, and `ignore_label`, which is then the label of pixels without data.
        table: for a record without `label_table`.
        strict: see :func:`read_label`.
        image: the picture of bands as it was read; None reads it where it is needed.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_label` and, of bands,
            :func:`ifa_d2.data.read_bands`.
    """
    label = _read_whole(record, table, strict)
    if "bands" not in record:
        return label
    image = read_record_bands(record) if image is None else image
    missing = without_data(image)
    if missing.shape != label.shape or not missing.any():  # whoever reads both compares sizes
        return label
    deep = record["ignore_label"] > 255 and label.dtype == np.uint8
    label = label.astype(np.int32) if deep else label
    label[missing] = record["ignore_label"]
    return label


def read_record_classes(record: Mapping[str, Any], metadata: Metadata) -> np.ndarray:
    """Read the classes of a registered data set's record, (H, W); pixels without one have K.

    Args:
        record: as of :func:`read_record_label`.
        metadata: of the data set, with its K `stuff_classes`.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_record_label` and :func:`translate_label`.
    """
    num_classes = len(metadata.stuff_classes)
    return translate_label(
        read_record_label(record, table=metadata.get("label_table")),
        record["sem_seg_file_name"],
        num_classes=num_classes,
        ignore_label=metadata.get("ignore_label", 255),
        ignore_value=num_classes,
    )


def _read_whole(record: Mapping[str, Any], table: LabelTable | None, strict: bool) -> np.ndarray:
    """Read a label, that of pixels without data too."""
    if "sem_seg_annotations" in record:
        return draw_annotations(
            record["sem_seg_annotations"],
            (record["height"], record["width"]),
            background=record["background"],
            overlap=record["overlap"],
        )
    path = record["sem_seg_file_name"]
    return read_label(path, table=record.get("label_table", table), strict=strict)


def read_label(
    path: str | os.PathLike[str], *, table: LabelTable | None = None, strict: bool = False
) -> np.ndarray:
    """Read a label file's ids, (H, W), uint8 where they fit and int32 otherwise.

    Palette images give their indices, grey ones of 1, 2 or 4 bits their values. A file with an
    orientation tag is turned by it, as a picture is. The polygons of LabelMe's .json are filled.

    Args:
        path: a file, or an address that Detectron2's ``PathManager`` knows.
        table: classes of the ids, colours or names in the file; None leaves ids as they are.
        strict: also compare a PNG's checksums.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds colours instead of ids, holds what the table lacks,
            or is of a format that does not keep ids (JPEG, lossy WebP).
    """
    path = os.fspath(path)
    if path.lower().endswith(labelme.SUFFIX):
        return labelme.read_label(path, table)
    with opened(path, "label") as image:
        if strict:
            verify(path)
        _refuse(image, path, colors=table is not None and table.of_colors)
        if table is not None and table.of_colors:
            return table.translate(decode(image), path)
        stored, spread = stored_maximum(image)
        image.load()
        label = np.array(ImageOps.exif_transpose(image))
    if stored != spread:  # Pillow has spread the values, without two becoming one
        label = np.rint(label * (stored / spread)).astype(label.dtype)
    label = label.astype(np.int32 if label.dtype.itemsize > 1 else np.uint8)
    return label if table is None else table.translate(label, path)


def _refuse(image: Image.Image, path: str, colors: bool) -> None:
    """Raise unless an opened label file's ids or colours would be read as they are."""
    if colors:
        _refuse_colors(image, path)
    elif image.mode == "F" or pixel_type(image) == "int8":
        raise ValueError(
            f"label {path!r} has pixels of {pixel_type(image)}, not class ids: it must have one "
            "channel of 8-bit or 16-bit unsigned integers"
        )
    elif image.mode not in _LABEL_MODES:
        raise ValueError(
            f"label {path!r} holds colours (mode {image.mode}), not class ids: it must have "
            "one channel, 8-bit or 16-bit grey or with a palette; or register the data set with "
            "label_values={(R, G, B): class, ...}"
        )
    if image.format in LOSSY:
        raise ValueError(
            f"label {path!r} is a {image.format}, which does not keep ids as they are: it must "
            "be a PNG or another file without loss, made from the original labels"
        )
    if (pages := page_count(image)) > 1:
        raise ValueError(
            f"label {path!r} holds {pages} pictures (pages or frames): it must hold one; save "
            "the one that belongs to the image alone"
        )


def _refuse_colors(image: Image.Image, path: str) -> None:
    if reason := refusal(image):
        raise ValueError(
            f"label {path!r} {reason}: label_values are of 8-bit colours, and so must its pixels be"
        )
    if image.mode in ("CMYK", "YCbCr"):
        raise ValueError(f"label {path!r} is {image.mode}, which keeps no colours: save it as RGB")
    if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
        raise ValueError(
            f"label {path!r} has transparent pixels, whose colours do not show: save it without "
            "transparency"
        )


def translate_label(
    label: np.ndarray, path: str, *, num_classes: int | None, ignore_label: int, ignore_value: int
) -> np.ndarray:
    """Replace the file's `ignore_label` by the model's `ignore_value`.

    Args:
        label: ids as read, (H, W)
        path: the file, for the error
        num_classes: if given, ids are checked: each is below it or is `ignore_label`
        ignore_label: the value in the file
        ignore_value: the value that the model skips

    Returns:
        (H, W), uint8 where every value fits, else int32.

    Raises:
        ValueError: a value is neither a class nor `ignore_label`, or `ignore_value` is a class.
    """
    ignored = label == ignore_label
    if num_classes is not None:
        if 0 <= ignore_value < num_classes:
            raise ValueError(
                f"ignore_value {ignore_value} is one of the {num_classes} classes of {path!r}: "
                "it must not be a class id"
            )
        wrong = np.unique(label[((label < 0) | (label >= num_classes)) & ~ignored])
        if wrong.size:
            raise ValueError(
                f"label {path!r} holds {join_some(wrong, _NAMED)}: allowed are "
                f"the {num_classes} classes 0..{num_classes - 1} and {ignore_label} (ignore)"
            )
    if label.dtype != np.uint8 or not 0 <= ignore_value <= 255:
        label = label.astype(np.int32)
    if ignore_label != ignore_value:
        label = np.where(ignored, label.dtype.type(ignore_value), label)
    if 0 <= ignore_value <= 255 and label.min(initial=0) >= 0 and label.max(initial=0) <= 255:
        label = label.astype(np.uint8)
    return label


def check_label_size(label: np.ndarray, path: str, image: np.ndarray, image_path: str) -> None:
    """Raise a ``SizeMismatchError`` unless a label (H, W) has its image's size."""
    if label.shape != image.shape[:2]:
        raise SizeMismatchError(
            f"label {path!r} has (height, width) {label.shape}, but its image {image_path!r} has "
            f"{image.shape[:2]}"
        )


class LabelAugInput(T.AugInput):
    """Detectron2's AugInput whose labels may have more than 8 bits, and are ignored outside.

    What a rotation or an extent shows from outside the picture gets the label to ignore, where
    Detectron2 has class 0.

    Args:
        image, sem_seg: of ``AugInput``, uint8 (H, W, 3) and integers (H, W).
        ignore_value: label of pixels that do not count.
    """

    def __init__(
        self, image: np.ndarray, *, sem_seg: np.ndarray | None = None, ignore_value: int = 255
    ) -> None:
        super().__init__(image, sem_seg=sem_seg)
        self._ignore_value = ignore_value

    def transform(self, tfm: Transform) -> None:
        """Apply a transform in place, to the image and to the label."""
        label, self.sem_seg = self.sem_seg, None
        super().transform(tfm)
        if label is not None:
            self.sem_seg = _transform_label(tfm, label, self._ignore_value)


# Transforms that show nothing from outside, or fill it with a label of their own.
_INSIDE = (
    *(T.CropTransform, T.HFlipTransform, T.VFlipTransform, T.NoOpTransform, T.PadTransform),
    *(T.BlendTransform, T.ColorTransform, T.ResizeTransform),
)


def _transform_label(tfm: Transform, label: np.ndarray, ignore_value: int) -> np.ndarray:
    if isinstance(tfm, TransformList):
        for each in tfm.transforms:
            label = _transform_label(each, label, ignore_value)
        return label
    if isinstance(tfm, T.ResizeTransform) and label.dtype != np.uint8:
        # ResizeTransform itself would sample other depths at the pixels' corners, off the image.
        size = (tfm.new_w, tfm.new_h)
        return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    if isinstance(tfm, _INSIDE):
        return tfm.apply_segmentation(label)
    if isinstance(tfm, T.ExtentTransform):  # which itself would blend labels
        tfm = T.ExtentTransform(tfm.src_rect, tfm.output_size, Image.Resampling.NEAREST)
    inside = tfm.apply_segmentation(np.ones(label.shape, np.uint8)) == 1
    # OpenCV does not rotate whole numbers of 32 bits; these are exact.
    exact = label if label.dtype == np.uint8 else label.astype(np.float32)
    moved = tfm.apply_segmentation(exact).astype(label.dtype)
    return np.where(inside, moved, label.dtype.type(ignore_value))
