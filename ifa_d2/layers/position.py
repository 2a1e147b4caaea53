"""Position encoding of the offset from a feature cell (paper, Sec. 3.3, Eq. 2).

A sample that stands for a part of the image, and not for a point, can be given the mean of the
encoding over that part. Of sines and cosines of frequency ``w`` over a width ``c`` it is their
value at the middle times ``sinc(w c / 2)``, so that what oscillates faster than samples lie apart
fades out instead of aliasing (as in mip-NeRF's integrated encoding,
https://arxiv.org/abs/2103.13415).

Shape legend: F frequencies an axis, S any shape of queries.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

# The functions of an angle that each encoding has.
_FUNCTIONS = {
    "none": (),
    "coord": (),
    "sine": (torch.sin,),
    "cosine": (torch.cos,),
    "fixed": (torch.sin, torch.cos),
    "learned": (torch.sin, torch.cos),
}
ENCODINGS = tuple(_FUNCTIONS)
FREQUENCY_LAWS = ("pow2", "2exp")


def initial_frequencies(num_frequencies: int, law: str = "pow2") -> Tensor:
    """Angular frequencies (F,), in radians a half cell.

    Args:
        num_frequencies: F, at least 1.
        law: ``"pow2"``, from 1 to 64 in equal ratios, as the authors' code has it; ``"2exp"``, the
            paper text's ``2 e^l`` for ``l = 1..F``.

    Raises:
        ValueError: an unknown law, or fewer than one frequency.
    """
    if num_frequencies < 1:
        raise ValueError(f"num_frequencies must be at least 1, got {num_frequencies}")
    if law == "pow2":
        return 2.0 ** torch.linspace(0, 6, num_frequencies)
    if law == "2exp":
        return 2 * math.e ** torch.arange(1.0, num_frequencies + 1)
    raise ValueError(f"frequency_law must be one of {FREQUENCY_LAWS}, got {law!r}")


class PositionEncoding(nn.Module):
    """Encode an offset ``(dy, dx)``, in half cells.

    The values are, in this order, ``dy, dx``, sines, cosines; sines (and cosines) first of y's
    frequencies, then of x's. The encodings are those of the paper's Table 4:

    - ``none``: no value at all
    - ``coord``: the offset alone
    - ``sine``, ``cosine``: the offset and one of the two functions, at fixed frequencies
    - ``fixed``, ``learned``: the offset and both, at fixed or learned frequencies

    With ``cell``, the widths ``cy, cx`` of the sample come last.

    The paper's dimension of an encoding (Fig. 3: 12 to 72, by default 24) counts the sines and
    cosines of both axes: it is 4 F, or 2 F of one function alone.

    Args:
        encoding: one of the above.
        num_frequencies: F, an axis.
        frequency_law: see :func:`initial_frequencies`.
        coupled: frequencies are the rows of a (2F, 2) matrix that acts on ``(dy, dx)`` together (as
            the authors' code can learn it), instead of F for y and F for x.
        integrated: sines and cosines are averaged over the sample's width.
        cell: the sample's width is a value of its own, in half cells (LIIF's cell decoding,
            https://arxiv.org/abs/2012.09161, Sec. 3.2).

    Raises:
        ValueError: an unknown encoding or law, ``coupled`` with frequencies that are not learned,
            ``integrated`` without frequencies, or ``cell`` without an offset.
    """

    def __init__(
        self,
        *,
        encoding: str = "learned",
        num_frequencies: int = 6,
        frequency_law: str = "pow2",
        coupled: bool = False,
        integrated: bool = False,
        cell: bool = False,
    ) -> None:
        super().__init__()
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {ENCODINGS}, got {encoding!r}")
        if integrated and not _FUNCTIONS[encoding]:
            raise ValueError(f"integrated encodings need frequencies, got encoding {encoding!r}")
        if cell and encoding == "none":
            raise ValueError("cell decoding needs an encoding other than 'none'")
        if coupled and encoding != "learned":
            raise ValueError(f"coupled frequencies need encoding 'learned', got {encoding!r}")
        self.encoding = encoding
        self.coupled = coupled
        self.integrated = integrated
        self.cell = cell
        self.functions = _FUNCTIONS[encoding]
        self.num_frequencies = num_frequencies if self.functions else 0
        frequencies = None
        if self.functions:
            values = initial_frequencies(num_frequencies, frequency_law)[:, None]  # (F, 1)
            frequencies = values.repeat(1, 2)  # (F, 2): y, x
            if coupled:  # at first, half of the rows act on y and half on x
                frequencies = torch.block_diag(values, values)  # (2F, 2)
        if encoding == "learned":
            self.frequencies = nn.Parameter(frequencies)
        else:
            self.register_buffer("frequencies", frequencies, persistent=False)

    @property
    def num_features(self) -> int:
        """Number of values of an encoded offset."""
        if self.encoding == "none":
            return 0
        return 2 + 2 * self.num_frequencies * len(self.functions) + 2 * self.cell

    def axis_columns(self, axis: int) -> list[slice]:
        """Slices of the values that depend on one axis alone (0 is y, 1 is x)."""
        if self.encoding == "none":
            return []
        count = self.num_frequencies
        starts = [2 + (2 * k + axis) * count for k in range(len(self.functions))]
        columns = [slice(axis, axis + 1), *(slice(start, start + count) for start in starts)]
        if self.cell:
            last = self.num_features - 2 + axis
            columns.append(slice(last, last + 1))
        return columns

    def encode_axis(self, offset: Tensor, width: Tensor, axis: int) -> Tensor:
        """Compute the values of :meth:`axis_columns`.

        Args:
            offset: (*S,), in half cells.
            width: of the samples, in half cells; broadcasts to ``offset``.
            axis: 0 is y, 1 is x.

        Returns:
            (*S, 1 + F * functions), and one more with ``cell``.
        """
        if self.encoding == "none":
            return offset.new_zeros((*offset.shape, 0))
        parts = [offset[..., None]]
        if self.functions:
            frequencies = self.frequencies[:, axis].to(offset.dtype)
            values = [function(offset[..., None] * frequencies) for function in self.functions]
            if self.integrated:
                fading = _sinc(width[..., None] * frequencies / 2)
                values = [value * fading for value in values]
            parts += values
        if self.cell:
            parts.append(width.expand(offset.shape)[..., None])
        return torch.cat(parts, dim=-1)

    def forward(self, offsets: tuple[Tensor, Tensor], widths: tuple[Tensor, Tensor]) -> Tensor:
        """Encode offsets of samples.

        Args:
            offsets: ``dy`` and ``dx``, (*S,) each.
            widths: ``cy`` and ``cx``, in half cells; they broadcast to (*S,).

        Returns:
            (*S, num_features).
        """
        offset = torch.stack(offsets, dim=-1)  # (*S, 2)
        if self.encoding == "none":
            return offset[..., :0]
        width = torch.stack([w.expand(offset.shape[:-1]) for w in widths], dim=-1)  # (*S, 2)
        parts = [offset]
        if self.functions:
            frequencies = self.frequencies.to(offset.dtype)
            angle = _each_frequency(offset, frequencies, self.coupled).sum(-1)  # (*S, 2F)
            values = [function(angle) for function in self.functions]
            if self.integrated:
                fading = _sinc(_each_frequency(width, frequencies, self.coupled) / 2).prod(-1)
                values = [value * fading for value in values]
            parts += values
        if self.cell:
            parts.append(width)
        return torch.cat(parts, dim=-1)


def _sinc(x: Tensor) -> Tensor:
    """``sin(x) / x``, and 1 at 0."""
    return torch.sinc(x / math.pi)


def _each_frequency(x: Tensor, frequencies: Tensor, coupled: bool) -> Tensor:
    """Multiply lengths (*S, 2) along the axes by frequencies, to radians (*S, 2F, A).

    A is the number of axes that a frequency acts on: 2 if coupled, else 1.
    """
    if coupled:
        return x[..., None, :] * frequencies  # (*S, 2F, 2)
    return (x[..., None, :] * frequencies).transpose(-1, -2).flatten(-2)[..., None]


def build_encodings(
    num_levels: int,
    *,
    encoding: str,
    num_frequencies: int,
    frequency_law: str,
    coupled_frequencies: bool,
    integrated: bool = False,
    cell: bool = False,
) -> nn.ModuleList:
    """Build a :class:`PositionEncoding` of one kind for each level.

    Args:
        num_levels: how many.
        encoding, num_frequencies, frequency_law, coupled_frequencies, integrated, cell: see
            :class:`PositionEncoding`.

    Raises:
        ValueError: as :class:`PositionEncoding`.
    """
    return nn.ModuleList(
        PositionEncoding(
            encoding=encoding,
            num_frequencies=num_frequencies,
            frequency_law=frequency_law,
            coupled=coupled_frequencies,
            integrated=integrated,
            cell=cell,
        )
        for _ in range(num_levels)
    )


def count_columns(
    encodings: Iterable[PositionEncoding],
    in_channels: Sequence[int],
    *,
    unfold: bool,
    feature_slopes: bool = False,
) -> int:
    """Count the channels of all levels and their position encodings (Eq. 4).

    Args:
        encodings: one for each level.
        in_channels: C of each level.
        unfold: a cell's features are those of its 3x3 neighbourhood.
        feature_slopes: their products with the offset along each axis are inputs too.
    """
    neighbours, terms = 9 if unfold else 1, 3 if feature_slopes else 1
    return sum(e.num_features for e in encodings) + sum(in_channels) * neighbours * terms
