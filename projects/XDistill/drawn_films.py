"""The drawn films as data sets: `xdistill_shapes_{train,val}`, drawn at first use.

There is a film of :data:`FRAMES` frames for every ten drawn scenes of the package, in
`$DETECTRON2_DATASETS/xdistill_shapes`; all streets are different ones. Classes are those of
`shapes`, and labels exact, so that a segmentor can be trained on the frames too.
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
from drawn_film import draw_frame, intrinsics_of
from drawn_street import make_path, make_street
from film_folder import IGNORED, FilmFolder, write_depth
from PIL import Image

from ifa_d2.data import expand_path
from ifa_d2.data.builtin import SHAPES_COLORS, SPLITS
from ifa_d2.data.shapes import CLASSES, SHAPES_COUNTS, draw_once

FRAMES = 12  # of a film
SIZE = (64, 96)  # (height, width)
_SEED = 2110_12516
_SCENES = 10  # of the package, for a film here
_VERSION = 1  # raise it when a change here, in drawn_film.py or drawn_street.py changes any file
_MARKER = "xdistill_shapes.json"
_ROOT = "$DETECTRON2_DATASETS/xdistill_shapes"


def film_counts() -> dict[str, int]:
    """Count the films of each split."""
    return {split: max(1, SHAPES_COUNTS[split] // _SCENES) for split in SPLITS}


def prepare_drawn_films(
    root: str | os.PathLike[str], counts: Mapping[str, int], frames: int = FRAMES
) -> Path:
    """Draw `root`/{SPLIT}, each as of :mod:`film_folder`, unless they are there.

    See :func:`ifa_d2.data.shapes.draw_once`.

    Args:
        root: the folder to make.
        counts: films of each split.
        frames: of a film.

    Raises:
        ValueError: `root` is there and is something else; it is left alone.
    """
    root = Path(os.path.abspath(root))
    made = {"version": _VERSION, "counts": dict(counts), "frames": frames, "size": list(SIZE)}
    draw_once(root, _MARKER, made, partial(_draw_films, counts, frames))
    return root


def _draw_films(counts: Mapping[str, int], frames: int, root: Path) -> None:
    for number, (split, count) in enumerate(counts.items()):
        for film in range(count):
            rng = np.random.default_rng((_SEED, number, film))
            _draw_film(root / split, f"{film:02d}", rng, frames)


def _draw_film(root: Path, name: str, rng: np.random.Generator, frames: int) -> None:
    for folder in ("images", "depth", "labels"):
        (root / folder / name).mkdir(parents=True)
    (root / "cameras").mkdir(exist_ok=True)
    intrinsics = intrinsics_of(*SIZE)
    poses = make_path(rng, frames)
    solids = make_street(rng)
    # A training does not read the poses.
    camera = {"intrinsics": intrinsics.tolist(), "poses": poses.tolist()}
    (root / "cameras" / f"{name}.json").write_text(json.dumps(camera), encoding="utf-8")
    for number, pose in enumerate(poses):
        frame = draw_frame(solids, pose, intrinsics, *SIZE)
        file = f"{number:04d}.png"
        Image.fromarray(frame.image).save(root / "images" / name / file)
        Image.fromarray(frame.label).save(root / "labels" / name / file)
        write_depth(root / "depth" / name / file, frame.depth)


@dataclass(frozen=True)
class DrawnFilms:
    """Catalog entry of one split; draws and lists its records when called.

    Attributes:
        split: "train" or "val".
    """

    split: str

    @property
    def name(self) -> str:
        """Name of the data set."""
        return f"xdistill_shapes_{self.split}"

    @property
    def registered_in(self) -> str:
        """This file, which an error about a saved config names."""
        return __file__

    def __call__(self) -> list[dict[str, Any]]:
        """List the frames, see :class:`film_folder.FilmFolder`."""
        prepare_drawn_films(expand_path(_ROOT), film_counts())
        root = f"{_ROOT}/{self.split}"
        images = os.path.join(expand_path(root), "images")
        vars(MetadataCatalog.get(self.name)).update(image_root=images)
        return FilmFolder(root, len(CLASSES))()


def register_drawn_films() -> None:
    """Register both splits; a second call changes nothing."""
    for split in SPLITS:
        dataset = DrawnFilms(split)
        if dataset.name in DatasetCatalog:
            continue
        DatasetCatalog.register(dataset.name, dataset)
        MetadataCatalog.get(dataset.name).set(
            stuff_classes=list(CLASSES),
            stuff_colors=[list(color) for color in SHAPES_COLORS],
            ignore_label=IGNORED,
            evaluator_type="sem_seg",
        )


register_drawn_films()
