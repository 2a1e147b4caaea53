"""Registration of a folder of images and a folder of label PNGs as a data set."""

import colorsys
import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..listing import join_some
from .folders import files_below
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
    label_suffix: str
    evaluator_type: str
    extra_images: bool
    # Not compared: a config file that is loaded twice makes another function of the same text.
    prepare: Callable[[], object] | None = field(compare=False)
    how_to_get: str
    registered_in: str = field(default="", compare=False)

    def __call__(self) -> list[dict]:
        """List the pictures: one dict each, sorted by name.

        Returns:
            dicts of `file_name`, `height`, `width`, `image_id` (the name below the root, without
            suffix), `sem_seg_file_name` if there are labels, and `ignore_label` and `num_classes`,
            which the mapper needs to read the label file right.

        Raises:
            FileNotFoundError: a root is missing or holds nothing.
            OSError: a folder cannot be listed.
            ValueError: an image without a label, a label without an image, two images of one name,
                or an image that cannot be opened; the message names files.
        """
        records = []
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
        labels = self._list("label", expand_path(self.label_root), (self.label_suffix,))
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
        metadata["image_root"] = expand_path(self.image_root)
        if self.has_labels:
            metadata["sem_seg_root"] = expand_path(self.label_root)

    def _list(self, kind: str, root: str, suffixes: tuple[str, ...]) -> dict[str, str]:
        """List files below a root, by their names without root and suffix."""
        if not os.path.isdir(root):
            raise FileNotFoundError(
                f"data set {self.name!r}: its {kind} folder {root!r} does not exist{self._hint()}"
            )
        endings = [_composed(suffix).lower() for suffix in suffixes]
        found: dict[str, str] = {}
        for path in files_below(root, follow_links=True):
            name = _composed(os.path.relpath(path, root).replace(os.sep, "/"))
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
    ignore_label: int = 255,
    image_suffixes: str | Sequence[str] = IMAGE_SUFFIXES,
    label_suffix: str = ".png",
    evaluator_type: str = "sem_seg",
    extra_images: bool = False,
    prepare: Callable[[], object] | None = None,
    how_to_get: str = "",
) -> None:
    """Register a folder of images and a folder of label PNGs under a name.

    An image and its label have the same path below their roots but for the suffix, in whichever of
    Unicode's forms; sub-folders are allowed, and hidden files and folders do not count. A label
    holds a class id a pixel, as grey values (8 or 16 bits) or palette indices. Nothing is read
    before the data set is asked for. It may be called at the top of a config file: the same call
    again, on another load or in another process, changes nothing.

    Args:
        name: name of the data set in DATASETS.TRAIN or a recipe
        image_root: folder of the images; `~` and environment variables are filled in when listing
        label_root: folder of the labels, likewise; None for images without, as in a test set
        classes: class names; class id = place in this list
        colors: an (R, G, B) of 0..255 for each class, to draw with; made up if None
        ignore_label: the value in the label files that means "no class here"
        image_suffixes: ending of an image's file name, e.g. ".jpg" or "_leftImg8bit.png"
        label_suffix: ending of a label's file name, e.g. "_gtFine_labelTrainIds.png"
        evaluator_type: metadata by which the evaluator is chosen
        extra_images: images without a label are left out; otherwise they are an error
        prepare: called before listing, for data that can make itself
        how_to_get: a sentence for the error when a folder, or some files, are missing

    Raises:
        ValueError: bad classes, colours, label or suffix; or the name is taken by something else.
    """
    if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes must be a list of different names, got {classes!r}")
    if isinstance(ignore_label, bool) or not isinstance(ignore_label, int) or ignore_label < 0:
        raise ValueError(f"ignore_label must be an integer of at least 0, got {ignore_label!r}")
    suffixes = (image_suffixes,) if isinstance(image_suffixes, str) else tuple(image_suffixes)
    if not suffixes or not all(suffixes):
        raise ValueError(f"image_suffixes must be endings of file names, got {image_suffixes!r}")
    if not label_suffix:
        raise ValueError("label_suffix must be an ending of file names, got an empty one")
    folder = SemSegFolder(
        name=name,
        image_root=os.fspath(image_root),
        label_root=None if label_root is None else os.fspath(label_root),
        classes=tuple(classes),
        colors=_check_colors(colors, len(classes)),
        ignore_label=ignore_label,
        image_suffixes=suffixes,
        label_suffix=label_suffix,
        evaluator_type=evaluator_type,
        extra_images=extra_images,
        prepare=prepare,
        how_to_get=how_to_get,
        registered_in=sys._getframe(1).f_code.co_filename,
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
    )
    folder.write_roots()
    DatasetCatalog.register(name, folder)


def _check_colors(
    colors: Sequence[Sequence[int]] | None, num_classes: int
) -> tuple[tuple[int, int, int], ...]:
    if colors is None:
        return default_colors(num_classes)
    checked = tuple(tuple(int(c) for c in color) for color in colors)
    if len(checked) != num_classes:
        raise ValueError(
            f"colors must be one for each of {num_classes} classes, got {len(checked)}"
        )
    for color in checked:
        if len(color) != 3 or not all(0 <= c <= 255 for c in color):
            raise ValueError(f"colors must be (R, G, B) of 0..255, got {color}")
    return checked
