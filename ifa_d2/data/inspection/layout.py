"""Pairs of images and labels in folders of any layout, and their parts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from ...listing import join_some, spread_indices
from ..folders import files_below
from .appearance import looks_like_labels
from .json_files import Pair, coco_pairs, json_form, pictures

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Folders of VOC's layout that show the same pictures once more.
_PASSED_OVER = ("SegmentationObject", "SegmentationClassVisualization", "SegmentationObjectPNG")
_LOOKED_AT = 5  # files of a folder, to tell images from labels
_NAMED = 5  # how many files an error lists
_VAL_EVERY = 5  # of the pairs validates, where no folder says which
_SEPARATORS = "_-. "


@dataclass(frozen=True)
class Layout:
    """Pairs below a folder.

    Fields:
        form: "pictures", "labelme" or "coco"
        pairs: sorted by image
        without_label: images that are left out
        unlisted: pairs that are left out, as they are in none of VOC's lists
    """

    form: str
    pairs: tuple[Pair, ...]
    without_label: int = 0
    unlisted: int = 0


def find_layout(paths: Sequence[str | os.PathLike[str]]) -> Layout:
    """Find the pairs of a folder, or of a folder of images and one of labels (or a COCO file).

    In one folder, labels are told from images by their pixels: few values, in areas of one value.
    A label belongs to the image of its name; what all names of a folder begin or end with, such as
    "_mask", does not count. Folders named train, val or test, and VOC's lists, say what is to
    train; without them every fifth pair validates.

    Raises:
        ValueError: more than two paths, no pairs, labels without image, or several folders that fit
            alike; the message says which.
        FileNotFoundError: a path is not there.
    """
    paths = [os.path.abspath(os.path.expanduser(path)) for path in paths]
    if len(paths) not in (1, 2):
        raise ValueError(f"PATH must be one folder, or IMAGES LABELS, got {len(paths)} paths")
    for number, path in enumerate(paths):
        if not os.path.exists(path):
            raise FileNotFoundError(f"there is no {path}")
        if not os.path.isdir(path) and not (number and path.endswith(".json")):
            raise ValueError(f"{path} must be a folder: PATH is one, or IMAGES and LABELS are")
    files = [_files(path) for path in paths]
    label_files = files[-1]
    texts = [path for path in label_files if path.lower().endswith(".json")]
    forms = {path: form for path in texts if (form := json_form(path))}
    if "coco" in forms.values():
        pairs = coco_pairs(
            paths[0], [one for one, form in forms.items() if form == "coco"], pictures(files[0])
        )
        layout = Layout("coco", pairs)
    elif forms:
        layout = _pair("labelme", *_labelme_folders(files[0], forms))
    else:
        layout = _pair("pictures", *_picture_folders(paths, files))
    pairs = _split(paths[0], layout)
    return replace(layout, pairs=pairs, unlisted=len(layout.pairs) - len(pairs))


def _files(path: str) -> list[str]:
    found = [path] if os.path.isfile(path) else list(files_below(path, follow_links=True))
    below = {one: set(Path(os.path.relpath(one, path)).parts) for one in found}
    return [one for one, parts in below.items() if not parts & set(_PASSED_OVER)]


def _labelme_folders(
    files: Sequence[str], labels: Mapping[str, str]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    return _by_folder(pictures(files)), _by_folder(labels)


def _picture_folders(
    paths: Sequence[str], files: Sequence[Sequence[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Folders of images and folders of labels, with their files."""
    if len(paths) == 2:
        return tuple(_by_folder(pictures(part)) for part in files)
    images, labels = {}, {}
    for folder, inside in _by_folder(pictures(files[0])).items():
        sample = [inside[index] for index in spread_indices(len(inside), _LOOKED_AT)]
        told = {looks_like_labels(path) for path in sample}
        kinds = {path: looks_like_labels(path) for path in inside} if len(told) > 1 else {}
        for path in inside:
            part = labels if kinds.get(path, True in told) else images
            part.setdefault(folder, []).append(path)
    return images, labels


