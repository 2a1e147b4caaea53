"""Temporal consistency of label maps: by optical flow (TC), and constancy (mVC).

Shape legend: H x W pixels of a frame, K classes.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from ifa_d2.metrics.confusion import confusion_figures, count_pairs


class FlowConsistency:
    """Temporal consistency TC (Liu et al., ECCV 2020) with OpenCV's DIS optical flow.

    The labels of a frame are warped to the frame before, by the flow from that one, and compared
    with its labels: the mean IoU of counts that are summed over all pairs. As published, occlusions
    are not left out; pixels that the flow leads off the frame do not count.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)

    def add(
        self, earlier: np.ndarray, later: np.ndarray, labels: np.ndarray, later_labels: np.ndarray
    ) -> None:
        """Count a pair of frames (H, W, 3) uint8 RGB with their labels (H, W)."""
        grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (earlier, later))
        warped = warp_labels(later_labels, self._flow.calc(*grey, None), self._num_classes)
        self._counts += count_pairs(labels, warped, self._num_classes)

    def figure(self) -> float:
        """Mean IoU from 0 to 1 over the classes that either map has; NaN without a pair."""
        return confusion_figures(self._counts, count_predicted_only=True).miou


def warp_labels(labels: np.ndarray, flow: np.ndarray, no_class: int) -> np.ndarray:
    """Take each pixel's label from where the flow leads to.

    Args:
        labels: (H, W) uint8 or uint16 of the later frame.
        flow: (H, W, 2) float32 from the earlier frame to the later one, in pixels, (x, y) as
            OpenCV has it.
        no_class: the label of pixels that the flow leads off the frame.
    """
    height, width = labels.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        labels,
        x + flow[..., 0],
        y + flow[..., 1],
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=no_class,
    )


class Constancy:
    """Video consistency mVC_n (Miao et al., CVPR 2021, VSPW).

    Of the pixels whose true label stays the same over n frames, the share whose prediction stays
    the same too, right or wrong; its mean over all runs of n frames. Pixels without a true label do
    not count. A run in which no pixel's label stays is left out.

    Args:
        lengths: numbers of frames, n.

    Raises:
        ValueError: a length below 2.
    """

    def __init__(self, lengths: Sequence[int] = (8, 16)) -> None:
        if not lengths or min(lengths) < 2:
            raise ValueError(f"lengths must be 2 frames or more each, got {tuple(lengths)}")
        self._shares: dict[int, list[float]] = {length: [] for length in lengths}
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._runs: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> None:
        """Count a frame, of (H, W) labels; those of ``num_classes`` or more are none."""
        maps = truth, prediction
        # How many frames, up to this one, each pixel has had its label.
        runs = tuple(np.ones(each.shape, np.int32) for each in maps)
        if self._last is not None:
            for run, before, last, now in zip(runs, self._runs, self._last, maps, strict=True):
                run += before * (last == now)
        runs[0][truth >= num_classes] = 0
        self._last, self._runs = maps, runs
        for length, shares in self._shares.items():
            stays = runs[0] >= length
            if stays.any():
                shares.append(float((runs[1][stays] >= length).mean()))

    def figures(self) -> dict[int, float]:
        """Means from 0 to 1 by length; NaN where no run was long enough."""
        return {
            length: float(np.mean(shares)) if shares else float("nan")
            for length, shares in self._shares.items()
        }
