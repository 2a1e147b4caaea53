"""Calibration: whether predictions of a confidence are as often right (Guo et al. 2017).

A pixel's confidence is the probability of its most likely class. Source:
https://arxiv.org/abs/1706.04599, Sec. 2 and 4.2.

Shape legend: K classes, H x W pixels of a picture, M bins, N sampled pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

# Confidences are counted in these units: whole numbers, whose sums are exact in any order.
_UNIT = 1 << 24
_BAND = 2**16  # pixels looked at at once
# Logits whose best temperature lies beyond are not off by a factor, but say nothing.
TEMPERATURES = (0.01, 100.0)


@dataclass(frozen=True)
class Reliability:
    """Sums over the labelled pixels of each bin of confidence.

    Bin m of M holds the confidences above m / M, up to (m + 1) / M.

    Attributes:
        counts: (3, M) int64: pixels; of them, those predicted right; their confidences' sum, in
            units of 2**-24. Those of several pictures or processes are added.
    """

    counts: np.ndarray

    @classmethod
    def of(
        cls, logits: Tensor, label: np.ndarray, prediction: np.ndarray, bins: int
    ) -> "Reliability":
        """Count the pixels of a picture, band by band.

        Args:
            logits: (K, H, W), on any device.
            label: (H, W), classes, and K for ignored pixels.
            prediction: (H, W), the most likely classes.
            bins: M.
        """
        counts = np.zeros((3, bins), np.int64)
        rows = max(1, _BAND // max(1, logits.shape[2]))
        for top in range(0, len(label), rows):
            band = slice(top, top + rows)
            known = label[band] < len(logits)
            right = (label[band] == prediction[band])[known]
            wide = logits[:, band].detach().float()
            confidence = wide.softmax(dim=0).amax(dim=0).cpu().numpy()[known]
            counts += _count(confidence, right, bins)
        return cls(counts)

    @property
    def pixels(self) -> np.ndarray:
        """Pixels of each bin, (M,)."""
        return self.counts[0]

    @property
    def accuracy(self) -> np.ndarray:
        """Share of the pixels of each bin that are right, (M,); NaN for an empty bin."""
        return self._mean(self.counts[1])

    @property
    def confidence(self) -> np.ndarray:
        """Mean confidence of each bin, (M,); NaN for an empty bin."""
        return self._mean(self.counts[2] / _UNIT)

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1: mean distance of accuracy and confidence.

        Each bin weighs as many pixels as it has; NaN without any.
        """
        total = self.pixels.sum()
        if not total:
            return float("nan")
        return float(np.abs(self.counts[1] - self.counts[2] / _UNIT).sum() / total)

    def rows(self) -> list[dict[str, float]]:
        """Each bin in plain types, confidences and accuracies from 0 to 1."""
        edges = np.linspace(0, 1, len(self.pixels) + 1).tolist()
        figures = [one.tolist() for one in (self.pixels, self.accuracy, self.confidence)]
        names = ("above", "up_to", "pixels", "accuracy", "confidence")
        rows = zip(edges[:-1], edges[1:], *figures, strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _mean(self, sums: np.ndarray) -> np.ndarray:
        out = np.full(sums.shape, np.nan)
        return np.divide(sums, self.pixels, out=out, where=self.pixels > 0)


def _count(confidence: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """Count pixels (N,) of a confidence, which are right or not, into (3, M)."""
    units = np.rint(confidence.astype(np.float64) * _UNIT).astype(np.int64)
    index = (units.clip(1) * bins - 1) // _UNIT
    sums = [np.bincount(index, values, bins) for values in (np.ones(len(index)), right, units)]
    return np.stack(sums).astype(np.int64)  # floats that hold the whole numbers of a band


@dataclass(frozen=True)
class LogitSample:
    """Logits and labels of sampled pixels.

    Attributes:
        logits: (N, K) float32, undivided.
        labels: (N,) int64.
        weights: (N,) float64, for how many pixels of its picture each stands.
        pictures: (N,) int64, which picture each is of.
    """

    logits: Tensor
    labels: Tensor
    weights: Tensor
    pictures: Tensor

    @classmethod
    def joined(cls, samples: Sequence["LogitSample"]) -> "LogitSample":
        """All pixels of several samples."""
        parts = zip(*(sample._tensors for sample in samples), strict=True)
        return cls(*map(torch.cat, parts))

    def where(self, chosen: Tensor) -> "LogitSample":
        """Pixels where a (N,) mask is true."""
        return LogitSample(*(part[chosen] for part in self._tensors))

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return self.logits, self.labels, self.weights, self.pictures

    def nll(self, temperature: float = 1.0) -> float:
        """Mean negative log likelihood of the labels, in nats."""
        found = torch.nn.functional.cross_entropy(
            self.logits.double() / temperature, self.labels, reduction="none"
        )
        return float((found * self.weights).sum() / self.weights.sum())

    def calibration_error(self, temperature: float = 1.0, bins: int = 15) -> float:
        """Expected calibration error, 0 to 1, of ``bins`` bins of confidence."""
        best, found = (self.logits.double() / temperature).softmax(dim=1).max(dim=1)
        right = (found == self.labels).double()
        index = (best * bins).ceil().long().clamp(1, bins) - 1
        gaps = best.new_zeros(bins).index_add(0, index, self.weights * (right - best))
        return float(gaps.abs().sum() / self.weights.sum())


def fit_temperature(sample: LogitSample) -> float:
    """Fit the temperature that makes the labels of a sample most likely.

    The negative log likelihood has one minimum in the inverse of the temperature, in which it is
    convex.

    Raises:
        ValueError: the best temperature is out of ``TEMPERATURES``.
    """
    from scipy.optimize import minimize_scalar  # here: evaluation does without it

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda log: sample.nll(float(np.exp(log))),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    if min(found.x - low, high - found.x) < 1e-3:
        way = "all sampled pixels are right" if found.x < 0 else "the logits do not know the labels"
        raise ValueError(
            f"no temperature from {TEMPERATURES[0]} to {TEMPERATURES[1]} fits: {way}; give a data "
            "set that the model was not trained on, with labels of its classes"
        )
    return float(np.exp(found.x))


def held_out_sample(sample: LogitSample) -> tuple[LogitSample, tuple[float, float]]:
    """Divide each half of a sample by the temperature that the other half fits.

    The halves are the pictures before the middle and those after it: neighbours, which are alike in
    films, are mostly in one.

    Returns:
        The sample, to be measured as it is, and the temperatures fitted on the halves.

    Raises:
        ValueError: as of :func:`fit_temperature`, or pixels of one picture alone.
    """
    pictures = sample.pictures.unique()
    if len(pictures) < 2:
        raise ValueError("sample must have pixels of 2 pictures or more, to measure on the others")
    first = sample.pictures < pictures[len(pictures) // 2]
    halves = sample.where(first), sample.where(~first)
    fitted = fit_temperature(halves[0]), fit_temperature(halves[1])
    divided = [
        replace(half, logits=half.logits / other)
        for half, other in zip(halves, reversed(fitted), strict=True)
    ]
    return LogitSample.joined(divided), fitted
