"""The data sets that the recipes name: `shapes_{train,val}` and `camvid_{train,val}`.

They lie in `$DETECTRON2_DATASETS`, or in `datasets` where that is not set.
"""

from .registration import expand_path, register_sem_seg_folder
from .shapes import CLASSES, prepare_shapes

SPLITS = ("train", "val")

SHAPES_COLORS = (
    (110, 170, 225),  # sky
    (120, 85, 75),  # building
    (255, 200, 90),  # window
    (90, 90, 105),  # road
    (200, 160, 190),  # pavement
    (80, 150, 60),  # tree
    (190, 190, 190),  # pole
    (20, 20, 30),  # wire
    (240, 150, 130),  # fence
    (235, 235, 40),  # sign
    (40, 60, 190),  # car
    (220, 30, 60),  # person
    (0, 150, 150),  # bicycle
)

CAMVID_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
CAMVID_COLORS = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (0, 0, 192),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
CAMVID_VOID = 11


def prepare_builtin_shapes() -> None:
    """Draw the shapes where the catalog looks for them, unless they are there."""
    prepare_shapes(expand_path("$DETECTRON2_DATASETS/shapes"))


def register_all() -> None:
    """Register the built-in data sets; again changes nothing."""
    for split in SPLITS:
        register_sem_seg_folder(
            f"shapes_{split}",
            f"$DETECTRON2_DATASETS/shapes/images/{split}",
            f"$DETECTRON2_DATASETS/shapes/annotations/{split}",
            CLASSES,
            SHAPES_COLORS,
            prepare=prepare_builtin_shapes,
        )
        register_sem_seg_folder(
            f"camvid_{split}",
            f"$DETECTRON2_DATASETS/camvid/images/{split}",
            f"$DETECTRON2_DATASETS/camvid/annotations/{split}",
            CAMVID_CLASSES,
            CAMVID_COLORS,
            ignore_label=CAMVID_VOID,
            how_to_get=(
                "Get CamVid's 11-class form (367 training and 101 validation images), put it there "
                "as camvid/{images,annotations}/{train,val}, and set DETECTRON2_DATASETS to the "
                "folder that holds camvid."
            ),
        )


register_all()
