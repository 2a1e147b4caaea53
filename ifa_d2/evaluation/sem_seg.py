"""Mean IoU by Detectron2's evaluator, with its input checked."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.evaluation import SemSegEvaluator as Detectron2SemSegEvaluator
from tabulate import tabulate
from torch import Tensor

from ..data import read_label


class SemSegEvaluator(Detectron2SemSegEvaluator):
    """Detectron2's ``SemSegEvaluator`` that reads label files as the mapper does and checks them.

    Detectron2's takes a label that is neither a class nor to be ignored for a wrong prediction of
    some other class, without a word, and its boundary IoU is wrong where pixels are ignored; that
    figure is left out here.
    """

    def __init__(
        self, dataset_name: str, distributed: bool = True, output_dir: str | None = None
    ) -> None:
        """
        Args:
            dataset_name: a registered data set with ``stuff_classes`` and ``ignore_label``.
            distributed: add up the counts of all processes.
            output_dir: where to write the predictions, as run lengths, and the figures; None
                writes nothing.
        """
        super().__init__(dataset_name, distributed, output_dir, sem_seg_loading_fn=self._load_label)
        self._compute_boundary_iou = False
        # It logs all figures in one line, which per_class_table shows better.
        self._logger = logging.getLogger(f"{__name__}.all_figures")
        self._logger.setLevel(logging.WARNING)
        self._expected_size: tuple[int, int] = (0, 0)

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Count the pixels of some images.

        Args:
            inputs: with ``file_name``.
            outputs: with ``sem_seg``, logits (K, H, W) or labels (H, W) at the label's size.

        Raises:
            ValueError: another number of classes than the data set's, a label of another size
                than the prediction, or one that holds a value that is no class.
        """
        for one, output in zip(inputs, outputs, strict=True):
            prediction = self._to_labels(output["sem_seg"])
            self._expected_size = prediction.shape
            file_name = one["file_name"]
            truth = self._load_label(self.input_file_to_gt_file[file_name])
            truth[truth == self._ignore_label] = self._num_classes
            side = self._num_classes + 1
            pairs = np.bincount((side * prediction + truth).flatten(), minlength=side * side)
            self._conf_matrix += pairs.reshape(side, side).astype(self._conf_matrix.dtype)
            self._predictions.extend(self.encode_json_sem_seg(prediction, file_name))

    def _to_labels(self, sem_seg: Tensor) -> np.ndarray:
        """(H, W) int64 classes of a prediction."""
        if sem_seg.dim() == 3:
            count, sem_seg = len(sem_seg), sem_seg.argmax(dim=0)
            if count != self._num_classes:
                raise ValueError(
                    f"the model predicts {count} classes, but {self._dataset_name} has "
                    f"{self._num_classes}"
                )
        labels = sem_seg.cpu().numpy().astype(np.int64)
        if labels.size and not 0 <= labels.min() <= labels.max() < self._num_classes:
            raise ValueError(
                f"the model predicts labels from {labels.min()} to {labels.max()}, but "
                f"{self._dataset_name} has {self._num_classes} classes"
            )
        return labels

    def _load_label(self, file_name: str, dtype: type = int) -> np.ndarray:
        label = read_label(file_name).astype(dtype)
        if label.shape != self._expected_size:
            raise ValueError(
                f"label {file_name!r} has (height, width) {label.shape}, but the prediction "
                f"{self._expected_size}"
            )
        wrong = np.unique(label[(label >= self._num_classes) & (label != self._ignore_label)])
        if wrong.size:
            raise ValueError(
                f"label {file_name!r} holds {wrong[:8].tolist()}: allowed are the "
                f"{self._num_classes} classes from 0 on and {self._ignore_label} (ignore)"
            )
        return label

    def encode_json_sem_seg(self, sem_seg: np.ndarray, input_file_name: str) -> list[dict]:
        """Run lengths of a prediction; none where they are not going to be written."""
        if not self._output_dir:
            return []
        return super().encode_json_sem_seg(sem_seg, input_file_name)


def per_class_table(figures: Mapping[str, Any], class_names: Sequence[str]) -> str:
    """A table of IoU and accuracy by class, and their means.

    Args:
        figures: of one data set, as ``SemSegEvaluator`` names them, in percent.
        class_names: in the order of the rows. A class that no image has shows as "-".
    """

    def text(key: str) -> str:
        value = figures.get(key, float("nan"))
        return "-" if np.isnan(value) else f"{value:.2f}"

    rows = [[name, text(f"IoU-{name}"), text(f"ACC-{name}")] for name in class_names]
    rows.append(["mean", text("mIoU"), text("mACC")])
    return tabulate(rows, headers=["class", "IoU", "accuracy"], tablefmt="github", floatfmt=".2f")
