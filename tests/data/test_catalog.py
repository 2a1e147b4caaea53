"""Data sets by name: what may be used together."""

import pytest
from detectron2.data import MetadataCatalog

from ifa_d2.data import register_sem_seg_folder
from ifa_d2.data.catalog import check_same_classes


@pytest.fixture
def register(tmp_path):
    """Register a data set of some classes, of which no file is looked at."""

    def register_classes(name: str, *classes: str, ignore_label: int = 255) -> str:
        register_sem_seg_folder(name, tmp_path, tmp_path, classes, ignore_label=ignore_label)
        return name

    return register_classes


def test_the_same_classes_may_ignore_other_values(register) -> None:
    names = [register("one", "a", "b"), register("two", "a", "b", ignore_label=9)]
    check_same_classes(names)
    check_same_classes([])
    check_same_classes(names[:1] * 2)
    check_same_classes(("shapes_train", "shapes_val"))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("a", "c", "b"), "class 1 is 'b' in 'one' and 'c' in 'two'"),
        (("a", "b", "d"), "class 2 is 'c' in 'one' and 'd' in 'two'"),
        (("a", "b"), "class 2 is 'c' in 'one' and absent in 'two'"),
        (("a", "b", "c", "d"), "class 3 is absent in 'one' and 'd' in 'two'"),
    ],
)
def test_other_classes_are_named_with_both_sets(register, classes, said) -> None:
    names = register("one", "a", "b", "c"), register("same", "a", "b", "c")
    with pytest.raises(ValueError, match=f"'one' and 'two' must have the same .*, but {said}: reg"):
        check_same_classes([*names, register("two", *classes)])


def test_sets_without_classes_are_passed_over_and_unknown_ones_are_not(register) -> None:
    names = ["coco_2017_train", register("one", "a", "b"), register("two", "a", "b")]
    assert not MetadataCatalog.get(names[0]).get("stuff_classes")
    check_same_classes(names)
    with pytest.raises(ValueError, match=r"names must be a registered data set .* got 'onr'"):
        check_same_classes(["one", "onr"])
