"""Pairs of images and labels in JSON files of COCO and LabelMe."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...choices import IMAGE_SUFFIXES
from ...listing import join_some

_NAMED = 5  # how many files an error lists


@dataclass(frozen=True)
class Pair:
    """An image and its label; of COCO, the label is the file of all.

    Fields:
        image: its file
        label: its file
        split: one of `SPLITS`; "" where nothing says
        name: of the image in a COCO file
    """

    image: str
    label: str
    split: str = ""
    name: str = ""


def pictures(files: Sequence[str]) -> list[str]:
    """Files with the suffix of a picture."""
    return [path for path in files if path.lower().endswith(IMAGE_SUFFIXES)]


def json_form(path: str) -> str:
    """Tell the form of a .json of labels, "coco" or "labelme"; "" of another."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError:
        return ""
    if not isinstance(content, Mapping):
        return ""
    if {"images", "annotations", "categories"} <= content.keys():
        return "coco"
    return "labelme" if isinstance(content.get("shapes"), list) else ""


def coco_pairs(
    image_root: str, json_files: Sequence[str], images: Sequence[str]
) -> tuple[Pair, ...]:
    """Find the images of COCO's files: where their names are, below the file or the root.

    Args:
        image_root: folder of the images.
        json_files: COCO's.
        images: all image files below the folder, for names without their folders.

    Raises:
        ValueError: an image is not there, or several have its name.
    """
    pairs, missing = [], []
    below = defaultdict(list)
    for path in images:
        below[os.path.basename(path)].append(path)
    for json_file in json_files:
        with open(json_file, encoding="utf-8") as file:
            names = [one["file_name"] for one in json.load(file)["images"]]
        for name in names:
            own = os.path.join(os.path.dirname(json_file), name)
            rooted = os.path.join(image_root, name)
            found = [path for path in (own, rooted) if os.path.isfile(path)]
            found = found or below[os.path.basename(name)]
            if len(found) == 1 or (found and found[0] in (own, rooted)):
                pairs.append(Pair(found[0], json_file, name=name))
            else:
                missing.append(name)
    if missing:
        raise ValueError(
            f"{len(missing)} images of {join_some(json_files, _NAMED)} are not to be found, or "
            f"several of one name, below {image_root}: {join_some(missing, _NAMED)}; give the "
            "folder that their names are relative to and the file as IMAGES LABELS"
        )
    return tuple(pairs)
