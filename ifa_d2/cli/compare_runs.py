"""The work of ``tools/compare_runs.py``."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..analysis.benchmarks.tables import github_table
from ..evaluation.comparison import Runs, compare, mean_and_deviation, mean_figures
from ..evaluation.picture_counts import PICTURE_COUNTS, PictureCounts
from ..evaluation.report import write_json
from ..files import check_outputs

_SHOWN = ("mIoU", "mBoundaryIoU_", "trimap_mIoU_", "F1_")  # how their names begin


def read_methods(runs: Sequence[str]) -> dict[str, Runs]:
    """Read the counts of runs, ``[NAME=]DIR`` each, by method.

    Raises:
        FileNotFoundError: a folder without counts.
        ValueError: a folder twice, or damaged counts.
    """
    methods: dict[str, dict[str, PictureCounts]] = {}
    folders = set()
    for run in runs:
        name, _, folder = run.rpartition("=")
        if Path(folder).resolve() in folders:
            raise ValueError(f"runs must be different folders, got {folder} twice")
        folders.add(Path(folder).resolve())
        counts = PictureCounts.read(Path(folder, PICTURE_COUNTS))
        methods.setdefault(name or folder, {})[folder] = counts
    return methods


def choose_figures(known: Sequence[str], chosen: Sequence[str] | None) -> list[str]:
    """Choose the figures to show.

    Raises:
        ValueError: a name that no figure has.
    """
    if chosen is None:
        return [name for name in known if name.startswith(_SHOWN)]
    for name in chosen:
        if name not in known:
            raise ValueError(f"--figures must be of {', '.join(known)}, got {name!r}")
    return list(chosen)


def run(args: argparse.Namespace) -> None:
    """Print the tables, and write the figures."""
    files = [Path(run.rpartition("=")[2], PICTURE_COUNTS) for run in args.runs]
    check_outputs([args.json] if args.json else [], {"run's counts": files})
    methods = read_methods(args.runs)
    baseline = args.baseline or next(iter(methods))
    if baseline not in methods:
        raise ValueError(f"--baseline must be one of {', '.join(methods)}, got {baseline!r}")
    values = {name: mean_figures(runs) for name, runs in methods.items()}
    shown = choose_figures(list(values[baseline]), args.figures)
    intervals = {
        name: compare(runs, methods[baseline]) for name, runs in methods.items() if name != baseline
    }
    pictures = next(iter(methods[baseline].values())).pictures
    print(f"percent, of {len(pictures)} pictures and {len(methods[baseline])} runs a method\n")
    print(
        github_table(
            [
                {"method": name, **{key: mean_and_deviation(found[key]) for key in shown}}
                for name, found in values.items()
            ]
        )
    )
    if intervals:
        rows = [
            {"difference": f"{name} - {baseline}", **{key: str(found[key]) for key in shown}}
            for name, found in intervals.items()
        ]
        print(f"\n{github_table(rows)}")
    if args.json:
        differences = {
            name: {key: asdict(interval) for key, interval in found.items()}
            for name, found in intervals.items()
        }
        write_json(args.json, {"figures": values, "baseline": baseline, "minus it": differences})
