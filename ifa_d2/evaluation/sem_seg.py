"""Semantic segmentation metrics over a data set."""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..data import read_record_label
from ..data.labels import translate_label
from ..metrics import SegmentationMetrics
from .calibration import Reliability
from .picture_counts import PICTURE_COUNTS, PictureCounts, nonzero_counts
from .predictions import check_logits, label_dtype, predicted_labels
from .report import write_confusion, write_json, write_reliability

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
    - with ``calibration_bins``, ``ECE``, the expected calibration error (Guo et al. 2017,
      https://arxiv.org/abs/1706.04599): how far the probability of the most likely class is from
      the share of pixels that are right, averaged over bins of that probability;
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
        calibration_bins: int = 0,
        picture_counts: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: a registered data set with ``stuff_classes`` and ``ignore_label``.
            distributed: add up the counts of all processes.
            output_dir: where to write ``sem_seg_evaluation.json`` and
                ``confusion_matrix.{json,csv,png}``, and with ``calibration_bins``
                ``reliability.png``; None or empty writes nothing.
            boundary_widths: distances from a contour up to which boundary IoU looks: whole pixels,
                or below 1 shares of the picture's diagonal. Without any, it is not computed.
            trimap_widths: likewise, the widths of the bands around boundaries of trimap metrics.
            count_predicted_only: a class that is predicted but in no label counts as 0 in mIoU, as
                in the Cityscapes benchmark. False leaves it out, as Detectron2's
                ``SemSegEvaluator`` does. None is True for data sets of Cityscapes' evaluator type.
            f1_classes: names of thin classes that get precision, recall and F1 with a tolerance.
            f1_tolerance: in pixels, in a straight line.
            calibration_bins: bins of equal width of the expected calibration error, 15 as a rule;
                0 computes none. It needs a model that gives logits.
            picture_counts: also write each picture's counts to ``picture_counts.npz``, of which
                ``tools/compare_runs.py`` makes intervals.

        Raises:
            ValueError: a data set without classes, an invalid width, an unknown class, a negative
                tolerance or number of bins, or ``picture_counts`` without ``output_dir``.
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
        self._ignore_label: int = metadata.ignore_label
        self._label_table = metadata.get("label_table")
        if count_predicted_only is None:
            count_predicted_only = metadata.get("evaluator_type") == "cityscapes_sem_seg"
        classes = list(metadata.stuff_classes)
        self.metrics = SegmentationMetrics(
            classes,
            len(classes),  # of labels as they are read here
            boundary_widths=boundary_widths,
            trimap_widths=trimap_widths,
            count_predicted_only=count_predicted_only,
            f1_classes=f1_classes,
            f1_tolerance=f1_tolerance,
        )
        if calibration_bins < 0:
            raise ValueError(f"calibration_bins must be 0 or more, got {calibration_bins}")
        self._calibration_bins = calibration_bins
        if picture_counts and not output_dir:
            raise ValueError("picture_counts are written to output_dir, which is not given")
        self._picture_counts = picture_counts
        self.conditions: dict[str, Any] = {}
        self.reset()

    @property
    def output_file(self) -> Path | None:
        """Path of ``sem_seg_evaluation.json``; None where nothing is written."""
        return Path(self._output_dir, EVALUATION) if self._output_dir else None

    @property
    def needs_logits(self) -> bool:
        """Whether labels alone cannot be evaluated."""
        return self._calibration_bins > 0

    def reset(self) -> None:
        """Reset the counts."""
        self.metrics.reset()
        self._confidences = np.zeros((3, self._calibration_bins), np.int64)
        self._num_unlabelled = 0
        self._pictures: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # if they are asked for

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
                the data set's, a label of another size than the prediction, a label or a
                prediction with an id that is no class, or labels where ``calibration_bins`` needs
                logits. The message names the file.
        """
        for one, output in zip(inputs, outputs, strict=True):
            record = self._labelled_record(one)
            if record is None:
                self._num_unlabelled += 1
                continue
            sem_seg, source = output["sem_seg"], one["file_name"]
            if self.needs_logits:
                check_logits(sem_seg, self.metrics.num_classes, source, "calibration_bins")
            prediction = predicted_labels(sem_seg, self.metrics.num_classes, source)
            label = self._read_label(record, prediction.shape)
            if self.needs_logits:
                bins = self._calibration_bins
                self._confidences += Reliability.of(sem_seg, label, prediction, bins).counts
            counts = self.metrics.update(label, prediction)
            if self._picture_counts:
                self._pictures[source] = nonzero_counts(counts)

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
        if record is None and (self._labelled_records or self.metrics.num_pictures):
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
            num_classes=self.metrics.num_classes,
            ignore_label=self._ignore_label,
            ignore_value=self.metrics.num_classes,
        )
        return label.astype(label_dtype(self.metrics.num_classes), copy=False)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Compute the metrics; None but on the main process, {} for images without labels.

        Called by all processes together.

        Raises:
            ValueError: some images had a label, others none.
        """
        part = self.metrics.counts, self._confidences, self._num_unlabelled, self._pictures
        parts = [part]
        if self._distributed:
            parts = comm.gather(part)
            if not comm.is_main_process():
                return None
        counts, confidences, unlabelled, pictures = zip(*parts, strict=True)
        total, num_unlabelled = self.metrics.of_all(counts), sum(unlabelled)
        if total.num_pictures and num_unlabelled:
            raise ValueError(
                f"{self._dataset_name} has no label for {num_unlabelled} of "
                f"{total.num_pictures + num_unlabelled} images"
            )
        if num_unlabelled:
            _logger.warning(
                f"{self._dataset_name}: none of its records has a label, so there are no metrics"
            )
            return OrderedDict()
        self._log_left_out(total)
        figures = total.compute()
        reliability = Reliability(sum(confidences)) if self.needs_logits else None
        if reliability is not None:
            figures["ECE"] = 100 * reliability.error
        if self._output_dir:
            self._write(total, figures, reliability)
        if self._picture_counts and total.num_pictures:
            found = {name: one for each in pictures for name, one in each.items()}
            PictureCounts.of(total, found).write(Path(self._output_dir, PICTURE_COUNTS))
        return OrderedDict(sem_seg=figures)

    def _names(self, chosen: np.ndarray) -> list[str]:
        pairs = zip(self.metrics.class_names, chosen, strict=True)
        return [name for name, is_one in pairs if is_one]

    def _log_left_out(self, metrics: SegmentationMetrics) -> None:
        whole = metrics.whole
        absent, predicted_only = self._names(whole.absent), self._names(whole.predicted_only)
        if not whole.labelled.any():
            _logger.warning(f"{self._dataset_name}: no pixel has a label, so there are no metrics")
        elif absent:
            _logger.info(
                f"{self._dataset_name}: left out of the means, in no label and no prediction: "
                f"{', '.join(absent)}"
            )
        if whole.labelled.any() and predicted_only:
            done = "counted as IoU 0" if metrics.count_predicted_only else "left out of mIoU"
            _logger.info(
                f"{self._dataset_name}: {done}, predicted but in no label: "
                f"{', '.join(predicted_only)}"
            )

    def _write(
        self,
        metrics: SegmentationMetrics,
        figures: Mapping[str, float],
        reliability: Reliability | None,
    ) -> None:
        content = {
            "dataset": self._dataset_name,
            **self.conditions,
            "images": metrics.num_pictures,
            "figures": {key: value for key, value in figures.items() if "-" not in key},
            "classes": metrics.class_rows(),
            "absent_classes": self._names(metrics.whole.absent),
            "predicted_only_classes": self._names(metrics.whole.predicted_only),
            "predicted_only_classes_count_in_miou": metrics.count_predicted_only,
        }
        if reliability is not None:
            content["reliability"] = reliability.rows()
            write_reliability(self._output_dir, reliability, self._dataset_name)
        write_json(self.output_file, content)
        write_confusion(
            self._output_dir, metrics.confusion[:-1, :-1], metrics.class_names, self._dataset_name
        )
