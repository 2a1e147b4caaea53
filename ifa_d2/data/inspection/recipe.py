"""A recipe that trains on one's own pairs, and the tables that it registers."""

import csv
import io
import json
import os
import pprint
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..pictures import picture_size
from .json_files import Pair
from .label_forms import Labels
from .layout import SPLITS, Layout

_LARGEST = 512  # pixels of the shorter side that a picture is trained at, unless it is asked for
_STEP = 32  # a crop's sides are multiples of it
_CROP = 0.75  # of the shorter side
MAX_ITER = 1600
BASES = {False: "camvid/ifa_lite0.py", True: "camvid/ifa_lite0_frozen.py"}

_TEXT = '''"""{name}: {summary}."""

from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from ifa_d2 import get_config
from ifa_d2.data import {function}

HERE = Path(__file__).resolve().parent
ROOT = {root!r}
CLASSES = {classes}
for part in {parts}:
{registration}

_recipe = get_config({base!r})  # {base_says}
dataloader, inference, model = _recipe.dataloader, _recipe.inference, _recipe.model
lr_multiplier, optimizer, train = _recipe.lr_multiplier, _recipe.optimizer, _recipe.train

model.sem_seg_head.num_classes = len(CLASSES)
dataloader.train.dataset.names = "{name}_train"
dataloader.test.dataset.names = "{name}_val"
train.max_iter = {max_iter}
# Classes get points by the square root of their pixels: 1, each as many, draws rare ones too wide.
dataloader.train.mapper.point_balance = 0.5
# The shorter side in pixels: in training times 0.5 to 2 and cropped to (height, width).
dataloader.train.mapper.augmentations.update(short_edge={short_edge}, crop_size={crop_size})
dataloader.test.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length={short_edge}, max_size={max_size})
]
'''
_FOLDER = """    register_sem_seg_folder(
        f"{name}_{{part}}",
        ROOT,
        ROOT,
        CLASSES,
        list_file=HERE / f"{stem}_{{part}}.csv",
{options}    )"""
_COCO = """    register_coco_sem_seg(
        f"{name}_{{part}}",
        HERE / f"{stem}_{{part}}.json",
        ROOT,
        CLASSES,
{options}    )"""


@dataclass(frozen=True)
class Recipe:
    """A recipe before it is written.

    Fields:
        path: its file
        names: of the data sets that it registers, for training first
        files: texts by their files, the recipe's own last
        short_edge: the shorter side in pixels that pictures are shown at
        sizes: how many pictures have each (height, width), the most frequent first
    """

    path: Path
    names: tuple[str, ...]
    files: dict[Path, str]
    short_edge: int
    sizes: dict[tuple[int, int], int]


def plan_recipe(
    layout: Layout,
    labels: Labels,
    path: str | os.PathLike[str],
    name: str,
    *,
    frozen: bool = False,
    short_edge: int | None = None,
) -> Recipe:
    """Make the texts of a recipe and of its tables; nothing is written.

    Args:
        layout: the pairs
        labels: their classes
        path: of the recipe, a .py; the tables lie beside it
        name: of the data sets, before "_train" and "_val"
        frozen: start from the recipe whose backbone is not trained
        short_edge: in pixels; None is the median of the pictures, 512 at most

    Raises:
        ValueError: `short_edge` is too small, or a picture cannot be opened.
    """
    path = Path(path)
    parts = tuple(one for one in SPLITS if any(pair.split == one for pair in layout.pairs))
    root = os.path.commonpath([os.path.dirname(pair.image) for pair in layout.pairs])
    if layout.form != "coco":
        root = os.path.commonpath([root, *(os.path.dirname(pair.label) for pair in layout.pairs)])
    sizes = [picture_size(pair.image) for pair in layout.pairs]
    short_edge = short_edge or min(_LARGEST, int(np.median([min(size) for size in sizes])))
    if short_edge < _STEP:
        raise ValueError(f"short_edge must be at least {_STEP} pixels, got {short_edge}")
    crop = max(_STEP, int(_CROP * short_edge) // _STEP * _STEP)
    options = dict(labels.options)
    if layout.form == "labelme":
        options["label_suffix"] = ".json"
    template = _COCO if layout.form == "coco" else _FOLDER
    registration = template.format(name=name, stem=path.stem, options=_arguments(options))
    text = _TEXT.format(
        name=name,
        summary=f"{len(layout.pairs)} pictures, {len(labels.classes)} classes, {labels.form}",
        function="register_coco_sem_seg" if layout.form == "coco" else "register_sem_seg_folder",
        root=root,
        classes=_literal(list(labels.classes)),
        parts=_literal(parts),
        registration=registration,
        base=BASES[frozen],
        base_says="weights of ImageNet" + (", not trained further" if frozen else ""),
        short_edge=short_edge,
        crop_size=(crop, crop),
        max_size=4 * short_edge,
        max_iter=MAX_ITER,
    )
    files = {}
    for part in parts:
        chosen = [pair for pair in layout.pairs if pair.split == part]
        if layout.form == "coco":
            files[path.with_name(f"{path.stem}_{part}.json")] = _coco_text(chosen, root)
        else:
            files[path.with_name(f"{path.stem}_{part}.csv")] = _table(chosen, root)
    files[path] = text
    names = tuple(f"{name}_{part}" for part in parts)
    return Recipe(path, names, files, short_edge, dict(Counter(sizes).most_common()))


def _arguments(options: dict) -> str:
    lines = [f"        {key}={_literal(value, 8)},\n" for key, value in options.items()]
    return "".join(lines)


def _literal(value: object, indent: int = 0) -> str:
    """Python text of a value, on several lines where one would be too long."""
    text = repr(value)
    if len(text) <= 70:
        return text
    text = pprint.pformat(value, width=90, sort_dicts=False, compact=True)
    return text.replace("\n", "\n" + " " * indent)


def _table(pairs: Sequence[Pair], root: str) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", "label"])
    for pair in pairs:
        writer.writerow([os.path.relpath(pair.image, root), os.path.relpath(pair.label, root)])
    return buffer.getvalue()


def _coco_text(pairs: Sequence[Pair], root: str) -> str:
    """One COCO file of the images of some pairs, with new ids, and paths below a folder."""
    images, annotations, categories = [], [], {}
    for json_file in sorted({pair.label for pair in pairs}):
        content = json.loads(Path(json_file).read_text(encoding="utf-8"))
        paths = {pair.name: pair.image for pair in pairs if pair.label == json_file}
        names = {one["id"]: one["name"] for one in content["categories"]}
        new_ids = {}
        for image in content["images"]:
            if path := paths.get(image["file_name"]):
                new_ids[image["id"]] = len(images) + 1
                found = {"id": len(images) + 1, "file_name": os.path.relpath(path, root)}
                images.append(image | found)
        for annotation in content["annotations"]:
            if annotation["image_id"] in new_ids:
                name = names[annotation["category_id"]]
                found = {
                    "id": len(annotations) + 1,
                    "image_id": new_ids[annotation["image_id"]],
                    "category_id": categories.setdefault(name, len(categories) + 1),
                }
                annotations.append(annotation | found)
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    content = {"images": images, "categories": listed, "annotations": annotations}
    return json.dumps(content) + "\n"
