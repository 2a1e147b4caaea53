"""Registration of a folder of images and a folder of label PNGs as a data set."""

import colorsys
import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..listing import join_some
from .folders import files_below, fixed_part, folders_like
from .label_table import LabelTable, make_label_table, reduced_zero_table
from .pictures import picture_size

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_NAMED = 5  # how many files an error lists


def expand_path(path: str | os.PathLike[str]) -> str:
    """Expand `~` and environment variables in a path.

    `$DETECTRON2_DATASETS` means "datasets" where it is not set, as in Detectron2. It is read at
    each call, so that it may be set after the import.
    """
    text = os.fspath(path)
    if "DETECTRON2_DATASETS" not in os.environ:
        text = text.replace("${DETECTRON2_DATASETS}", "datasets")
        text = text.replace("$DETECTRON2_DATASETS", "datasets")
    return os.path.expanduser(os.path.expandvars(text))


@dataclass(frozen=True)
class SemSegFolder:
    """Catalog entry of a folder of images and one of labels; lists them when called.

    Two equal ones are the same data set. See `register_sem_seg_folder` for the fields.
    """

    name: str
    image_root: str
    label_root: str | None  # None: there are no labels
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore_label: int
    image_suffixes: tuple[str, ...]
    label_suffixes: tuple[str, ...]
    evaluator_type: str
    extra_images: bool
    # Not compared: a config file that is loaded twice makes another function of the same text.
    prepare: Callable[[], object] | None = field(compare=False)
    how_to_get: str
    registered_in: str = field(default="", compare=False)
    label_table: LabelTable | None = None

    def __call__(self) -> list[dict]:
        """List the pictures: one dict each, sorted by name.

        Returns:
            dicts of `file_name`, `height`, `width`, `image_id` (the name below the root, without
            suffix), `sem_seg_file_name` if there are labels, and `ignore_label`, `num_classes` and
            maybe `label_table`, which the mapper needs to read the label file right.

        Raises:
            FileNotFoundError: a root is missing or holds nothing.
            OSError: a folder cannot be listed.
            ValueError: an image without a label, a label without an image, two images of one name,
                or an image that cannot be opened; the message names files.
        """
        records = []
        table = {} if self.label_table is None else {"label_table": self.label_table}
        for stem, (image, label) in self.check_pairs().items():
            height, width = picture_size(image)
            records.append(
                {
                    "file_name": image,
                    **({"sem_seg_file_name": label} if self.has_labels else {}),
                    "height": height,
                    "width": width,
                    "image_id": stem,
                    "ignore_label": self.ignore_label,
                    "num_classes": len(self.classes),
                    **table,
                }
            )
        without = "with" if self.has_labels else "without"
        logger.info("Loaded %d images %s labels of %s", len(records), without, self.name)
        return records

    @property
    def has_labels(self) -> bool:
        """Whether the images have labels: all of them, or none."""
        return self.label_root is not None

    def pairs(self) -> dict[str, tuple[str | None, str | None]]:
        """Pair images and labels by their common name, sorted; None where one is missing.

        Raises:
            FileNotFoundError: a root is missing or holds nothing.
            ValueError: two images of one name.
        """
        if self.prepare is not None:
            self.prepare()
        self.write_roots()
        images = self._list("image", expand_path(self.image_root), self.image_suffixes)
        if not self.has_labels:
            return {stem: (images[stem], None) for stem in sorted(images)}
        labels = self._list("label", expand_path(self.label_root), self.label_suffixes)
        stems = labels.keys() if self.extra_images else images.keys() | labels.keys()
        return {stem: (images.get(stem), labels.get(stem)) for stem in sorted(stems)}

    def check_pairs(self) -> dict[str, tuple[str, str | None]]:
        """Pair images and labels; raise if an image or a label is alone.

        Raises:
            FileNotFoundError: a root is missing or holds nothing.
            ValueError: two images of one name, or files without partner; the message names some.
        """
        pairs = self.pairs()
        self._check(pairs)
        return pairs

    def write_roots(self) -> None:
        """Write the present folders to the metadata.

        Metadata's own setter is bypassed, as it allows one value only: `$DETECTRON2_DATASETS` may
        have changed since the data set was registered.
        """
        metadata = vars(MetadataCatalog.get(self.name))
        metadata["image_root"] = fixed_part(expand_path(self.image_root))
        if self.has_labels:
            metadata["sem_seg_root"] = fixed_part(expand_path(self.label_root))

    def _list(self, kind: str, root: str, suffixes: tuple[str, ...]) -> dict[str, str]:
        """List files below a root, by their names without root and suffix."""
        folders = folders_like(root)
        if not folders:
            raise FileNotFoundError(
                f"data set {self.name!r}: its {kind} folder {root!r} does not exist{self._hint()}"
            )
        endings = [_composed(suffix).lower() for suffix in suffixes]
        found: dict[str, str] = {}
        for path, below in _files(folders):
            name = _composed(below)
            ending = next((e for e in endings if name.lower().endswith(e)), None)
            if ending is None:
                continue
            stem = name[: -len(ending)]
            if stem in found:
                alike = _composed(found[stem]) == _composed(path)
                # As code points, where both would look the same.
                both = [ascii(file) if alike else repr(file) for file in (found[stem], path)]
                raise ValueError(
                    f"data set {self.name!r}: two {kind} files of one name, {' and '.join(both)}: "
                    "rename or remove one"
                )
            found[stem] = path
        if not found:
            raise FileNotFoundError(
                f"data set {self.name!r}: no {kind} file that ends in {' or '.join(suffixes)} "
                f"in {root!r}{self._hint()}"
            )
        return found

    def _check(self, pairs: dict[str, tuple[str | None, str | None]]) -> None:
        kinds = (("image", "label", 0), ("label", "image", 1)) if self.has_labels else ()
        for kind, other, place in kinds:
            alone = [files[place] for files in pairs.values() if files[1 - place] is None]
            if alone:
                raise ValueError(
                    f"data set {self.name!r}: {len(alone)} {kind} file(s) without {other}: "
                    f"{join_some(alone, _NAMED)}{self._hint()}"
                )

    def _hint(self) -> str:
        """Instructions to get the data set, to end an error's sentence."""
        return f". {self.how_to_get}" if self.how_to_get else ""


