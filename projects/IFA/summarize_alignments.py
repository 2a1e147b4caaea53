#!/usr/bin/env python3
"""Tables and paired intervals from the counts of compare_alignments.py.

    python projects/IFA/summarize_alignments.py output/alignments/camvid --seeds 3 4 5 \\
        --pairs ifa+integrated:bilinear ifa:probe

Means and standard deviations over seeds of mIoU, boundary IoU and, where it was counted, F1, by the
input's scale and the stride of decoding; then, of every variant, decoding at every pixel against
stride 4, and each pair at every pixel. Writes NAME.md and NAME.json beside the runs.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))  # its neighbours

from alignment_counts import BOUNDARY_WIDTHS, read_counts
from bootstrap import (
    Interval,
    f1,
    mean_boundary_iou,
    mean_iou,
    paired_interval,
)

from ifa_d2.analysis.benchmarks.tables import github_table
from ifa_d2.files import atomic_path

FULL, COARSE = "1/1", "1/4"
# Where methods are compared: every pixel, of the picture and of smaller ones.
COMPARED = ("1/1", "1/4", "0.5/1", "0.25/1")
Counts = Mapping[str, Mapping[str, np.ndarray]]


def figures(
    counts: Counts,
) -> dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], int | None]]:
    """Metrics of the counts: the array's name, the metric, and the part of the array."""
    found: dict = {"mIoU": ("confusion", mean_iou, None)}
    for index, width in enumerate(BOUNDARY_WIDTHS):
        found[f"boundary IoU {width.name}"] = ("boundary", mean_boundary_iou, index)
    if "f1" in counts[FULL]:
        found["F1"] = ("f1", f1, None)
    return found


def arrays(runs: Sequence[Counts], setting: str, kind: str, index: int | None) -> np.ndarray:
    """Stack the counts of several seeds' runs of one kind, (S, N, ...)."""
    stacked = np.stack([run[setting][kind] for run in runs])
    return stacked if index is None else stacked[:, :, index]


def read_runs(
    folder: Path, variants: Sequence[str], seeds: Sequence[int]
) -> dict[str, list[Counts]]:
    """Read the counts of the variants that have all seeds.

    Raises:
        ValueError: nothing is there.
    """
    names = variants or sorted(p.name for p in folder.iterdir() if p.is_dir())
    runs = {}
    for name in names:
        paths = [folder / name / f"seed{seed}" / "counts.npz" for seed in seeds]
        if all(path.is_file() for path in paths):
            runs[name] = [read_counts(path) for path in paths]
    if not runs:
        raise ValueError(f"{folder} has no variant with counts.npz of all seeds {list(seeds)}")
    return runs


def table(runs: Mapping[str, list[Counts]]) -> tuple[str, list[dict]]:
    """Make a table of means and standard deviations over seeds, in Markdown and as numbers."""
    texts, numbers = [], []
    kinds = figures(next(iter(runs.values()))[0])
    for name, (kind, metric, index) in kinds.items():
        rows = []
        for variant, counts in runs.items():
            row = {name: variant}
            for setting in counts[0]:
                values = metric(arrays(counts, setting, kind, index).sum(axis=1)).tolist()
                row[setting] = f"{statistics.fmean(values):.1f}"
                if len(values) > 1:
                    row[setting] += f" ± {statistics.stdev(values):.1f}"
                numbers.append(
                    {"variant": variant, "figure": name, "setting": setting, "values": values}
                )
            rows.append(row)
        texts.append(github_table(rows))
    return "\n\n".join(texts), numbers


def differences(runs: Mapping[str, list[Counts]], pairs: Sequence[str]) -> tuple[str, list[dict]]:
    """Compute intervals of every pixel against stride 4, and of the pairs.

    Raises:
        ValueError: a pair of variants that are not there.
    """
    kinds = figures(next(iter(runs.values()))[0])
    rows, numbers = [], []

    def add(label: str, setting: str, ours: Counts, theirs: Counts, at: tuple[str, str]) -> None:
        row = {"difference": label, "decoded": setting}
        for name, (kind, metric, index) in kinds.items():
            interval: Interval = paired_interval(
                arrays(ours, at[0], kind, index), arrays(theirs, at[1], kind, index), metric
            )
            row[name] = str(interval)
            numbers.append({**row, "figure": name, **asdict(interval)})
        rows.append(row)

    for variant, counts in runs.items():
        add(f"{variant}: stride 1 - stride 4", "", counts, counts, (FULL, COARSE))
    for pair in pairs:
        ours, _, theirs = pair.partition(":")
        for name in (ours, theirs):
            if name not in runs:
                raise ValueError(f"--pairs must name variants of {list(runs)}, got {name!r}")
        for setting in [name for name in COMPARED if name in runs[ours][0]]:
            add(f"{ours} - {theirs}", setting, runs[ours], runs[theirs], (setting, setting))
    return github_table(rows), numbers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR", help="--output of compare_alignments.py")
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    parser.add_argument("--pairs", nargs="+", default=[], metavar="OURS:THEIRS")
    parser.add_argument("--name", default="alignments", help="of the files (default: alignments)")
    args = parser.parse_args()
    folder = Path(args.folder)
    try:
        runs = read_runs(folder, args.variants, args.seeds)
        means, numbers = table(runs)
        intervals, more = differences(runs, args.pairs)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    text = f"{means}\n\n{intervals}\n"
    with atomic_path(folder / f"{args.name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_path(folder / f"{args.name}.json") as temporary:
        content = {"seeds": args.seeds, "figures": numbers, "differences": more}
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
