"""Perceptual consistency of the segmentations of two frames (Zhang et al., WACV 2022).

Positions that look alike are to have labels that are alike. With unit features f and scores s, of a
position p in one frame and all positions q in the other:

    c(p, q) = <f_p, f_q>
    u(p) = max_q c(p, q)                 the best match
    m(p) = max_q c(p, q) <s_p, s_q>      the best match among equal labels
    a(p) = mean_q c(p, q)
    pc(p) = (m(p) - a(p)) / (u(p) - a(p))

Scores are one-hot labels, for which <s_p, s_q> is 1 for equal labels and 0 otherwise, or class
probabilities, in which pc is differentiable.

Shape legend: B pairs, C channels, K classes, h x w positions of a frame, P and Q positions that
have a label, R of them at once.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# What the matrices of some rows may take at once: similarity, agreement and their product.
MAX_BYTES = 64 << 20
_MATRICES = 3
# Of a type's rounding: less contrast than that is none.
_FLAT = 64


@dataclass(frozen=True)
class PairConsistency:
    """Perceptual consistency of two frames at every position, NaN at those without a label.

    Attributes:
        forward: (h, w) of the first frame's positions, looked for in the second frame.
        backward: (h, w) of the second frame's positions, looked for in the first.
    """

    forward: Tensor
    backward: Tensor

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """Means over the positions, forward and backward."""
        return self.forward.nanmean(), self.backward.nanmean()

    @property
    def score(self) -> Tensor:
        """The smaller one of the means."""
        return torch.minimum(*self.means)


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert labels (h, w) to scores (K, h, w); all are 0 where the label is no class."""
    classes = torch.arange(num_classes, device=labels.device)
    return (labels[None] == classes[:, None, None]).to(dtype)


def perceptual_consistency(
    features_a: Tensor,
    features_b: Tensor,
    scores_a: Tensor,
    scores_b: Tensor,
    *,
    clamp: bool = False,
    max_bytes: int = MAX_BYTES,
) -> PairConsistency:
    """Compare the segmentations of two frames by what the frames look like.

    The similarity of all positions is made in bands of rows, both directions in one pass. Where all
    positions of the other frame look the same, nothing can be told from what they look like: pc is
    then 1 if the label is among them, and else 0.

    Args:
        features_a, features_b: (C, h, w) of each frame, of any length; no gradient reaches them.
        scores_a, scores_b: (K, h, w) on the grids of the features, see :func:`one_hot`. A position
            whose scores are all 0 has no label: it neither asks nor answers.
        clamp: limit pc to [0, 1]. By its formula it has no lower bound, as where the other frame
            has a position's class nowhere.
        max_bytes: what the matrices may take at once; one row is made in any case.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    _check("a", features_a, scores_a)
    _check("b", features_b, scores_b)
    if len(features_a) != len(features_b) or len(scores_a) != len(scores_b):
        raise ValueError(
            "features and scores of both frames must have as many channels and classes, got "
            f"{len(features_a)} and {len(scores_a)} of a, {len(features_b)} and {len(scores_b)} of "
            "b"
        )
    valid_a, valid_b = (scores.detach().sum(dim=0) != 0 for scores in (scores_a, scores_b))
    both = [
        _positions(features, scores, valid)
        for features, scores, valid in (
            (features_a, scores_a, valid_a),
            (features_b, scores_b, valid_b),
        )
    ]
    if all(len(features) for features, _ in both):
        with torch.autocast(features_a.device.type, enabled=False):
            forward, backward = _directions(*both[0], *both[1], clamp, max_bytes)
    else:
        forward, backward = (
            features.new_full(features.shape[:1], torch.nan) for features, _ in both
        )
    return PairConsistency(_placed(forward, valid_a), _placed(backward, valid_b))


def perceptual_consistency_loss(
    features_a: Tensor,
    features_b: Tensor,
    logits_a: Tensor,
    logits_b: Tensor,
    *,
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    """1 minus the score of pairs of frames, with probabilities for labels: a scalar.

    Args:
        features_a, features_b: (B, C, h, w), of a network that is not trained.
        logits_a, logits_b: (B, K, H, W) of the model, interpolated to the grid of the features.
        max_bytes: as of :func:`perceptual_consistency`, in the backward pass too.

    Raises:
        ValueError: as :func:`perceptual_consistency`; or other numbers of pairs.
    """
    counts = {len(part) for part in (features_a, features_b, logits_a, logits_b)}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"features and logits must be of as many pairs, 1 or more, got {counts}")
    probabilities = (
        F.interpolate(_wide(logits), features.shape[-2:], mode="bilinear").softmax(dim=1)
        for logits, features in ((logits_a, features_a), (logits_b, features_b))
    )
    pairs = zip(features_a, features_b, *probabilities, strict=True)
    scores = [perceptual_consistency(*pair, max_bytes=max_bytes).score for pair in pairs]
    return 1 - torch.stack(scores).mean()


def _check(name: str, features: Tensor, scores: Tensor) -> None:
    if features.dim() != 3 or scores.dim() != 3 or features.shape[1:] != scores.shape[1:]:
        raise ValueError(
            f"features_{name} and scores_{name} must be (channels, h, w) and (classes, h, w) of "
            f"one grid, got {tuple(features.shape)} and {tuple(scores.shape)}"
        )


def _positions(features: Tensor, scores: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Unit features (P, C) and scores (P, K) of the positions that have a label."""
    chosen = _wide(features.detach()[:, valid].t())
    return F.normalize(chosen, dim=1), scores[:, valid].t().to(chosen.dtype)


