"""The drawn street scenes with panoptic labels: `shapes_panoptic_{train,val}`.

Pictures are those of `shapes`, and so are the classes: things and stuff are numbered in one list,
as Panoptic-DeepLab wants them. Panoptic pictures and their lists are drawn at first use, into the
folder `shapes_panoptic` beside `shapes`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data.builtin import SHAPES_COLORS, SPLITS, prepare_builtin_shapes
from ifa_d2.data.sem_seg_folder import expand_path
from ifa_d2.data.shapes import (
    CLASSES,
    SHAPES_COUNTS,
    SHAPES_SEED,
    SHAPES_SIZE,
    SHAPES_VERSION,
    THINGS,
    Scene,
    draw_once,
    make_scene,
)

THING_IDS = tuple(CLASSES.index(name) for name in THINGS)
LABEL_DIVISOR = 1000  # an id is class * LABEL_DIVISOR + number of the instance, plus 1
MIN_AREA = 16  # pixels; what shows less of an instance is void
IGNORED = 255
_VERSION = 1  # raise it when a change here changes any label
_MARKER = "shapes_panoptic.json"


def panoptic_label(
    scene: Scene, height: int, width: int
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The segments of a scene: ids (height, width) int32, 0 where it is void, and what they are.

    Returns:
        The ids, and ``segments_info`` in COCO's format.
    """
    label = scene.label(height, width).astype(np.int32)
    is_thing = np.isin(label, THING_IDS)
    ids = 1 + label * LABEL_DIVISOR + np.where(is_thing, scene.things(height, width), 0)
    segments = []
    for number, area in zip(*np.unique(ids, return_counts=True), strict=True):
        category = int(number - 1) // LABEL_DIVISOR
        if category in THING_IDS and area < MIN_AREA:
            ids[ids == number] = 0
            continue
        one = {"id": int(number), "category_id": category, "iscrowd": 0, "area": int(area)}
        segments.append(one)
    return ids, segments


def prepare_panoptic_shapes(root: str | os.PathLike[str], counts: Mapping[str, int]) -> Path:
    """Draw `root`/{SPLIT}/NNNN.png and `root`/{SPLIT}.json, unless they are there.

    See :func:`ifa_d2.data.shapes.draw_once`.

    Args:
        root: the folder to make.
        counts: scenes of each split.

    Raises:
        ValueError: `root` is there and is something else; it is left alone.
    """
    root = Path(os.path.abspath(root))
    made = {"shapes": SHAPES_VERSION, "version": _VERSION, "counts": dict(counts)}
    draw_once(root, _MARKER, made, partial(_draw_splits, counts))
    return root


def _draw_splits(counts: Mapping[str, int], root: Path) -> None:
    for split, count in counts.items():
        _draw_split(root, split, count)


def _draw_split(root: Path, split: str, count: int) -> None:
    (root / split).mkdir(parents=True)
    height, width = SHAPES_SIZE
    images, annotations = [], []
    for index in range(count):
        scene = make_scene(SHAPES_SEED, list(SHAPES_COUNTS).index(split), index)
        ids, segments = panoptic_label(scene, height, width)
        name = f"{index:04d}"
        colors = np.stack([ids, ids // 256, ids // 65536], axis=2) % 256
        Image.fromarray(colors.astype(np.uint8)).save(root / split / f"{name}.png")
        images.append({"id": name, "file_name": f"{name}.png", "height": height, "width": width})
        annotations.append(
            {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}
        )
    categories = [
        {"id": index, "name": name, "isthing": int(index in THING_IDS)}
        for index, name in enumerate(CLASSES)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")


@dataclass(frozen=True)
class PanopticShapes:
    """Catalog entry of one split; draws and lists its records when called.

    Attributes:
        split: "train" or "val".
    """

    split: str

    @property
    def name(self) -> str:
        """Name of the data set."""
        return f"shapes_panoptic_{self.split}"

    @property
    def registered_in(self) -> str:
        """This file, which an error about a saved config names."""
        return __file__

    def __call__(self) -> list[dict[str, Any]]:
        """List Detectron2's records, with ``pan_seg_file_name`` and ``segments_info``."""
        prepare_builtin_shapes()
        shapes = Path(expand_path("$DETECTRON2_DATASETS/shapes"))
        root = prepare_panoptic_shapes(
            expand_path("$DETECTRON2_DATASETS/shapes_panoptic"), SHAPES_COUNTS
        )
        roots = {
            "image_root": str(shapes / "images" / self.split),
            "sem_seg_root": str(shapes / "annotations" / self.split),
            "panoptic_root": str(root / self.split),
            "panoptic_json": str(root / f"{self.split}.json"),
        }
        vars(MetadataCatalog.get(self.name)).update(roots)
        content = json.loads(Path(roots["panoptic_json"]).read_text(encoding="utf-8"))
        return [
            {
                "file_name": os.path.join(roots["image_root"], one["file_name"]),
                "sem_seg_file_name": os.path.join(roots["sem_seg_root"], one["file_name"]),
                "pan_seg_file_name": os.path.join(roots["panoptic_root"], one["file_name"]),
                "image_id": one["image_id"],
                "height": SHAPES_SIZE[0],
                "width": SHAPES_SIZE[1],
                "segments_info": one["segments_info"],
            }
            for one in content["annotations"]
        ]


def register_panoptic_shapes() -> None:
    """Register both splits; a second call changes nothing."""
    for split in SPLITS:
        dataset = PanopticShapes(split)
        if dataset.name in DatasetCatalog:
            continue
        DatasetCatalog.register(dataset.name, dataset)
        stuff = [index for index in range(len(CLASSES)) if index not in THING_IDS]
        MetadataCatalog.get(dataset.name).set(
            stuff_classes=list(CLASSES),
            stuff_colors=[list(color) for color in SHAPES_COLORS],
            thing_classes=list(THINGS),
            thing_colors=[list(SHAPES_COLORS[index]) for index in THING_IDS],
            thing_dataset_id_to_contiguous_id={index: index for index in THING_IDS},
            stuff_dataset_id_to_contiguous_id={index: index for index in stuff},
            label_divisor=LABEL_DIVISOR,
            ignore_label=IGNORED,
            evaluator_type="shapes_panoptic_seg",
        )


register_panoptic_shapes()
