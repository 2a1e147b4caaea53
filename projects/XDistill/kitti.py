"""KITTI's raw drives as films, with the improved ground truth: `kitti_depth_{train,val,test}`.

```
ROOT/kitti_raw/splits/train_files.txt           lines "DATE/DRIVE NUMBER SIDE"
ROOT/kitti_raw/DATE/calib_cam_to_cam.txt
ROOT/kitti_raw/DATE/DRIVE/image_02/data/NUMBER.png   or .jpg; image_03 is the right camera
ROOT/kitti_depth/{train,val}/DRIVE/proj_depth/groundtruth/image_02/NUMBER.png
```

ROOT is $DETECTRON2_DATASETS, DATE such as 2011_09_26, DRIVE such as 2011_09_26_drive_0001_sync,
NUMBER a number of ten digits in files' names, SIDE l or r. Lists of that form are those of Eigen et
al. and Zhou et al. that circulate with code for depth; they are not part of this.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from film_folder import check_intrinsics

from ifa_d2.data import expand_path, picture_size

SPLITS = ("train", "val", "test")
CAMERAS = {"l": "02", "r": "03"}
_RAW, _DEPTH = "$DETECTRON2_DATASETS/kitti_raw", "$DETECTRON2_DATASETS/kitti_depth"
_LINE = re.compile(r"(\d{4}_\d\d_\d\d)/(\S+) +(\d+) +([lr])")
_SUFFIXES = (".png", ".jpg")


def read_kitti_intrinsics(path: Path, camera: str) -> np.ndarray:
    """Read the intrinsics (3, 3) of a rectified camera.

    Args:
        path: a calib_cam_to_cam.txt.
        camera: "02" or "03".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no line P_rect_02 of twelve numbers, or they are no intrinsics.
    """
    if not path.is_file():
        raise FileNotFoundError(f"intrinsics {path} are missing: it is part of KITTI's raw data")
    key = f"P_rect_{camera}"
    lines = dict(
        line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines() if ":" in line
    )
    try:
        matrix = np.array(lines[key].split(), float).reshape(3, 4)[:, :3]
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"intrinsics {path} must have a line {key}: of twelve numbers ({error!r})"
        ) from error
    return check_intrinsics(matrix, path)


@dataclass(frozen=True)
class KittiSplit:
    """Catalog entry of one split; lists its frames when called.

    Attributes:
        split: "train", "val" or "test"; frames of "test" are evaluated alone, and need no
            neighbours.
    """

    split: str

    @property
    def name(self) -> str:
        """Name of the data set."""
        return f"kitti_depth_{self.split}"

    @property
    def registered_in(self) -> str:
        """This file, which an error about a saved config names."""
        return __file__

    def __call__(self) -> list[dict[str, Any]]:
        """List the frames in the order of the split's file.

        Returns:
            Records as of :class:`film_folder.FilmFolder`; ``image_id`` is DRIVE/image_02/NUMBER.

        Raises:
            FileNotFoundError: the list, a frame, a neighbour, or the file of intrinsics is missing.
            ValueError: a line that names no frame, or intrinsics that are none.
        """
        root = Path(expand_path(_RAW))
        path = root / "splits" / f"{self.split}_files.txt"
        if not path.is_file():
            raise FileNotFoundError(
                f"the list {path} of KITTI's frames is missing: lines of "
                '"DATE/DRIVE NUMBER SIDE", such as "2011_09_26/2011_09_26_drive_0022_sync 473 r"'
            )
        lines = path.read_text(encoding="utf-8").splitlines()
        cameras: dict[tuple[str, str], list[list[float]]] = {}
        records = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None:
                raise ValueError(f'{path}:{number} must be "DATE/DRIVE NUMBER SIDE", got {line!r}')
            date, drive, frame, side = found.groups()
            camera = CAMERAS[side]
            if (date, camera) not in cameras:
                file = root / date / "calib_cam_to_cam.txt"
                cameras[date, camera] = read_kitti_intrinsics(file, camera).tolist()
            folder = root / date / drive / f"image_{camera}" / "data"
            place = f"{path}:{number}"
            record = self._record(folder, drive, camera, int(frame), place)
            records.append(record | {"intrinsics": cameras[date, camera]})
        return records

    def _record(
        self, folder: Path, drive: str, camera: str, number: int, place: str
    ) -> dict[str, Any]:
        file = _frame(folder, number, place)
        height, width = picture_size(file)
        record: dict[str, Any] = {
            "file_name": str(file),
            "image_id": f"{drive}/image_{camera}/{number:010d}",
            "height": height,
            "width": width,
        }
        if self.split != "test":
            around = (_frame(folder, number + step, place) for step in (-1, 1))
            record["source_file_names"] = [str(one) for one in around]
        below = Path(drive, "proj_depth", "groundtruth", f"image_{camera}", f"{number:010d}.png")
        for part in ("train", "val"):
            depth = Path(expand_path(_DEPTH)) / part / below
            if depth.is_file():
                record["depth_file_name"] = str(depth)
        return record


def _frame(folder: Path, number: int, place: str) -> Path:
    for suffix in _SUFFIXES:
        path = folder / f"{number:010d}{suffix}"
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{place} needs frame {folder / f'{number:010d}'} ({' or '.join(_SUFFIXES)}), which is "
        "missing: download the drive, or take the line out of the list"
    )


def register_kitti() -> None:
    """Register the splits; a second call changes nothing."""
    for split in SPLITS:
        dataset = KittiSplit(split)
        if dataset.name not in DatasetCatalog:
            DatasetCatalog.register(dataset.name, dataset)
            MetadataCatalog.get(dataset.name).set(evaluator_type="depth")


register_kitti()
