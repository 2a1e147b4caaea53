"""Drawings of the demo, from pictures and their ground truth."""

import math

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from omegaconf import DictConfig

from ..data.labels import read_record_classes
from ..engine.build import test_dataset_names
from ..engine.inputs import read_input
from ..visualization import (
    MAX_SAMPLES,
    MAX_SIDE,
    add_color_bar,
    add_legend,
    draw_entropy,
    draw_panoptic,
    draw_segmentation,
    enlargement,
    entropy_colors,
    image_and_panels,
    letter_size,
)
from .answers import Answer, Segmenter, resample_labels
from .sources import Picture

LAYOUTS = ("row", "overlay")
# What the ends of the entropy's colour bar mean: it is drawn as a share of ln K.
ENTROPY_ENDS = ("entropy: 0, certain", "1, all classes equally probable")


def find_metadata(cfg: CfgNode | DictConfig, dataset_name: str | None = None) -> Metadata:
    """Names and colours of a data set's classes; by default the config's test data.

    Raises:
        ValueError: the config names none, or it is not registered with classes.
    """
    names = [dataset_name] if dataset_name else test_dataset_names(cfg)
    if not names:
        raise ValueError("the config names no data set to take class names and colours from")
    known = MetadataCatalog.list()
    if names[0] not in known or not MetadataCatalog.get(names[0]).get("stuff_classes"):
        raise ValueError(f"no data set with classes is {names[0]!r}, only {', '.join(known)}")
    return MetadataCatalog.get(names[0])


class Drawing:
    """Segment pictures and draw the answers.

    Where the segmenter answers with entropy, that is the row's last panel.

    Args:
        segmenter: gives the answers.
        metadata: names and colours of the classes.
        layout: "row" of image, prediction and what else there is, or the "overlay" alone.
        alpha: opacity of the colours.
        names: write class names on the larger regions (panoptic drawings always have them).
        outlines: draw lines between regions (panoptic drawings always have them).
        legend: put the classes that are drawn under the drawing.

    Raises:
        ValueError: an unknown layout, an opacity outside [0, 1], a legend of a panoptic model, or a
            segmenter of entropy and no row.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        metadata: Metadata,
        *,
        layout: str = "row",
        alpha: float = 0.6,
        names: bool = True,
        outlines: bool = False,
        legend: bool = False,
    ) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {LAYOUTS}, got {layout!r}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"opacity must be in [0, 1], got {alpha}")
        if legend and segmenter.panoptic:
            raise ValueError(
                "legend is of semantic drawings, a panoptic one has a colour for each instance: "
                "leave it out, names are on the segments"
            )
        if segmenter.entropy and layout != "row":
            raise ValueError(f"layout must be 'row', which has a panel for entropy, got {layout!r}")
        self.segmenter = segmenter
        self.metadata = metadata
        self.layout = layout
        self.alpha = alpha
        self.names = names
        self.outlines = outlines
        self.legend = legend

    def read(self, picture: Picture) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a picture (H, W, 3), and its ground truth (H, W) if there is one.

        Raises:
            ValueError: a damaged file, labels of another size or of no class, or a picture that
                the view's window does not fit; each names the file.
        """
        nodata = self.metadata.get("nodata")
        image, truth = read_input(picture.path, self.segmenter.image_format, nodata=nodata), None
        try:
            self.segmenter.view.resolve(image.shape[:2])
        except ValueError as error:
            raise ValueError(f"{picture.path}: {error}") from error
        if picture.label:
            label_file = picture.label["sem_seg_file_name"]
            truth = read_record_classes(picture.label, self.metadata)
            if truth.shape != image.shape[:2]:
                raise ValueError(
                    f"label {label_file} has (height, width) {truth.shape}, but the picture "
                    f"{picture.path} has {image.shape[:2]}"
                )
        return image, truth

    def ask(self, image: np.ndarray) -> Answer:
        """Segment a picture (H, W, 3).

        Raises:
            ValueError: see :class:`Segmenter`; or a class beyond the data set's.
        """
        answer = self.segmenter(image)
        self._check_classes(answer)
        return answer

    def draw(
        self, image: np.ndarray, truth: np.ndarray | None = None, *, answer: Answer | None = None
    ) -> np.ndarray:
        """Draw a picture (H, W, 3) and its segmentation; the drawing is an RGB image.

        Args:
            image: the picture.
            truth: (H, W) labels to draw beside it.
            answer: of :meth:`ask` about it; None asks.

        Raises:
            ValueError: see :meth:`ask`.
        """
        if answer is None:
            answer = self.ask(image)
        scale = _row_scale(answer.image) if self.layout == "row" else 1
        prediction = self._panel(answer, scale)
        if self.layout == "overlay":
            return self._with_legend(prediction, [answer.labels], prediction)
        panels, segmentations = {"prediction": prediction}, [answer.labels]
        if truth is not None:
            window, size = self.segmenter.view.resolve(image.shape[:2])
            labels = resample_labels(truth, window, size)
            panels["ground truth"] = self._panel(Answer(answer.image, labels), scale)
            segmentations.append(labels)
        if answer.entropy is not None:
            panels["entropy"] = draw_entropy(answer.entropy, scale=scale)
        row = image_and_panels(answer.image, panels, scale=scale)
        row = self._with_legend(row, segmentations, prediction)
        if answer.entropy is None:
            return row
        size = letter_size(*prediction.shape[:2])
        return add_color_bar(row, entropy_colors(), ENTROPY_ENDS, size)

    def _with_legend(
        self, drawing: np.ndarray, segmentations: list[np.ndarray], panel: np.ndarray
    ) -> np.ndarray:
        if not self.legend:
            return drawing
        size = letter_size(*panel.shape[:2])
        return add_legend(drawing, segmentations, self.metadata, size)

    def _panel(self, answer: Answer, scale: int) -> np.ndarray:
        options = {"scale": scale, "alpha": self.alpha}
        if answer.labels is not None:
            options |= {"names": self.names, "outlines": self.outlines}
            return draw_segmentation(answer.image, answer.labels, self.metadata, **options)
        segments = (answer.segment_ids, answer.segments)
        return draw_panoptic(answer.image, *segments, self.metadata, **options)

    def _check_classes(self, answer: Answer) -> None:
        known = len(self.metadata.stuff_classes)
        if answer.num_classes not in (None, known):
            raise ValueError(
                f"the model predicts {answer.num_classes} classes, but the data set has {known}"
            )


def _row_scale(image: np.ndarray) -> int:
    """Whole factor to enlarge a small image by, within the size that can be drawn."""
    height, width = image.shape[:2]
    most = min(math.isqrt(MAX_SAMPLES // (height * width)), MAX_SIDE // max(height, width))
    return max(1, min(enlargement(image), most))
