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


def sum_lookups(lookups: Sequence[Lookup]) -> Tensor:
    """The sum of all lookups: (Q, C), differentiable in the tables."""
    plan = [(lookup.index, lookup.weights) for lookup in lookups]
    return _SumLookups.apply(plan, None, *(lookup.table for lookup in lookups))


def add_lookups_(base: Tensor, lookups: Sequence[Lookup]) -> Tensor:
    """Add all lookups to a map (B, C, H, W) of as many cells, in their order.

    The map is overwritten where its channels are last in memory, and copied first where not, or
    where it is a view that carries a gradient.
    """
    plan = [(lookup.index, lookup.weights) for lookup in lookups]
    if base.requires_grad and base._is_view():
        # Cheaper than the copies by which autograd would follow the change of a view.
        base = base.clone(memory_format=torch.channels_last)
    base = base.contiguous(memory_format=torch.channels_last)
    return _SumLookups.apply(plan, base, *(lookup.table for lookup in lookups))


def merge_lookups(lookups: Sequence[Lookup]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Table, index and weights of one lookup that sums all rows of several, of the same queries.

    It does not carry gradients to the tables.
    """
    if len(lookups) == 1:
        return lookups[0].table, lookups[0].index, lookups[0].weights
    table = torch.cat([lookup.table.detach() for lookup in lookups])
    length, taps = len(lookups[0].index), sum(lookup.index.shape[1] for lookup in lookups)
    index = torch.empty((length, taps), dtype=torch.int64, device=table.device)
    weights = None
    if any(lookup.weights is not None for lookup in lookups):
        weights = torch.ones((length, taps), dtype=table.dtype, device=table.device)
    row = tap = 0
    for lookup in lookups:
        columns = slice(tap, tap + lookup.index.shape[1])
        torch.add(lookup.index, row, out=index[:, columns])
        if weights is not None and lookup.weights is not None:
            weights[:, columns] = lookup.weights
        row, tap = row + len(lookup.table), columns.stop
    return table, index, weights


@dataclass(frozen=True)
class Terms:
    """Terms whose sum is the pre-activations of some queries.

    Attributes:
        lookups: of all queries, image by image and row by row.
        direct: maps (B, C, H, W), the first of which may be overwritten.
        batch, size: B and (H, W).
    """

    lookups: list[Lookup]
    direct: list[Tensor]
    batch: int
    size: tuple[int, int]

    def sum(self) -> Tensor:
        """(B, C, H, W)."""
        lookups, direct = self.lookups, self.direct
        if direct and lookups:
            total = add_lookups_(direct[0].to(lookups[0].table.dtype), lookups)
        elif lookups:
            channels = lookups[0].table.shape[1]
            total = sum_lookups(lookups).view(self.batch, *self.size, channels)
            total = total.permute(0, 3, 1, 2)
        else:
            total = direct[0]
        for term in direct[1:]:
            total = total + term.to(total.dtype)
        return total


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
        if base is None:
            out = tables[0].new_empty((length, channels))
        else:
            ctx.mark_dirty(base)
            out = base.detach().permute(0, 2, 3, 1).view(length, channels)
        terms = [(table, *part) for table, part in zip(tables, plan, strict=True)]
        if sum(map(len, tables)) <= length:
            terms = [merge_lookups([Lookup(*term) for term in terms])]
        for chunk in _chunks(length, channels * out.element_size(), out.device):
            for i, (table, index, weights) in enumerate(terms):
                weights = None if weights is None else weights[chunk]
                part = F.embedding_bag(index[chunk], table, mode="sum", per_sample_weights=weights)
                if base is None and i == 0:
                    out[chunk] = part
                else:
                    out[chunk] += part
        return out if base is None else base

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        grads = [None, grad if ctx.needs_input_grad[1] else None]
        if grad.dim() == 4:
            grad = grad.permute(0, 2, 3, 1).reshape(-1, grad.shape[1])
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
