"""Label files, read and transformed with their ids as they are."""

import numpy as np
from detectron2.data import transforms as T
from detectron2.utils.file_io import PathManager
from fvcore.transforms.transform import Transform, TransformList
from PIL import Image

# One number a pixel: bilevel, 8-bit grey, palette, and what Pillow makes of 16-bit grey.
_LABEL_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N", "I")
_NAMED = 8  # how many values an error lists


def read_label(path: str) -> np.ndarray:
    """Read a label file's ids, (H, W), uint8 where they fit and int32 otherwise.

    Palette images give their indices. No EXIF orientation is applied, as evaluators apply none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds colours instead of ids.
    """
    try:
        with PathManager.open(path, "rb") as file, Image.open(file) as image:
            mode, label = image.mode, np.array(image)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow raises anything from SyntaxError to zlib.error
        raise ValueError(f"cannot read the label {path!r}: {plain_reason(error, path)}") from error
    if mode not in _LABEL_MODES:
        raise ValueError(
            f"label {path!r} holds colours (mode {mode}), not class ids: it must have one "
            "channel, 8-bit or 16-bit grey or with a palette"
        )
    return label.astype(np.int32 if label.dtype.itemsize > 1 else np.uint8)


def plain_reason(error: Exception, path: str) -> str:
    """What an error says of a file, without the file: who reports it names that."""
    text = str(error).replace(f" <_io.BufferedReader name={path!r}>", "")
    return text.replace(f" {path!r}", "").rstrip(":")


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
            values = ", ".join(str(value) for value in wrong[:_NAMED])
            values += ", ..." if wrong.size > _NAMED else ""
            raise ValueError(
                f"label {path!r} holds {values}: allowed are "
                f"the {num_classes} classes 0..{num_classes - 1} and {ignore_label} (ignore)"
            )
    if label.dtype != np.uint8 or not 0 <= ignore_value <= 255:
        label = label.astype(np.int32)
    if ignore_label != ignore_value:
        label = np.where(ignored, label.dtype.type(ignore_value), label)
    if 0 <= ignore_value <= 255 and label.min(initial=0) >= 0 and label.max(initial=0) <= 255:
        label = label.astype(np.uint8)
    return label


class LabelAugInput(T.AugInput):
    """Detectron2's AugInput whose labels may have more than 8 bits."""

    def transform(self, tfm: Transform) -> None:
        """Apply a transform in place, to the image and to the label."""
        label, self.sem_seg = self.sem_seg, None
        super().transform(tfm)
        if label is not None:
            self.sem_seg = _transform_label(tfm, label)


def _transform_label(tfm: Transform, label: np.ndarray) -> np.ndarray:
    if isinstance(tfm, TransformList):
        for each in tfm.transforms:
            label = _transform_label(each, label)
        return label
    if isinstance(tfm, T.ResizeTransform) and label.dtype != np.uint8:
        # ResizeTransform itself would sample other depths at the pixels' corners, off the image.
        size = (tfm.new_w, tfm.new_h)
        return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    return tfm.apply_segmentation(label)
