"""Consistency of the predictions for a clip, as an evaluator of Detectron2.

Shape legend: H x W pixels of a frame, h x w positions of its features, K classes.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from confidence import auroc, neighbour_consistency
from consistency import one_hot, perceptual_consistency
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from frame_features import FrameFeatures
from temporal import Constancy, FlowConsistency
from torch import Tensor

from ifa_d2.data import read_picture
from ifa_d2.data.labels import read_record_classes
from ifa_d2.evaluation.predictions import label_dtype, predicted_labels
from ifa_d2.metrics.confusion import mean_of_known


@dataclass(frozen=True)
class _Frame:
    """What is kept of a frame until the next one.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        features: (C, h, w).
        prediction: (H, W).
        truth: (H, W), K where there is no class; None for a clip without labels.
        confidence: (h, w) largest probability; None for a model that answers with labels.
    """

    image: np.ndarray
    features: Tensor
    prediction: np.ndarray
    truth: np.ndarray | None
    confidence: Tensor | None


class VideoConsistencyEvaluator(DatasetEvaluator):
    """Measure how consistent the predictions for a clip are from frame to frame.

    ``evaluate()["video"]`` holds, in percent,

    - ``PC``, perceptual consistency: the mean over pairs of consecutive frames of the smaller one
      of the two directions' means; and the means of each, ``PC_forward`` and ``PC_backward``;
    - ``TC_dis``: see :class:`temporal.FlowConsistency`;
    - ``mVC_8`` and ``mVC_16``: see :class:`temporal.Constancy`;
    - ``AUROC_confidence``, ``AUROC_consistency`` and ``AUROC_product``: how well correct positions
      are told from wrong ones by the largest probability, by the consistency with the true labels
      of the frame before, and by the product of both.

    A figure for which there is nothing to measure is NaN: mVC and AUROC without labels or in a clip
    that is too short, AUROC for a model that answers with labels instead of logits.

    Of frames, only the last one is kept. AUROC keeps three numbers a position.
    """

    def __init__(
        self,
        dataset_name: str,
        features: FrameFeatures,
        *,
        lengths: Sequence[int] = (8, 16),
        clamp: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: a registered clip with ``stuff_classes``, see :func:`clips.register_clip`.
            features: of frames.
            lengths: of mVC, in frames.
            clamp: limit the consistency of a position to [0, 1] in PC.

        Raises:
            ValueError: a data set without classes, a length below 2, or several processes, of which
                each would see a part of the clip.
        """
        classes = MetadataCatalog.get(dataset_name).get("stuff_classes")
        if not classes:
            raise ValueError(
                f"dataset_name must be a data set with stuff_classes, got {dataset_name!r}"
            )
        if comm.get_world_size() > 1:
            raise ValueError(
                f"a clip must be evaluated in one process, got {comm.get_world_size()}"
            )
        self._dataset_name = dataset_name
        self._metadata = MetadataCatalog.get(dataset_name)
        self._num_classes = len(classes)
        self._features = features
        self._lengths = tuple(lengths)
        self._clamp = clamp
        self._records = DatasetCatalog.get(dataset_name)
        self.reset()

    def reset(self) -> None:
        """Start the clip anew."""
        self._count = 0
        self._last: _Frame | None = None
        self._means: list[tuple[float, float]] = []  # of pairs, forward and backward
        self._flow = FlowConsistency(self._num_classes)
        self._constancy = Constancy(self._lengths)
        self._judged: list[np.ndarray] = []  # of pairs, (4, N): three scores, correct

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Compare some frames, each with the one before.

        Args:
            inputs: with ``file_name``; the clip's frames in its order.
            outputs: with ``sem_seg``, logits (K, H, W) or labels (H, W) of the frame's size.

        Raises:
            ValueError: a frame out of order, or of another size than its prediction or than the
                frames before; or labels that are no classes. The message names the file.
        """
        for one, output in zip(inputs, outputs, strict=True):
            record = self._expect(one["file_name"])
            frame = self._read(record, output["sem_seg"])
            if self._last is not None:
                self._compare(self._last, frame)
            if frame.truth is not None:
                self._constancy.add(frame.truth, frame.prediction, self._num_classes)
            self._last = frame
            self._count += 1

    def _expect(self, file_name: str) -> Mapping[str, Any]:
        """The record of the next frame, which this has to be."""
        if self._count == len(self._records):
            raise ValueError(
                f"{self._dataset_name} has {self._count} frames, but {file_name} came after them"
            )
        record = self._records[self._count]
        if record["file_name"] != file_name:
            raise ValueError(
                f"frames of {self._dataset_name} must come in order: frame {self._count} is "
                f"{record['file_name']}, got {file_name}"
            )
        return record

    def _read(self, record: Mapping[str, Any], sem_seg: Tensor) -> _Frame:
        name = record["file_name"]
        image = read_picture(name)
        prediction = predicted_labels(sem_seg, self._num_classes, name)
        size = self._last.prediction.shape if self._last else image.shape[:2]
        if prediction.shape != image.shape[:2] or prediction.shape != size:
            raise ValueError(
                f"frames and predictions must have one size, but {name} has (height, width) "
                f"{image.shape[:2]}, its prediction {prediction.shape}, and those before {size}"
            )
        confidence = None
        if sem_seg.dim() == 3:
            logits = self._features.at_positions(sem_seg.detach())
            confidence = logits.float().softmax(dim=0).amax(dim=0)
        with torch.no_grad():
            features = self._features(image)
        return _Frame(image, features, prediction, self._truth(record, size), confidence)

    def _truth(self, record: Mapping[str, Any], size: tuple[int, ...]) -> np.ndarray | None:
        path = record.get("sem_seg_file_name")
        if not path:
            return None
        label = read_record_classes(record, self._metadata)
        if label.shape != size:
            raise ValueError(f"label {path} has (height, width) {label.shape}, its frame {size}")
        return label.astype(label_dtype(self._num_classes), copy=False)

    def _compare(self, last: _Frame, frame: _Frame) -> None:
        scores = (
            one_hot(self._positions(each.prediction), self._num_classes) for each in (last, frame)
        )
        pair = perceptual_consistency(last.features, frame.features, *scores, clamp=self._clamp)
        self._means.append(tuple(map(float, pair.means)))
        self._flow.add(last.image, frame.image, last.prediction, frame.prediction)
        if frame.confidence is not None and frame.truth is not None and last.truth is not None:
            self._judge(last, frame)

    def _judge(self, last: _Frame, frame: _Frame) -> None:
        """Keep scores of the positions that have a true label, and whether they are correct."""
        labels, truth = self._positions(frame.prediction), self._positions(frame.truth)
        consistency = neighbour_consistency(
            frame.features, labels, last.features, self._positions(last.truth), self._num_classes
        )
        confidence = frame.confidence.to(consistency.device)
        rows = (confidence, consistency, confidence * consistency, labels == truth)
        known = (truth < self._num_classes) & ~consistency.isnan()
        self._judged.append(torch.stack([row[known].float() for row in rows]).cpu().numpy())

    def _positions(self, labels: np.ndarray) -> Tensor:
        """Labels (H, W) at the positions of the features, (h, w)."""
        tensor = torch.from_numpy(labels.astype(np.int64)).to(self._features.mean.device)
        return self._features.at_positions(tensor)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Compute the figures.

        Raises:
            ValueError: frames of the clip are missing.
        """
        if self._count < len(self._records):
            raise ValueError(
                f"{self._dataset_name} has {len(self._records)} frames, but {self._count} came: "
                f"the first that is missing is {self._records[self._count]['file_name']}"
            )
        means = np.array(self._means)  # (pairs, 2)
        figures = {
            "PC": mean_of_known(means.min(axis=1)),
            "PC_forward": mean_of_known(means[:, 0]),
            "PC_backward": mean_of_known(means[:, 1]),
            "TC_dis": self._flow.figure(),
            **{f"mVC_{n}": value for n, value in self._constancy.figures().items()},
        }
        judged = np.concatenate(self._judged or [np.empty((4, 0), np.float32)], axis=1)
        for name, scores in zip(("confidence", "consistency", "product"), judged, strict=False):
            figures[f"AUROC_{name}"] = auroc(scores, judged[3] > 0)
        return OrderedDict(video={name: 100 * value for name, value in figures.items()})
