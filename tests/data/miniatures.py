"""Small data sets in the layout and the file formats of the published ones, before preparation.

Each function writes below `root`, which is what DETECTRON2_DATASETS names, and returns it;
`prepare` then runs the real command. Pictures show rectangles whose colour tells their class, so
that a model can learn them.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image
from scipy.io import savemat

from tests.forked_python import forked_python

REPOSITORY = Path(__file__).parents[2]
COUNTS = {"train": 4, "val": 2}
CRACKFOREST_COUNTS = {"train": 6, "val": 2}  # every fourth validates
SIZE = (60, 80)  # (height, width) in pixels

# Ids of PASCAL Context's labels.txt, and its 59 names in the order and spelling of 59_labels.txt.
CONTEXT_IDS = {
    **{"aeroplane": 2, "bicycle": 23, "bird": 25, "boat": 31, "bottle": 34, "bus": 45, "car": 59},
    **{"cat": 65, "chair": 72, "cow": 98, "table": 397, "dog": 113, "horse": 207},
    **{"motorbike": 258, "person": 284, "pottedplant": 308, "sheep": 347, "sofa": 368},
    **{"train": 416, "tvmonitor": 427, "bag": 9, "bed": 18, "bench": 22, "book": 33},
    **{"building": 44, "cabinet": 46, "ceiling": 68, "cloth": 80, "computer": 85, "cup": 104},
    **{"door": 115, "fence": 144, "floor": 158, "flower": 159, "food": 162, "grass": 187},
    **{"ground": 189, "keyboard": 220, "light": 232, "mountain": 259, "mouse": 260},
    **{"curtain": 105, "platform": 296, "sign": 355, "plate": 295, "road": 324, "rock": 326},
    **{"shelves": 349, "sidewalk": 354, "sky": 360, "snow": 366, "bedclothes": 19, "track": 415},
    **{"tree": 420, "truck": 424, "wall": 440, "water": 445, "window": 454, "wood": 458},
}
CONTEXT_SPELLINGS = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}


def prepare(
    dataset: str, root: Path, *arguments: object, check: bool = True
) -> subprocess.CompletedProcess:
    """Run `tools/prepare_datasets.py DATASET ROOT --allow-partial` with two workers."""
    command = [forked_python(), REPOSITORY / "tools" / "prepare_datasets.py", dataset, root]
    done = subprocess.run(
        [str(part) for part in (*command, "--allow-partial", "--workers", 2, *arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not check or done.returncode == 0, f"status {done.returncode}: {done.stderr[-3000:]}"
    return done


def make_cityscapes(
    root: Path,
    counts: Mapping[str, int] = COUNTS,
    size: tuple[int, int] = SIZE,
    *,
    label_ids: bool = True,
) -> Path:
    """leftImg8bit/ and gtFine/ with polygons, and the label pictures that the archive has too.

    Args:
        root: the folder of all data sets
        counts: pictures of each split; the first city of a split has one, the second the others
        size: (height, width) in pixels
        label_ids: also write labelIds, instanceIds and color, drawn from the polygons
    """
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for index in range(count):
            city = f"{split}{min(index, 1)}"
            stem = f"{city}_{index:06d}_000019"
            folder = root / "cityscapes" / "gtFine" / split / city
            folder.mkdir(parents=True, exist_ok=True)
            polygons = folder / f"{stem}_gtFine_polygons.json"
            polygons.write_text(json.dumps(_street(rng, size)))
            ids = folder / f"{stem}_gtFine_labelIds.png"
            json2labelImg(str(polygons), str(ids), "ids")
            with Image.open(ids) as image:
                picture = _picture(rng, np.array(image))
            if label_ids:
                json2labelImg(str(polygons), str(folder / f"{stem}_gtFine_color.png"), "color")
                annotation = Annotation()
                annotation.fromJsonFile(str(polygons))
                instances = np.array(createInstanceImage(annotation, "ids")).astype(np.uint16)
                _save(folder / f"{stem}_gtFine_instanceIds.png", instances)
            else:
                ids.unlink()
            _save(
                root / "cityscapes/leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", picture
            )
    return root


def make_cityscapes_test(root: Path, count: int = 3, size: tuple[int, int] = SIZE) -> list[str]:
    """leftImg8bit/test alone, in two cities; returns the names of the pictures without suffix."""
    rng, stems = np.random.default_rng(5), []
    for index in range(count):
        city = ("berlin", "mainz")[min(index, 1)]
        stems.append(f"{city}_{index:06d}_000019_leftImg8bit")
        path = root / "cityscapes/leftImg8bit/test" / city / f"{stems[-1]}.png"
        _save(path, _picture(rng, _rectangles(rng, size, (0, 1, 3, 5, 8))))
    return stems


def _street(rng: np.random.Generator, size: tuple[int, int]) -> dict:
    """Polygons as published: in drawing order, with void, a group and a class without id."""
    height, width = size
    horizon, edge = int(height * rng.uniform(0.3, 0.6)), int(width * rng.uniform(0.3, 0.7))
    left, top = int(width * rng.uniform(0, 0.6)), horizon - height // 8

    def box(label: str, x0: int, y0: int, x1: int, y1: int) -> dict:
        return {"label": label, "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}

    objects = [
        box("sky", 0, 0, width - 1, horizon),
        box("road", 0, horizon, width - 1, height - 1),
        box("building", edge, height // 10, width - 1, horizon),
        box("vegetation", 0, height // 6, edge // 2, horizon),
        box("sidewalk", 0, horizon, width // 8, height - 1),
        box("car", left, top, left + width // 3, top + height // 3),
        box("license plate", left + 2, top + 2, left + 6, top + 4),
        box("persongroup", edge, horizon - 4, edge + width // 10, horizon + height // 4),
        {**box("bus", 0, 0, width - 1, height - 1), "deleted": 1},
        box("ego vehicle", 0, height - height // 10, width - 1, height - 1),
    ]
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def make_ade20k(
    root: Path, counts: Mapping[str, int] = COUNTS, size: tuple[int, int] = SIZE
) -> Path:
    """ADEChallengeData2016/{images,annotations}/{training,validation}, ids 0 (other) to 150."""
    rng, base = np.random.default_rng(1), root / "ADEChallengeData2016"
    for split, folder in (("train", "training"), ("val", "validation")):
        for index in range(counts.get(split, 0)):
            label = _rectangles(rng, size, (0, 1, 3, 7, 13, 150))
            name = f"ADE_{split}_{index + 1:08d}"
            _save(base / "annotations" / folder / f"{name}.png", label)
            _save(base / "images" / folder / f"{name}.jpg", _picture(rng, label))
    (base / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n")
    return root


def make_pascal_context(
    root: Path, counts: Mapping[str, int] = COUNTS, size: tuple[int, int] = SIZE
) -> Path:
    """VOC2010's pictures and splits, and PASCAL Context's .mat files and lists of names.

    There is one more picture than the splits name, as in VOC2010.
    """
    rng = np.random.default_rng(2)
    voc, context = root / "VOCdevkit" / "VOC2010", root / "pascal_context"
    (voc / "ImageSets" / "Main").mkdir(parents=True)
    (context / "trainval").mkdir(parents=True)
    number = 0
    ids = (*(CONTEXT_IDS[name] for name in ("table", "cloth", "sky", "wood")), 0, 1, 459)
    for split in ("train", "val"):
        names = [f"2008_{number + index:06d}" for index in range(counts.get(split, 0))]
        number += len(names)
        (voc / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            label = _rectangles(rng, size, ids).astype(np.uint16)
            savemat(context / "trainval" / f"{name}.mat", {"LabelMap": label}, do_compression=True)
            _save(voc / "JPEGImages" / f"{name}.jpg", _picture(rng, label))
    _save(voc / "JPEGImages" / "2010_009999.jpg", np.zeros((*size, 3), np.uint8))
    names = {number: name for name, number in CONTEXT_IDS.items()}
    lines = [f"{index}: {names.get(index, f'thing {index}')}\n" for index in range(1, 460)]
    (context / "labels.txt").write_text("".join(lines))
    published = [CONTEXT_SPELLINGS.get(name, name) for name in CONTEXT_IDS]
    lines = [f"{index}: {name}\n" for index, name in enumerate(published, start=1)]
    (context / "59_labels.txt").write_text("".join(lines))
    return root


def make_camvid_segnet(
    root: Path, counts: Mapping[str, int] = COUNTS, size: tuple[int, int] = SIZE
) -> Path:
    """The SegNet tutorial's folder, as camvid/: SPLIT/, SPLITannot/ and SPLIT.txt."""
    rng, base = np.random.default_rng(3), root / "camvid"
    for split, count in {"test": 1, **counts}.items():
        lines = []
        for index in range(count):
            name = f"0001TP_{index:06d}.png"
            label = _rectangles(rng, size, (0, 1, 3, 5, 8, 11))
            _save(base / f"{split}annot" / name, label)
            _save(base / split / name, _picture(rng, label))
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
        (base / f"{split}.txt").write_text("".join(lines))
    return root


