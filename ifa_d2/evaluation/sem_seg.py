"""Semantic segmentation metrics over a data set."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..data import read_record_label
from ..data.labels import translate_label
from .boundary import BoundaryCounter, Width
from .confusion import Figures, confusion_figures, count_pairs, mean_of_known, union_figures
from .predictions import label_dtype, predicted_labels
from .report import write_confusion, write_json
from .tolerance import near_counts, tolerant_figures

_logger = logging.getLogger(__name__)
EVALUATION = "sem_seg_evaluation.json"


class SemSegEvaluator(DatasetEvaluator):
    """Count confusion matrices over a data set, and compute their metrics.

    ``evaluate()["sem_seg"]`` holds, in percent and under Detectron2's names, ``mIoU``, ``fwIoU``,
    ``mACC``, ``pACC``, ``IoU-<class>`` and ``ACC-<class>``, which is the class's recall, and
    besides them

    - ``Precision-<class>`` and ``mPrecision``;
    - ``BoundaryIoU_<width>-<class>`` and ``mBoundaryIoU_<width>``, each class's own mask compared
      near its contours (Cheng et al. 2021, https://arxiv.org/abs/2103.16562);
    - of the classes that are chosen, ``F1_<tolerance>px-<class>``, ``Precision_...`` and
      ``Recall_...``, for which a pixel counts that is at most the tolerance away from a right one;
    - ``trimap_mIoU_<width>`` and ``trimap_pACC_<width>``, over the pixels near another label;
    - ``absent_classes``, how many classes neither labels nor predictions have, and
      ``predicted_only_classes``, how many are predicted but in no label. Means leave out the former
      always, and the latter as ``count_predicted_only`` says.

    A <width> is as "3px", or "0.5pct" of the diagonal. A class that is left out has NaN. A label
    file or a prediction that holds something else than a class is an error.

    Of a data set whose records have no labels, as a server's test set, there are no metrics:
    ``evaluate()`` is empty, and nothing is written.

    Attributes:
        conditions: more to write into ``sem_seg_evaluation.json``, in plain types, such as the
            weights.
    """

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        boundary_widths: Sequence[int | float] = (0.005, 0.02),
        trimap_widths: Sequence[int | float] = (1, 3, 9),
        count_predicted_only: bool | None = None,
        f1_classes: Sequence[str] = (),
        f1_tolerance: int = 2,
    ) -> None:
        """
        Args:
            dataset_name: a registered data set with ``stuff_classes`` and ``ignore_label``.
            distributed: add up the counts of all processes.
            output_dir: where to write ``sem_seg_evaluation.json`` and
                ``confusion_matrix.{json,csv,png}``; None or empty writes nothing.
            boundary_widths: distances from a contour up to which boundary IoU looks: whole pixels,
                or below 1 shares of the picture's diagonal. Without any, it is not computed.
            trimap_widths: likewise, the widths of the bands around boundaries of trimap metrics.
            count_predicted_only: a class that is predicted but in no label counts as 0 in mIoU, as
                in the Cityscapes benchmark. False leaves it out, as Detectron2's
                ``SemSegEvaluator`` does. None is True for data sets of Cityscapes' evaluator type.
            f1_classes: names of thin classes that get precision, recall and F1 with a tolerance.
            f1_tolerance: in pixels, in a straight line.

        Raises:
            ValueError: a data set without classes, an invalid width, an unknown class or a
                negative tolerance.
        """
        metadata = MetadataCatalog.get(dataset_name)
        if not (hasattr(metadata, "stuff_classes") and hasattr(metadata, "ignore_label")):
            raise ValueError(
                "dataset_name must be a registered data set with stuff_classes and ignore_label, "
                f"got {dataset_name!r}"
            )
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._output_dir = output_dir
        self._class_names: list[str] = list(metadata.stuff_classes)
        self._num_classes = len(self._class_names)
        self._ignore_label: int = metadata.ignore_label
        self._label_table = metadata.get("label_table")
        self._boundary_widths = Width.parse("boundary_widths", boundary_widths)
        self._trimap_widths = Width.parse("trimap_widths", trimap_widths)
        if count_predicted_only is None:
            count_predicted_only = metadata.get("evaluator_type") == "cityscapes_sem_seg"
        self._count_predicted_only = count_predicted_only
        unknown = [name for name in f1_classes if name not in self._class_names]
        if unknown:
            raise ValueError(f"f1_classes must be of {self._class_names}, got {unknown}")
        if f1_tolerance < 0:
            raise ValueError(f"f1_tolerance must be 0 pixels or more, got {f1_tolerance}")
        self._f1_classes = [self._class_names.index(name) for name in f1_classes]
        self._f1_tolerance = f1_tolerance
        self.conditions: dict[str, Any] = {}
        self.reset()

    @property
    def output_file(self) -> Path | None:
        """Path of ``sem_seg_evaluation.json``; None where nothing is written."""
        return Path(self._output_dir, EVALUATION) if self._output_dir else None

    @property
    def confusion(self) -> np.ndarray:
        """Confusion matrix (K + 1, K + 1) of what this process was given, see :mod:`.confusion`."""
        return self._counts[0].copy()

    def reset(self) -> None:
        """Reset the counts."""
        measures = 1 + len(self._boundary_widths) + len(self._trimap_widths)
        side = self._num_classes + 1
        # The whole picture's, then one for each boundary width, then one for each trimap width.
        self._counts = np.zeros((measures, side, side), np.int64)
        self._near = np.zeros((len(self._f1_classes), 4), np.int64)
        self._num_images = 0
        self._num_unlabelled = 0

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Count the pixels of some images.

        Args:
            inputs: with ``file_name``, and ``sem_seg_file_name`` unless the data set knows it.
            outputs: with ``sem_seg``, logits (K, H, W) or labels (H, W) at the label's size.

        Raises:
            FileNotFoundError: there is no label file.
            ValueError: an image without label where others have one, another number of classes than
                the data set's, a label of another size than the prediction, or a label or a
                prediction with an id that is no class. The message names the file.
        """
        for one, output in zip(inputs, outputs, strict=True):
            record = self._labelled_record(one)
            if record is None:
                self._num_unlabelled += 1
                continue
            prediction = predicted_labels(output["sem_seg"], self._num_classes, one["file_name"])
            label = self._read_label(record, prediction.shape)
            for counts, found in zip(self._counts, self._count(label, prediction), strict=True):
                counts += found
            for counts, chosen in zip(self._near, self._f1_classes, strict=True):
                counts += near_counts(
                    label, prediction, self._num_classes, chosen, self._f1_tolerance
                )
            self._num_images += 1

    def _count(self, label: np.ndarray, prediction: np.ndarray) -> Iterator[np.ndarray]:
        """Count the confusion matrix of each measure."""
        yield count_pairs(label, prediction, self._num_classes)
        if self._boundary_widths or self._trimap_widths:
            counter = BoundaryCounter(label, prediction, self._num_classes)
            yield from map(counter.boundary, self._boundary_widths)
            yield from map(counter.trimap, self._trimap_widths)

    @cached_property
    def _labelled_records(self) -> dict[str, Mapping[str, Any]]:
        """Records by image, for images that have a label."""
        records = DatasetCatalog.get(self._dataset_name)
        return {one["file_name"]: one for one in records if one.get("sem_seg_file_name")}

    def _labelled_record(self, one: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Record with the label of an image; None for a data set without labels."""
        if one.get("sem_seg_file_name"):
            return one
        record = self._labelled_records.get(one["file_name"])
        if record is None and (self._labelled_records or self._num_images):
            raise ValueError(f"{self._dataset_name} has no label for {one['file_name']!r}")
        return record

    def _read_label(self, record: Mapping[str, Any], size: tuple[int, ...]) -> np.ndarray:
        """Read (H, W) classes; ignored pixels get the number of classes."""
        path = record["sem_seg_file_name"]
        label = read_record_label(record, table=self._label_table)
        if label.shape != size:
            raise ValueError(
                f"label {path!r} has (height, width) {label.shape}, but the prediction {size}"
            )
        label = translate_label(
            label,
            path,
            num_classes=self._num_classes,
            ignore_label=self._ignore_label,
            ignore_value=self._num_classes,
        )
        return label.astype(label_dtype(self._num_classes), copy=False)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Compute the metrics; None but on the main process, {} for images without labels.

        Called by all processes together.

        Raises:
            ValueError: some images had a label, others none.
        """
        part = self._counts, self._near, self._num_images, self._num_unlabelled
        if self._distributed:
            parts = comm.gather(part)
            if not comm.is_main_process():
                return None
            part = (sum(counted) for counted in zip(*parts, strict=True))
        counts, near, num_images, num_unlabelled = part
        if num_images and num_unlabelled:
            raise ValueError(
                f"{self._dataset_name} has no label for {num_unlabelled} of "
                f"{num_images + num_unlabelled} images"
            )
        if num_unlabelled:
            _logger.warning(
                f"{self._dataset_name}: none of its records has a label, so there are no metrics"
            )
            return OrderedDict()
        whole = confusion_figures(counts[0], count_predicted_only=self._count_predicted_only)
        self._log_left_out(whole)
        figures = self._percent(whole) | self._boundary_percent(counts[1:], whole)
        figures |= self._tolerant_percent(near)
        if self._output_dir:
            self._write(counts[0], num_images, whole, figures)
        return OrderedDict(sem_seg=figures)

    def _percent(self, whole: Figures) -> dict[str, float]:
        """Metrics of whole pictures, in Detectron2's order and by its names."""

        def by_class(prefix: str, values: np.ndarray) -> dict[str, float]:
            return self._by_class(prefix, values)

        return {
            "mIoU": 100 * whole.miou,
            "fwIoU": 100 * whole.fwiou,
            **by_class("IoU", whole.iou),
            "mACC": 100 * whole.macc,
            "pACC": 100 * whole.pacc,
            **by_class("ACC", whole.recall),
            "mPrecision": 100 * mean_of_known(whole.precision),
            **by_class("Precision", whole.precision),
            "absent_classes": float(whole.absent.sum()),
            "predicted_only_classes": float(whole.predicted_only.sum()),
        }

    def _by_class(self, prefix: str, values: np.ndarray) -> dict[str, float]:
        pairs = zip(self._class_names, values, strict=True)
        return {f"{prefix}-{name}": 100 * float(value) for name, value in pairs}

    def _boundary_percent(self, counts: np.ndarray, whole: Figures) -> dict[str, float]:
        """Metrics near boundaries, from matrices in the order of the widths."""
        figures: dict[str, float] = {}
        counted = ~np.isnan(whole.iou)
        for width, matrix in zip(self._boundary_widths, counts, strict=False):
            iou = union_figures(matrix, counted)
            figures[f"mBoundaryIoU_{width.name}"] = 100 * mean_of_known(iou)
            figures |= self._by_class(f"BoundaryIoU_{width.name}", iou)
        trimaps = counts[len(self._boundary_widths) :]
        for width, matrix in zip(self._trimap_widths, trimaps, strict=True):
            near = confusion_figures(matrix, count_predicted_only=self._count_predicted_only)
            figures[f"trimap_mIoU_{width.name}"] = 100 * near.miou
            figures[f"trimap_pACC_{width.name}"] = 100 * near.pacc
        return figures

    def _tolerant_percent(self, near: np.ndarray) -> dict[str, float]:
        """Metrics with a tolerance, for the classes that have them."""
        return {
            f"{kind}_{self._f1_tolerance}px-{self._class_names[chosen]}": value
            for chosen, counts in zip(self._f1_classes, near, strict=True)
            for kind, value in tolerant_figures(counts).items()
        }

    def _names(self, chosen: np.ndarray) -> list[str]:
        return [name for name, is_one in zip(self._class_names, chosen, strict=True) if is_one]

    def _log_left_out(self, whole: Figures) -> None:
        absent, predicted_only = self._names(whole.absent), self._names(whole.predicted_only)
        if not whole.labelled.any():
            _logger.warning(f"{self._dataset_name}: no pixel has a label, so there are no metrics")
        elif absent:
            _logger.info(
                f"{self._dataset_name}: left out of the means, in no label and no prediction: "
                f"{', '.join(absent)}"
            )
        if whole.labelled.any() and predicted_only:
            done = "counted as IoU 0" if self._count_predicted_only else "left out of mIoU"
            _logger.info(
                f"{self._dataset_name}: {done}, predicted but in no label: "
                f"{', '.join(predicted_only)}"
            )

    def _write(
        self, counts: np.ndarray, num_images: int, whole: Figures, figures: Mapping[str, float]
    ) -> None:
        classes = [
            {
                "class": name,
                "iou": figures[f"IoU-{name}"],
                "precision": figures[f"Precision-{name}"],
                "recall": figures[f"ACC-{name}"],
                "boundary_iou": {
                    width.name: figures[f"BoundaryIoU_{width.name}-{name}"]
                    for width in self._boundary_widths
                },
                **{
                    f"{kind.lower()}_{self._f1_tolerance}px": figures[
                        f"{kind}_{self._f1_tolerance}px-{name}"
                    ]
                    for kind in (("Precision", "Recall", "F1") if index in self._f1_classes else ())
                },
                "labelled_pixels": int(whole.labelled[index]),
                "predicted_pixels": int(whole.predicted[index]),
            }
            for index, name in enumerate(self._class_names)
        ]
        content = {
            "dataset": self._dataset_name,
            **self.conditions,
            "images": num_images,
            "figures": {key: value for key, value in figures.items() if "-" not in key},
            "classes": classes,
            "absent_classes": self._names(whole.absent),
            "predicted_only_classes": self._names(whole.predicted_only),
            "predicted_only_classes_count_in_miou": self._count_predicted_only,
        }
        write_json(self.output_file, content)
        write_confusion(self._output_dir, counts[:-1, :-1], self._class_names, self._dataset_name)
