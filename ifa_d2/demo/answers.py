"""Answers of a model about a window of a picture, at a size and a confidence.

Windows are (y0, x0, y1, x1) in pixels of the picture, sizes (height, width) in samples.

Shape legend: K classes, H x W pixels of the picture, h x w samples of the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import PanopticFPN
from omegaconf import DictConfig
from torch import Tensor, nn

from ..engine.build import build_test_mapper
from ..engine.inputs import picture_input
from ..fields import best_classes, class_entropy, class_probabilities
from ..layers import GridQuery
from ..modeling import IFASemSegHead, compute_panoptic_fields
from ..modeling.picture_fields import compute_fields
from ..modeling.scores import Raster, iter_logits
from ..visualization import MAX_SAMPLES, MAX_SIDE, is_drawable, resize_window, to_rgb

UNSURE = -1

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class View:
    """Window, size and confidence of the answers.

    Args:
        window: the part of the picture, in whole pixels; None is all of it.
        size: (h, w) of the answer.
        zoom: samples a pixel, instead of ``size``; without both one.
        confidence: a sample whose most likely class is less probable has no class. For panoptic
            models the score that an instance must have, 0 being the model's own threshold.

    Raises:
        ValueError: a value out of range, or both ``size`` and ``zoom``.
    """

    window: Window | None = None
    size: tuple[int, int] | None = None
    zoom: float | None = None
    confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.size is not None and self.zoom is not None:
            raise ValueError("size and zoom must not both be given")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size must be (height, width), each at least 1, got {self.size}")
        if self.zoom is not None and not 0 < self.zoom < float("inf"):
            raise ValueError(f"zoom must be above 0, got {self.zoom}")
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence must be in [0, 1], got {self.confidence}")

    @property
    def plain(self) -> bool:
        """Whether the view is the model's own answer about the whole picture."""
        return self == View()

    def resolve(self, image_size: tuple[int, int]) -> tuple[Window, tuple[int, int]]:
        """Resolve the window and the size (h, w) of the answer for a picture of (H, W).

        Raises:
            ValueError: the window is empty or reaches out of the picture, or the answer has more
                samples than the window has pixels and than can be drawn.
        """
        y0, x0, y1, x1 = window = self.window or (0, 0, *image_size)
        if not (0 <= y0 < y1 <= image_size[0] and 0 <= x0 < x1 <= image_size[1]):
            raise ValueError(
                f"window (--crop) must be (y0, x0, y1, x1) inside the picture of {image_size}, got "
                f"{window}"
            )
        zoom = self.zoom or 1.0
        height, width = self.size or ((y1 - y0) * zoom, (x1 - x0) * zoom)
        if is_drawable((height, width), (y1 - y0, x1 - x0)):
            return window, (max(1, round(height)), max(1, round(width)))
        asked = f"size {self.size}"
        if self.size is None:
            asked = f"zoom {zoom:g}, {height:.4g} x {width:.4g} samples,"
        raise ValueError(
            f"{asked} is more than the {MAX_SAMPLES} samples, {MAX_SIDE} a side, that can be "
            "drawn: choose a smaller size or window"
        )


@dataclass(frozen=True)
class Answer:
    """A model's answer about a window of a picture.

    Attributes:
        image: (h, w, 3) uint8 RGB, the window at the answer's size.
        labels: (h, w) class ids, ``UNSURE`` where there is none; None for panoptic models.
        segment_ids: (h, w), of panoptic models: 0, or the id of one of ``segments``.
        segments: Detectron2's ``segments_info``.
        num_classes: K, where the model has told.
        entropy: (h, w) float32 of the probabilities, as a share of ln K; None where it was not
            asked for.
    """

    image: np.ndarray
    labels: np.ndarray | None = None
    segment_ids: np.ndarray | None = None
    segments: Sequence[dict[str, Any]] = ()
    num_classes: int | None = None
    entropy: np.ndarray | None = None


