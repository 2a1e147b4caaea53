#!/usr/bin/env python3
"""Memory, seams and kills of a large raster's segmentation.

    python projects/IFA/measure_raster.py --config-file camvid/ifa_lite0_frozen.py \\
        --weights ifa_d2://camvid/ifa_lite0_frozen --side 3072 --folder output/raster

A GeoTIFF of drawn streets is made, of three bands of 8 bits or --bands of 16, segmented by
tools/segment_raster.py, and once more by commands that are killed (SIGKILL) as soon as each has
finished a block. Figures: the largest resident memory of a command, whether the bytes are the same,
and the share of labels that differ from those of the picture shown whole: near borders of windows,
and elsewhere. They are taken where a part of the raster, shown whole, is at least --margin from its
own cuts.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from compared_runs import describe_machine
from rasterio.transform import Affine
from rasterio.windows import Window

from ifa_d2 import Predictor
from ifa_d2.analysis.measure import resident_bytes
from ifa_d2.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    add_window_arguments,
    command_parser,
)
from ifa_d2.data.shapes import make_scene
from ifa_d2.engine.build import build_model
from ifa_d2.engine.run import load_config
from ifa_d2.errors import errors_in_one_line
from ifa_d2.files import atomic_path
from ifa_d2.modeling.picture_fields import padding_divisor
from ifa_d2.rasters import plan_raster
from ifa_d2.rasters.journal import journal_folder

TOOL = Path(__file__).parents[2] / "tools" / "segment_raster.py"
SCENE = (256, 352)  # (height, width) in pixels
NEAR = 8  # pixels to either side of a window's border


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument("--random-weights", action="store_true", help="take no weights")
    parser.add_argument(
        "--side", type=int, default=6000, metavar="N", help="pixels (default: 6000)"
    )
    parser.add_argument(
        "--bands",
        type=int,
        metavar="N",
        help="of 16 bits, 0 to 4080, for a config of bands; default: three of 8 bits",
    )
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="of the files")
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="how many (default: 3)")
    parser.add_argument("--crop", type=int, default=1536, metavar="N", help="shown whole")
    parser.add_argument("--margin", type=int, default=512, metavar="N", help="of the crop")
    parser.add_argument("--num-processes", type=int, default=1, metavar="N", help="of a run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    add_window_arguments(parser, window="768 768", blend="gaussian")
    add_overrides_argument(parser)
    return parser.parse_args()


def write_streets(path: Path, side: int, bands: int | None = None) -> None:
    """Write a raster of drawn streets side by side, half of them mirrored.

    Args:
        path: of the file.
        side: in pixels.
        bands: of 16 bits, red, green and blue over and over, 16 times what they are; None is three
            of 8 bits.
    """
    scenes = [make_scene(7, 0, i).image(*SCENE, supersample=1) for i in range(24)]
    profile = {"driver": "GTiff", "height": side, "width": side, "count": bands or 3}
    profile["dtype"] = "uint16" if bands else "uint8"
    place = {"crs": "EPSG:32632", "transform": Affine(0.2, 0, 4e5, 0, -0.2, 5.5e6)}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile, **place, **tiles) as dataset:
        for top in range(0, side, SCENE[0]):
            row = [scenes[i][:, :: rng.choice((-1, 1))] for i in rng.integers(24, size=side)]
            strip = np.concatenate(row[: -(-side // SCENE[1])], axis=1)[: side - top, :side]
            if bands:
                strip = np.uint16(16) * strip[:, :, np.arange(bands) % 3]
            window = Window(0, top, side, len(strip))
            dataset.write(strip.transpose(2, 0, 1), window=window)


def run_once(
    command: list[str], output: Path, kills: int, overrides: list[str]
) -> dict[str, float]:
    """Segment by a command, killed several times but the last; peak MiB and seconds."""
    peak, start, folder = 0.0, time.perf_counter(), journal_folder(output)
    for turn in range(kills + 1):
        before = len(list(folder.glob("block_*.tif")))
        options = ["--output", str(output), "--resume"]
        options += ["--", *overrides] if overrides else []
        process = subprocess.Popen([*command, *options])
        while process.poll() is None:
            peak = max(peak, resident_mib(process.pid))
            if turn < kills and len(list(folder.glob("block_*.tif"))) > before:
                process.kill()
            time.sleep(0.05)
        if process.returncode not in (0, -signal.SIGKILL):
            raise ValueError(f"a run ended with status {process.returncode}")
        if process.returncode == 0:
            break
    return {"peak_mib": peak, "seconds": time.perf_counter() - start, "kills": turn}


def resident_mib(process: int) -> float:
    """Largest resident memory that a process has had so far; 0 of one that has ended."""
    try:
        return resident_bytes("VmHWM", process) / 2**20
    except (OSError, StopIteration):
        return 0.0


def near_borders(spans: Iterable[tuple[int, int]], side: int) -> np.ndarray:
    """Mark pixels near the borders of windows, (side, side) bool.

    Args:
        spans: first pixel of a window and the one behind its last, along either axis.
        side: of the raster, whose own border is none.
    """
    near = np.zeros(side, bool)
    for border in {one for span in spans for one in span if 0 < one < side}:
        near[max(0, border - NEAR) : border + NEAR] = True
    return near[:, None] | near


def compare(
    predictor: Predictor, files: tuple[Path, Path], args: argparse.Namespace
) -> dict[str, float]:
    """Compare labels with those of a part that is shown whole."""
    side, window = min(args.crop, args.side), Window(0, 0, args.crop, args.crop)
    with rasterio.open(files[0]) as raster, rasterio.open(files[1]) as labels:
        picture, found = raster.read(window=window), labels.read(1, window=window)
    picture = picture.transpose(1, 2, 0)
    picture = picture[:, :, ::-1] if args.bands is None else picture.astype(np.float32)
    whole = predictor(np.ascontiguousarray(picture)).labels()
    kept = side if side == args.side else max(1, side - args.margin)
    differs = (found != whole.numpy())[:kept, :kept]
    views = {"window": args.sliding_window, "stride": args.stride}
    views = {key: value for key, value in views.items() if value is not None}
    multiple = padding_divisor(predictor.model)
    plan = plan_raster((args.side,) * 2, (args.side,) * 2, 2, multiple=multiple, **views)
    spans = {(one.begin, one.end) for block in plan.blocks for one in block.row_spans}
    near = near_borders(spans, args.side)[:kept, :kept]
    shares = differs[near].mean(), differs[~near].mean()
    return {
        "equal": float(1 - differs.mean()),
        "differs_near": float(shares[0]),
        "differs_elsewhere": float(shares[1]),
        "ratio": float(shares[0] / shares[1]) if shares[1] else None,
    }


def segment_command(args: argparse.Namespace, source: Path, weights: str) -> list[str]:
    """The command that segments, but for its output and changes of the config."""
    command = [sys.executable, str(TOOL), "--config-file", args.config_file, "--weights", weights]
    command += ["--input", str(source), "--num-processes", str(args.num_processes)]
    for flag in ("sliding_window", "stride", "blend"):
        value = getattr(args, flag)
        if value is not None:
            values = value if isinstance(value, list) else [value]
            command += [f"--{flag.replace('_', '-')}", *map(str, values)]
    return command


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config_file, args.opts)
    args.folder.mkdir(parents=True, exist_ok=True)
    weights = args.weights
    if args.random_weights:
        weights = str(args.folder / "weights.pth")
        torch.manual_seed(0)
        torch.save({"model": build_model(cfg, pretrained=False).state_dict()}, weights)
    predictor = Predictor.build(cfg, weights, args.opts)
    names = ("streets", "labels", "killed")
    source, output, killed = (args.folder / f"{name}.tif" for name in names)
    write_streets(source, args.side, args.bands)
    command = segment_command(args, source, weights)
    result: dict[str, Any] = {"machine": describe_machine(), "side": args.side}
    if args.bands:
        result["bands"] = args.bands
    result["once"] = run_once(command, output, 0, args.opts)
    if args.kills:
        result["killed"] = run_once(command, killed, args.kills, args.opts)
        result["same_bytes"] = output.read_bytes() == killed.read_bytes()
    result |= compare(predictor, (source, output), args)
    for name, value in result.items():
        print(f"{name}: {value}")
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
