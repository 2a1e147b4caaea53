"""The work of ``tools/prepare_datasets.py``."""

import argparse
import logging
import re
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate

from ..choices import FOLDER
from ..commands import command_line
from ..data import read_picture
from ..data.check import check_dataset
from ..data.inspection import (
    MAX_ITER,
    SPLITS,
    Layout,
    Recipe,
    find_labels,
    find_layout,
    plan_recipe,
)
from ..data.labels import read_record_classes
from ..data.preparation import PREPARATIONS, prepare
from ..engine.inputs import choose_records
from ..engine.run import load_config
from ..files import atomic_path, check_outputs
from ..listing import join_some
from ..visualization import contact_sheet, sample_row, save_png

_DRAWN = 6  # pictures of the sheet
_NAMED = 4  # sizes


def prepare_published(args: argparse.Namespace) -> int:
    """Prepare a published data set, and say what there is."""
    (root,) = args.root
    rows = []
    for preparation in PREPARATIONS[args.dataset]:
        counts = prepare(preparation, root, workers=args.workers, allow_partial=args.allow_partial)
        rows += [
            [preparation.name, split, count, preparation.counts[split], preparation.num_classes]
            for split, count in counts.items()
        ]
    print(tabulate(rows, headers=["data set", "split", "images", "published", "classes"]))
    print(f"complete and checked; set DETECTRON2_DATASETS={root.expanduser().absolute()}")
    return 0


def prepare_folder(args: argparse.Namespace) -> int:
    """Write a recipe for a folder, and check all files; 1 if any is bad."""
    folder = args.root[0].expanduser().absolute()
    output = args.output or Path(f"{_identifier(folder.name)}.py")
    if output.suffix != ".py":
        raise ValueError(f"output must end in .py, got {str(output)!r}")
    sheet = output.with_suffix(".png")
    _refuse_to_replace([output, sheet], args.overwrite)
    layout = find_layout(args.root)
    labels = find_labels(
        layout,
        args.root,
        class_names=args.classes,
        ignore_label=args.ignore_label,
        workers=args.workers,
    )
    name = _identifier(output.stem)
    if f"{name}_train" in DatasetCatalog:  # one that comes with the package
        name = f"my_{name}"
    recipe = plan_recipe(
        layout, labels, output, name, frozen=args.freeze, short_edge=args.short_edge
    )
    written = [*recipe.files, sheet]
    _refuse_to_replace(written, args.overwrite)
    check_outputs(
        written,
        {
            "picture": (pair.image for pair in layout.pairs),
            "label": (pair.label for pair in layout.pairs),
        },
    )
    for path, text in recipe.files.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _say(layout, labels.form, len(labels.classes), recipe)
    load_config(str(output))
    reports = [check_dataset(one, workers=args.workers) for one in recipe.names]
    print(*(f"\n{report.to_text()}" for report in reports), sep="\n")
    print(f"\nwrote {', '.join(map(str, recipe.files))}")
    if not all(report.ok for report in reports):
        print("correct the files that are bad before a training; the recipe stays as it is")
        return 1
    draw_sheet(recipe, sheet)
    print(f"drew {sheet}: look whether the labels lie where they should")
    print(f"it trains for {MAX_ITER} iterations; train.max_iter=100 is a short trial")
    print(f"next: {command_line('train', '--config-file', str(output))}")
    return 0


def draw_sheet(recipe: Recipe, path: Path) -> None:
    """Draw some pictures and labels that a training reads."""
    name = recipe.names[0]
    metadata, rows = MetadataCatalog.get(name), []
    for record in choose_records(name, _DRAWN):
        label = read_record_classes(record, metadata)
        image = np.ascontiguousarray(read_picture(record["file_name"]))
        rows.append(sample_row(image, label, metadata, legend=True))
    save_png(path, contact_sheet(rows, columns=2))


def _refuse_to_replace(paths: list[Path], overwrite: bool) -> None:
    present = [str(path) for path in paths if path.exists()]
    if present and not overwrite:
        raise ValueError(
            f"{' and '.join(present)} would be replaced: pass --overwrite, or another --output"
        )


def _identifier(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_") or "data"


def _say(layout: Layout, form: str, num_classes: int, recipe: Recipe) -> None:
    counts = [
        f"{sum(pair.split == split for pair in layout.pairs)} {split}"
        for split in SPLITS
        if any(pair.split == split for pair in layout.pairs)
    ]
    print(f"found {len(layout.pairs)} images with labels ({', '.join(counts)})")
    print(f"labels: {form}; {num_classes} classes")
    sizes = [f"{h}x{w} ({count})" for (h, w), count in recipe.sizes.items()]
    print(f"height x width: {join_some(sizes, _NAMED)}; shown at {recipe.short_edge}")
    if layout.without_label:
        print(f"left out: {layout.without_label} images without label")
    if layout.unlisted:
        print(f"left out: {layout.unlisted} images that are in no list")


def run(args: argparse.Namespace) -> int:
    """Prepare what the command line asks for; returns the exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    return prepare_folder(args) if args.dataset == FOLDER else prepare_published(args)