def _by_folder(files: Sequence[str] | Mapping[str, str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for path in sorted(files):
        folders.setdefault(os.path.dirname(path), []).append(path)
    return folders


def _pair(form: str, images: Mapping[str, list[str]], labels: Mapping[str, list[str]]) -> Layout:
    """Give each folder of labels the folder of images that has most of its names."""
    if not images or not labels:
        what = "images" if not images else "labels"
        raise ValueError(
            f"found no {what}: labels are PNGs (or other files without loss) of few values or "
            "colours, or .json of LabelMe or COCO; give both folders, as IMAGES LABELS"
        )
    pairs: dict[str, Pair] = {}
    for folder, inside in labels.items():
        matches = {other: _match(images[other], inside) for other in images}
        best = max(matches, key=lambda other: _score(matches, other, folder))
        score = _score(matches, best, folder)
        alike = [other for other in images if _score(matches, other, folder) == score]
        if len(alike) > 1 and matches[best]:
            raise ValueError(
                f"the labels in {folder} fit the images in {' and in '.join(alike)} alike: give "
                "the two folders that belong together, as IMAGES LABELS"
            )
        found = matches[best]
        alone = [path for path in inside if path not in found]
        if alone:
            raise ValueError(
                f"{len(alone)} of {len(inside)} labels in {folder} have no image of their name: "
                f"{join_some(alone, _NAMED)}"
            )
        for label, image in found.items():
            if image in pairs:
                raise ValueError(
                    f"{image} has two labels, {pairs[image].label} and {label}: give the two "
                    "folders that belong together, as IMAGES LABELS"
                )
            pairs[image] = Pair(image, label)
    used = {os.path.dirname(image) for image in pairs}
    left = sum(len(inside) for folder, inside in images.items() if folder in used) - len(pairs)
    return Layout(form, tuple(pairs[image] for image in sorted(pairs)), left)


def _score(matches: Mapping[str, dict[str, str]], images: str, labels: str) -> tuple[int, int]:
    """How well a folder of images fits one of labels: by names, then by the folders' own names."""
    words = [
        {_SPLIT_NAMES.get(_word(part), part) for part in Path(folder).parts}
        for folder in (images, labels)
    ]
    return len(matches[images]), len(words[0] & words[1])


def _word(part: str) -> str:
    """Name of a folder as in the table of splits; "train2017" is "train"."""
    return part.lower().rstrip("0123456789")


def _match(images: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Images by labels of the same name, with as little of the names left out as possible."""
    best: dict[str, str] = {}
    for cut_images, cut_labels in product((_whole, _cut_end, _cut_both), repeat=2):
        known = dict(zip(cut_images(images), images, strict=True))
        names = cut_labels(labels)
        if len(known) < len(images) or len(set(names)) < len(labels):
            continue
        found = {
            label: known[name] for name, label in zip(names, labels, strict=True) if name in known
        }
        best = max(best, found, key=len)
    return best


def _whole(paths: Sequence[str]) -> list[str]:
    return [Path(path).stem for path in paths]


def _cut_end(paths: Sequence[str]) -> list[str]:
    """Names without what all of them end with, from a separator on."""
    return [name[::-1] for name in _cut([name[::-1] for name in _whole(paths)])]


def _cut_both(paths: Sequence[str]) -> list[str]:
    """Names without what all of them begin or end with, up to a separator."""
    return _cut(_cut_end(paths))


def _cut(names: list[str]) -> list[str]:
    """Names without what all of them begin with, up to a separator."""
    first, last = min(names), max(names)
    if first == last:  # one name, which is all alike
        return names
    common = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
                  len(first))  # fmt: skip
    cut = 1 + max(first[:common].rfind(one) for one in _SEPARATORS)
    return [name[cut:] for name in names]


def _split(root: str, layout: Layout) -> tuple[Pair, ...]:
    """Say of each pair what it is for."""
    if listed := _listed(root):
        splits = [listed.get(Path(one.image).stem, "") for one in layout.pairs]
    else:
        splits = [_named(root, one, layout.form == "coco") or "train" for one in layout.pairs]
    chosen = zip(layout.pairs, splits, strict=True)
    said = [replace(one, split=split) for one, split in chosen if split]
    if any(one.split == "val" for one in said) and any(one.split == "train" for one in said):
        return tuple(said)
    train = [one for one in said if one.split != "test"]
    if len(train) < 2:
        raise ValueError(
            f"found {len(train)} pairs to train and to validate with below {root}: two are needed"
        )
    every = min(_VAL_EVERY, len(train))
    val = {one.image for one in train[every - 1 :: every]}
    return tuple(
        one if one.split == "test" else replace(one, split="val" if one.image in val else "train")
        for one in said
    )


def _listed(root: str) -> dict[str, str]:
    """Splits by names, of lists as VOC has them."""
    found = {}
    for folder in (os.path.join(root, "ImageSets", "Segmentation"), root):
        for split in SPLITS:
            path = os.path.join(folder, f"{split}.txt")
            if os.path.isfile(path):
                with open(path, encoding="utf-8-sig") as file:
                    names = [os.path.basename(line.strip()) for line in file if line.strip()]
                whole = {Path(name).stem if pictures([name]) else name for name in names}
                found |= dict.fromkeys(whole, split)
        if found:
            break
    return found


def _named(root: str, pair: Pair, of_coco: bool) -> str:
    """Split by a folder's name, or a COCO file's."""
    words = [
        word
        for path in (pair.image, pair.label)
        for word in Path(os.path.relpath(path, root)).parts[:-1]
    ]
    if of_coco:
        words += Path(pair.label).stem.replace("-", "_").split("_")
    found = (_SPLIT_NAMES.get(_word(word)) for word in words)
    return next(filter(None, found), "")
