"""Writing the drawn scenes to files, to be read like any data set."""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

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
    root, recipe = Path(os.path.abspath(root)), _recipe(counts)
    if _is_current(root, recipe):
        return root
    if not counts.keys() <= SHAPES_COUNTS.keys():
        raise ValueError(f"counts must be of {list(SHAPES_COUNTS)}, got {counts}")
    root.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(os.fspath(root)):
        if _is_current(root, recipe):
            return root
        if _is_foreign(root):
            raise ValueError(
                f"root {os.fspath(root)!r} exists but holds no {_MARKER}: move it away, or choose "
                "another DETECTRON2_DATASETS"
            )
        for leftover in root.parent.glob(f".{root.name}-*"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            new = aside / "new"
            _draw_all(new, recipe, progress)
            if root.exists():
                os.replace(root, aside / "old")
            os.replace(new, root)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    logger.info("Drew the shapes data set into %s", root)
    return root


def _recipe(counts: dict[str, int]) -> dict:
    return {
        "version": SHAPES_VERSION,
        "size": list(SHAPES_SIZE),
        "counts": dict(counts),
        "classes": list(CLASSES),
    }


def _is_current(root: Path, recipe: dict) -> bool:
    try:
        return json.loads((root / _MARKER).read_text(encoding="utf-8")) == recipe
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _is_foreign(root: Path) -> bool:
    """Tell whether `root` holds something that this module did not make."""
    if not root.is_dir():
        return root.exists()
    return not (root / _MARKER).is_file() and any(root.iterdir())


def _draw_all(root: Path, recipe: dict, progress: bool) -> None:
    jobs = []
    for split, count in recipe["counts"].items():
        split_id = list(SHAPES_COUNTS).index(split)
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        jobs += [(split_id, split, index) for index in range(count)]
    for job in tqdm(jobs, "drawing shapes", disable=not progress, unit="scene"):
        _draw_one(root, *job)
    (root / _MARKER).write_text(json.dumps(recipe, indent=1), encoding="utf-8")


def _draw_one(root: Path, split_id: int, split: str, index: int) -> None:
    scene = make_scene(SHAPES_SEED, split_id, index)
    name = f"{index:04d}.png"
    Image.fromarray(scene.image(*SHAPES_SIZE)).save(root / "images" / split / name)
    Image.fromarray(scene.label(*SHAPES_SIZE)).save(root / "annotations" / split / name)
