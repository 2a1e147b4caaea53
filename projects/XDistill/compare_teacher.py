#!/usr/bin/env python3
"""Depth with and without a teacher on the drawn films: trainings, a table, and a picture.

    python projects/XDistill/compare_teacher.py --output output/xdistill --seeds 1 2 3
    python projects/XDistill/compare_teacher.py --output output/xdistill --seeds 1 2 3 \\
        --teacher-root output/teacher_labels/ids

Unfinished runs are trained one after the other by tools/train_net.py; a stopped run is resumed.
Prints figures, differences by seed with an interval, and what predictors have that see no picture;
writes figures to comparison.json below the output folder.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # its neighbours

import drawn_films  # noqa: F401 (it registers them)
import numpy as np
import torch
from depth_evaluator import DepthEvaluator
from detectron2.data import DatasetCatalog
from film_folder import read_depth
from matplotlib.figure import Figure
from scipy import stats

from ifa_d2.data import expand_path, read_picture
from ifa_d2.engine.build import build_test_mapper
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config
from ifa_d2.errors import errors_in_one_line
from ifa_d2.files import atomic_path
from ifa_d2.visualization import save_plot

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "projects" / "XDistill" / "configs" / "shapes"
# Recipes by the names of runs; the second has the exact labels, the third those of a folder.
RECIPES = {
    "without": "monodepth_lite0.py",
    "exact": "xdistill_lite0.py",
    "trained": "xdistill_lite0.py",
}
NAMES = {"without": "no teacher", "exact": "exact labels", "trained": "trained teacher"}
METRICS = ("abs_rel", "rmse", "delta_1")
TRAIN, VAL = "xdistill_shapes_train", "xdistill_shapes_val"
_DONE = "compared.json"  # in the folder of a run that is done: what it was trained with
_FAR = 80.0  # metres, where the sky is put in the median of training depths


def train(kind: str, folder: Path, overrides: Sequence[str]) -> None:
    """Train or resume a run by a command of its own, unless it is done.

    Raises:
        ValueError: the folder holds a run of other settings.
    """
    note = folder / _DONE
    if note.is_file():
        if json.loads(note.read_text(encoding="utf-8")) != list(overrides):
            raise ValueError(f"output: {folder} holds a run of other settings, see {note}")
        return
    command = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--resume"]
    command += ["--config-file", str(CONFIGS / RECIPES[kind]), f"train.output_dir={folder}"]
    subprocess.run([*command, *overrides], check=True)
    with atomic_path(note) as temporary:
        temporary.write_text(json.dumps(list(overrides)), encoding="utf-8")


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Mean of differences by seed, and the 95 % interval of Student's t; needs two or more."""
    mean, count = float(np.mean(differences)), len(differences)
    error = float(np.std(differences, ddof=1)) / count**0.5
    half = float(stats.t.ppf(0.975, count - 1)) * error
    return mean, mean - half, mean + half


def blind_figures() -> dict[str, Mapping[str, float]]:
    """Figures of predictors that see no picture: one depth, and the median of training depths."""
    depths = [read_depth(one["depth_file_name"]) for one in DatasetCatalog.get(TRAIN)]
    usual = np.median([np.where(one > 0, one, _FAR) for one in depths], axis=0)
    found = {}
    for name, depth in (("one depth", np.ones_like(usual)), ("median of training", usual)):
        evaluator = DepthEvaluator(VAL)
        for one in DatasetCatalog.get(VAL):
            evaluator.process([one], [{"depth": torch.from_numpy(depth)}])
        found[name] = evaluator.evaluate()["depth"]
    return found