def _files(folders: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """List files below folders, with their names there after the folder's own."""
    for folder, name in folders.items():
        for path in files_below(folder, follow_links=True):
            yield path, name + os.path.relpath(path, folder).replace(os.sep, "/")


def _composed(name: str) -> str:
    """Compose letters and accents of a file's name (NFC): systems write them in two ways."""
    return unicodedata.normalize("NFC", name)


def default_colors(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Make distinct RGB colours: hues at golden-ratio steps, three brightnesses."""
    hsv = [
        ((0.6 + 0.6180339887 * i) % 1, (0.75, 0.55, 0.9)[i % 3], (0.9, 0.7, 0.5)[i // 3 % 3])
        for i in range(num_classes)
    ]
    return tuple(tuple(round(255 * c) for c in colorsys.hsv_to_rgb(*color)) for color in hsv)


def register_sem_seg_folder(
    name: str,
    image_root: str | os.PathLike[str],
    label_root: str | os.PathLike[str] | None,
    classes: Sequence[str],
    colors: Sequence[Sequence[int]] | None = None,
    *,
    ignore_label: int | None = None,
    label_values: Mapping[int | tuple[int, int, int], int | str | None] | None = None,
    reduce_zero_label: bool = False,
    image_suffixes: str | Sequence[str] = IMAGE_SUFFIXES,
    label_suffix: str | Sequence[str] = ".png",
    evaluator_type: str = "sem_seg",
    extra_images: bool = False,
    prepare: Callable[[], object] | None = None,
    how_to_get: str = "",
) -> None:
    """Register a folder of images and a folder of label PNGs under a name.

    An image and its label have the same path below their roots but for the suffix, in whichever of
    Unicode's forms; sub-folders are allowed, and hidden files and folders do not count. A label
    holds a class id a pixel, as grey values (8 or 16 bits) or palette indices, or with
    `label_values` other ids or colours. Nothing is read before the data set is asked for. It may be
    called at the top of a config file: the same call again, on another load or in another process,
    changes nothing.

    Args:
        name: name of the data set in DATASETS.TRAIN or a recipe
        image_root: folder of the images; `~` and environment variables are filled in when listing.
            With `*` in it ("scenes/*/rgb") it stands for all folders that fit; what the stars stand
            for is then the first part of a name
        label_root: folder of the labels, likewise; None for images without, as in a test set
        classes: class names; class id = place in this list
        colors: an (R, G, B) of 0..255 for each class, to draw with; made up if None
        ignore_label: the value in the label files that means "no class here"; None is 255, or 65535
            where there are more classes
        label_values: class (its name or id) of each value in the label files, an id or an (R, G, B)
            tuple; None ignores it. Another value is an error, `ignore_label` excepted
        reduce_zero_label: 0 in the label files is ignored, and k is class k - 1
        image_suffixes: ending of an image's file name, e.g. ".jpg" or "_leftImg8bit.png"
        label_suffix: ending of a label's file name, e.g. "_gtFine_labelTrainIds.png", or several
        evaluator_type: metadata by which the evaluator is chosen
        extra_images: images without a label are left out; otherwise they are an error
        prepare: called before listing, for data that can make itself
        how_to_get: a sentence for the error when a folder, or some files, are missing

    Raises:
        ValueError: bad classes, colours, label, table or suffix; or the name is taken by something
            else.
    """
    if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes must be a list of different names, got {classes!r}")
    if ignore_label is None:
        ignore_label = 255 if len(classes) <= 255 else 65535
    if isinstance(ignore_label, bool) or not isinstance(ignore_label, int) or ignore_label < 0:
        raise ValueError(f"ignore_label must be an integer of at least 0, got {ignore_label!r}")
    table = _label_table(label_values, reduce_zero_label, classes, ignore_label)
    if table is not None and label_root is None:
        raise ValueError(f"{table.source} is of label files, but label_root is None")
    folder = SemSegFolder(
        name=name,
        image_root=os.fspath(image_root),
        label_root=None if label_root is None else os.fspath(label_root),
        classes=tuple(classes),
        colors=_check_colors(colors, len(classes), table),
        ignore_label=ignore_label,
        image_suffixes=_check_suffixes("image_suffixes", image_suffixes),
        label_suffixes=_check_suffixes("label_suffix", label_suffix),
        evaluator_type=evaluator_type,
        extra_images=extra_images,
        prepare=prepare,
        how_to_get=how_to_get,
        registered_in=sys._getframe(1).f_code.co_filename,
        label_table=table,
    )
    if name in DatasetCatalog:
        if DatasetCatalog[name] == folder:
            return
        raise ValueError(f"name {name!r} is registered already, as another data set")
    MetadataCatalog.get(name).set(
        stuff_classes=list(folder.classes),
        stuff_colors=[list(color) for color in folder.colors],
        ignore_label=ignore_label,
        evaluator_type=evaluator_type,
        **({} if table is None else {"label_table": table}),
    )
    folder.write_roots()
    DatasetCatalog.register(name, folder)


def _label_table(
    label_values: Mapping | None, reduce_zero_label: bool, classes: Sequence[str], ignore_label: int
) -> LabelTable | None:
    if label_values is None and not reduce_zero_label:
        return None
    if label_values is not None and reduce_zero_label:
        raise ValueError("label_values and reduce_zero_label exclude each other: give one of them")
    if ignore_label < len(classes):
        raise ValueError(
            f"ignore_label {ignore_label} is one of the {len(classes)} classes 0.."
            f"{len(classes) - 1}: with label_values or reduce_zero_label it must not be"
        )
    if reduce_zero_label:
        return reduced_zero_table(len(classes), ignore_label)
    return make_label_table(label_values, classes, ignore_label)


def _check_suffixes(name: str, suffixes: str | Sequence[str]) -> tuple[str, ...]:
    several = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
    if not several or not all(several):
        raise ValueError(f"{name} must be endings of file names, got {suffixes!r}")
    return several


def _check_colors(
    colors: Sequence[Sequence[int]] | None, num_classes: int, table: LabelTable | None
) -> tuple[tuple[int, int, int], ...]:
    if colors is None:
        made = default_colors(num_classes)
        own = [table.color(index) if table else None for index in range(num_classes)]
        return tuple(color or other for color, other in zip(own, made, strict=True))
    checked = tuple(tuple(int(c) for c in color) for color in colors)
    if len(checked) != num_classes:
        raise ValueError(
            f"colors must be one for each of {num_classes} classes, got {len(checked)}"
        )
    for color in checked:
        if len(color) != 3 or not all(0 <= c <= 255 for c in color):
            raise ValueError(f"colors must be (R, G, B) of 0..255, got {color}")
    return checked
