"""Built-in data sets, registered as `NAME_train` and `NAME_val`.

`shapes`, `camvid`, `crackforest`, `pascal_context_59`, `pascal_context_60`, and Detectron2's
`cityscapes_fine_sem_seg` and `ade20k_sem_seg`; and `cityscapes_fine_sem_seg_test`, which has no
labels, and `camvid_test`. They lie in `$DETECTRON2_DATASETS`, or in `datasets` where that is not
set.
"""

from .detectron2_sets import (
    how_to_prepare,
    register_cityscapes_test,
    register_detectron2_sets,
)
from .palettes import voc_colors
from .registration import register_sem_seg_folder
from .sem_seg_folder import expand_path
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

CRACKFOREST_CLASSES = ("road", "crack")
CRACKFOREST_COLORS = ((60, 60, 70), (255, 90, 40))

# The 59 classes of PASCAL Context by their names in its labels.txt, in the order of their ids
# there, which is the usual one of published models (and not that of 59_labels.txt).
CONTEXT_CLASSES = (
    *("aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book"),
    *("bottle", "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth"),
    *("computer", "cow", "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food"),
    *("grass", "ground", "horse", "keyboard", "light", "motorbike", "mountain", "mouse"),
    *("person", "plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves"),
    *("sidewalk", "sign", "sky", "snow", "sofa", "table", "track", "train", "tree", "truck"),
    *("tvmonitor", "wall", "water", "window", "wood"),
)
# The colours of PASCAL VOC's label files, by the ids with background.
_VOC_COLORS = voc_colors(1 + len(CONTEXT_CLASSES))
CONTEXT_IGNORE = 255


def prepare_builtin_shapes() -> None:
    """Draw the shapes data set in the catalog's folder, unless it is there."""
    prepare_shapes(expand_path("$DETECTRON2_DATASETS/shapes"))


def register_all() -> None:
    """Register the built-in data sets; a second call changes nothing."""
    for split in SPLITS:
        register_sem_seg_folder(
            f"shapes_{split}",
            f"$DETECTRON2_DATASETS/shapes/images/{split}",
            f"$DETECTRON2_DATASETS/shapes/annotations/{split}",
            CLASSES,
            SHAPES_COLORS,
            prepare=prepare_builtin_shapes,
        )
        _register_camvid(split)
        register_sem_seg_folder(
            f"crackforest_{split}",
            f"$DETECTRON2_DATASETS/crackforest/images/{split}",
            f"$DETECTRON2_DATASETS/crackforest/labels/{split}",
            CRACKFOREST_CLASSES,
            CRACKFOREST_COLORS,
            image_suffixes=".jpg",
            how_to_get=how_to_prepare("crackforest"),
        )
        _register_pascal_context("59", split, CONTEXT_CLASSES, _VOC_COLORS[1:])
        _register_pascal_context("60", split, ("background", *CONTEXT_CLASSES), _VOC_COLORS)
        register_detectron2_sets(split)
    _register_camvid("test")
    register_cityscapes_test()


def _register_camvid(split: str) -> None:
    register_sem_seg_folder(
        f"camvid_{split}",
        f"$DETECTRON2_DATASETS/camvid/images/{split}",
        f"$DETECTRON2_DATASETS/camvid/annotations/{split}",
        CAMVID_CLASSES,
        CAMVID_COLORS,
        ignore_label=CAMVID_VOID,
        how_to_get=how_to_prepare("camvid"),
    )


def _register_pascal_context(
    form: str, split: str, classes: tuple[str, ...], colors: tuple[tuple[int, int, int], ...]
) -> None:
    register_sem_seg_folder(
        f"pascal_context_{form}_{split}",
        "$DETECTRON2_DATASETS/VOCdevkit/VOC2010/JPEGImages",
        f"$DETECTRON2_DATASETS/pascal_context/annotations_{form}/{split}",
        classes,
        colors,
        ignore_label=CONTEXT_IGNORE,
        image_suffixes=".jpg",
        extra_images=True,  # the folder holds both splits
        how_to_get=how_to_prepare("pascal_context"),
    )


register_all()
