"""What X-Distill adds to a recipe of self_supervised.py."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

from depth_networks import DepthToSegmentation  # noqa: E402


def add_teacher(
    model: DictConfig,
    mapper: DictConfig,
    *,
    root: str,
    classes: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    loss_weight: float,
) -> None:
    """Let a depth model learn from a teacher's labels too.

    Args:
        model: the model's node.
        mapper: that of the training data.
        root: folder of the label files, see :class:`film_mapper.FilmMapper`.
        classes: names of the teacher's classes in the order of their ids.
        groups: names of classes by group.
        loss_weight: of the cross entropy.
    """
    mapper.update(teacher_root=root, teacher_classes=list(classes))
    mapper.groups = {group: list(names) for group, names in groups.items()}
    model.teacher_head = L(DepthToSegmentation)(
        num_groups=len(groups), channels=32, loss_weight=loss_weight
    )
