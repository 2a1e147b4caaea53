"""Cityscapes for Panoptic FPN: `cityscapes_fine_panoptic_{train,val}_separated`.

Detectron2 has COCO in this form (`coco_2017_{train,val}_panoptic_separated`), but not Cityscapes:
one list of 19 classes is both things and stuff there. Here things are numbered by themselves, 0 to
7, and so are the semantic labels: 0 is any thing, 1 to 11 are the stuff classes.
"""

import os
from dataclasses import dataclass
from types import MappingProxyType

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES
from detectron2.data.datasets.cityscapes_panoptic import load_cityscapes_panoptic

from ..commands import command_line
from .sem_seg_folder import expand_path

_THINGS = [category for category in CITYSCAPES_CATEGORIES if category["isthing"]]
_STUFF = [category for category in CITYSCAPES_CATEGORIES if not category["isthing"]]
# From Cityscapes' ids to ours.
CITYSCAPES_THINGS = MappingProxyType({one["id"]: i for i, one in enumerate(_THINGS)})
CITYSCAPES_STUFF = MappingProxyType({one["id"]: i for i, one in enumerate(_STUFF, start=1)})
_HOW_TO_GET = (
    "Run `CITYSCAPES_DATASET=ROOT/cityscapes python -m "
    "cityscapesscripts.preparation.createPanopticImgs --set-names train val` and "
    f"`{command_line('prepare', 'cityscapes_panoptic', 'ROOT')}`, and set DETECTRON2_DATASETS to "
    "ROOT."
)


@dataclass(frozen=True)
class CityscapesPanoptic:
    """Catalog entry of one split; lists its records when called.

    Fields:
        split: "train" or "val"
    """

    split: str

    @property
    def name(self) -> str:
        """Name of the data set."""
        return f"cityscapes_fine_panoptic_{self.split}_separated"

    def roots(self) -> dict[str, str]:
        """Folders and files of the split, by the metadata's names."""
        base = expand_path("$DETECTRON2_DATASETS/cityscapes")
        panoptic = os.path.join(base, "gtFine", f"cityscapes_panoptic_{self.split}")
        return {
            "image_root": os.path.join(base, "leftImg8bit", self.split),
            "panoptic_root": panoptic,
            "panoptic_json": f"{panoptic}.json",
            "sem_seg_root": os.path.join(base, "gtFine", f"cityscapes_panoptic_stuff_{self.split}"),
        }

    def __call__(self) -> list[dict]:
        """List Detectron2's records, with our class numbers and stuff labels.

        Raises:
            FileNotFoundError: the data set is not there or not prepared.
        """
        roots = self.roots()
        for path in roots.values():
            if not os.path.exists(path):
                raise FileNotFoundError(f"data set {self.name!r} has no {path}. {_HOW_TO_GET}")
        vars(MetadataCatalog.get(self.name)).update(roots)
        same = {one["id"]: one["id"] for one in CITYSCAPES_CATEGORIES}
        same = {"thing_dataset_id_to_contiguous_id": same, "stuff_dataset_id_to_contiguous_id": {}}
        try:
            records = load_cityscapes_panoptic(
                roots["image_root"], roots["panoptic_root"], roots["panoptic_json"], same
            )
        except AssertionError as error:
            raise FileNotFoundError(f"data set {self.name!r}: {error}. {_HOW_TO_GET}") from error
        for record in records:
            file_name = os.path.basename(record["pan_seg_file_name"])
            record["sem_seg_file_name"] = os.path.join(roots["sem_seg_root"], file_name)
            if not os.path.isfile(record["sem_seg_file_name"]):
                raise FileNotFoundError(f"{record['sem_seg_file_name']} is missing. {_HOW_TO_GET}")
            for segment in record["segments_info"]:
                category = segment["category_id"]
                segment["isthing"] = category in CITYSCAPES_THINGS
                numbers = CITYSCAPES_THINGS if segment["isthing"] else CITYSCAPES_STUFF
                segment["category_id"] = numbers[category]
        return sorted(records, key=lambda record: record["file_name"])


def register_cityscapes_panoptic() -> None:
    """Register both splits; a second call changes nothing."""
    for split in ("train", "val"):
        dataset = CityscapesPanoptic(split)
        if dataset.name in DatasetCatalog:
            continue
        DatasetCatalog.register(dataset.name, dataset)
        MetadataCatalog.get(dataset.name).set(
            thing_classes=[one["name"] for one in _THINGS],
            thing_colors=[list(one["color"]) for one in _THINGS],
            stuff_classes=["things", *(one["name"] for one in _STUFF)],
            stuff_colors=[[82, 18, 128], *(list(one["color"]) for one in _STUFF)],
            thing_dataset_id_to_contiguous_id=dict(CITYSCAPES_THINGS),
            # As in COCO's metadata: 0 is "things" on both sides.
            stuff_dataset_id_to_contiguous_id={0: 0, **CITYSCAPES_STUFF},
            evaluator_type="cityscapes_panoptic_seg",
            ignore_label=255,
        )


register_cityscapes_panoptic()
