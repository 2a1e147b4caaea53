"""Labels of every pixel from features of one stride, ours beside feature upsamplers.

The features are those of a ViT-S of patches of 16 pixels: 384 channels. Measured here, on random
features and weights:

- ``linear + bilinear``: class scores at the cells, interpolated to the pixels, the best of them;
- ``IFA``: the labels of a field, an MLP of 256 and 128 hidden channels;
- ``CARAFE`` and ``SAPA``: features, reduced to 64 channels, brought to the pixels by the modules of
  :mod:`ifa_d2.modeling.alignments`, beside 16 channels of the picture that guide SAPA, and
  classified there.

Others are other people's code, and are reckoned from their layers: multiply-adds and bytes a pixel
of features at the picture's resolution, as they are published, and of the linear classifier on
them. Norms, activations, softmax and interpolation are not counted, and what is done once a cell is
spread over its pixels.
"""

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...fields import SegmentationField
from ...layers import ImplicitAlignment
from ...modeling.alignments import Carafe, DenseAlignment, Sapa
from ..measure import alternate, median_ratio, multiply_adds, peak_memory
from .tables import github_table, number

CHANNELS = 384
STRIDE = 16
_FLOAT = 4  # bytes
_HIDDEN = (256, 128)
_KEYS, _HEADS = 128, 4  # of attention: channels of JAFAR's and AnyUp's, heads of NAF's too
_REDUCED, _GUIDE = 64, 16  # channels of CARAFE and SAPA
_REFERENCE = "linear + bilinear"
_Answer = Callable[[Tensor], Tensor]  # from a level to labels


