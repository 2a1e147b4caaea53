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
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # its neighbours

from alignment_counts import counted_settings, counts_file

from ifa_d2.analysis.benchmarks.tables import github_table
from ifa_d2.evaluation.comparison import Runs, compare, mean_and_deviation, mean_figures
from ifa_d2.evaluation.picture_counts import PictureCounts
from ifa_d2.files import atomic_path

FULL, COARSE = "1/1", "1/4"
# Where methods are compared: every pixel, of the picture and of smaller ones.
COMPARED = ("1/1", "1/4", "0.5/1", "0.25/1")
SHOWN = ("mIoU", "mBoundaryIoU_", "F1_")  # how their names begin
Settings = Mapping[str, Runs]  # of one variant


def read_runs(
    folder: Path, variants: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[str, dict[str, PictureCounts]]]:
    """Read the counts by variant, setting and run, of the variants that have all seeds.

    Raises:
        ValueError: nothing is there.
    """
    variants = variants or sorted(p.name for p in folder.iterdir() if p.is_dir())
    found = {}
    for variant in variants:
        outputs = [folder / variant / f"seed{seed}" for seed in seeds]
        settings = [
            name
            for name in counted_settings(outputs[0])
            if all(counts_file(o, name).is_file() for o in outputs)
        ]
        if settings:
            found[variant] = {
                name: {str(o): PictureCounts.read(counts_file(o, name)) for o in outputs}
                for name in settings
            }
    if not found:
        raise ValueError(f"{folder} has no variant with counts of all seeds {list(seeds)}")
    return found


def table(variants: Mapping[str, Settings]) -> tuple[str, list[dict]]:
    """Make tables of means and standard deviations over seeds, in Markdown and as numbers."""
    rows: dict[str, list[dict[str, str]]] = {}
    numbers = []
    for variant, settings in variants.items():
        figures = {setting: mean_figures(runs) for setting, runs in settings.items()}
        for name in _shown(next(iter(figures.values()))):
            row = {name: variant}
            for setting, found in figures.items():
                row[setting] = mean_and_deviation(found[name])
                one = {"variant": variant, "figure": name, "setting": setting}
                numbers.append({**one, "values": found[name]})
            rows.setdefault(name, []).append(row)
    return "\n\n".join(map(github_table, rows.values())), numbers


def _shown(figures: Iterable[str]) -> list[str]:
    return [name for name in figures if name.startswith(SHOWN)]


def differences(variants: Mapping[str, Settings], pairs: Sequence[str]) -> tuple[str, list[dict]]:
    """Compute intervals of every pixel against stride 4, and of the pairs.

    Raises:
        ValueError: a pair of variants that are not there.
    """
    rows, numbers = [], []

    def add(label: str, setting: str, ours: Runs, theirs: Runs) -> None:
        row, found = {"difference": label, "decoded": setting}, compare(ours, theirs)
        for name in _shown(found):
            numbers.append({**row, "figure": name, **asdict(found[name])})
        rows.append({**row, **{name: str(found[name]) for name in _shown(found)}})

    for variant, settings in variants.items():
        if FULL in settings and COARSE in settings:
            add(f"{variant}: stride 1 - stride 4", "", settings[FULL], settings[COARSE])
    for pair in pairs:
        ours, _, theirs = pair.partition(":")
        for name in (ours, theirs):
            if name not in variants:
                raise ValueError(f"--pairs must name variants of {list(variants)}, got {name!r}")
        both = (variants[ours], variants[theirs])
        for setting in [name for name in COMPARED if all(name in one for one in both)]:
            add(f"{ours} - {theirs}", setting, both[0][setting], both[1][setting])
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
