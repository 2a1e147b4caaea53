#!/usr/bin/env python3
"""Speed and memory, ours against a baseline in turn: medians and ratios, never a lone time.

    tools/benchmark.py head [--input-size H W] [--json FILE]

``head`` times ``layers`` of the segmentation head (projections, alignment, MLP) against the
textbook evaluation of the same parameters: concatenate, then MLP. ``gemm_ratio`` is the time of
ours over that of its own matrix products run alone.
"""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's chatter

import torch
from detectron2.config import instantiate
from detectron2.layers import Conv2d
from tabulate import tabulate
from torch import Tensor

from ifa_d2 import get_config
from ifa_d2.engine.measure import alternate, bare_products, median_ratio, peak_memory
from ifa_d2.layers import GridQuery, textbook_alignment
from ifa_d2.modeling import IFASemSegHead

Features = Mapping[str, Tensor]


def textbook_layers(head: IFASemSegHead, features: Features) -> Tensor:
    """``head.layers`` as the paper writes it."""
    levels = [
        Conv2d.forward(projection, features[name]) for name, projection in head.projections.items()
    ]
    size = levels[0].shape[-2:]
    return textbook_alignment(head.alignment, levels, GridQuery.regular(*size))


def training_step(head: IFASemSegHead, layers: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward and backward of ``layers``, gradients of parameters and features."""

    def step() -> None:
        head.zero_grad(set_to_none=True)
        logits = layers()
        logits.backward(torch.ones_like(logits))

    return step


def head_row(
    head: IFASemSegHead, features: Features, size: tuple[int, int], training: bool, repeats: int
) -> dict[str, Any]:
    """Time and memory of one pass at one input size."""
    head.train(training)

    def ours() -> Tensor:
        return head.layers(features)

    def textbook() -> Tensor:
        return textbook_layers(head, features)

    functions = {"ours": ours, "textbook": textbook}
    if training:
        functions = {name: training_step(head, f) for name, f in functions.items()}
    with torch.set_grad_enabled(training):
        functions["products"] = bare_products(functions["ours"])
        times = alternate(functions, repeats=repeats)
        memory = {name: peak_memory(functions[name]) for name in ("ours", "textbook")}
    return {
        "input": list(size),
        "pass": "train" if training else "forward",
        **{f"{name}_seconds": statistics.median(value) for name, value in times.items()},
        **{f"{name}_mib": value / 2**20 for name, value in memory.items()},
        "time_ratio": median_ratio(times["textbook"], times["ours"]),
        "memory_ratio": memory["textbook"] / memory["ours"],
        "gemm_ratio": median_ratio(times["ours"], times["products"]),
    }


def benchmark_head(args: argparse.Namespace) -> dict[str, Any]:
    """Rows of the ``head`` command."""
    config = get_config("cityscapes/ifa_r50.py").model.sem_seg_head
    config.norm = "BN"
    head = instantiate(config).to(args.device)
    sizes = [tuple(args.input_size)] if args.input_size else [(512, 512), (1024, 1024)]
    rows = []
    for size in sizes:
        features = {}
        for name, projection in head.projections.items():
            stride = 2 ** int(name[-1])
            shape = (1, projection.in_channels, -(-size[0] // stride), -(-size[1] // stride))
            features[name] = torch.randn(shape, device=args.device)
        for training in (False, True):
            for feature in features.values():
                feature.requires_grad_(training).grad = None
            rows.append(head_row(head, features, size, training, args.repeats))
    columns = {
        "input": lambda row: "x".join(map(str, row["input"])),
        "pass": lambda row: row["pass"],
        "textbook s": lambda row: f"{row['textbook_seconds']:.3f}",
        "ours s": lambda row: f"{row['ours_seconds']:.3f}",
        "time ratio": lambda row: f"{row['time_ratio']:.2f}",
        "textbook MiB": lambda row: f"{row['textbook_mib']:.0f}",
        "ours MiB": lambda row: f"{row['ours_mib']:.0f}",
        "memory ratio": lambda row: f"{row['memory_ratio']:.2f}",
        "over its products": lambda row: f"{row['gemm_ratio']:.2f}",
    }
    table = [{name: cell(row) for name, cell in columns.items()} for row in rows]
    print(tabulate(table, headers="keys", tablefmt="github", disable_numparse=True))
    return {"rows": rows}


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0].partition(":")[2].strip() if models else name
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    head = commands.add_parser("head", help="the head against its textbook evaluation")
    head.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="of the picture, in pixels (default: 512 512 and 1024 1024)",
    )
    head.set_defaults(run=benchmark_head)
    for command in commands.choices.values():
        command.add_argument("--device", default="cpu", help="cpu (default) or cuda")
        command.add_argument("--repeats", type=int, default=7, help="timed turns (default: 7)")
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {args.repeats}")
    if getattr(args, "input_size", None) and min(args.input_size) < 1:
        parser.error(f"--input-size must be positive, got {args.input_size}")
    return args


def main() -> None:
    args = parse_args()
    result = {"machine": machine(args.device), **args.run(args)}
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        temporary = args.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(result, indent=2) + "\n")
        temporary.replace(args.json)


if __name__ == "__main__":
    main()
