"""Upsampling by spatially varying kernels, in row bands of bounded memory.

Each cell of a map becomes s x s cells; each of those is a weighted sum over the k x k neighbourhood
of the cell it lies in. So all cells of an s x s block share one neighbourhood, and a band of rows
is one batch of small matrix products, of which only the band's neighbourhoods are laid out. With
gradients a band is computed again in the backward pass instead of being kept.

Shape legend: B batch, C channels, D channels of queries and keys, h x w cells, s scale, k kernel
size. Beyond the border lie zeros.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...layers.traceable import span_taps


def reassemble(
    x: Tensor, kernels: Tensor, *, kernel_size: int, scale: int, band_bytes: int = 64 << 20
) -> Tensor:
    """Sum neighbourhoods with given weights (CARAFE, Wang et al. 2019, Eq. 4).

    Args:
        x: (B, C, h, w).
        kernels: (B, k * k * s * s, h, w); a cell's weights, first by the neighbour in row-major
            order, then by the place in its s x s block.
        kernel_size: k, odd.
        scale: s.
        band_bytes: memory for the neighbourhoods of a band of rows, which is one row at least.

    Returns:
        (B, C, h * s, w * s), channels last in memory.
    """
    taps, places = kernel_size**2, scale**2

    def step(rows: Tensor, kernels: Tensor) -> Tensor:
        weights = kernels.unflatten(1, (taps, places)).permute(0, 3, 4, 2, 1)  # (B, h, w, ss, kk)
        return _to_blocks(weights @ _neighbourhoods(rows, kernel_size), scale)

    maps = (_pad(x, kernel_size), kernels)
    return _in_bands(step, maps, (kernel_size - 1, 0), _band_rows(x, taps, band_bytes))


def affiliate(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    kernel_size: int,
    scale: int,
    band_bytes: int = 64 << 20,
) -> Tensor:
    """Sum neighbourhoods weighted by similarity (SAPA, Lu et al. 2022, Sec. 3).

    The weights are the softmax of the inner products of a query with the keys of its neighbourhood;
    a key beyond the border is zero, and so is its inner product.

    Args:
        queries: (B, D, h * s, w * s).
        keys: (B, D, h, w).
        values: (B, C, h, w).
        kernel_size: k, odd.
        scale: s.
        band_bytes: memory for the neighbourhoods of a band of rows, which is one row at least.

    Returns:
        (B, C, h * s, w * s), channels last in memory.
    """
    dims, places = keys.shape[1], scale**2

    def step(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        queries = queries.unflatten(1, (dims, places)).permute(0, 3, 4, 2, 1)  # (B, h, w, ss, D)
        similarity = queries @ _neighbourhoods(keys, kernel_size).transpose(-1, -2)
        dtype = torch.promote_types(similarity.dtype, torch.float32)
        weights = similarity.softmax(dim=-1, dtype=dtype).to(values.dtype)  # (B, h, w, ss, kk)
        return _to_blocks(weights @ _neighbourhoods(values, kernel_size), scale)

    maps = (F.pixel_unshuffle(queries, scale), _pad(keys, kernel_size), _pad(values, kernel_size))
    halos = (0, kernel_size - 1, kernel_size - 1)
    return _in_bands(step, maps, halos, _band_rows(values, kernel_size**2, band_bytes))


def take_nearest(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, h, w) to (B, C, *size) by nearest neighbours."""
    if not _is_recorded() and tuple(x.shape[-2:]) == tuple(size):
        return x
    for dim, length in zip((2, 3), size, strict=True):
        taps = span_taps(length, 1, 1, x.shape[dim], ensemble=False, device=x.device)
        x = x.index_select(dim, taps.cells[0])
    return x


def _in_bands(
    step: Callable[..., Tensor], maps: Sequence[Tensor], halos: Sequence[int], rows: int
) -> Tensor:
    """Apply ``step`` to runs of rows, and put the results one below the other.

    Args:
        step: of rows of the maps, to (B, rows * s, columns, C).
        maps: (B, channels, h + halo, columns) each.
        halos: how many more rows of a map are needed than there are results.
        rows: rows of a band; the last band may have fewer.
    """
    if _is_recorded():  # a program would hold the number of bands
        return step(*maps).permute(0, 3, 1, 2)
    height = maps[0].shape[2] - halos[0]
    parts = []
    for top in range(0, height, rows):
        count = min(rows, height - top)
        band = [m.narrow(2, top, count + halo) for m, halo in zip(maps, halos, strict=True)]
        if torch.is_grad_enabled() and rows < height:
            band = checkpoint(step, *band, use_reentrant=False, preserve_rng_state=False)
            parts.append(band)
        else:
            parts.append(step(*band))
    result = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return result.permute(0, 3, 1, 2)


def _is_recorded() -> bool:
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def _band_rows(x: Tensor, taps: int, band_bytes: int) -> int:
    row_bytes = x[:, :, 0].numel() * taps * x.element_size() if x.shape[2] else 0
    return max(1, band_bytes // max(row_bytes, 1))


def _pad(x: Tensor, kernel_size: int) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    return F.pad(x, (kernel_size // 2,) * 4)


def _neighbourhoods(padded: Tensor, kernel_size: int) -> Tensor:
    """Map (B, C, h + k - 1, w + k - 1) to (B, h, w, k * k, C)."""
    rows = padded.permute(0, 2, 3, 1)
    h, w = (length - kernel_size + 1 for length in padded.shape[2:])
    taps = [rows[:, i : i + h, j : j + w] for i in range(kernel_size) for j in range(kernel_size)]
    return torch.stack(taps, dim=3)


def _to_blocks(cells: Tensor, scale: int) -> Tensor:
    """Map (B, h, w, s * s, C) to (B, h * s, w * s, C)."""
    blocks = cells.unflatten(3, (scale, scale)).transpose(2, 3)  # (B, h, s, w, s, C)
    return blocks.flatten(3, 4).flatten(1, 2)
