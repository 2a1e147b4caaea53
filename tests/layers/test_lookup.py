"""Sums of looked-up rows."""

import torch

from ifa_d2.layers.lookup import Lookup, add_lookups_


def lookups() -> list[Lookup]:
    """Of 24 queries: single rows of one table, two weighted rows of another."""
    kind = {"dtype": torch.float64, "requires_grad": True}
    return [
        Lookup(torch.randn(5, 3, **kind), torch.randint(5, (24, 1))),
        Lookup(
            torch.randn(40, 3, **kind),
            torch.randint(40, (24, 2)),
            torch.rand(24, 2, dtype=torch.float64),
        ),
    ]


def plain_sum(base: torch.Tensor, parts: list[Lookup]) -> torch.Tensor:
    """The definition, written plainly, for a map (2, 3, 3, 4)."""
    rows = base.permute(0, 2, 3, 1).reshape(24, 3)
    for part in parts:
        weights = torch.ones(part.index.shape) if part.weights is None else part.weights
        rows = rows + (part.table[part.index] * weights[..., None]).sum(1)
    return rows.view(2, 3, 4, 3).permute(0, 3, 1, 2)


def test_lookups_are_added_to_a_view_that_carries_a_gradient():
    """As to the position term of points: values and gradients, and the view stays as it is."""
    parts, source = lookups(), torch.randn(2, 12, 3, dtype=torch.float64, requires_grad=True)
    base = (2 * source).view(2, 3, 4, 3).permute(0, 3, 1, 2)
    before = base.detach().clone()
    out, expected = add_lookups_(base, parts), plain_sum(2 * _as_map(source), parts)
    assert torch.equal(base, before)
    assert torch.allclose(out, expected)
    probe, inputs = torch.randn_like(out), [source, *(part.table for part in parts)]
    ours = torch.autograd.grad((out * probe).sum(), inputs)
    theirs = torch.autograd.grad((expected * probe).sum(), inputs)
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


def test_lookups_overwrite_a_map_that_is_no_view():
    """So that a grid's sum needs no memory besides its base."""
    parts, source = lookups(), torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    base = 2 * source.contiguous(memory_format=torch.channels_last)
    expected = plain_sum(base.detach(), parts)
    out = add_lookups_(base, parts)
    assert out.data_ptr() == base.data_ptr()
    assert torch.allclose(out, expected)
    (gradient,) = torch.autograd.grad(out.sum(), [source])
    assert torch.equal(gradient, torch.full_like(source, 2))


def _as_map(rows: torch.Tensor) -> torch.Tensor:
    return rows.view(2, 3, 4, 3).permute(0, 3, 1, 2)