def _wide(values: Tensor) -> Tensor:
    """Values in 32 bits, or more if they have more."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _placed(values: Tensor, valid: Tensor) -> Tensor:
    """Put values of the positions with a label on the grid, among NaN."""
    return values.new_full(valid.shape, torch.nan).masked_scatter(valid, values)


def _directions(
    features_a: Tensor,
    scores_a: Tensor,
    features_b: Tensor,
    scores_b: Tensor,
    clamp: bool,
    max_bytes: int,
) -> tuple[Tensor, Tensor]:
    """Consistency (P,) of the first frame's positions and (Q,) of the second's."""
    row_bytes = _MATRICES * len(features_b) * features_b.element_size()
    step = max(1, max_bytes // row_bytes)
    rows: list[tuple[Tensor, Tensor]] = []
    columns: tuple[Tensor, Tensor] | None = None
    for top in range(0, len(features_a), step):
        band = features_a[top : top + step], scores_a[top : top + step], features_b, scores_b
        # Its matrices are made again in the backward pass, so that no more than one band is held.
        *row, best, matched = checkpoint(
            _band, *band, use_reentrant=False, preserve_rng_state=False
        )
        rows.append(tuple(row))
        if columns is not None:
            best, matched = torch.maximum(columns[0], best), torch.maximum(columns[1], matched)
        columns = best, matched
    best, matched = (torch.cat(parts) for parts in zip(*rows, strict=True))
    # The mean of products with all of a frame's features is that with their mean.
    forward = _ratio(best, matched, features_a @ features_b.mean(dim=0), clamp)
    return forward, _ratio(*columns, features_b @ features_a.mean(dim=0), clamp)


def _band(
    features_a: Tensor, scores_a: Tensor, features_b: Tensor, scores_b: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Best matches u and m of some rows, (R,) each, and of all columns among them, (Q,) each."""
    similarity = features_a @ features_b.t()  # (R, Q)
    matched = similarity * (scores_a @ scores_b.t())
    return similarity.amax(1), matched.amax(1), similarity.amax(0), matched.amax(0)


def _ratio(best: Tensor, matched: Tensor, mean: Tensor, clamp: bool) -> Tensor:
    """Compute (m - a) / (u - a), and what stands for 0 / 0."""
    tolerance = _FLAT * torch.finfo(best.dtype).eps
    contrast = best - mean
    flat = contrast <= tolerance
    found = (matched >= best - tolerance).to(best.dtype)
    ratio = (matched - mean) / contrast.masked_fill(flat, 1)
    ratio = torch.where(flat, found, ratio)
    return ratio.clamp(0, 1) if clamp else ratio