def run_upsamplers(
    *, sides: list[int], num_classes: int, repeats: int, device: str, max_gib: float
) -> dict[str, Any]:
    """Measure time and memory of the labels of square pictures, and reckon those of others.

    Args:
        sides: of the pictures, in pixels, multiples of 16.
        num_classes: of the labels.
        repeats: timed turns; one above 2048 pixels.
        device: where to run.
        max_gib: what would hold more, in GiB, is not run.

    Raises:
        ValueError: a side that is no multiple of 16.
    """
    if wrong := [side for side in sides if side < STRIDE or side % STRIDE]:
        raise ValueError(f"sides must be multiples of {STRIDE}, got {wrong[0]}")
    measured, reckoned = [], []
    for side in sides:
        torch.manual_seed(0)
        level = torch.randn(1, CHANNELS, side // STRIDE, side // STRIDE, device=device)
        level = level.contiguous(memory_format=torch.channels_last)
        cases = _cases(num_classes, side, device)
        held = {name: bytes_ * side**2 / 2**30 for name, (bytes_, _) in cases.items()}
        answers = {name: build() for name, (_, build) in cases.items() if held[name] <= max_gib}
        functions = {
            name: lambda answer=answer, level=level: answer(level)
            for name, answer in answers.items()
        }
        measured += _measure(functions, side, repeats if side <= 2048 else 1, device)
        reckoned += [
            {"side": side, "method": name, "macs": macs, "bytes": held_bytes}
            for name, (macs, held_bytes) in reckon(side // STRIDE, num_classes).items()
        ]
    return {"classes": num_classes, "measured": measured, "reckoned": reckoned}


def _measure(
    functions: Mapping[str, Callable[[], Any]], side: int, repeats: int, device: str
) -> list[dict[str, Any]]:
    with torch.no_grad():
        macs = {name: multiply_adds(function) for name, function in functions.items()}
        times = alternate(functions, repeats=repeats, warmup=0)
        memory = {
            name: peak_memory(function, warmup=0, device=device)
            for name, function in functions.items()
        }
    return [
        {
            "side": side,
            "method": name,
            "seconds": statistics.median(times[name]),
            "time_ratio": median_ratio(times[name], times[_REFERENCE])
            if _REFERENCE in times
            else None,
            "mib": memory[name] / 2**20,
            "macs": macs[name] / side**2,
        }
        for name in functions
    ]


def _cases(
    num_classes: int, side: int, device: str
) -> dict[str, tuple[int, Callable[[], _Answer]]]:
    """What builds each way to labels from a level, and the bytes a pixel that it holds at once."""

    def interpolate() -> _Answer:
        linear = nn.Conv2d(CHANNELS, num_classes, 1).to(device)

        def labels(level: Tensor) -> Tensor:
            scores = F.interpolate(linear(level), size=(side, side), mode="bilinear")
            return scores.argmax(dim=1)

        return labels

    def ask() -> _Answer:
        alignment = ImplicitAlignment(
            in_channels=[CHANNELS], hidden_dims=_HIDDEN, num_classes=num_classes
        )
        alignment.to(device).eval()
        return lambda level: SegmentationField(alignment, [level], (side, side)).labels()

    def assemble(kind: type[DenseAlignment]) -> _Answer:
        levels = {"in_channels": (_GUIDE, _REDUCED), "strides": (1, STRIDE), "norm": ""}
        module = kind(**levels).to(device).eval()
        reduce = nn.Conv2d(CHANNELS, _REDUCED, 1).to(device)
        classify = nn.Conv2d(_GUIDE + _REDUCED, num_classes, 1).to(device)
        guide = torch.randn(1, _GUIDE, side, side, device=device)
        guide = guide.contiguous(memory_format=torch.channels_last)
        return lambda level: classify(module([guide, reduce(level)])[0]).argmax(dim=1)

    both = _GUIDE + 2 * _REDUCED
    return {
        _REFERENCE: (num_classes * _FLOAT, interpolate),
        "IFA": (1, ask),
        "CARAFE": ((25 + both + num_classes) * _FLOAT, partial(assemble, Carafe)),
        "SAPA": ((2 * 25 + both + num_classes) * _FLOAT, partial(assemble, Sapa)),
    }


def reckon(cells: int, num_classes: int) -> dict[str, tuple[float, float]]:
    """Multiply-adds and bytes a pixel of published upsamplers, by name.

    Bytes are those of the features at the pixels, of the maps that lead to them at that resolution,
    and of the weights of the neighbours, as one float each: what has to be there at once unless the
    picture is cut into parts.

    Args:
        cells: of the features, along each side.
        num_classes: of the linear classifier on the upsampled features.
    """
    classifier = CHANNELS * num_classes
    features = CHANNELS * _FLOAT
    found = {}
    for name, function in (
        ("FeatUp", _feat_up),
        ("JAFAR", _jafar),
        ("AnyUp", _any_up),
        ("NAF", _naf),
    ):
        macs, maps = function(cells)
        found[name] = (macs + classifier, features + maps * _FLOAT)
    return found


def _feat_up(_: int) -> tuple[float, float]:
    """FeatUp's stack of joint bilateral upsamplers (Fu et al., https://arxiv.org/abs/2403.10516).

    Four steps of scale 2 with 7x7 neighbours: keys of 32 channels by two layers of the colours,
    similarities, two layers that correct the 49 weights, the weighted sum; a last layer on all.
    """
    neighbours, keys = 49, 32
    step = 3 * keys + keys**2 + neighbours * keys
    step += (neighbours + 3) * neighbours + neighbours**2 + neighbours * CHANNELS
    steps = sum(4**-i for i in range(4))
    return step * steps + CHANNELS**2, keys + neighbours + CHANNELS


def _encoder(channels: int, kernel: int = 1, layers: int = 2) -> int:
    """Multiply-adds of an encoder of colours: a convolution, residual blocks of two."""
    return (3 * channels + _blocks(channels, layers)) * kernel**2


def _jafar(cells: int) -> tuple[float, float]:
    """JAFAR (Couairon et al., https://arxiv.org/abs/2506.11136): attention to all cells.

    128 channels; the picture's encoder, those of queries and of keys, a 3x3 convolution of the
    queries and their projection at each pixel; at the cells, an encoder of the features and two
    layers that modulate the keys.
    """
    cell = CHANNELS * _KEYS + _blocks(_KEYS) + 3 * _KEYS**2
    return _guided_attention(cell, cells**2)


def _any_up(cells: int) -> tuple[float, float]:
    """AnyUp (Wimmer et al., https://arxiv.org/abs/2510.12764): attention to a window of the cells.

    JAFAR's encoders; 5x5 filters of each channel to 128, and 3x3 convolutions that join both at the
    cells; a window of a tenth of the picture to each side.
    """
    cell = 25 * CHANNELS * _KEYS + _blocks(_KEYS)
    cell += 9 * 2 * _KEYS**2 + _blocks(_KEYS) + _KEYS**2
    return _guided_attention(cell, window_cells(cells, 0.1) ** 2)


def _guided_attention(cell: float, attended: float) -> tuple[float, float]:
    """What JAFAR and AnyUp have in common, with multiply-adds a cell and cells attended to."""
    pixel = _encoder(_KEYS) + 2 * (_KEYS**2 + _blocks(_KEYS))
    pixel += 9 * _KEYS**2 + _KEYS**2
    attention = attended * (_KEYS + CHANNELS)
    return pixel + cell / STRIDE**2 + attention, 3 * _KEYS + _HEADS * attended


def _naf(_: int) -> tuple[float, float]:
    """NAF (Chambon et al., https://arxiv.org/abs/2511.18452): attention to 9x9 neighbours.

    Two encoders of the picture of 128 channels each, of 1x1 and of 3x3 convolutions, are queries at
    the pixels and keys at the cells.
    """
    channels, neighbours = 256, 81
    pixel = _encoder(channels // 2) + _encoder(channels // 2, kernel=3)
    return pixel + neighbours * (channels + CHANNELS), 2 * channels + _HEADS * neighbours


def _blocks(channels: int, layers: int = 2) -> int:
    """Multiply-adds of residual blocks of two 1x1 convolutions."""
    return 2 * layers * channels**2


def window_cells(cells: int, ratio: float) -> float:
    """Mean number of cells, along one axis, of windows around a picture's pixels.

    A window reaches ``ratio`` of the axis to each side of a pixel, is cut off at the picture's
    borders, and holds every cell that it touches.
    """
    centres = (np.arange(cells * STRIDE) + 0.5) / (cells * STRIDE)
    first = np.floor((centres - ratio).clip(0, 1) * cells)
    last = np.ceil((centres + ratio).clip(0, 1) * cells)
    return float((last - first).mean())


def upsamplers_tables(result: dict[str, Any]) -> str:
    """Format the content of ``run_upsamplers`` as two tables."""
    measured = [
        {
            "side": str(row["side"]),
            "method": row["method"],
            "seconds": number(row["seconds"], 3),
            f"over {_REFERENCE}": number(row["time_ratio"], 2),
            "peak MiB": number(row["mib"], 0),
            "multiply-adds a pixel, k": number(row["macs"] / 1e3, 1),
        }
        for row in result["measured"]
    ]
    reckoned = [
        {
            "side": str(row["side"]),
            "method": row["method"],
            "multiply-adds a pixel, k": number(row["macs"] / 1e3, 1),
            "KiB a pixel": number(row["bytes"] / 2**10, 1),
            "GiB of all pixels": number(row["bytes"] * row["side"] ** 2 / 2**30, 1),
        }
        for row in result["reckoned"]
    ]
    tables = (github_table(measured), github_table(reckoned))
    return "measured:\n\n{}\n\nreckoned from the layers:\n\n{}".format(*tables)
