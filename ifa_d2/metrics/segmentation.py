"""Metrics of semantic segmentation over many pictures.

Shape legend: K classes, H x W pixels of a picture.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .boundary import BoundaryCounter, Width
from .confusion import Figures, confusion_figures, count_pairs, mean_of_known, union_figures
from .tolerance import near_counts, tolerant_figures


class SegmentationMetrics:
    """Counts over pictures, and the metrics of all of them.

    Those of several processes are :meth:`of_all` their counts.

    Args:
        class_names: of the K classes.
        ignore_label: the value of a label where a pixel does not count.
        boundary_widths: distances from a contour up to which boundary IoU looks: whole pixels, or
            below 1 shares of the picture's diagonal. Without any, it is not computed.
        trimap_widths: likewise, the widths of the bands around boundaries of trimap metrics.
        count_predicted_only: a class that is predicted but in no label counts as 0 in mIoU, as in
            the Cityscapes benchmark; False leaves it out.
        f1_classes: names of thin classes that get precision, recall and F1 with a tolerance.
        f1_tolerance: in pixels, in a straight line.

    Attributes:
        counts: arrays of int64, to which the pictures are added: confusion matrices (1 + widths,
            K + 1, K + 1), the whole picture's, then those of each boundary width and of each trimap
            width; (classes of F1, 4), see :func:`ifa_d2.metrics.tolerance.near_counts`; pictures.
            With more axes before, (*R, ...), :meth:`compute` gives arrays (*R).

    Raises:
        ValueError: no classes, an ignored label that is a class, an invalid width, an unknown
            class, or a negative tolerance.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        ignore_label: int = 255,
        *,
        boundary_widths: Sequence[int | float] = (0.005, 0.02),
        trimap_widths: Sequence[int | float] = (1, 3, 9),
        count_predicted_only: bool = False,
        f1_classes: Sequence[str] = (),
        f1_tolerance: int = 2,
    ) -> None:
        self.class_names = list(class_names)
        if not self.class_names:
            raise ValueError("class_names must have one name or more, got none")
        if 0 <= ignore_label < self.num_classes:
            raise ValueError(
                f"ignore_label must be none of the {self.num_classes} classes, got {ignore_label}"
            )
        self.ignore_label = ignore_label
        self.boundary_widths = Width.parse("boundary_widths", boundary_widths)
        self.trimap_widths = Width.parse("trimap_widths", trimap_widths)
        self.count_predicted_only = count_predicted_only
        unknown = [name for name in f1_classes if name not in self.class_names]
        if unknown:
            raise ValueError(f"f1_classes must be of {self.class_names}, got {unknown}")
        if f1_tolerance < 0:
            raise ValueError(f"f1_tolerance must be 0 pixels or more, got {f1_tolerance}")
        self.f1_classes = [self.class_names.index(name) for name in f1_classes]
        self.f1_tolerance = f1_tolerance
        self.reset()

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that make the same metrics, of plain types."""
        return {
            "class_names": self.class_names,
            "ignore_label": self.ignore_label,
            "boundary_widths": [width.value for width in self.boundary_widths],
            "trimap_widths": [width.value for width in self.trimap_widths],
            "count_predicted_only": self.count_predicted_only,
            "f1_classes": [self.class_names[index] for index in self.f1_classes],
            "f1_tolerance": self.f1_tolerance,
        }

    def reset(self) -> None:
        """Reset the counts."""
        measures = 1 + len(self.boundary_widths) + len(self.trimap_widths)
        side = self.num_classes + 1
        matrices = np.zeros((measures, side, side), np.int64)
        near = np.zeros((len(self.f1_classes), 4), np.int64)
        self.counts = [matrices, near, np.zeros((), np.int64)]

    def update(self, label: np.ndarray, prediction: np.ndarray) -> list[np.ndarray]:
        """Count the pixels of a picture.

        Args:
            label: (H, W) integers, classes and ``ignore_label``.
            prediction: (H, W) integers, classes.

        Returns:
            What was added to :attr:`counts`: the picture's own.

        Raises:
            ValueError: other shapes or types, or a value that is no class.
        """
        label, prediction = self._checked(label, prediction)
        near = [
            near_counts(label, prediction, self.num_classes, chosen, self.f1_tolerance)
            for chosen in self.f1_classes
        ]
        found = [
            np.stack(list(self._count(label, prediction))),
            np.array(near, np.int64).reshape(-1, 4),
            np.ones((), np.int64),
        ]
        for total, more in zip(self.counts, found, strict=True):
            total += more
        return found

    def _checked(self, label: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both as the smallest type; ignored pixels have K."""
        for name, values in (("label", label), ("prediction", prediction)):
            if values.ndim != 2 or values.dtype.kind not in "iu" or 0 in values.shape:
                raise ValueError(
                    f"{name} must be (H, W) integers, got {values.shape} {values.dtype}"
                )
        if label.shape != prediction.shape:
            raise ValueError(
                f"label and prediction must be of one shape, got {label.shape} and "
                f"{prediction.shape}"
            )
        allowed = f"a class of 0 to {self.num_classes - 1}"
        ignored = label == self.ignore_label
        for name, values, known in (
            ("label", label, ~ignored),
            ("prediction", prediction, np.ones((), bool)),
        ):
            wrong = known & ((values < 0) | (values >= self.num_classes))
            if wrong.any():
                y, x = np.argwhere(wrong)[0]
                more = f", or ignore_label {self.ignore_label}" if name == "label" else ""
                raise ValueError(
                    f"{name} must hold {allowed}{more}, got {values[y, x]} at (y, x) = ({y}, {x})"
                )
        dtype = np.min_scalar_type(self.num_classes)
        return (
            np.where(ignored, self.num_classes, label).astype(dtype),
            prediction.astype(dtype, copy=False),
        )

    def _count(self, label: np.ndarray, prediction: np.ndarray) -> Iterator[np.ndarray]:
        """Count the confusion matrix of each measure."""
        yield count_pairs(label, prediction, self.num_classes)
        if self.boundary_widths or self.trimap_widths:
            counter = BoundaryCounter(label, prediction, self.num_classes)
            yield from map(counter.boundary, self.boundary_widths)
            yield from map(counter.trimap, self.trimap_widths)

    def of_all(self, parts: Sequence[Sequence[np.ndarray]]) -> "SegmentationMetrics":
        """Return the same metrics of :attr:`counts` that were added up, as of several processes."""
        total = copy.copy(self)
        total.counts = [sum(arrays) for arrays in zip(*parts, strict=True)]
        return total

    @property
    def num_pictures(self) -> int:
        """Pictures that were counted."""
        return int(self.counts[2])

    @property
    def confusion(self) -> np.ndarray:
        """Confusion matrix (K + 1, K + 1), see :mod:`ifa_d2.metrics.confusion`; a copy."""
        return self._matrices(0).copy()

    def _matrices(self, index: int) -> np.ndarray:
        return self.counts[0][..., index, :, :]

    @property
    def whole(self) -> Figures:
        """Metrics of whole pictures, from 0 to 1."""
        return confusion_figures(self._matrices(0), count_predicted_only=self.count_predicted_only)

    def compute(self) -> dict[str, float | np.ndarray]:
        """Compute the metrics in percent, by Detectron2's names.

        Those of :class:`ifa_d2.evaluation.SemSegEvaluator`, without calibration. What was left out
        is NaN.
        """
        return self._whole_percent() | self._boundary_percent() | self._tolerant_percent()

    def _whole_percent(self) -> dict[str, float | np.ndarray]:
        whole = self.whole
        return {
            "mIoU": 100 * whole.miou,
            "fwIoU": 100 * whole.fwiou,
            **self._by_class("IoU", whole.iou),
            "mACC": 100 * whole.macc,
            "pACC": 100 * whole.pacc,
            **self._by_class("ACC", whole.recall),
            "mPrecision": 100 * mean_of_known(whole.precision),
            **self._by_class("Precision", whole.precision),
            "absent_classes": whole.absent.sum(axis=-1, dtype=float),
            "predicted_only_classes": whole.predicted_only.sum(axis=-1, dtype=float),
        }

    def _by_class(self, prefix: str, values: np.ndarray) -> dict[str, float | np.ndarray]:
        pairs = zip(self.class_names, np.moveaxis(values, -1, 0), strict=True)
        return {f"{prefix}-{name}": 100 * value for name, value in pairs}

    def _boundary_percent(self) -> dict[str, float | np.ndarray]:
        """Metrics near boundaries, in the order of the widths."""
        figures: dict[str, float | np.ndarray] = {}
        counted = ~np.isnan(self.whole.iou)
        for index, width in enumerate(self.boundary_widths, 1):
            iou = union_figures(self._matrices(index), counted)
            figures[f"mBoundaryIoU_{width.name}"] = 100 * mean_of_known(iou)
            figures |= self._by_class(f"BoundaryIoU_{width.name}", iou)
        for index, width in enumerate(self.trimap_widths, 1 + len(self.boundary_widths)):
            matrices = self._matrices(index)
            near = confusion_figures(matrices, count_predicted_only=self.count_predicted_only)
            figures[f"trimap_mIoU_{width.name}"] = 100 * near.miou
            figures[f"trimap_pACC_{width.name}"] = 100 * near.pacc
        return figures

    def _tolerant_percent(self) -> dict[str, float | np.ndarray]:
        """Metrics with a tolerance, for the classes that have them."""
        return {
            f"{kind}_{self.f1_tolerance}px-{self.class_names[chosen]}": value
            for index, chosen in enumerate(self.f1_classes)
            for kind, value in tolerant_figures(self.counts[1][..., index, :]).items()
        }

    def class_rows(self) -> list[dict[str, Any]]:
        """Metrics of each class in percent, and its pixels, of plain types."""
        figures, whole, tolerance = self.compute(), self.whole, f"{self.f1_tolerance}px"
        return [
            {
                "class": name,
                "iou": figures[f"IoU-{name}"],
                "precision": figures[f"Precision-{name}"],
                "recall": figures[f"ACC-{name}"],
                "boundary_iou": {
                    width.name: figures[f"BoundaryIoU_{width.name}-{name}"]
                    for width in self.boundary_widths
                },
                **{
                    f"{kind.lower()}_{tolerance}": figures[f"{kind}_{tolerance}-{name}"]
                    for kind in (("Precision", "Recall", "F1") if index in self.f1_classes else ())
                },
                "labelled_pixels": int(whole.labelled[index]),
                "predicted_pixels": int(whole.predicted[index]),
            }
            for index, name in enumerate(self.class_names)
        ]