def table(figures: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Format means and standard deviations over seeds as rows of Markdown."""
    lines = [f"| depth | {' | '.join(METRICS)} |", "|---" * (1 + len(METRICS)) + "|"]
    for name, rows in figures.items():
        cells = []
        for metric in METRICS:
            values = [row[metric] for row in rows]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(path: Path, folder: Path, kinds: Sequence[str], seed: int, frames: Sequence[int]) -> None:
    """Draw frames, their true depth and that of a seed's runs, as inverse depth."""
    records = DatasetCatalog.get(VAL)
    models = {}
    for kind in kinds:
        cfg = load_config(str(CONFIGS / RECIPES[kind]), ["train.device=cpu"])
        weights = str(folder / f"{kind}_{seed}" / "model_final.pth")
        models[kind] = load_model(cfg, weights), build_test_mapper(cfg)
    figure = Figure(figsize=(9, 6.4 / (2 + len(kinds)) * len(frames) + 0.3), layout="constrained")
    axes = figure.subplots(len(frames), 2 + len(kinds), squeeze=False)
    for row, index in zip(axes, frames, strict=True):
        record = records[index]
        true = read_depth(record["depth_file_name"])
        known = (true > 0) & (true < _FAR)
        shown = {"frame": read_picture(record["file_name"]), "true": np.where(known, true, np.inf)}
        for kind, (model, mapper) in models.items():
            with torch.no_grad():
                depth = model([mapper(record)])[0]["depth"].numpy()
            shown[NAMES[kind]] = depth * np.median(true[known]) / np.median(depth[known])
        for axis, (name, content) in zip(row, shown.items(), strict=True):
            if name == "frame":
                axis.imshow(content)
            else:
                axis.imshow(1 / content, cmap="magma", vmin=0, vmax=0.35, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if index == frames[0]:
                axis.set_title(name)
    save_plot(path, figure)


def run(args: argparse.Namespace) -> str:
    """Train and compare; returns the text."""
    if len(set(args.seeds)) < 2:
        raise ValueError(f"seeds must be two different numbers or more, got {args.seeds}")
    if args.teacher_root and not Path(expand_path(args.teacher_root)).is_dir():
        raise ValueError(f"teacher_root must be a folder of label files, got {args.teacher_root!r}")
    count = len(DatasetCatalog.get(VAL))
    if not set(args.frames) <= set(range(count)):
        raise ValueError(f"frames must be from 0 to {count - 1}, got {args.frames}")
    folder = Path(args.output).resolve()
    kinds = ["without", "exact", *(["trained"] if args.teacher_root else [])]
    more = {"trained": [f"dataloader.train.mapper.teacher_root={args.teacher_root}"]}
    figures: dict[str, list[Mapping[str, float]]] = {kind: [] for kind in kinds}
    for seed in args.seeds:
        for kind in kinds:
            output = folder / f"{kind}_{seed}"
            train(kind, output, [f"train.seed={seed}", *more.get(kind, []), *args.opts])
            content = json.loads((output / "depth_evaluation.json").read_text(encoding="utf-8"))
            figures[kind].append(content["figures"])
    rows = {name: [one] for name, one in blind_figures().items()}
    rows |= {NAMES[kind]: of_kind for kind, of_kind in figures.items()}
    text = table(rows)
    for kind in kinds[1:]:
        for metric in METRICS:
            pairs = zip(figures[kind], figures["without"], strict=True)
            differences = [one[metric] - other[metric] for one, other in pairs]
            mean, low, high = interval(differences)
            each = ", ".join(f"{value:+.4f}" for value in differences)
            text += f"\n{NAMES[kind]}, {metric} minus that without: "
            text += f"{mean:+.4f} [{low:+.4f}, {high:+.4f}] ({each})"
    with atomic_path(folder / "comparison.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if args.picture:
        draw(Path(args.picture), folder, kinds, args.seeds[0], args.frames)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    parser.add_argument(
        "--teacher-root",
        metavar="DIR",
        help="train with the labels of this folder too, see FilmMapper.teacher_root",
    )
    parser.add_argument("--picture", metavar="FILE", help="draw depths of the first seed's runs")
    parser.add_argument(
        "--frames",
        nargs="+",
        type=int,
        default=[5, 41, 66],
        metavar="N",
        help="which frames of the validation films to draw (default: 5 41 66)",
    )
    parser.add_argument(
        "opts", nargs="*", metavar="key=value", help="change the recipes, after a lone --"
    )
    print(run(parser.parse_args()))


if __name__ == "__main__":
    with errors_in_one_line():
        main()
