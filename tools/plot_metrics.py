#!/usr/bin/env python3
"""Draw the training curves of runs: loss and mIoU against iterations.

    python tools/plot_metrics.py IFA=output/camvid/ifa_r18 bilinear=output/camvid/bilinear_r18 \\
        --output curves.png
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt

from ifa_d2.engine.arguments import command_parser, errors_in_one_line
from ifa_d2.files import atomic_path, check_outputs
from ifa_d2.text import draw_as_is

METRICS = "metrics.json"
CURVES = {"loss_sem_seg": "loss (smoothed over 20 iterations)", "sem_seg/mIoU": "mIoU, percent"}


def read_curve(run: Path, key: str) -> tuple[list[int], list[float]]:
    """Iterations and values of one figure of a run's ``metrics.json``.

    Raises:
        ValueError: the run has no such file, or it is damaged.
    """
    path = run / METRICS
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    # A line repeats the last evaluation until there is a new one.
    iterations: list[int] = []
    values: list[float] = []
    for row in rows:
        if key in row and (key == "loss_sem_seg" or values[-1:] != [row[key]]):
            iterations.append(row["iteration"] + 1)
            values.append(row[key])
    return iterations, values


def main() -> None:
    parser = command_parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="[NAME=]DIR", help="output folders of runs")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png", help="to draw")
    args = parser.parse_args()
    read = [Path(run.rpartition("=")[2], METRICS) for run in args.runs]
    check_outputs([args.output], {"run's figures": read})
    figure, axes = plt.subplots(1, len(CURVES), figsize=(5 * len(CURVES), 3.2), layout="tight")
    for run in args.runs:
        name, _, folder = run.rpartition("=")
        for axis, (key, title) in zip(axes, CURVES.items(), strict=True):
            x, y = read_curve(Path(folder), key)
            axis.plot(x, y, marker="o" if key != "loss_sem_seg" else "", label=name or folder)
            axis.set(title=title, xlabel="iteration")
            axis.grid(alpha=0.3)
    for text in axes[0].legend().get_texts():
        draw_as_is(text)
    with atomic_path(args.output) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
