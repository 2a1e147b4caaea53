"""Pictures of an evaluation, by matplotlib."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..text import class_captions, draw_as_is, text_style
from .calibration import Reliability

_WRITTEN_CLASSES = 30  # up to how many the shares are written into the picture
_NAME_LENGTH = 24  # letters of a class's name in the picture; some of ADE20K's have 60


def draw_confusion(counts: np.ndarray, class_names: Sequence[str], dataset: str) -> Figure:
    """Draw the matrix in percent of its rows, with numbers in cells that have room."""
    shares = 100 * (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    count = len(class_names)
    written = count <= _WRITTEN_CLASSES
    side = 3 + count * (0.38 if written else 0.13)  # inches
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    size = 8 if written else 6
    names = [name[:_NAME_LENGTH] for name in class_captions(class_names)]
    style = text_style(*names)
    axes.set_xticks(range(count), names, rotation=90, fontsize=size, **style)
    axes.set_yticks(range(count), names, fontsize=size, **style)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    draw_as_is(axes.set_title(f"{dataset}: percent of each label's pixels"))
    figure.colorbar(drawn, ax=axes, shrink=0.6, format="%d %%")
    for (row, column), share in np.ndenumerate(shares if written else np.empty((0, 0))):
        if share >= 0.5:
            color = "white" if share > 50 else "black"
            text = f"{share:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    return figure


def draw_reliability(reliability: Reliability, dataset: str) -> Figure:
    """Draw what :func:`.report.write_reliability` describes."""
    count = len(reliability.pixels)
    left = np.arange(count) / count
    figure = Figure(figsize=(5.4, 6.4), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    bars = {"width": 1 / count, "align": "edge", "edgecolor": "white", "linewidth": 0.5}
    accuracy, confidence = reliability.accuracy, reliability.confidence
    above.bar(left, np.nan_to_num(accuracy), color="C0", label="share that is right", **bars)
    above.plot([0, 1], [0, 1], color="0.3", linestyle="--", label="calibrated")
    # The gap of each bin, at its mean confidence: from what is claimed to what is right.
    above.vlines(confidence, accuracy, confidence, color="C3", linewidth=2, label="gap")
    above.plot(confidence, confidence, "_", color="C3", markersize=8)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    above.legend(loc="upper left")
    total = max(1, int(reliability.pixels.sum()))
    below.bar(left, 100 * reliability.pixels / total, color="0.6", **bars)
    below.set(xlabel="confidence (probability of the most likely class)", ylabel="% of pixels")
    said = f"{dataset}: ECE {100 * reliability.error:.2f} %, {count} bins, {total:,} pixels"
    draw_as_is(above.set_title(said, fontsize=10))
    return figure
