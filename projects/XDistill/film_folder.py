"""Films as a data set: folders of numbered frames, with the camera's intrinsics.

```
ROOT/images/FILM/0000.png   frames, numbered without gaps
ROOT/cameras/FILM.json      {"intrinsics": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]}
ROOT/depth/FILM/0000.png    depth in metres times 256, 16 bits, 0 where it is not known
ROOT/labels/FILM/0000.png   class ids
```

Intrinsics are in pixels, (0, 0) is the middle of the upper left one. `depth` is needed to evaluate
alone, and `labels` to train or evaluate a segmentor alone: either folder may be absent.
"""

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from PIL import Image

from ifa_d2.data import expand_path, picture_size
from ifa_d2.data.catalog import check_name
from ifa_d2.files import atomic_path
from ifa_d2.listing import join_some

DEPTH_UNITS = 256  # of a depth file in a metre, as KITTI has them
_SUFFIXES = (".png", ".jpg")
_NAMED = 3  # how many files an error lists
IGNORED = 255


@dataclass(frozen=True)
class FilmFolder:
    """Catalog entry of a folder of films; lists their frames when called.

    Attributes:
        root: see above; may begin with $DETECTRON2_DATASETS.
        num_classes: that ids of ``labels`` are below.
        how_to_get: a sentence for the error where there is no such folder.
    """

    root: str
    num_classes: int
    how_to_get: str = ""

    def __call__(self) -> list[dict[str, Any]]:
        """List the frames of all films in their order.

        Returns:
            Detectron2's records, ``image_id`` is FILM/NUMBER; with ``intrinsics``, maybe
            ``depth_file_name`` and ``sem_seg_file_name``, and ``source_file_names``, the frame
            before and the one behind, which the first and the last of a film have not.

        Raises:
            FileNotFoundError: there are no frames, or a film without its file of intrinsics, depth
                or label.
            ValueError: frames without a number or with gaps, frames of different sizes, or
                intrinsics that are none. The message names files.
        """
        root = Path(expand_path(self.root))
        films = sorted(path for path in root.glob("images/*") if path.is_dir())
        if not films:
            hint = f": {self.how_to_get}" if self.how_to_get else ""
            raise FileNotFoundError(f"there are no films in {root / 'images'}{hint}")
        return [record for film in films for record in self._frames(root, film)]

    def _frames(self, root: Path, film: Path) -> list[dict[str, Any]]:
        paths = ordered_frames(film)
        intrinsics = read_intrinsics(root / "cameras" / f"{film.name}.json").tolist()
        first = picture_size(paths[0])
        records = []
        for path in paths:
            size = picture_size(path)
            if size != first:
                raise ValueError(
                    f"frames of {film} must have one (height, width), but {paths[0].name} has "
                    f"{first} and {path.name} {size}"
                )
            record: dict[str, Any] = {
                "file_name": str(path),
                "image_id": f"{film.name}/{path.stem}",
                "height": size[0],
                "width": size[1],
                "intrinsics": intrinsics,
            }
            for folder, key in (("depth", "depth_file_name"), ("labels", "sem_seg_file_name")):
                if (root / folder).is_dir():
                    target = root / folder / film.name / f"{path.stem}.png"
                    if not target.is_file():
                        raise FileNotFoundError(f"{path} has no {target}")
                    record[key] = str(target)
            if "sem_seg_file_name" in record:
                record |= {"ignore_label": IGNORED, "num_classes": self.num_classes}
            records.append(record)
        for before, record, behind in zip(records, records[1:], records[2:], strict=False):
            record["source_file_names"] = [before["file_name"], behind["file_name"]]
        return records


def ordered_frames(folder: Path) -> list[Path]:
    """Order the frames of a film by their numbers.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a name that is no number, a number twice, or a gap.
    """
    paths = [path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES]
    if not paths:
        raise FileNotFoundError(f"there are no frames ({', '.join(_SUFFIXES)}) in {folder}")
    wrong = sorted(path.name for path in paths if not path.stem.isdecimal())
    if wrong:
        raise ValueError(
            f"frames of {folder} must be named by their numbers, such as 0007.png, got "
            f"{join_some(wrong, _NAMED)}"
        )
    paths.sort(key=lambda path: int(path.stem))
    for before, path in itertools.pairwise(paths):
        if int(path.stem) == int(before.stem):
            raise ValueError(f"frames {before} and {path.name} have one number")
        if int(path.stem) != int(before.stem) + 1:
            raise ValueError(
                f"frames of {folder} must be numbered without gaps, but {path.name} comes behind "
                f"{before.name}: put what comes behind a gap into a film of its own"
            )
    return paths