def make_crackforest(
    root: Path, counts: Mapping[str, int] = CRACKFOREST_COUNTS, size: tuple[int, int] = SIZE
) -> Path:
    """The published folder, as crackforest/: image/NNN.jpg and groundTruth/NNN.mat."""
    rng, base = np.random.default_rng(5), root / "crackforest"
    (base / "groundTruth").mkdir(parents=True, exist_ok=True)
    for number in range(1, sum(counts.values()) + 1):
        label = _rectangles(rng, size, (1, 1, 2, 3, 4))
        truth = {"Segmentation": label, "Boundaries": np.zeros_like(label)}
        savemat(base / "groundTruth" / f"{number:03d}.mat", {"groundTruth": truth})
        _save(base / "image" / f"{number:03d}.jpg", _picture(rng, label))
    return root


def _rectangles(rng: np.random.Generator, size: tuple[int, int], ids: Sequence[int]) -> np.ndarray:
    """Ids, (H, W) int32: two halves and a rectangle for each other id, every id at least once."""
    height, width = size
    label = np.full(size, ids[0], np.int32)
    label[height // 2 :] = ids[1]
    columns = np.array_split(np.arange(width), len(ids) - 2)
    for value, column in zip(ids[2:], columns, strict=True):
        top = int(rng.integers(2, height // 2))
        label[top : top + height // 3, column[1:]] = value
    return label if max(ids) > 255 else label.astype(np.uint8)


def _picture(rng: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: a colour for each id, and noise."""
    colors = np.random.default_rng(4).uniform(20, 235, (int(label.max()) + 1, 3))
    noisy = colors[label] + rng.normal(0, 8, (*label.shape, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
