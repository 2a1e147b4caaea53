#!/usr/bin/env python3
"""A raster's labels by tools/segment_raster.py and by TorchGeo's sampler, with one model.

    pip install torchgeo==0.8.1
    python projects/IFA/compare_raster_tools.py --config-file camvid/ifa_lite0_frozen.py \\
        --weights ifa_d2://camvid/ifa_lite0_frozen --side 3072 --folder output/raster_tools

A GeoTIFF of drawn streets is made and segmented in turn by a process of each, in windows of one
size and stride. TorchGeo has the data set that reads windows and the sampler that places them; to
put labels together is its user's, who here writes each window over what was there. Figures: medians
of the time and of the largest resident memory, imports included, and the share of labels that are
those of the picture shown whole, in all and within 8 pixels of a window's border.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from compared_runs import describe_machine
from measure_raster import TOOL, near_borders, resident_mib, write_streets
from rasterio.windows import Window

from ifa_d2 import Predictor
from ifa_d2.analysis.benchmarks.tables import github_table, number
from ifa_d2.arguments import add_config_argument, add_weights_argument, command_parser
from ifa_d2.engine.run import load_config
from ifa_d2.errors import errors_in_one_line
from ifa_d2.files import atomic_path

OURS, THEIRS = "tools/segment_raster.py", "TorchGeo"


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument("--side", type=int, default=3072, metavar="N", help="pixels")
    parser.add_argument("--window", type=int, default=768, metavar="N", help="side of a window")
    parser.add_argument("--stride", type=int, default=512, metavar="N", help="of windows")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns (default: 3)")
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="of the files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--torchgeo", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not 1 <= args.stride <= args.window <= args.side:
        parser.error("--stride must be from 1 to --window, and that at most --side")
    return args


def segment_by_torchgeo(args: argparse.Namespace, source: Path, output: Path) -> None:
    """Write the labels of windows that TorchGeo reads, each over those before it."""
    from torchgeo.datasets import RasterDataset
    from torchgeo.samplers import GridGeoSampler, Units

    predictor = Predictor.build(load_config(args.config_file), args.weights)
    dataset = RasterDataset(paths=[str(source)])
    sampler = GridGeoSampler(dataset, args.window, args.stride, units=Units.PIXELS)
    with rasterio.open(source) as raster:
        profile, to_pixels = raster.profile, ~raster.transform
    with rasterio.open(output, "w", **{**profile, "count": 1}) as labels:
        for place in sampler:
            picture = dataset[place]["image"].numpy().astype(np.uint8)
            found = predictor(np.ascontiguousarray(picture[::-1].transpose(1, 2, 0))).labels()
            left, top = map(round, to_pixels @ (place[0].start, place[1].stop))
            # Some of its windows reach out of the raster, and some lie beside it.
            rows, cols = (
                slice(max(0, begin), min(begin + args.window, args.side)) for begin in (top, left)
            )
            if rows.start < rows.stop and cols.start < cols.stop:
                begins = ((rows, top), (cols, left))
                inside = tuple(slice(one.start - at, one.stop - at) for one, at in begins)
                part = found[inside]
                window = Window.from_slices(rows, cols)
                labels.write(part.numpy().astype(np.uint8), 1, window=window)


def run(command: list[str]) -> dict[str, float]:
    """Seconds of a process, and its largest resident memory in MiB.

    Raises:
        ValueError: it failed.
    """
    start, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, resident_mib(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise ValueError(f"a run ended with status {process.returncode}: {' '.join(command)}")
    return {"seconds": time.perf_counter() - start, "mib": peak}


def equal_shares(args: argparse.Namespace, output: Path, whole: np.ndarray) -> dict[str, float]:
    """Shares of labels that are those of the whole picture: all, and near windows' borders."""
    with rasterio.open(output) as labels:
        equal = labels.read(1) == whole
    begins = range(0, args.side - args.stride, args.stride)
    near = near_borders([(begin, begin + args.window) for begin in begins], args.side)
    return {"equal": float(equal.mean()), "equal_near": float(equal[near].mean())}


def main() -> None:
    args = parse_args()
    source = args.folder / "streets.tif"
    outputs = {OURS: args.folder / "ours.tif", THEIRS: args.folder / "torchgeo.tif"}
    if args.torchgeo:
        segment_by_torchgeo(args, source, outputs[THEIRS])
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    write_streets(source, args.side)
    model = ["--config-file", args.config_file, "--weights", args.weights]
    ours = [sys.executable, str(TOOL), *model, "--input", str(source), "--output"]
    ours += [str(outputs[OURS]), "--sliding-window", *[str(args.window)] * 2]
    ours += ["--stride", *[str(args.stride)] * 2]
    theirs = [sys.executable, __file__, "--torchgeo", *model, "--folder", str(args.folder)]
    for name in ("side", "window", "stride"):
        theirs += [f"--{name}", str(getattr(args, name))]
    turns: dict[str, list[dict[str, float]]] = {OURS: [], THEIRS: []}
    for _ in range(args.repeats):
        outputs[OURS].unlink(missing_ok=True)
        for name, command in ((OURS, ours), (THEIRS, theirs)):
            turns[name].append(run(command))
    with rasterio.open(source) as raster:
        picture = np.ascontiguousarray(raster.read()[::-1].transpose(1, 2, 0))
    predictor = Predictor.build(load_config(args.config_file), args.weights)
    whole = predictor(picture).labels().numpy()
    rows = [
        {
            "tool": name,
            **{key: statistics.median(one[key] for one in found) for key in ("seconds", "mib")},
            **equal_shares(args, outputs[name], whole),
        }
        for name, found in turns.items()
    ]
    result = {"machine": describe_machine(), "side": args.side, "rows": rows}
    table = [
        {
            "": row["tool"],
            "seconds": number(row["seconds"], 1),
            "MiB": number(row["mib"], 0),
            "labels of the whole, %": number(100 * row["equal"], 2),
            "near borders of windows, %": number(100 * row["equal_near"], 2),
        }
        for row in rows
    ]
    print(f"{github_table(table)}\n\n{result['machine']}")
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    with errors_in_one_line(ImportError):
        main()
