"""Small panoptic data sets in the layout and the file formats of the published ones.

Each function writes below `root`, which is what DETECTRON2_DATASETS names, and prepares the stuff
labels as the command does.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic_separated
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES, _get_builtin_metadata
from PIL import Image

from ifa_d2.data.panoptic_mapper import segment_picture
from ifa_d2.data.preparation import PREPARATIONS, prepare

from .miniatures import make_cityscapes

COUNTS = {"train": 3, "val": 2}
SIZE = (64, 96)  # (height, width) in pixels
SKY, GRASS, PERSON, CAR = 187, 193, 1, 3


def make_cityscapes_panoptic(root: Path, counts: Mapping[str, int] = COUNTS) -> Path:
    """leftImg8bit/ and gtFine/ with what Cityscapes' own script makes of them."""
    make_cityscapes(root, counts, SIZE)
    convert2panoptic(str(root / "cityscapes" / "gtFine"), setNames=list(counts))
    _prepare("cityscapes_panoptic", root)
    return root


def make_coco_panoptic(root: Path, counts: Mapping[str, int] = COUNTS) -> Path:
    """{split}2017/, panoptic_{split}2017/ and both kinds of annotations.

    Sky above grass, a car and a person, and in the first picture a crowd of people; the border is
    in no segment.
    """
    rng = np.random.default_rng(5)
    number = 0
    for split, count in counts.items():
        images, instances, panoptic = [], [], []
        for _ in range(count):
            number += 1
            name = f"{number:012d}"
            segments, ids, polygons = _scene(rng, crowd=number == 1)
            height, width = SIZE
            images.append(
                {"id": number, "file_name": f"{name}.jpg", "height": height, "width": width}
            )
            panoptic.append(
                {"image_id": number, "file_name": f"{name}.png", "segments_info": segments}
            )
            for polygon in polygons:
                instances.append({"id": len(instances) + 1, "image_id": number, **polygon})
            _save(root / "coco" / f"panoptic_{split}2017" / f"{name}.png", segment_picture(ids))
            colors = np.random.default_rng(6).uniform(20, 235, (256, 3))
            noisy = colors[ids % 256] + rng.normal(0, 8, (*SIZE, 3))
            _save(root / "coco" / f"{split}2017" / f"{name}.jpg", noisy.clip(0, 255))
        things = [c for c in COCO_CATEGORIES if c["isthing"]]
        folder = root / "coco" / "annotations"
        folder.mkdir(exist_ok=True)
        for kind, annotations, categories in (
            ("instances", instances, things),
            ("panoptic", panoptic, COCO_CATEGORIES),
        ):
            content = {"images": images, "annotations": annotations, "categories": categories}
            (folder / f"{kind}_{split}2017.json").write_text(json.dumps(content))
    _prepare("coco_panoptic", root)
    return root


def _scene(rng: np.random.Generator, *, crowd: bool) -> tuple[list[dict], np.ndarray, list[dict]]:
    """Panoptic segments, (H, W) their ids, and the instances' polygons."""
    height, width = SIZE
    ids = np.zeros(SIZE, np.uint32)
    horizon = int(rng.integers(height // 3, height // 2))
    boxes = [
        (SKY, (1, 1, width - 1, horizon), 0),
        (GRASS, (1, horizon, width - 1, height - 1), 0),
    ]
    left = int(rng.integers(4, width // 3))
    boxes.append((CAR, (left, horizon, left + 30, horizon + 16), 0))
    left = int(rng.integers(width // 2, width - 24))
    boxes.append((PERSON, (left, horizon - 12, left + 12, horizon + 20), 0))
    if crowd:
        boxes.append((PERSON, (width - 10, horizon, width - 2, horizon + 8), 1))
    segments, polygons = [], []
    for index, (category, (x0, y0, x1, y1), is_crowd) in enumerate(boxes):
        number = 1000 * category + 70_000 * (index % 2) + index  # needs all three bytes
        ids[y0:y1, x0:x1] = number
        segments.append({"id": number, "category_id": category, "iscrowd": is_crowd})
        if category in (CAR, PERSON) and not is_crowd:
            polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
            polygons.append(
                {
                    "category_id": category,
                    "iscrowd": 0,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "segmentation": [polygon],
                }
            )
    for segment in segments:
        mask = ids == segment["id"]
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        segment["area"] = int(mask.sum())
        segment["bbox"] = [
            int(columns[0]),
            int(rows[0]),
            int(np.ptp(columns)) + 1,
            int(np.ptp(rows)) + 1,
        ]
    return segments, ids, polygons


@contextmanager
def coco_at(root: Path) -> Iterator[None]:
    """Detectron2's COCO panoptic sets below another root than at its import."""
    base = root / "coco"
    saved = {}
    prefixes = [f"coco_2017_{split}_panoptic" for split in ("train", "val")]
    names = [f"{prefix}_{kind}" for prefix in prefixes for kind in ("separated", "stuffonly")]
    for name in names:
        saved[name] = DatasetCatalog.pop(name), MetadataCatalog.pop(name)
    for prefix, split in zip(prefixes, ("train", "val"), strict=True):
        register_coco_panoptic_separated(
            prefix,
            _get_builtin_metadata("coco_panoptic_separated"),
            str(base / f"{split}2017"),
            str(base / f"panoptic_{split}2017"),
            str(base / "annotations" / f"panoptic_{split}2017.json"),
            str(base / f"panoptic_stuff_{split}2017"),
            str(base / "annotations" / f"instances_{split}2017.json"),
        )
    try:
        yield
    finally:
        for name in names:
            DatasetCatalog.pop(name), MetadataCatalog.pop(name)
            records, metadata = saved[name]
            DatasetCatalog.register(name, records)
            MetadataCatalog[name] = metadata


def _prepare(name: str, root: Path) -> None:
    for preparation in PREPARATIONS[name]:
        prepare(preparation, root, workers=2, allow_partial=True)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)
