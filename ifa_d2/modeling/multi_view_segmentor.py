"""Segmentation averaged over sizes, mirror images and windows of a picture.

The scores of every view are added in place to those of the views before it, at the samples of the
output: no view's scores of the whole output are kept.

Shape legend: K classes, h x w pixels of a window, H x W samples of the output.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..fields import SegmentationField
from ..layers import GridQuery
from .scores import Raster, RunningScores, iter_shares
from .views import Size, Span, Strip, Views, reach

Fields = Callable[[Sequence[dict[str, Any]]], list[SegmentationField]]


class MultiViewSegmentor(nn.Module):
    """Test-time augmentation and sliding windows around a segmentor, called as it is.

    The softmax probabilities of the views are averaged, over the windows of one size first, and
    then over sizes and mirror images with equal weights, as the paper's authors do. A view predicts
    at the samples of the result: there the field of a ``FieldSegmentor`` is evaluated; the logits
    of another model are interpolated bilinearly before the softmax, as Detectron2 does. A picture
    of one view, whole and in its own size, gets the model's own prediction, unchanged. In training
    mode the model is called as it is.

    With labels as the result, sums are kept of those rows alone that later windows reach, so that
    memory beyond the labels does not grow with the height of a picture predicted in windows.

    Args:
        model: called with a list of ``{"image": (C, H, W)}``, and where the output has a size of
            its own, ``"height"`` and ``"width"``; gives ``{"sem_seg": (K, H, W) logits}`` each.
        scales, short_edges, max_size, flip, window, stride, blend: see
            :class:`ifa_d2.modeling.views.Views`.
        batch_size: windows, and mirror images, that go through the model at once.
        return_logits: ``sem_seg`` is (K, H, W), logs of the averaged probabilities, instead of
            (H, W) labels on the CPU; None is what the model itself gives.
        fields: what gives a field for each picture of a batch; None is the model's ``fields``, if
            it has them.

    Raises:
        ValueError: an argument out of range, by name; when called, a model that gives no logits.
    """

    @configurable
    def __init__(
        self,
        *,
        model: nn.Module,
        scales: Sequence[float] | None = None,
        short_edges: Sequence[int] | None = None,
        max_size: int | None = None,
        flip: bool = False,
        window: Sequence[int] | None = None,
        stride: float | Sequence[float] = 2 / 3,
        blend: str | None = None,
        batch_size: int = 1,
        return_logits: bool | None = None,
        fields: Fields | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.views = Views(scales, short_edges, max_size, flip, window, stride, blend)
        self.model = model.module if isinstance(model, DistributedDataParallel) else model
        # Detectron2's inference_context puts all back into the mode found here.
        self.training = model.training
        self.batch_size = batch_size
        self.fields = fields or getattr(self.model, "fields", None)
        of_model = not hasattr(self.model, "fields") or bool(
            getattr(self.model, "return_logits", False)
        )
        self.return_logits = of_model if return_logits is None else return_logits
        self._as_model = fields is None and self.return_logits == of_model

    @property
    def transparent(self) -> bool:
        """Whether every picture gets the model's own prediction."""
        return self.views.trivial and self._as_model

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        aug, sliding = cfg.TEST.AUG, cfg.TEST.SLIDING_WINDOW
        views: dict[str, Any] = {}
        if aug.ENABLED and aug.SCALES:
            views = {"scales": aug.SCALES, "flip": aug.FLIP}
        elif aug.ENABLED:
            views = {"short_edges": aug.MIN_SIZES, "max_size": aug.MAX_SIZE, "flip": aug.FLIP}
        return {
            "model": model,
            **views,
            "window": sliding.SIZE or None,
            "stride": sliding.STRIDE,
            "blend": sliding.BLEND,
            "batch_size": sliding.BATCH_SIZE,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Segment pictures, ``{"sem_seg": labels or logits}`` each; train as the model."""
        if self.training:
            return self.model(batched_inputs)
        with torch.no_grad():
            if all(self.views.show_once(_size(one["image"])) for one in batched_inputs):
                return self._show_once(batched_inputs)
            return [{"sem_seg": self._average(one)} for one in batched_inputs]

    def _show_once(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._as_model:
            return self.model(batched_inputs)
        if self.fields is not None:
            fields = self.fields(batched_inputs)
            answers = [field.logits() if self.return_logits else field.labels() for field in fields]
            return [{"sem_seg": answer} for answer in answers]
        out = []
        for answer in self.model(batched_inputs):
            scores = RunningScores(_size(answer["sem_seg"]))
            scores.add_(0, 0, _check_logits(answer["sem_seg"]))
            out.append({**answer, "sem_seg": scores.labels()})
        return out

    def _average(self, one: dict[str, Any]) -> Tensor:
        """The answer for one picture: (K, H, W) logits or (H, W) labels."""
        size = _size(one["image"])
        output_size = (one.get("height", size[0]), one.get("width", size[1]))
        strips = self.views.strips(size, output_size)
        scores = RunningScores(output_size)
        if not self.return_logits:
            strips.sort(key=lambda strip: strip.rows.samples.start)
            scores = RunningScores(output_size, reach([strip.rows for strip in strips]))
        images = _ResizedImages(one["image"], strips)
        mirrored = (False, True) if self.views.flip else (False,)
        for strip in strips:
            scores.make_room(strip.rows.samples)
            image = images.take(strip.size)
            parts = [(col, mirror) for mirror in mirrored for col in strip.cols]
            for i in range(0, len(parts), self.batch_size):
                self._show(image, strip, parts[i : i + self.batch_size], scores)
        if not self.return_logits:
            return scores.labels()
        return scores.logits(len(self.views.sizes(size)) * len(mirrored))

    def _show(
        self, image: Tensor, strip: Strip, parts: list[tuple[Span, bool]], scores: RunningScores
    ) -> None:
        """Pass some windows through the model at once, and add what it answers."""
        crops = [_cut(image, strip.rows, *part) for part in parts]
        for part, answer in zip(parts, self._answers(crops), strict=True):
            _add(scores, strip, *part, answer)

    def _answers(self, crops: Sequence[Tensor]) -> list[SegmentationField | Raster]:
        """Compute the field of each of some windows (C, h, w) of one size."""
        inputs = [
            {"image": crop, "height": crop.shape[1], "width": crop.shape[2]} for crop in crops
        ]
        if self.fields is not None:
            return self.fields(inputs)
        return [Raster(_check_logits(answer["sem_seg"])) for answer in self.model(inputs)]


def _add(
    scores: RunningScores,
    strip: Strip,
    col: Span,
    mirror: bool,
    answer: SegmentationField | Raster,
) -> None:
    """Add a window's share of the probabilities."""
    rows = strip.rows
    query = GridQuery(rows.axis(answer.picture_share[0]), col.axis(answer.picture_share[1]))
    for top, left, shares in iter_shares(answer, query, rows, col):
        left += col.samples.start
        if mirror:
            shares, left = shares.flip(2), col.total - left - shares.shape[2]
        scores.add_(rows.samples.start + top, left, shares)


class _ResizedImages:
    """Picture at the sizes of strips, each held from its first strip to its last."""

    def __init__(self, image: Tensor, strips: Sequence[Strip]) -> None:
        self._image = image
        self._uses = Counter(strip.size for strip in strips)
        self._held: dict[Size, Tensor] = {}

    def take(self, size: Size) -> Tensor:
        """Return the picture at a size, (C, *size); to be called once for each strip."""
        if size not in self._held:
            self._held[size] = _resize(self._image, size)
        self._uses[size] -= 1
        return self._held[size] if self._uses[size] else self._held.pop(size)


def _resize(image: Tensor, size: Size) -> Tensor:
    if _size(image) == size:
        return image
    array = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    array = T.ResizeTransform(*_size(image), *size).apply_image(array)
    return torch.from_numpy(np.array(array.transpose(2, 0, 1), order="C")).to(image.device)


def _cut(image: Tensor, rows: Span, cols: Span, mirror: bool) -> Tensor:
    """A window of an image (C, H, W), or of its mirror image."""
    begin, end = cols.begin, cols.end
    if mirror:
        begin, end = cols.length - end, cols.length - begin
    window = image[:, rows.begin : rows.end, begin:end]
    return window.flip(2) if mirror else window


def _size(image: Tensor) -> Size:
    return tuple(image.shape[-2:])


def _check_logits(sem_seg: Tensor) -> Tensor:
    if sem_seg.dim() != 3:
        raise ValueError(
            f"model must give (K, H, W) logits to be averaged, got shape {tuple(sem_seg.shape)}"
        )
    return sem_seg
