"""Figures of predicted depth, as an evaluator of Detectron2 (Eigen et al., NIPS 2014, Sec. 4.2).

Shape legend: H x W pixels, N pixels of known depth.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from film_folder import read_depth

from ifa_d2.files import atomic_path

_logger = logging.getLogger("ifa_d2.xdistill")
FIGURES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "delta_1", "delta_2", "delta_3")


def depth_figures(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Compare depths (N,), both above 0.

    Returns:
        ``abs_rel`` and ``sq_rel``, means of |p - t| / t and (p - t)^2 / t; ``rmse`` and
        ``rmse_log``, root mean squares of p - t and log p - log t; ``delta_k``, the share of pixels
        with max(p / t, t / p) < 1.25^k.
    """
    difference = predicted - true
    ratio = np.maximum(predicted / true, true / predicted)
    return {
        "abs_rel": float(np.mean(np.abs(difference) / true)),
        "sq_rel": float(np.mean(difference**2 / true)),
        "rmse": float(np.sqrt(np.mean(difference**2))),
        "rmse_log": float(np.sqrt(np.mean(np.log(predicted / true) ** 2))),
        **{f"delta_{k}": float(np.mean(ratio < 1.25**k)) for k in (1, 2, 3)},
    }


class DepthEvaluator(DatasetEvaluator):
    """Compare depths of a data set with true ones, frame by frame.

    ``evaluate()["depth"]`` holds the means over frames of :func:`depth_figures`, and
    ``scale_spread``: the standard deviation of the factors by which depths were scaled, over their
    median. Of a frame a few numbers are kept. With ``output_dir`` they are written to
    ``depth_evaluation.json`` there, frame by frame.

    Attributes:
        best_metric: the figure that chooses the best checkpoint of a training, as the trainer asks.
    """

    best_metric = "depth/delta_1"

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        *,
        min_depth: float = 1e-3,
        max_depth: float = 80.0,
        median_scaling: bool = True,
        crop: Sequence[float] | None = None,
    ) -> None:
        """
        Args:
            dataset_name: of the data set, whose records have ``depth_file_name``.
            output_dir: see above.
            min_depth, max_depth: true depths beyond them do not count, and predicted ones are
                clipped to them; in metres.
            median_scaling: scale each frame's depths to the true median, as a film does not tell
                the scale.
            crop: (top, bottom, left, right) of the part that counts, as shares of the picture's
                sides; None counts all.

        Raises:
            ValueError: numbers out of range.
        """
        if not 0 < min_depth < max_depth:
            raise ValueError(
                f"min_depth must be above 0 and below max_depth, got {min_depth} and {max_depth}"
            )
        if crop is not None:
            top, bottom, left, right = crop
            if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
                raise ValueError(
                    f"crop must be (top, bottom, left, right) in [0, 1], got {list(crop)}"
                )
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        self._min_depth, self._max_depth = min_depth, max_depth
        self._median_scaling = median_scaling
        self._crop = None if crop is None else tuple(crop)
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self._frames: list[dict[str, Any]] = []

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Compare some frames.

        Args:
            inputs: with ``file_name``, ``image_id`` and ``depth_file_name``.
            outputs: with ``depth``, (H, W).

        Raises:
            ValueError: depths of another size, not above 0 or not finite, or a frame without any
                known depth. The message names the file.
        """
        for one, output in zip(inputs, outputs, strict=True):
            path = one["depth_file_name"]
            true, predicted = read_depth(path), output["depth"].double().cpu().numpy()
            if true.shape != predicted.shape:
                raise ValueError(
                    f"depth {path} has (height, width) {true.shape}, but {predicted.shape} was "
                    f"predicted of {one['file_name']}"
                )
            known = self._counts(true)
            if not known.any():
                raise ValueError(
                    f"depth {path} must have pixels from {self._min_depth} to {self._max_depth} "
                    "metres, got none"
                )
            if not (np.isfinite(predicted[known]) & (predicted[known] > 0)).all():
                raise ValueError(
                    f"depth of {one['file_name']} must be finite and above 0, but was predicted "
                    f"from {predicted[known].min()} to {predicted[known].max()}"
                )
            self._frames.append(
                {"image_id": one["image_id"], **self._compare(predicted[known], true[known])}
            )

    def _counts(self, true: np.ndarray) -> np.ndarray:
        """Which pixels count, (H, W)."""
        known = (true > self._min_depth) & (true < self._max_depth)
        if self._crop is not None:
            height, width = true.shape
            top, bottom, left, right = self._crop
            part = np.zeros_like(known)
            part[
                int(top * height) : int(bottom * height), int(left * width) : int(right * width)
            ] = 1
            known &= part
        return known

    def _compare(self, predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
        scale = float(np.median(true) / np.median(predicted)) if self._median_scaling else 1.0
        clipped = np.clip(scale * predicted, self._min_depth, self._max_depth)
        return {"scale": scale, **depth_figures(clipped, true)}

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Compute the figures; empty but on the main process.

        Raises:
            ValueError: there were no frames.
        """
        frames = [one for part in comm.gather(self._frames) for one in part]
        if not comm.is_main_process():
            return {}
        if not frames:
            raise ValueError(f"{self._dataset_name} has no frames that were evaluated")
        figures = {name: float(np.mean([one[name] for one in frames])) for name in FIGURES}
        scales = np.array([one["scale"] for one in frames])
        figures["scale_spread"] = float(scales.std() / np.median(scales))
        said = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        _logger.info(f"Depth of {len(frames)} frames of {self._dataset_name}: {said}")
        if self._output_dir is not None:
            content = {"dataset": self._dataset_name, "figures": figures, "frames": frames}
            with atomic_path(Path(self._output_dir, "depth_evaluation.json")) as temporary:
                temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return OrderedDict(depth=figures)
