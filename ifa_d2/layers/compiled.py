"""The decoding of a tile as one program for ``torch.compile``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .lookup import Terms, merge_lookups
from .mlp import Tail, apply_tail


def compile_finish(**options: Any) -> Callable[[Terms, Tail], Tensor]:
    """The way from the first layer's terms to logits (B, K, H, W), compiled.

    It is one graph, to which the numbers of queries and cells are symbols.

    Args:
        options: of ``torch.compile``.
    """
    program = torch.compile(_finish, fullgraph=True, dynamic=True, **options)

    def finish(terms: Terms, tail: Tail) -> Tensor:
        table, index, weights = merge_lookups(terms.lookups) if terms.lookups else (None,) * 3
        base = None
        if terms.direct:
            base = sum(terms.direct[1:], start=terms.direct[0])
            base = base.permute(0, 2, 3, 1).reshape(-1, base.shape[1])
        tensors = [_plain(x) for x in (base, table, index, weights)]
        logits = program(*tensors, list(tail))
        return logits.view(terms.batch, *terms.size, -1).permute(0, 3, 1, 2)

    return finish


def _plain(x: Tensor | None) -> Tensor | None:
    """The same values with nothing for a program to be specialised on but the type and rank."""
    if x is None:
        return None
    if x.storage_offset():
        x = x.clone()
    x = x.data  # no view: the size of what it is a view of would be a constant of the program
    if len(x) > 1:
        torch._dynamo.maybe_mark_dynamic(x, 0)
    return x


def _finish(
    base: Tensor | None,
    table: Tensor | None,
    index: Tensor | None,
    weights: Tensor | None,
    tail: Tail,
) -> Tensor:
    """Rows (Q, D) and the lookups added to them, to logits (Q, K)."""
    total = base
    if table is not None and index is not None:
        for tap in range(index.shape[1]):
            term = table[index[:, tap]]
            if weights is not None:
                term = term * weights[:, tap, None]
            total = term if total is None else total + term
    assert total is not None
    return apply_tail(total.t()[None, :, None], tail)[0, :, 0].t()
