#!/usr/bin/env python3
"""Costs and trainings of the paper's tables, row by row.

    python projects/IFA/run_table.py 1 --dataset shapes --seeds 2
    python projects/IFA/run_table.py 3 --dataset camvid --budget 800 --rows fpn_64 fpn_64_ifa
    python projects/IFA/run_table.py figure3 --dataset shapes train.batch_size=8
    python projects/IFA/run_table.py 7 --dataset ade20k --num-gpus 8

trains a table's rows that are not trained yet, one run after the other (a run that was stopped goes
on), and writes mIoU, costs, time and memory beside the paper's mIoU: table1.md, .csv, .json and
.png in the output folder, after each run. A row that fails is named there, and the others go on;
the exit status is then 1. On shapes and camvid a row stands on a small backbone unless --backbone
says otherwise, so that two CPU cores can train it: such figures compare rows with each other, not
with the paper's. The third data set of a table is the paper's own.

Tables 5 to 7 have the rows that can be built here. They are trained on the training set and
evaluated on the validation set, as the other tables are (the paper's Table 5 trains on both and
sends its answers for the test set to a server), of pictures as they are. The paper tests them on
several scales and mirrored pictures, which for one run is

    python tools/train_net.py --eval-only --resume --tta --config-file RUN/config.yaml

    python projects/IFA/run_table.py costs --json costs.json

prints the parameters and multiply-adds of every row that has a model here, beside the paper's. Ours
are counted as the paper counts, see "textbook" in ifa_d2/analysis/cost.py, so that they can be
compared; the last column is the model's cost as it runs here. The paper gives no costs of its
Tables 2 to 4.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import table_training
from table_rows import BACKBONES, SMALL_DATASETS, read_paper_tables, row_config, row_name
from tabulate import tabulate

from ifa_d2.analysis.cost import analyze, report
from ifa_d2.arguments import add_process_arguments
from ifa_d2.files import atomic_path

TABLES = ("1", "2", "3", "5", "6", "7")  # Table 4's rows cost the same, but for their positions


def cost_rows(tables: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Compute each row's table, name and costs, and the paper's costs or None.

    Yields:
        ``table``, ``row``, ``params``, ``macs`` (as the paper counts), ``macs_here`` (as it runs),
        ``paper_params``, ``paper_macs``, and the ``config`` and ``input_size`` they are of.
    """
    paper = read_paper_tables()
    for number in tables:
        table = paper[number]
        for row in table["rows"]:
            cfg = row_config(row, table["num_classes"])
            cost = report(analyze(cfg, tuple(table["input_size"])))
            yield {
                "table": int(number) if number.isdigit() else number,
                "row": row["row"],
                "params": cost["params"],
                "macs": cost["macs_textbook"],
                "macs_here": cost["macs"],
                "paper_params": row["params"],
                "paper_macs": row["macs"],
                "config": row["config"],
                "input_size": table["input_size"],
            }


def _difference(ours: int, paper: int | None) -> str:
    return "" if paper is None else f"{100 * (ours / paper - 1):+.1f} %"


def format_costs(rows: Sequence[dict[str, Any]]) -> str:
    """Format the rows as a table."""
    lines = []
    for row in rows:
        params, macs = row["paper_params"], row["paper_macs"]
        lines.append(
            [
                row["table"],
                row["row"],
                f"{row['params'] / 1e6:.2f}",
                "" if params is None else f"{params / 1e6:.1f}",
                _difference(row["params"], params),
                f"{row['macs'] / 1e9:.1f}",
                "" if macs is None else f"{macs / 1e9:.1f}",
                _difference(row["macs"], macs),
                f"{row['macs_here'] / 1e9:.1f}",
            ]
        )
    headers = ["table", "row", "params (M)", "paper", "off by", "multiply-adds (G)", "paper"]
    headers += ["off by", "as run here (G)"]
    align = ("right", "left", *["right"] * 7)
    return tabulate(lines, headers=headers, colalign=align, disable_numparse=True)


def notes(tables: Sequence[str]) -> list[str]:
    """Notes on tables with fewer rows than the paper's, a line each."""
    paper = read_paper_tables()
    return [
        f"{paper[n]['where']}: {len(paper[n]['rows'])} of the paper's {paper[n]['paper_rows']} rows"
        for n in tables
        if "paper_rows" in paper[n]
    ]


def run_costs(options: argparse.Namespace) -> None:
    rows = []
    for row in cost_rows(options.tables):
        rows.append(row)
        print(f"table {row['table']}: {row['row']}", file=sys.stderr)
    print("\n".join([format_costs(rows), *notes(options.tables)]))
    if options.json is not None:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


def run_training(options: argparse.Namespace) -> None:
    if options.seeds < 1 or (options.budget or 1) < 1:
        raise ValueError(
            f"--seeds and --budget must be 1 or more, got {options.seeds} and {options.budget}"
        )
    for option in ("num_gpus", "num_processes"):
        if (value := getattr(options, option)) is not None and value < 1:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be 1 or more, got {value}")
    small = options.dataset in SMALL_DATASETS
    options.backbone = options.backbone or ("r18" if small else "paper")
    failed = table_training.run(options)
    if failed:
        sys.exit(f"error: {failed} of the rows failed")


def _stop(number: int, frame: Any) -> None:
    sys.exit(128 + number)


def _add_training(commands: Any, table: str) -> None:
    paper = read_paper_tables()[table]
    parser = commands.add_parser(table, help=f"{paper['title']}: {len(paper['rows'])} rows")
    parser.add_argument(
        "--dataset",
        choices=(*SMALL_DATASETS, paper["data"]),
        default="shapes",
        help=f"data set; the paper's is {paper['data']} (default: shapes)",
    )
    parser.add_argument(
        "--backbone",
        choices=BACKBONES,
        help="r18 (default on shapes and camvid): a small one in place of each row's own; paper "
        f"(default on {paper['data']}): the row's own",
    )
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="seeds 1 to N")
    parser.add_argument(
        "--budget", type=int, metavar="ITERATIONS", help="of each run (default: the recipe's)"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        help="some of " + ", ".join(row_name(row) for row in paper["rows"]) + " (default: all)",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        metavar="N",
        help="steps timed of each row; 0 for none (default: 5)",
    )
    parser.add_argument(
        "--checkpoint-period",
        type=int,
        default=200,
        metavar="ITERATIONS",
        help="between checkpoints, from which a stopped run goes on; of a finished one the last is "
        "kept (default: 200)",
    )
    add_process_arguments(
        parser,
        "GPUs of each training",
        "processes of each training on the CPU, instead of GPUs; batch norms share their "
        "statistics over processes and GPUs",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="of the runs and tables (default: output/IFA/DATASET_BACKBONE)",
    )
    parser.add_argument(
        "opts", nargs="*", metavar="key=value", help="change the recipe; after --rows, with a --"
    )
    parser.set_defaults(run=run_training, table=table)


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    costs = commands.add_parser("costs", help="parameters and multiply-adds of every row")
    costs.add_argument(
        "--tables", nargs="+", choices=sorted(read_paper_tables()), default=TABLES, metavar="N"
    )
    costs.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    costs.set_defaults(run=run_costs)
    for table in read_paper_tables():
        _add_training(commands, table)
    options = parser.parse_args(args)
    try:
        options.run(options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    # So that a training that is under way ends with this process.
    signal.signal(signal.SIGTERM, _stop)
    main()
