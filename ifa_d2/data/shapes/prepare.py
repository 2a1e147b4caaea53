"""Writing the drawn scenes to files, to be read like any data set."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from iopath.common.file_io import file_lock
from PIL import Image
from tqdm import tqdm

from .palette import CLASSES
from .street import make_scene

logger = logging.getLogger(__name__)

SHAPES_VERSION = 1  # raise it when a change here changes any picture or label
SHAPES_SIZE = (128, 192)  # (height, width) in pixels
SHAPES_COUNTS = {"train": 320, "val": 64}
SHAPES_SEED = 2022  # of `make_scene(SHAPES_SEED, split, index)`, splits as in the counts
_MARKER = "shapes.json"


def prepare_shapes(
    root: str | os.PathLike[str],
    *,
    counts: dict[str, int] = SHAPES_COUNTS,
    progress: bool = True,
) -> Path:
    """Draw the data set into `root`/{images,annotations}/{train,val}/N.png unless it is there.

    It is drawn aside and then renamed, so that nobody sees half of it; other processes that ask at
    the same time wait. A set drawn by another version of the generator is replaced.

    Args:
        root: the folder to make, e.g. "datasets/shapes"
        counts: scenes of each split, which are the first ones of the split's endless series
        progress: show a progress bar

    Returns:
        `root`

    Raises:
        ValueError: `root` exists and is not such a data set (it is left alone), or `counts` names
            an unknown split.
    """
    root = Path(os.path.abspath(root))
    if not counts.keys() <= SHAPES_COUNTS.keys():
        raise ValueError(f"counts must be of {list(SHAPES_COUNTS)}, got {counts}")
    if draw_once(root, _MARKER, _recipe(counts), partial(_draw_all, counts, progress)):
        logger.info("Drew the shapes data set into %s", root)
    return root


def draw_once(
    root: Path, marker: str, recipe: Mapping[str, Any], draw: Callable[[Path], None]
) -> bool:
    """Draw a folder unless it is there, as of the same recipe.

    It is drawn aside and then renamed, so that nobody sees half of it; other processes that ask at
    the same time wait. What was drawn by another recipe is replaced.

    Args:
        root: the folder to make, an absolute path.
        marker: name of the file in it that the recipe is written to.
        recipe: what its files depend on, as JSON has it.
        draw: makes a folder with all files but the marker.

    Returns:
        Whether it was drawn.

    Raises:
        ValueError: `root` is there and is something else; it is left alone.
    """
    if _is_current(root / marker, recipe):
        return False
    root.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(os.fspath(root)):
        if _is_current(root / marker, recipe):
            return False
        if _is_foreign(root, marker):
            raise ValueError(
                f"root {os.fspath(root)!r} exists but holds no {marker}: move it away, or choose "
                "another DETECTRON2_DATASETS"
            )
        for leftover in root.parent.glob(f".{root.name}-*"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            new = aside / "new"
            draw(new)
            (new / marker).write_text(json.dumps(recipe, indent=1), encoding="utf-8")
            if root.exists():
                os.replace(root, aside / "old")
            os.replace(new, root)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return True


def _recipe(counts: dict[str, int]) -> dict:
    return {
        "version": SHAPES_VERSION,
        "size": list(SHAPES_SIZE),
        "counts": dict(counts),
        "classes": list(CLASSES),
    }


def _is_current(marker: Path, recipe: Mapping[str, Any]) -> bool:
    try:
        return json.loads(marker.read_text(encoding="utf-8")) == recipe
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _is_foreign(root: Path, marker: str) -> bool:
    """Tell whether `root` holds something that was not drawn."""
    if not root.is_dir():
        return root.exists()
    return not (root / marker).is_file() and any(root.iterdir())


def _draw_all(counts: Mapping[str, int], progress: bool, root: Path) -> None:
    jobs = []
    for split, count in counts.items():
        split_id = list(SHAPES_COUNTS).index(split)
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        jobs += [(split_id, split, index) for index in range(count)]
    for job in tqdm(jobs, "drawing shapes", disable=not progress, unit="scene"):
        _draw_one(root, *job)


def _draw_one(root: Path, split_id: int, split: str, index: int) -> None:
    scene = make_scene(SHAPES_SEED, split_id, index)
    name = f"{index:04d}.png"
    Image.fromarray(scene.image(*SHAPES_SIZE)).save(root / "images" / split / name)
    Image.fromarray(scene.label(*SHAPES_SIZE)).save(root / "annotations" / split / name)
