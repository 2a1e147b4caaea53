"""The walk through a call, on functions whose walk is known."""

from ifa_d2.layers import GridAxis, GridQuery
from tests.walk import walk, walks


def test_what_is_counted() -> None:
    seen = walk(lambda: GridQuery.regular(3, 4).size)
    assert {name.rpartition(":")[2] for name in seen.functions} >= {
        "GridQuery.regular",
        "GridQuery.size",
    }
    assert {name.rpartition(":")[2] for name in seen.classes} >= {"GridQuery"}
    assert (len(seen.files), seen.switches) == (1, 1)
    assert not walk(lambda: sorted([3, 1])).files
    assert GridAxis.window(0, 1, 3, 1).size == 3


def test_a_walk_is_no_longer_than_it_was() -> None:
    """Bounds of what was measured; they go down with the code, not up."""
    bounds = {
        # One more than it was: fields left the file that needs Detectron2.
        "FieldSegmentor answers one picture": (14, 17),
        "the layer alone, inference on a grid": (6, 11),
        "field.refined_labels()": (10, 15),
    }
    for name, one in walks().items():
        files, classes = bounds[name]
        assert len(one.files) <= files and len(one.classes) <= classes, (name, one)
