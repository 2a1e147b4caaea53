"""Catalog entry of a folder of images and a folder of labels."""

import logging
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from detectron2.data import MetadataCatalog

from ..listing import join_some
from .bands import bands_size
from .folders import files_below, fixed_part, folders_like
from .label_table import LabelTable
from .pair_lists import read_names, read_pairs
from .pictures import picture_size

logger = logging.getLogger(__name__)

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
    list_file: str | None = None
    bands: int | None = None
    nodata: float | None = None

    def __call__(self) -> list[dict]:
        """List the pictures: one dict each, sorted by name.

        Returns:
            dicts of `file_name`, `height`, `width`, `image_id` (the name below the root, without
            suffix), `sem_seg_file_name` if there are labels, and `ignore_label`, `num_classes` and
            maybe `label_table`, `bands` and `nodata`, which the mapper needs to read files right.

        Raises:
            FileNotFoundError: a root is missing or holds nothing.
            OSError: a folder cannot be listed.
            ValueError: an image without a label, a label without an image, two images of one name,
                or an image that cannot be opened; the message names files.
        """
        records = []
        given = {"label_table": self.label_table, "bands": self.bands, "nodata": self.nodata}
        given = {key: value for key, value in given.items() if value is not None}
        for stem, (image, label) in self.check_pairs().items():
            of_bands = self.bands is not None
            height, width = bands_size(image, self.bands) if of_bands else picture_size(image)
            records.append(
                {
                    "file_name": image,
                    **({"sem_seg_file_name": label} if self.has_labels else {}),
                    "height": height,
                    "width": width,
                    "image_id": stem,
                    "ignore_label": self.ignore_label,
                    "num_classes": len(self.classes),
                    **given,
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
            FileNotFoundError: a root is missing or holds nothing, or there is no `list_file`.
            ValueError: two images of one name, or a list that names what is not there.
        """
        if self.prepare is not None:
            self.prepare()
        self.write_roots()
        image_root = expand_path(self.image_root)
        label_root = expand_path(self.label_root) if self.has_labels else None
        chosen = expand_path(self.list_file) if self.list_file else ""
        if chosen.lower().endswith(".csv"):
            return dict(sorted(read_pairs(chosen, image_root, label_root).items()))
        images = self._list("image", image_root, self.image_suffixes)
        labels = self._list("label", label_root, self.label_suffixes) if label_root else {}
        if chosen:
            stems = read_names(chosen, self.image_suffixes, images)
        elif not self.has_labels:
            stems = images
        else:
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