class Segmenter:
    """Ask a model about pictures, by a view.

    A plain view gets the output that the model is evaluated by. Any other view asks the field of a
    model with an ``IFASemSegHead``; logits of other models are interpolated.

    Args:
        cfg: the model's config, of either kind, for the size and channel order of its input.
        model: a semantic segmentor in eval mode, maybe in a ``MultiViewSegmentor``; or a
            ``PanopticFPN``, whose answers are panoptic.
        view: window, size and confidence of the answers.
        entropy: answers have the entropy too.

    Raises:
        ValueError: a window of a panoptic model without a field, or the entropy of a panoptic one.
    """

    def __init__(
        self, cfg: CfgNode | DictConfig, model: nn.Module, view: View, *, entropy: bool = False
    ) -> None:
        mapper = build_test_mapper(cfg)
        self.augmentations, self.image_format = mapper.augmentations, mapper.image_format
        self.model = model
        self.view = view
        self.panoptic = isinstance(model, PanopticFPN)
        self.has_field = isinstance(getattr(model, "sem_seg_head", None), IFASemSegHead)
        if self.panoptic and view.window and not self.has_field:
            raise ValueError(
                f"window needs a model with an IFASemSegHead, if it is panoptic, got {view.window}"
            )
        self.entropy = entropy
        if self.panoptic and entropy:
            raise ValueError("entropy is of semantic models: a panoptic one answers with segments")
        if self.panoptic and view.confidence:
            model.combine_instances_score_thresh = view.confidence

    def __call__(self, image: np.ndarray) -> Answer:
        """Answer about a picture.

        Args:
            image: (H, W, 3) uint8 RGB; or (H, W, C) float32 bands, of a model of bands.

        Raises:
            ValueError: the window does not lie inside, or the model gives no probabilities where
                they are needed.
        """
        window, size = self.view.resolve(image.shape[:2])
        shown = resize_window(to_rgb(image), window, size)
        with torch.no_grad():
            if self.panoptic:
                segment_ids, segments = self._ask_panoptic(image, window, size)
                return Answer(shown, segment_ids=segment_ids.cpu().numpy(), segments=segments)
            inputs = self._inputs(image, image.shape[:2])
            if self.view.plain and not self.entropy:
                labels, num_classes = self._ask_model(inputs)
                return Answer(shown, labels=labels, num_classes=num_classes)
            return Answer(shown, **self._ask_samples(inputs, window, size))

    def _inputs(self, image: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
        """Make the model's input for an answer of a size."""
        return picture_input(image, self.augmentations, self.image_format, size)

    def _ask_panoptic(
        self, image: np.ndarray, window: Window, size: tuple[int, int]
    ) -> tuple[Tensor, Sequence[dict[str, Any]]]:
        """Compute (h, w) ids of segments, and Detectron2's ``segments_info``."""
        if self.view.plain or not self.has_field:
            return self.model([self._inputs(image, size)])[0]["panoptic_seg"]
        inputs = self._inputs(image, image.shape[:2])
        return compute_panoptic_fields(self.model, [inputs])[0].panoptic(size, window)

    def _ask_model(self, inputs: dict[str, Any]) -> tuple[np.ndarray, int | None]:
        """Compute (H, W) labels, and K for a model that gives logits."""
        sem_seg = self.model([inputs])[0]["sem_seg"]  # (K, H, W) logits or (H, W) labels
        if sem_seg.dim() == 2:
            return sem_seg.cpu().numpy(), None
        return best_classes(sem_seg)[1].cpu().numpy(), len(sem_seg)

    def _ask_samples(
        self, inputs: dict[str, Any], window: Window, size: tuple[int, int]
    ) -> dict[str, Any]:
        """Compute what an answer about a window holds, in pieces."""
        # What is evaluated of other segmentors, around a head with a field too, are their logits.
        evaluated = self.view.plain and not hasattr(self.model, "fields")
        if self.has_field and not evaluated:
            source = compute_fields(self.model, [inputs])[0]
            query, num_classes = source.query(size, window), source.num_classes
        else:
            logits = self._logits(inputs)
            source, num_classes = Raster(logits), len(logits)
            query = GridQuery.window(window, size, (inputs["height"], inputs["width"]))
        labels = np.empty(size, np.int16)
        entropy = np.empty(size, np.float32) if self.entropy else None
        for top, left, logits in iter_logits(source, query):
            place = np.s_[top : top + logits.shape[1], left : left + logits.shape[2]]
            labels[place] = self._decide(logits, source.temperature).cpu().numpy()
            if entropy is not None:
                entropy[place] = class_entropy(logits, source.temperature).cpu().numpy()
        return {"labels": labels, "num_classes": num_classes, "entropy": entropy}

    def _logits(self, inputs: dict[str, Any]) -> Tensor:
        sem_seg = self.model([inputs])[0]["sem_seg"]
        if sem_seg.dim() != 3:
            raise ValueError(
                "window, size, zoom, confidence and entropy need logits, but "
                f"{type(self.model).__name__} gives labels: a FieldSegmentor gives logits with "
                "model.return_logits=True"
            )
        return sem_seg

    def _decide(self, logits: Tensor, temperature: float) -> Tensor:
        """Decide (h, w) classes of (K, h, w) logits, or UNSURE."""
        if not self.view.confidence:
            return best_classes(logits)[1]
        best, labels = best_classes(class_probabilities(logits, temperature))
        return labels.masked_fill(best < self.view.confidence, UNSURE)


def label_ids(answer: Answer, num_classes: int) -> np.ndarray:
    """Convert an answer's labels to (h, w) ids of 8 bits, or 16 for more than 255 classes.

    Samples without a class have the largest id, 255 or 65535.

    Args:
        answer: of a semantic model.
        num_classes: of the data set.

    Raises:
        ValueError: the answer is panoptic.
    """
    if answer.labels is None:
        raise ValueError("labels are of semantic models: a panoptic model answers with segments")
    dtype = np.uint8 if num_classes <= 255 else np.uint16
    return np.where(answer.labels == UNSURE, np.iinfo(dtype).max, answer.labels).astype(dtype)


def resample_labels(labels: np.ndarray, window: Window, size: tuple[int, int]) -> np.ndarray:
    """Resize a window of labels (H, W); a sample takes the pixel at its centre."""
    y0, x0, y1, x1 = window
    rows = y0 + ((2 * np.arange(size[0]) + 1) * (y1 - y0)) // (2 * size[0])
    cols = x0 + ((2 * np.arange(size[1]) + 1) * (x1 - x0)) // (2 * size[1])
    return labels[rows[:, None], cols]
