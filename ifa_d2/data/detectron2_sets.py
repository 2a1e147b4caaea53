"""Cityscapes and ADE20K under Detectron2's names.

ADE20K is listed by Detectron2's own function.
This adds `ignore_label` and `num_classes` to each record, by which the mapper checks ids; a check
that every image has its label (Detectron2 leaves out files without partner in ADE20K, and looks at
Cityscapes' first picture only); an order that is the same on every machine; colours to draw with;
and the folder that `$DETECTRON2_DATASETS` names now, not at import.

Cityscapes is listed by its pictures and their labels, of training ids: Detectron2's function would
read the polygons as well. Its test set has images alone: its labels are not published.
"""

from collections.abc import Callable
from dataclasses import dataclass

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_sem_seg
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

from ..commands import command_line
from .palettes import ade20k_colors
from .sem_seg_folder import SemSegFolder, expand_path

CITYSCAPES_CLASSES = tuple(category["name"] for category in CITYSCAPES_CATEGORIES)
CITYSCAPES_COLORS = tuple(category["color"] for category in CITYSCAPES_CATEGORIES)
ADE20K_CLASSES = tuple(MetadataCatalog.get("ade20k_sem_seg_train").stuff_classes)
_IGNORE_LABEL = 255
_CITYSCAPES_ROOT = "$DETECTRON2_DATASETS/cityscapes"
_ADE20K_FOLDERS = {"train": "training", "val": "validation"}


@dataclass(frozen=True)
class Detectron2SemSeg:
    """Catalog entry of a data set that Detectron2 lists and a `SemSegFolder` checks.

    Fields:
        folder: where the files are, and how images and labels are paired
        list_records: Detectron2's function of (image root, label root); None lists the folder
        metadata_roots: the metadata's names of the roots, the images' first
    """

    folder: SemSegFolder
    list_records: Callable[[str, str], list[dict]] | None
    metadata_roots: tuple[str, ...]

    def __call__(self) -> list[dict]:
        """List Detectron2's records, sorted, with `ignore_label` and `num_classes`.

        Raises:
            FileNotFoundError: the data set is not there or not prepared.
            ValueError: files without partner, or records that Detectron2's function rejects.
        """
        roots = [
            expand_path(root)
            for root in (self.folder.image_root, self.folder.label_root)
            if root is not None
        ]
        vars(MetadataCatalog.get(self.folder.name)).update(
            zip(self.metadata_roots, roots, strict=True)
        )
        if self.list_records is None:
            return self.folder()
        images = {image for image, _ in self.folder.check_pairs().values()}
        try:
            records = self.list_records(*roots)
        except (AssertionError, ValueError, KeyError) as error:  # also of a damaged JSON file
            raise ValueError(
                f"data set {self.folder.name!r} is not whole: {error}. {self.folder.how_to_get}"
            ) from error
        # Detectron2 lists hidden files too.
        records = [record for record in records if record["file_name"] in images]
        for record in records:
            record["ignore_label"] = self.folder.ignore_label
            record["num_classes"] = len(self.folder.classes)
        return sorted(records, key=lambda record: record["file_name"])

    @property
    def has_labels(self) -> bool:
        """Whether the images have labels: all of them, or none."""
        return self.folder.has_labels

    def pairs(self) -> dict[str, tuple[str | None, str | None]]:
        """Pair images and labels, see `SemSegFolder.pairs`."""
        return self.folder.pairs()


def _list_ade20k(image_root: str, label_root: str) -> list[dict]:
    return load_sem_seg(label_root, image_root, gt_ext="png", image_ext="jpg")


def register_detectron2_sets(split: str) -> None:
    """Register one split of both in place of Detectron2's; a second call changes nothing."""
    cityscapes = _cityscapes(
        split, f"{_CITYSCAPES_ROOT}/gtFine/{split}", how_to_prepare("cityscapes")
    )
    _register(Detectron2SemSeg(cityscapes, None, ("image_dir", "gt_dir")))
    base = "$DETECTRON2_DATASETS/ADEChallengeData2016"
    ade20k = SemSegFolder(
        name=f"ade20k_sem_seg_{split}",
        image_root=f"{base}/images/{_ADE20K_FOLDERS[split]}",
        label_root=f"{base}/annotations_detectron2/{_ADE20K_FOLDERS[split]}",
        classes=ADE20K_CLASSES,
        colors=ade20k_colors(),
        ignore_label=_IGNORE_LABEL,
        image_suffixes=(".jpg",),
        label_suffixes=(".png",),
        evaluator_type="sem_seg",
        extra_images=False,
        prepare=None,
        how_to_get=how_to_prepare("ade20k"),
    )
    _register(Detectron2SemSeg(ade20k, _list_ade20k, ("image_root", "sem_seg_root")))


def register_cityscapes_test() -> None:
    """Register the images that Cityscapes' server scores, without labels.

    Detectron2's own entry asks for labels, of which gtFine/test holds only empty ones.
    """
    how_to_get = (
        "Unpack leftImg8bit_trainvaltest.zip of https://www.cityscapes-dataset.com/downloads/ "
        "(free account) in ROOT/cityscapes, and set DETECTRON2_DATASETS to ROOT."
    )
    _register(Detectron2SemSeg(_cityscapes("test", None, how_to_get), None, ("image_dir",)))


def _cityscapes(split: str, label_root: str | None, how_to_get: str) -> SemSegFolder:
    return SemSegFolder(
        name=f"cityscapes_fine_sem_seg_{split}",
        image_root=f"{_CITYSCAPES_ROOT}/leftImg8bit/{split}",
        label_root=label_root,
        classes=CITYSCAPES_CLASSES,
        colors=CITYSCAPES_COLORS,
        ignore_label=_IGNORE_LABEL,
        image_suffixes=("_leftImg8bit.png",),
        label_suffixes=("_gtFine_labelTrainIds.png",),
        evaluator_type="cityscapes_sem_seg",
        extra_images=False,
        prepare=None,
        how_to_get=how_to_get,
    )


def how_to_prepare(dataset: str) -> str:
    """Instructions that end an error about a missing data set."""
    return (
        f"Run `{command_line('prepare', dataset, 'ROOT')}`, which also says what to download, "
        "and set DETECTRON2_DATASETS to ROOT."
    )


def _register(dataset: Detectron2SemSeg) -> None:
    name = dataset.folder.name
    present = dict(DatasetCatalog).get(name)
    if present == dataset:
        return
    if present is not None:
        if getattr(present, "__module__", "") != "detectron2.data.datasets.builtin":
            return  # someone's own under this name
        DatasetCatalog.pop(name)
    metadata = MetadataCatalog.get(name)
    if not hasattr(metadata, "stuff_colors"):
        metadata.stuff_colors = [list(color) for color in dataset.folder.colors]
    if not dataset.has_labels:
        vars(metadata).pop("gt_dir", None)
    DatasetCatalog.register(name, dataset)
