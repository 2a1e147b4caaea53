"""The alignment function as the paper writes it: concatenate, then MLP (Eq. 4).

The baseline of the cost tables and benchmarks, over the parameters of an
:class:`ImplicitAlignment`.

Shape legend: B batch, C channels of a level, H x W query grid, p position features, K classes.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .alignment import ImplicitAlignment
from .position import PositionEncoding
from .queries import GridQuery


def textbook_alignment(
    alignment: ImplicitAlignment, levels: Sequence[Tensor], query: GridQuery
) -> Tensor:
    """Compute logits (B, K, H, W) of ``alignment`` at a grid."""
    inputs = concatenate_levels(
        levels,
        query,
        alignment.encodings,
        unfold=alignment.unfold,
        local_ensemble=alignment.local_ensemble,
        feature_slopes=alignment.feature_slopes,
    )
    return alignment.predictor(alignment.mlp(inputs))


def concatenate_levels(
    levels: Sequence[Tensor],
    query: GridQuery,
    encodings: Iterable[PositionEncoding],
    *,
    unfold: bool,
    local_ensemble: bool,
    feature_slopes: bool = False,
) -> Tensor:
    """Concatenate levels at a grid to the MLP's input (B, columns, H, W).

    Each level's positions come before its features, and these before their slopes.

    Args:
        levels: (B, C, h, w) each, of one extent.
        query: where to evaluate.
        encodings: one for each level.
        unfold, local_ensemble, feature_slopes: see :class:`ImplicitAlignment`.
    """
    inputs = []
    for level, encoding in zip(levels, encodings, strict=True):
        if unfold:
            level = F.unfold(level, 3, padding=1).unflatten(2, level.shape[2:])
        dtype = torch.promote_types(level.dtype, torch.float32)
        ty = query.rows.taps(level.shape[2], local_ensemble).to(level.device, dtype)
        tx = query.cols.taps(level.shape[3], local_ensemble).to(level.device, dtype)
        inputs.append(0)
        for i in range(len(ty.cells)):
            for j in range(len(tx.cells)):
                # (B, C, H, W)
                feature = level.index_select(2, ty.cells[i]).index_select(3, tx.cells[j])
                offsets = torch.broadcast_tensors(ty.offsets[i][:, None], tx.offsets[j])
                position = encoding(offsets, (ty.footprints, tx.footprints))
                position = position.permute(2, 0, 1)  # (p, H, W)
                position = position.to(level.dtype).expand(len(level), *position.shape)
                slopes = [feature * d.to(feature.dtype) for d in offsets] if feature_slopes else []
                value = torch.cat([position, feature, *slopes], dim=1)  # (B, p + C or 3 C, H, W)
                if ty.weights is not None:
                    value = value * (ty.weights[i][:, None] * tx.weights[j]).to(value.dtype)
                inputs[-1] = value if i == j == 0 else inputs[-1] + value
    return torch.cat(inputs, dim=1)
