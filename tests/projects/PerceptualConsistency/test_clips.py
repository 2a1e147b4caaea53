"""Order of frames, and what is no clip."""

import numpy as np
import pytest
from clips import order_clip, register_clip
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import register_sem_seg_folder


def records(*names: str) -> list[dict[str, str]]:
    return [{"file_name": f"/data/{name}.png"} for name in names]


def names(found: list) -> list[str]:
    return [one["file_name"].removeprefix("/data/").removesuffix(".png") for one in found]


def test_frames_are_ordered_by_number() -> None:
    given = records("drive_11", "drive_9", "drive_7", "drive_13")
    assert names(order_clip(given, "d")) == ["drive_7", "drive_9", "drive_11", "drive_13"]
    given = records("ulm_0_000020_left8bit", "ulm_0_000019_left8bit")  # numbers: the last of all
    with pytest.raises(ValueError, match="clips"):
        order_clip([*given, *records("ulm_0_000021_right8bit")], "d")
    given = records("a_3", "b_3", "b_4", "a_4", "a_5")
    assert names(order_clip(given, "d", prefix="a_")) == ["a_3", "a_4", "a_5"]
    given = records("drive1/003", "drive2/001", "drive2/003", "drive2/002")
    found = names(order_clip(given, "d", prefix="drive2/"))
    assert found == ["drive2/001", "drive2/002", "drive2/003"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a_1", "a_2", "a_4"), "gaps from 2 to 4"),
        (("a_1", "a_2", "a_4", "a_5", "a_9"), "1 apart.*2 to 4, 5 to 9"),
        (("a_1", "a_2", "b_3"), "2 clips"),
        (("a_1", "a_01"), "two frames of 'd' are number 1"),
        (("a_1",), "2 frames or more"),
        (("a_1", "street"), "number in their files' names, got street"),
        (("drive1/street", "drive2/street"), "number in their files' names, got drive1/street"),
        (("drive1/1", "drive2/2"), r"2 clips \(drive1/\*, drive2/\*\)"),
        ((), "2 frames or more"),
    ],
)
def test_what_is_no_clip_is_refused(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        order_clip(records(*given), "d")
    assert "\n" not in str(error.value)


def test_a_registered_clip_has_the_frames_and_classes_of_its_source(tmp_path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for number in (2, 10, 6):
            path = tmp_path / kind / f"f{number}.png"
            Image.fromarray(np.zeros((4, 6), np.uint8)).save(path)
    folders = tmp_path / "images", tmp_path / "labels"
    register_sem_seg_folder("clip_source", *folders, ("road", "car"), ignore_label=9)
    name = register_clip("clip_source")
    assert register_clip("clip_source") == name
    found = DatasetCatalog.get(name)
    assert [one["image_id"] for one in found] == ["f2", "f6", "f10"]
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == ["road", "car"] and metadata.ignore_label == 9
    with pytest.raises(ValueError, match="registered data set"):
        register_clip("clip_source_of_none")
    (tmp_path / "images" / "f6.png").rename(tmp_path / "images" / "f8.png")
    (tmp_path / "labels" / "f6.png").rename(tmp_path / "labels" / "f8.png")
    with pytest.raises(ValueError, match="gaps from 2 to 8"):
        register_clip("clip_source")
