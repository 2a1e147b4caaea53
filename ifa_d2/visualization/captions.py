"""Captions above pictures, legends and colour bars below, in letters that suit their size.

Shape legend: H x W an image's size in pixels. Images are (H, W, 3) uint8 RGB arrays.
"""

import math
from collections.abc import Iterable

import numpy as np
from detectron2.data import Metadata
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from ..text import class_captions, draw_as_is, text_style

_LETTER_SHARE, _LEAST_LETTERS = 0.032, 11.0  # of a picture's side; pixels
_DPI = 100
_POINTS = 72 / _DPI  # in a pixel
_INK = "0.15"
_LINE = 1.8  # height of a line, in letters
_MARGIN, _SWATCH, _SPACE = 0.4, 1.4, 1.6  # of a legend, in letters
_BAR = 16  # length of a colour bar, in letters
_NAME_LENGTH = 24  # letters of a class's name; some of ADE20K's have 60


def letter_size(height: int, width: int) -> float:
    """Size of letters for a picture: a share of its side, or 11 pixels where that is more."""
    return max(_LEAST_LETTERS, _LETTER_SHARE * math.sqrt(height * width))


def line_height(size: float) -> int:
    """Height of a line of letters, in pixels."""
    return round(_LINE * size)


def caption(panel: np.ndarray, text: str, size: float | None = None) -> np.ndarray:
    """Write a caption on a white line above a picture.

    Args:
        panel: (H, W, 3).
        text: in smaller letters if it is wider than the picture.
        size: of the letters in pixels; None is :func:`letter_size` of the picture.

    Returns:
        (:func:`line_height` + H, W, 3).
    """
    size = letter_size(*panel.shape[:2]) if size is None else size
    strip = _Strip(panel.shape[1], line_height(size))
    written = strip.write(text, _MARGIN * size, strip.height / 2, size)
    most = strip.width - 2 * _MARGIN * size
    # More than once: small letters are not as narrow as they are low.
    while (width := strip.width_of(written)) > most and written.get_fontsize() > 1:
        written.set_fontsize(max(1.0, 0.98 * written.get_fontsize() * most / width))
    return np.concatenate([strip.image(), panel])


def add_legend(
    picture: np.ndarray,
    segmentations: Iterable[np.ndarray],
    metadata: Metadata,
    size: float | None = None,
) -> np.ndarray:
    """Put the colours and names of the classes of segmentations under a picture, in columns.

    Args:
        picture: (H, W, 3), with drawings of the segmentations.
        segmentations: arrays of class ids; other ids are passed over.
        metadata: with ``stuff_classes`` and ``stuff_colors``.
        size: of the letters in pixels; None is :func:`letter_size` of the picture.

    Returns:
        (H', W, 3), the picture with as many lines as the names take.
    """
    size = letter_size(*picture.shape[:2]) if size is None else size
    there = set().union(*(np.unique(one).tolist() for one in segmentations))
    shown = sorted(label for label in there if 0 <= label < len(metadata.stuff_classes))
    if not shown:
        return picture
    captions = class_captions(metadata.stuff_classes)
    names = [_shortened(captions[i]) for i in shown]
    measured = _Strip(picture.shape[1], line_height(size))
    widest = max(measured.width_of(measured.write(name, 0, 0, size)) for name in names)
    column = (_SWATCH + _MARGIN + _SPACE) * size + widest
    columns = max(1, min(len(shown), int((picture.shape[1] - _MARGIN * size) // column)))
    rows = -(-len(shown) // columns)
    strip = _Strip(picture.shape[1], rows * line_height(size) + round(_MARGIN * size))
    for place, (label, name) in enumerate(zip(shown, names, strict=True)):
        x = _MARGIN * size + place // rows * column
        y = _MARGIN * size + (place % rows + 0.5) * line_height(size)
        strip.swatch(metadata.stuff_colors[label], x, y, _SWATCH * size, size)
        strip.write(name, x + (_SWATCH + _MARGIN) * size, y, size)
    return np.concatenate([picture, strip.image()])


def add_color_bar(
    picture: np.ndarray, colors: np.ndarray, labels: tuple[str, str], size: float | None = None
) -> np.ndarray:
    """Put a bar of colours under a picture, with what its ends mean beside it.

    Args:
        picture: (H, W, 3).
        colors: (N, 3) uint8, from left to right.
        labels: of the left end and of the right one.
        size: of the letters in pixels, smaller where they are too wide; None is
            :func:`letter_size` of the picture.

    Returns:
        (H', W, 3).
    """
    size = letter_size(*picture.shape[:2]) if size is None else size
    while True:
        strip = _Strip(picture.shape[1], line_height(size) + round(_MARGIN * size))
        y = (strip.height + _MARGIN * size) / 2
        left = strip.write(labels[0], _MARGIN * size, y, size)
        right = strip.write(labels[1], 0, y, size)
        begin = round(2 * _MARGIN * size + strip.width_of(left))
        room = strip.width - begin - 2 * _MARGIN * size - strip.width_of(right)
        if room >= min(_BAR * size, 0.2 * strip.width) or size < 2:
            break
        size *= 0.9
    width = max(1, round(min(_BAR * size, room)))
    right.set_x((begin + width + _MARGIN * size) / strip.width)
    image = strip.image()
    top, height = round(y - size / 2), max(1, round(size))
    bar = colors[np.arange(width) * len(colors) // width]
    image[top : top + height, begin : begin + width] = bar[: image.shape[1] - begin]
    return np.concatenate([picture, image])


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1].rstrip(' ,')}…"


class _Strip:
    """White strip of (height, width) pixels to write on; x and y are in pixels, y downwards."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        # A little more, so that no side is rounded down.
        self.figure = Figure(((width + 0.01) / _DPI, (height + 0.01) / _DPI), dpi=_DPI)
        self.canvas = FigureCanvasAgg(self.figure)

    def write(self, text: str, x: float, y: float, size: float) -> Text:
        """Write a text from x on, its middle at y, in letters of ``size`` pixels."""
        place = (x / self.width, 1 - y / self.height)
        options = {"va": "center_baseline", "color": _INK, "fontsize": size * _POINTS}
        written = self.figure.text(*place, text, **options, **text_style(text))
        draw_as_is(written)
        return written

    def width_of(self, written: Text) -> float:
        return written.get_window_extent(self.canvas.get_renderer()).width

    def swatch(self, color: Iterable[int], x: float, y: float, width: float, height: float) -> None:
        """Fill a framed rectangle from x on, its middle at y."""
        corner = (x / self.width, 1 - (y + height / 2) / self.height)
        self.figure.add_artist(
            Rectangle(
                corner,
                width / self.width,
                height / self.height,
                facecolor=[value / 255 for value in color],
                edgecolor=_INK,
                linewidth=0.5,
            )
        )

    def image(self) -> np.ndarray:
        """The strip as an RGB image."""
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[:, :, :3].copy()
