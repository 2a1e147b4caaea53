"""From a frame's record to the model's input: neighbours, intrinsics, and the teacher's labels."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from film_folder import teacher_file
from fvcore.transforms.transform import Transform
from torch import Tensor

from ifa_d2.data import read_label, read_picture
from ifa_d2.data.labels import LabelAugInput, check_label_size
from ifa_d2.listing import join_some

_IGNORED = 255
_NAMED = 5  # how many an error lists


def group_table(groups: Mapping[str, Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    """Make a table (256,) from ids of classes to numbers of groups; 255 is ignored in both.

    Args:
        groups: names of classes by group, in the order of the groups' numbers.
        classes: names in the order of ids.

    Raises:
        ValueError: a class in no group or in two, or a name that is no class.
    """
    table = np.full(256, -1, np.int16)
    table[_IGNORED] = _IGNORED
    for number, (group, names) in enumerate(groups.items()):
        for name in names:
            if name not in classes:
                raise ValueError(
                    f"groups.{group} must be of teacher_classes, {list(classes)}, got {name!r}"
                )
            if table[classes.index(name)] >= 0:
                raise ValueError(f"groups must have {name!r} once, got it again in {group}")
            table[classes.index(name)] = number
    absent = [name for index, name in enumerate(classes) if table[index] < 0]
    if absent:
        raise ValueError(
            f"groups must cover all teacher_classes, but {join_some(absent, _NAMED)} "
            f"{'is' if len(absent) == 1 else 'are'} in none of {list(groups)}"
        )
    return table


def transformed_intrinsics(
    transform: Transform, intrinsics: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Intrinsics (3, 3) of a picture that was resized, cropped or mirrored.

    A mirrored picture is one of a mirrored scene: focal lengths stay above 0.

    Args:
        transform: of the picture.
        intrinsics: before it, in pixels whose middles are whole numbers.
        size: (height, width) before it.

    Raises:
        ValueError: a transform that does something else to coordinates.
    """
    height, width = size
    # Detectron2's coordinates begin at the edge of the first pixel.
    middle = intrinsics[:2, 2] + 0.5
    steps = np.array([[0, 0], [1, 0], [0, 1], [width, height]], float)
    origin, right, down, far = transform.apply_coords(steps.copy())  # which changes them
    scale = np.array([right[0] - origin[0], down[1] - origin[1]])
    straight = [right[1] - origin[1], down[0] - origin[0], *(far - origin - scale * steps[3])]
    if not np.allclose(straight, 0, atol=1e-3):
        raise ValueError(
            "augmentations must resize, crop and mirror alone, as intrinsics follow no other, got "
            f"{transform}"
        )
    found = intrinsics.copy()
    found[[0, 1], [0, 1]] *= np.abs(scale)
    found[:2, 2] = origin + scale * middle - 0.5
    return found


class FilmMapper:
    """Map a frame's record to what :class:`depth_model.SelfSupervisedDepth` takes.

    Neighbours, labels and intrinsics follow the frame's augmentations, colours too.

    Args:
        is_train: take the neighbours.
        augmentations: of Detectron2 that resize, crop or mirror, or change colours.
        teacher_root: folder with a label file of the teacher for each frame, IMAGE_ID.png; may
            begin with $DETECTRON2_DATASETS. None is no teacher.
        teacher_classes: names of the teacher's classes in the order of their ids.
        groups: names of classes by group, see :func:`group_table`.
        image_format: "RGB".

    Raises:
        ValueError: an argument that does not fit; when called, frames or labels that are of
            different sizes, or labels that are no classes of the teacher.
    """

    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[T.Augmentation | T.Transform] = (),
        teacher_root: str | None = None,
        teacher_classes: Sequence[str] = (),
        groups: Mapping[str, Sequence[str]] | None = None,
        image_format: str = "RGB",
    ) -> None:
        if image_format != "RGB":
            raise ValueError(f"image_format must be RGB, got {image_format!r}")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.teacher_root = teacher_root
        self.num_classes = len(teacher_classes)
        if teacher_root is not None:
            self._table = group_table(groups or {}, list(teacher_classes))

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Read one record; it is not changed."""
        found = copy.deepcopy(dict(record))
        image = read_picture(record["file_name"])
        size = image.shape[:2]
        teacher = self._read_teacher(record, image) if self.is_train else None
        inputs = LabelAugInput(image, sem_seg=teacher)
        transform = self.augmentations(inputs)
        found["image"] = _to_tensor(inputs.image)
        if not self.is_train:
            return found
        sources = []
        for path in record["source_file_names"]:
            source = read_picture(path)
            if source.shape[:2] != size:
                raise ValueError(
                    f"frames must have one (height, width), but {record['file_name']} has {size} "
                    f"and {path} {source.shape[:2]}"
                )
            sources.append(_to_tensor(transform.apply_image(source)))
        intrinsics = transformed_intrinsics(transform, np.array(record["intrinsics"], float), size)
        found["sources"] = torch.stack(sources)
        found["is_before"] = torch.tensor([True, False])
        found["intrinsics"] = torch.from_numpy(intrinsics.astype(np.float32))
        if inputs.sem_seg is not None:
            found["teacher"] = torch.from_numpy(np.array(inputs.sem_seg, np.int64))
        return found

    def _read_teacher(self, record: Mapping[str, Any], image: np.ndarray) -> np.ndarray | None:
        """The teacher's labels as groups, (H, W) uint8."""
        if self.teacher_root is None:
            return None
        path = str(teacher_file(record, self.teacher_root))
        label = read_label(path)
        check_label_size(label, path, image, record["file_name"])
        wrong = np.unique(label[(label >= self.num_classes) & (label != _IGNORED)]).tolist()
        if wrong:
            raise ValueError(
                f"label {path!r} must have ids of the {self.num_classes} teacher_classes, or "
                f"{_IGNORED}, got {join_some(wrong, _NAMED)}"
            )
        return self._table[label].astype(np.uint8)


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
