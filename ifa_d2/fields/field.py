"""Segmentation of one picture as a field, for any resolution, window or point.

Units and axes: windows are (y0, x0, y1, x1) in pixels of the picture, sizes (height, width) in
samples, points (y, x) in picture coordinates, 0 at the top or left border and 1 at the bottom or
right one. Samples of a window are the centres of equal cells that cover it.

Shape legend: K classes, H x W samples, P points.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..layers import (
    BoundAlignment,
    GridQuery,
    ImplicitAlignment,
    Level,
    PointQuery,
    PointwiseLevel,
)
from .decision import best_classes, class_entropy, label_dtype
from .query_checks import (
    Size,
    Window,
    check_eval,
    check_points,
    check_size,
    check_window,
    window_axis,
)
from .refinement import Refinement, refined_labels

# What a level may take that a field keeps as its queries need it.
_KEPT_BYTES = 32 << 20


class SegmentationField:
    """Field of one picture: its features, to be decoded anywhere.

    Every query raises a ``ValueError`` while the model is in training mode: its predictions would
    differ, and change the statistics of BatchNorms.

    Args:
        alignment: decodes the levels; in eval mode.
        levels: of shape (1, C, h, w) each, of the padded picture.
        image_size: (height, width) of the picture in pixels, the unit of windows.
        picture_share: share (y, x) of the levels' extent that the picture takes; the rest is
            padding.
        temperature: that logits are divided by, see :class:`ifa_d2.modeling.IFASemSegHead`; labels
            are those of the undivided ones.

    Attributes:
        drawing: draws this field, for :meth:`draw`; None where picture and classes are not known,
            as of a field that no :class:`ifa_d2.Predictor` has made.

    Raises:
        ValueError: levels of several pictures, or a size or share out of range.
    """

    def __init__(
        self,
        alignment: ImplicitAlignment,
        levels: Sequence[Level],
        image_size: Size,
        picture_share: tuple[Fraction, Fraction] = (Fraction(1), Fraction(1)),
        temperature: float = 1.0,
    ) -> None:
        if len(levels[0]) != 1:
            raise ValueError(f"levels must be of one picture, got {len(levels[0])}")
        if any(not 0 < share <= 1 for share in picture_share):
            raise ValueError(
                f"picture_share must be in (0, 1], got {tuple(map(float, picture_share))}"
            )
        self.alignment = alignment
        self.levels = list(levels)
        self._bound: dict[bool, BoundAlignment] = {}  # with autocast, and without
        self.image_size = check_size("image_size", image_size)
        self.picture_share = picture_share
        self.temperature = temperature
        self.drawing: Callable[..., np.ndarray] | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return self.alignment.predictor.out_channels

    @property
    def label_dtype(self) -> torch.dtype:
        """The smallest integer type that holds every class."""
        return label_dtype(self.num_classes)

    @property
    def bound(self) -> BoundAlignment:
        """Levels bound to the alignment, with the weights that it had at the first query.

        Levels that were computed under autocast get the weights' type where queries are without.

        Raises:
            ValueError: the model is in training mode.
        """
        check_eval(self.alignment)
        dtype = self.alignment.predictor.weight.dtype
        kind = self.levels[0].device.type
        autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        if not autocast and any(level.dtype != dtype for level in self.levels):
            self.levels, self._bound = [_cast(level, dtype) for level in self.levels], {}
        if autocast not in self._bound:
            with torch.no_grad():
                self._bound[autocast] = self.alignment.bind(self.levels, kept_bytes=_KEPT_BYTES)
        return self._bound[autocast]

    def query(self, size: Size | None = None, window: Window | None = None) -> GridQuery:
        """Build the grid of a window at a size.

        Args:
            size: of the output; None is one sample a pixel of the window.
            window: None is the whole picture. It may end between pixels.

        Raises:
            ValueError: a size that is not two whole numbers of 1 to 2**31 - 1; a window that is not
                four finite numbers, is empty or reversed or reaches out of the picture; no size
                for a window of broken pixels.
        """
        height, width = self.image_size
        if window is None:
            window = (0, 0, height, width)
        y0, x0, y1, x1 = check_window(window, self.image_size)
        if size is None:
            size = (y1 - y0, x1 - x0)
            if any(side.denominator != 1 for side in size):
                raise ValueError(f"size must be given for the window {window} of broken pixels")
        rows, cols = check_size("size", size)
        return GridQuery(
            window_axis(y0, y1, rows, height, self.picture_share[0]),
            window_axis(x0, x1, cols, width, self.picture_share[1]),
        )

    @property
    def _pixel(self) -> tuple[float, float]:
        """The size (y, x) of a pixel of the picture, as shares of the levels' extent."""
        pairs = zip(self.picture_share, self.image_size, strict=True)
        return tuple(float(share / side) for share, side in pairs)

    @torch.no_grad()
    def logits(self, size: Size | None = None, window: Window | None = None) -> Tensor:
        """Compute logits (K, H, W), finite or not, divided by :attr:`temperature`.

        See :meth:`query` for arguments and errors.
        """
        return self._divided(self.bound(self.query(size, window))[0])

    @torch.no_grad()
    def probabilities(self, size: Size | None = None, window: Window | None = None) -> Tensor:
        """Compute probabilities (K, H, W), float32. See :meth:`query` for arguments."""
        query = self.query(size, window)
        out = torch.empty(self.num_classes, *query.size, device=self.levels[0].device)
        for (rows, cols), logits in self.bound.iter_tiles(query):
            out[:, rows, cols] = self._divided(logits[0]).float().softmax(dim=0)
        return out

    @torch.no_grad()
    def entropy(self, size: Size | None = None, window: Window | None = None) -> Tensor:
        """Compute the entropy (H, W) of the probabilities, decoded tile by tile.

        Args:
            size, window: as of :meth:`query`.

        Returns:
            A CPU tensor, float32, as a share of ln K: 0 is certainty, 1 that all classes are
            equally probable.

        Raises:
            ValueError: as :meth:`query`.
        """
        query = self.query(size, window)
        out = torch.empty(query.size)
        for place, piece in self.iter_entropy(query):
            out[place] = piece
        return out

    @torch.no_grad()
    def iter_entropy(self, query: GridQuery) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
        """Yield tiles of :meth:`entropy` on the CPU, and their places (rows, columns)."""
        for place, logits in self.bound.iter_tiles(query):
            yield place, class_entropy(logits[0], self.temperature).cpu()

    def _divided(self, logits: Tensor) -> Tensor:
        """Logits that nobody else holds, divided by the temperature."""
        return logits if self.temperature == 1 else logits.div_(self.temperature)

    def labels(
        self,
        size: Size | None = None,
        window: Window | None = None,
        out: Any = None,
    ) -> Tensor | Any:
        """Compute the most likely classes (H, W), decoded tile by tile.

        Args:
            size, window: as of :meth:`query`.
            out: written to and returned instead of a new tensor: any (H, W) array that takes
                slices, such as a ``numpy.memmap`` for labels larger than memory.

        Returns:
            ``out``, or a CPU tensor of :attr:`label_dtype`.

        Raises:
            ValueError: as :meth:`query`; an ``out`` of another shape; logits that are not finite.
        """
        query = self.query(size, window)
        if out is None:
            out = torch.empty(query.size, dtype=self.label_dtype)
        if tuple(out.shape) != query.size:
            raise ValueError(f"out must have shape {query.size}, got {tuple(out.shape)}")
        self._fill(out, query)
        return out

    def refined_labels(
        self,
        size: Size | None = None,
        window: Window | None = None,
        refinement: Refinement | None = None,
    ) -> Tensor:
        """Compute :meth:`labels`, decoded only where coarser labels are uncertain.

        Args:
            size, window: as of :meth:`query`.
            refinement: where to decode; None is the default of :class:`Refinement`.

        Returns:
            A CPU tensor of :attr:`label_dtype`.

        Raises:
            ValueError: as :meth:`query`, or logits that are not finite.
        """
        query = self.query(size, window)
        refinement = refinement or Refinement()
        labels, _ = refined_labels(self.bound, query, refinement)
        return labels.to(self.label_dtype).cpu()

    @torch.no_grad()
    def iter_labels(self, query: GridQuery) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
        """Yield tiles of :meth:`labels` on the CPU, and their places (rows, columns).

        Raises:
            ValueError: logits that are not finite.
        """
        for place, logits in self.bound.iter_tiles(query):
            _, labels = best_classes(logits[0])
            yield place, labels.to(self.label_dtype).cpu()

    def iter_bands(
        self, size: Size | None = None, window: Window | None = None, *, height: int = 256
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield labels from top to bottom: the first row of a band, and the band (rows, W).

        Args:
            size, window: as of :meth:`query`.
            height: rows of a band; the last may have fewer.

        Raises:
            ValueError: as :meth:`labels`, or ``height`` below 1.
        """
        query = self.query(size, window)
        if height < 1:
            raise ValueError(f"height must be at least 1, got {height}")
        for top in range(0, query.size[0], height):
            part = query[slice(top, top + height), slice(None)]
            band = torch.empty(part.size, dtype=self.label_dtype)
            self._fill(band, part)
            yield top, band

    def _fill(self, out: Any, query: GridQuery) -> None:
        """Write the labels of a grid into an array or tensor of its size."""
        for place, piece in self.iter_labels(query):
            out[place] = piece if isinstance(out, Tensor) else piece.numpy()

    @torch.no_grad()
    def at(self, points: Tensor | np.ndarray | Sequence[Sequence[float]], *, clamp: bool = False):
        """Compute logits (P, K) at points, divided by :attr:`temperature`.

        Args:
            points: (P, 2) floating-point (y, x) picture coordinates.
            clamp: take a point outside [0, 1] for the nearest one inside; otherwise an error.

        Raises:
            ValueError: another shape or type, a coordinate that is not finite, or one outside
                [0, 1] without ``clamp``.
        """
        points = check_points(points)
        if clamp:
            points = points.clamp(0, 1)
        elif len(points) and (points.min() < 0 or points.max() > 1):
            raise ValueError(
                "points must be in [0, 1] (or clamp=True), got "
                f"{float(points.min())} to {float(points.max())}"
            )
        share = torch.tensor([float(e) for e in self.picture_share], dtype=torch.float64)
        points = (points.double() * share.to(points.device)).to(self.levels[0].device)
        footprints = points.new_tensor([self._pixel])
        # From top to bottom, so that those decoded at once touch few cells.
        order = points[:, 0].argsort()
        query = PointQuery(points[order][None], footprints)
        out = self.bound(PointQuery(points[:0][None], footprints))[0].t()
        for (place,), logits in self.bound.iter_tiles(query):
            if len(out) < len(points):
                out = logits.new_empty((len(points), self.num_classes))
            out[order[place]] = logits[0].t()
        return self._divided(out)

    def draw(
        self,
        image: np.ndarray | None = None,
        *,
        size: Size | None = None,
        window: Window | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Draw :meth:`labels` over the picture in the colours of its data set, as an RGB image.

        Args:
            image: (H, W, 3) uint8 RGB to draw over; None is the field's own picture.
            size, window: as of :meth:`query`.
            options: ``alpha``, ``names``, ``outlines`` and ``legend``, as of
                :func:`ifa_d2.visualization.draw_field`.

        Returns:
            (height, width, 3) uint8 of the size, channels in RGB order.

        Raises:
            ValueError: as ``draw_field``, or :attr:`drawing` is None.
        """
        if self.drawing is None:
            raise ValueError(
                "draw needs the field's picture and the names and colours of its classes: a "
                "Predictor with metadata gives them, or call ifa_d2.visualization.draw_field"
            )
        if image is not None:
            options["image"] = image
        return self.drawing(self, size=size, window=window, **options)


def _cast(level: Level, dtype: torch.dtype) -> Level:
    """A level in a floating-point type."""
    if isinstance(level, PointwiseLevel):
        return replace(level, source=level.source.to(dtype))
    return level.to(dtype)
