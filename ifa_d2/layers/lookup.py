"""Sums of looked-up rows: what is left, for each query, of the first layer of the alignment
function.

Shape legend: N rows of a table, Q queries, T rows looked up a query, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Queries handled at once on a CPU, so that what is added up is still in its cache.
_CPU_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Lookup:
    """Rows to be summed for each query.

    Attributes:
        table: (N, C) values.
        index: (Q, T) integer rows of the table.
        weights: (Q, T) factors of those rows, without a gradient; None for 1.
    """

    table: Tensor
    index: Tensor
    weights: Tensor | None = None


def sum_lookups(lookups: Sequence[Lookup], base: Tensor | None = None) -> Tensor:
    """The sum of all lookups and of ``base`` (Q, C): (Q, C), differentiable in tables and base."""
    plan = [(lookup.index, lookup.weights) for lookup in lookups]
    return _SumLookups.apply(plan, base, *(lookup.table for lookup in lookups))


def _chunks(length: int, row_bytes: int, device: torch.device) -> list[slice]:
    step = max(1, _CPU_CHUNK_BYTES // row_bytes if device.type == "cpu" else length)
    return [slice(i, i + step) for i in range(0, length, step)]


class _SumLookups(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: list[tuple[Tensor, Tensor | None]],
        base: Tensor | None,
        *tables: Tensor,
    ) -> Tensor:
        ctx.plan = plan
        ctx.lengths = [len(table) for table in tables]
        tables = tuple(table.detach() for table in tables)  # for embedding_bag's faster variant
        length, channels = len(plan[0][0]), tables[0].shape[1]
        chunks = _chunks(length, channels * tables[0].element_size(), tables[0].device)
        out = None if len(chunks) == 1 else tables[0].new_empty((length, channels))
        for chunk in chunks:
            total = None if base is None else base[chunk]
            for (index, weights), table in zip(plan, tables, strict=True):
                part = F.embedding_bag(
                    index[chunk],
                    table,
                    mode="sum",
                    per_sample_weights=None if weights is None else weights[chunk],
                )
                total = part if total is None else part.add_(total)
            if out is None:
                return total
            out[chunk] = total
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        grads = [None, grad if ctx.needs_input_grad[1] else None]
        grad = grad.contiguous()
        for i, (index, weights) in enumerate(ctx.plan):
            needed = ctx.needs_input_grad[2 + i]
            grads.append(_grad_of_table(grad, index, weights, ctx.lengths[i]) if needed else None)
        return tuple(grads)


def _grad_of_table(grad: Tensor, index: Tensor, weights: Tensor | None, length: int) -> Tensor:
    """(length, C): for each row of a table, the sum of the gradients of those that looked it up.

    The transposed lookup: sorted by row, so that it needs no atomic addition, gives the same bits
    each time, and sums in single precision whatever the type.
    """
    rows, order = index.flatten().sort(stable=True)
    ends = torch.arange(length + 1, device=index.device, dtype=rows.dtype)
    return F.embedding_bag(
        order // index.shape[1],
        grad,
        torch.searchsorted(rows, ends),
        mode="sum",
        include_last_offset=True,
        per_sample_weights=None if weights is None else weights.flatten()[order],
    )
