"""The alignment function evaluated as the paper writes it: concatenate, then MLP (paper, Eq. 4).

The baseline of the cost tables and benchmarks, over the parameters of an
:class:`ImplicitAlignment`.

Shape legend: B batch, C channels of a level, H x W query grid, p position features, K classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .alignment import ImplicitAlignment
from .queries import GridQuery


def textbook_alignment(
    alignment: ImplicitAlignment, levels: Sequence[Tensor], query: GridQuery
) -> Tensor:
    """Logits (B, K, H, W) of ``alignment`` at a grid; arguments as of its ``forward``."""
    inputs = []
    for level, encoding in zip(levels, alignment.encodings, strict=True):
        if alignment.unfold:
            level = F.unfold(level, 3, padding=1).unflatten(2, level.shape[2:])
        ty = query.rows.taps(level.shape[2], alignment.local_ensemble).to(level.device, level.dtype)
        tx = query.cols.taps(level.shape[3], alignment.local_ensemble).to(level.device, level.dtype)
        inputs.append(0)
        for i in range(len(ty.cells)):
            for j in range(len(tx.cells)):
                feature = level[:, :, ty.cells[i][:, None], tx.cells[j]]  # (B, C, H, W)
                offset = torch.broadcast_tensors(ty.offsets[i][:, None], tx.offsets[j])
                position = encoding(*offset).permute(2, 0, 1)  # (p, H, W)
                position = position.expand(len(level), *position.shape)
                value = torch.cat([position, feature], dim=1)  # (B, p + C, H, W)
                if ty.weights is not None:
                    value = value * (ty.weights[i][:, None] * tx.weights[j])
                inputs[-1] = value if i == j == 0 else inputs[-1] + value
    return alignment.predictor(alignment.mlp(torch.cat(inputs, dim=1)))
