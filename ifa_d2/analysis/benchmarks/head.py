"""The segmentation head against the textbook evaluation of the same parameters."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.layers import Conv2d
from torch import Tensor

from ...config import get_config
from ...layers import GridQuery, textbook_alignment
from ...modeling import IFASemSegHead
from ..measure import alternate, bare_products, median_ratio, peak_memory
from .tables import github_table, number, pixels

Features = Mapping[str, Tensor]
_RECIPE = "cityscapes/ifa_r50.py"


def run_head(
    *, input_sizes: Sequence[tuple[int, int]], repeats: int, device: str
) -> dict[str, Any]:
    """Measure time and memory of ``layers`` of the R-50 head, forward and in training.

    Args:
        input_sizes: of the picture, (height, width) in pixels.
        repeats: timed turns.
        device: where to run.
    """
    config = get_config(_RECIPE).model.sem_seg_head
    config.levels.norm = "BN"
    head = instantiate(config).to(device)
    rows = []
    for size in input_sizes:
        features = {}
        for name, projection in head.levels.projections.items():
            stride = 2 ** int(name[-1])
            shape = (1, projection.in_channels, -(-size[0] // stride), -(-size[1] // stride))
            feature = torch.randn(shape, device=device)  # in memory as the backbone gives it
            features[name] = feature.contiguous(memory_format=torch.channels_last)
        for training in (False, True):
            for feature in features.values():
                feature.requires_grad_(training).grad = None
            rows.append(_row(head, features, size, training, repeats, device))
    return {"rows": rows}


def textbook_layers(head: IFASemSegHead, features: Features) -> Tensor:
    """Compute ``head.layers`` by the paper's formula."""
    levels = [
        Conv2d.forward(projection, features[name])
        for name, projection in head.levels.projections.items()
    ]
    size = levels[0].shape[-2:]
    return textbook_alignment(head.alignment, levels, GridQuery.regular(*size))


def _training_step(head: IFASemSegHead, layers: Callable[[], Tensor]) -> Callable[[], None]:
    """Run ``layers`` forward and backward, to parameters and features."""

    def step() -> None:
        logits = layers()
        logits.backward(torch.ones_like(logits))
        head.zero_grad(set_to_none=True)

    return step


def _row(
    head: IFASemSegHead,
    features: Features,
    size: tuple[int, int],
    training: bool,
    repeats: int,
    device: str,
) -> dict[str, Any]:
    """Measure one pass at one input size."""
    head.train(training)

    def ours() -> Tensor:
        return head.layers(features)

    def textbook() -> Tensor:
        return textbook_layers(head, features)

    functions = {"ours": ours, "textbook": textbook}
    if training:
        functions = {name: _training_step(head, f) for name, f in functions.items()}
    with torch.set_grad_enabled(training):
        functions["products"] = bare_products(functions["ours"])
        times = alternate(functions, repeats=repeats)
        memory = {
            name: peak_memory(functions[name], device=device) for name in ("ours", "textbook")
        }
    return {
        "input": list(size),
        "pass": "train" if training else "forward",
        **{f"{name}_seconds": statistics.median(value) for name, value in times.items()},
        **{f"{name}_mib": value / 2**20 for name, value in memory.items()},
        "time_ratio": median_ratio(times["textbook"], times["ours"]),
        "memory_ratio": memory["textbook"] / memory["ours"],
        "gemm_ratio": median_ratio(times["ours"], times["products"]),
    }


def head_tables(result: Mapping[str, Any]) -> str:
    """Format the rows as a table."""
    return github_table(
        [
            {
                "input": pixels(row["input"]),
                "pass": row["pass"],
                "textbook s": number(row["textbook_seconds"], 3),
                "ours s": number(row["ours_seconds"], 3),
                "time ratio": number(row["time_ratio"], 2),
                "textbook MiB": number(row["textbook_mib"], 0),
                "ours MiB": number(row["ours_mib"], 0),
                "memory ratio": number(row["memory_ratio"], 2),
                "over its products": number(row["gemm_ratio"], 2),
            }
            for row in result["rows"]
        ]
    )
