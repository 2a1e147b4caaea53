"""Measurements of several models in turn, for the benchmarks of models and branches."""

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..measure import alternate, median_ratio, multiply_adds, peak_memory
from .tables import number


def inference(model: nn.Module, picture: dict[str, Any]) -> Callable[[], None]:
    """Build a function that answers one picture in Detectron2's format."""

    def infer() -> None:
        model.eval()
        with torch.no_grad():
            model([picture])

    return infer


def compare_models(
    functions: Mapping[str, Callable[[], None]],
    modules: Mapping[str, nn.Module],
    *,
    reference: str,
    repeats: int,
    device: str,
) -> list[dict[str, Any]]:
    """Measure time, peak memory, multiply-adds and parameters of models in turn.

    Args:
        functions: what runs, by the model's name.
        modules: whose parameters are counted, by the same names.
        reference: the name of the model that the others are compared with.
        repeats: timed turns.
        device: where they run.

    Returns:
        A row for each function: ``model``, its name; ``seconds``, the median of the turns; ``mib``,
        peak memory; ``macs`` and ``params``, counts; and over those of the reference
        ``time_ratio``, the median of the turns' ratios, ``memory_ratio``, ``macs_ratio`` and
        ``params_ratio``.
    """
    macs = {key: multiply_adds(function) for key, function in functions.items()}  # and warm-up
    times = alternate(functions, repeats=repeats, warmup=0)
    memory = {
        key: peak_memory(function, warmup=0, device=device) for key, function in functions.items()
    }
    params = {key: sum(p.numel() for p in modules[key].parameters()) for key in functions}
    return [
        {
            "model": key,
            "seconds": statistics.median(times[key]),
            "mib": memory[key] / 2**20,
            "macs": macs[key],
            "params": params[key],
            "time_ratio": median_ratio(times[key], times[reference]),
            "memory_ratio": memory[key] / memory[reference],
            "macs_ratio": macs[key] / macs[reference],
            "params_ratio": params[key] / params[reference],
        }
        for key in functions
    ]


def model_columns(
    row: Mapping[str, Any], *, seconds_digits: int, params_digits: int
) -> dict[str, str]:
    """Format a row of :func:`compare_models` as table cells, with so many decimals."""
    return {
        "seconds": number(row["seconds"], seconds_digits),
        "peak MiB": number(row["mib"], 0),
        "G multiply-adds": number(row["macs"] / 1e9, 1),
        "M parameters": number(row["params"] / 1e6, params_digits),
        "time ratio": number(row["time_ratio"], 2),
        "memory ratio": number(row["memory_ratio"], 2),
        "multiply-adds ratio": number(row["macs_ratio"], 2),
    }
