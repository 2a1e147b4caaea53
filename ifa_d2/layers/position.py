"""Position encoding of the offset between a query and a feature cell (paper, Sec. 3.3, Eq. 2).

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
    """(F,) angular frequencies, in radians a half cell.

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
    """Features of an offset ``(dy, dx)`` in half cells.

    The values are, in this order, ``dy, dx``, sines, cosines; sines (and cosines) first of y's
    frequencies, then of x's. The encodings are those of the paper's Table 4:

    - ``none``: no value at all
    - ``coord``: the offset alone
    - ``sine``, ``cosine``: the offset and one of the two functions, at fixed frequencies
    - ``fixed``, ``learned``: the offset and both, at fixed or learned frequencies

    The paper's dimension of an encoding (Fig. 3: 12 to 72, by default 24) counts the sines and
    cosines of both axes: it is 4 F, or 2 F of one function alone.

    Args:
        encoding: one of the above.
        num_frequencies: F, an axis.
        frequency_law: see :func:`initial_frequencies`.
        coupled: frequencies are the rows of a (2F, 2) matrix that acts on ``(dy, dx)`` together (as
            the authors' code can learn it), instead of F for y and F for x.

    Raises:
        ValueError: an unknown encoding or law, or ``coupled`` with frequencies that are not
            learned.
    """

    def __init__(
        self,
        *,
        encoding: str = "learned",
        num_frequencies: int = 6,
        frequency_law: str = "pow2",
        coupled: bool = False,
    ) -> None:
        super().__init__()
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {ENCODINGS}, got {encoding!r}")
        if coupled and encoding != "learned":
            raise ValueError(f"coupled frequencies need encoding 'learned', got {encoding!r}")
        self.encoding = encoding
        self.coupled = coupled
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
        """How many values an offset becomes."""
        if self.encoding == "none":
            return 0
        return 2 + 2 * self.num_frequencies * len(self.functions)

    def axis_columns(self, axis: int) -> list[slice]:
        """Runs of the values that depend on the offset along ``axis`` (0 is y, 1 is x) alone."""
        if self.encoding == "none":
            return []
        count = self.num_frequencies
        starts = [2 + (2 * k + axis) * count for k in range(len(self.functions))]
        return [slice(axis, axis + 1), *(slice(start, start + count) for start in starts)]

    def encode_axis(self, offset: Tensor, axis: int) -> Tensor:
        """The values of :meth:`axis_columns`: offsets (*S,) to (*S, 1 + F * functions)."""
        if self.encoding == "none":
            return offset.new_zeros((*offset.shape, 0))
        parts = [offset[..., None]]
        if self.functions:
            angle = offset[..., None] * self.frequencies[:, axis].to(offset.dtype)
            parts += [function(angle) for function in self.functions]
        return torch.cat(parts, dim=-1)

    def forward(self, dy: Tensor, dx: Tensor) -> Tensor:
        """All values of offsets ``dy`` and ``dx``, (*S,) each: (*S, num_features)."""
        offset = torch.stack([dy, dx], dim=-1)  # (*S, 2)
        if self.encoding == "none":
            return offset[..., :0]
        if not self.functions:
            return offset
        frequencies = self.frequencies.to(offset.dtype)
        if self.coupled:
            angle = offset @ frequencies.t()  # (*S, 2F)
        else:
            angle = (offset[..., None, :] * frequencies).transpose(-1, -2).flatten(-2)  # (*S, 2F)
        return torch.cat([offset, *(function(angle) for function in self.functions)], dim=-1)


def build_encodings(
    num_levels: int,
    *,
    encoding: str,
    num_frequencies: int,
    frequency_law: str,
    coupled_frequencies: bool,
) -> nn.ModuleList:
    """A :class:`PositionEncoding` for each level: the same kind, with frequencies of its own.

    Args:
        num_levels: how many.
        encoding, num_frequencies, frequency_law, coupled_frequencies: see
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
        )
        for _ in range(num_levels)
    )


def count_columns(
    encodings: Iterable[PositionEncoding], in_channels: Sequence[int], *, unfold: bool
) -> int:
    """Channels of all levels and of their position encodings, concatenated (Eq. 4).

    Args:
        encodings: one for each level.
        in_channels: C of each level.
        unfold: a cell's features are those of its 3x3 neighbourhood.
    """
    neighbours = 9 if unfold else 1
    return sum(e.num_features for e in encodings) + sum(in_channels) * neighbours