def read_intrinsics(path: Path) -> np.ndarray:
    """Read the intrinsics (3, 3) of a film.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or holds no intrinsics; the message says what they are.
    """
    if not path.is_file():
        raise FileNotFoundError(f"intrinsics {path} are missing: it must hold {_EXAMPLE}")
    try:
        matrix = np.array(json.loads(path.read_text(encoding="utf-8"))["intrinsics"], float)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"intrinsics {path} must hold {_EXAMPLE} ({error!r})") from error
    return check_intrinsics(matrix, path)


_EXAMPLE = '{"intrinsics": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]} in pixels'


def check_intrinsics(matrix: np.ndarray, path: Path) -> np.ndarray:
    """Return intrinsics, or raise a ValueError that names the file if they are none."""
    if (
        matrix.shape != (3, 3)
        or not np.isfinite(matrix).all()
        or (matrix[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]] != (0, 0, 0, 0, 1)).any()
        or min(matrix[0, 0], matrix[1, 1]) <= 0
    ):
        raise ValueError(
            f"intrinsics {path} must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx and fy above "
            f"0, got {matrix.tolist()}"
        )
    return matrix


def read_depth(path: str | os.PathLike[str]) -> np.ndarray:
    """Read depth (H, W) float64 in metres, 0 where it is not known.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture of one band of 16 bits.
    """
    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.array(image)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow raises anything
        raise ValueError(f"depth {os.fspath(path)!r} cannot be read: {error}") from error
    if not mode.startswith("I"):
        raise ValueError(
            f"depth {os.fspath(path)!r} must have one band of 16 bits, metres times {DEPTH_UNITS}, "
            f"got mode {mode}"
        )
    return values.astype(float) / DEPTH_UNITS


def write_depth(path: str | os.PathLike[str], depth: np.ndarray) -> None:
    """Write depth (H, W) in metres; what is too far for 16 bits is not known."""
    units = np.rint(DEPTH_UNITS * np.where(np.isfinite(depth), depth, 0))
    units[units > np.iinfo(np.uint16).max] = 0
    with atomic_path(path) as temporary:
        Image.fromarray(units.astype(np.uint16)).save(temporary, format="PNG")


def teacher_file(record: Mapping[str, Any], root: str) -> Path:
    """Name the file of a frame's label below a teacher's folder."""
    return Path(expand_path(root), f"{record['image_id']}.png")


def training_frames(
    names: str | Sequence[str], teacher_root: str | None = None
) -> list[dict[str, Any]]:
    """List the frames of data sets that have a frame before and one behind.

    Args:
        names: of the data sets.
        teacher_root: folder that has to hold a label of each, see :func:`teacher_file`.

    Raises:
        FileNotFoundError: there is no such folder, or a frame has no label there.
        ValueError: an unknown data set, or one without such frames.
    """
    found = []
    for name in [names] if isinstance(names, str) else names:
        check_name(name, "dataset")
        frames = [one for one in DatasetCatalog.get(name) if "source_file_names" in one]
        if not frames:
            raise ValueError(f"{name!r} has no frame with one before and one behind to train on")
        found += frames
    if teacher_root is not None:
        folder = Path(expand_path(teacher_root))
        if not folder.is_dir():
            raise FileNotFoundError(
                f"teacher_root {folder} is no folder: it must hold the teacher's labels"
            )
        absent = [file for one in found if not (file := teacher_file(one, teacher_root)).is_file()]
        if absent:
            raise FileNotFoundError(
                f"the teacher has no label of {len(absent)} of {len(found)} frames, such as "
                f"{absent[0]}: write all frames' labels to teacher_root"
            )
    return found


def evaluated_frames(names: str) -> list[dict[str, Any]]:
    """List the frames of a data set that have a depth to compare with.

    Raises:
        ValueError: an unknown data set, or one without depth.
    """
    check_name(names, "dataset")
    frames = [one for one in DatasetCatalog.get(names) if "depth_file_name" in one]
    if not frames:
        raise ValueError(f"{names!r} has no frame with a depth to evaluate with")
    return frames
