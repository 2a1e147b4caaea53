from pathlib import Path

import numpy as np
import pytest
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ifa_d2.visualization import contact_sheet, draw_segmentation, save_png, side_by_side

METADATA = Metadata(
    name="drawn", stuff_classes=["left", "right"], stuff_colors=[[255, 0, 0], [0, 0, 255]]
)
GREY = np.full((20, 30, 3), 100, np.uint8)
HALVES = np.repeat([[0] * 15 + [1] * 15], 20, axis=0)


@pytest.mark.parametrize("names", [False, True])
def test_colours_lie_over_the_image(names: bool) -> None:
    drawn = draw_segmentation(GREY, HALVES, METADATA, scale=4, alpha=0.5, names=names)
    assert drawn.shape == (80, 120, 3) and drawn.dtype == np.uint8
    # Off the middle, where a name may be.
    assert drawn[4, 20].tolist() == pytest.approx([178, 50, 50], abs=3)
    assert drawn[4, 100].tolist() == pytest.approx([50, 50, 178], abs=3)


@pytest.mark.parametrize("value", [2, 255, -1])
def test_what_is_no_class_is_not_drawn(value: int) -> None:
    label = HALVES.copy()
    label[:, 20:] = value
    drawn = draw_segmentation(GREY, label, METADATA, scale=4, names=False)
    assert drawn[40, 110].tolist() == [100, 100, 100]
    assert drawn[40, 10, 0] > 150


def test_single_pixels_are_drawn() -> None:
    label = np.full((20, 30), 255)
    label[7, 11] = 1
    drawn = draw_segmentation(GREY, label, METADATA, scale=8, alpha=1.0, names=False)
    assert drawn[7 * 8 + 4, 11 * 8 + 4].tolist() == [0, 0, 255]


def _ring() -> np.ndarray:
    y, x = np.mgrid[:120, :160]
    distance = np.hypot(y - 60, x - 80)
    return (distance > 30) & (distance < 50)


def _letter_u() -> np.ndarray:
    mask = np.zeros((120, 160), bool)
    mask[20:110, 20:40] = mask[20:110, 110:150] = mask[90:110, 20:150] = True
    return mask


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[float, float]]]:
    """The names that are drawn, and where."""
    recorded = []
    draw_text = Visualizer.draw_text

    def record(self: Visualizer, text: str, place: tuple[float, float], **kwargs: str) -> object:
        recorded.append((text, place))
        return draw_text(self, text, place, **kwargs)

    monkeypatch.setattr(Visualizer, "draw_text", record)
    return recorded


@pytest.mark.parametrize("region", [_ring(), _letter_u()])
def test_a_name_stands_deep_inside_its_region(region: np.ndarray, places: list) -> None:
    image = np.zeros((*region.shape, 3), np.uint8)
    draw_segmentation(image, np.where(region, 1, 255), METADATA)
    ((name, (x, y)),) = places
    assert name == "right"
    outside_y, outside_x = np.nonzero(~region)
    # Half of the width of the ring, and of the wider leg.
    assert np.hypot(outside_y - y, outside_x - x).min() >= 9


def test_a_name_keeps_off_the_border(places: list) -> None:
    draw_segmentation(GREY, np.zeros((20, 30), int), METADATA)
    draw_segmentation(GREY, HALVES, METADATA)
    for (_, (x, y)), middle in zip(places, [(14.5, 9.5), (7, 9.5), (22, 9.5)], strict=True):
        assert abs(x - middle[0]) <= 1 and abs(y - middle[1]) <= 2.5


def test_a_name_is_drawn_whole_in_a_corner() -> None:
    """As large as in the middle, where nothing can cut it."""
    metadata = Metadata(name="named", stuff_classes=["a long name"], stuff_colors=[[255, 0, 0]])
    areas = []
    for rows, cols in ((50, 70), (0, 0), (0, 140), (100, 0), (100, 140)):
        label = np.full((120, 160), 255)
        label[rows : rows + 20, cols : cols + 20] = 0
        drawn = [
            draw_segmentation(np.full((120, 160, 3), 100, np.uint8), label, metadata, names=names)
            for names in (True, False)
        ]
        areas.append((drawn[0] != drawn[1]).any(axis=2).sum())
    assert areas[0] > 400
    assert areas[1:] == pytest.approx([areas[0]] * 4, rel=0.1)


def test_size_of_the_segmentation() -> None:
    with pytest.raises(ValueError, match=r"\(10, 30\), but the image \(20, 30\)"):
        draw_segmentation(GREY, HALVES[:10], METADATA)


def test_row_of_three() -> None:
    two = side_by_side(GREY, HALVES, METADATA, min_width=90, names=False)
    three = side_by_side(GREY, HALVES, METADATA, 1 - HALVES, min_width=90, names=False)
    assert two.shape == (60 + 24, 2 * 90 + 6, 3)
    assert three.shape == (60 + 24, 3 * 90 + 12, 3)
    middle = 24 + 30
    assert three[middle, 20].tolist() == [100, 100, 100]
    # The prediction has class 0 on its left, the ground truth class 1.
    assert three[middle, 96 + 20].argmax() == 0
    assert three[middle, 2 * 96 + 20].argmax() == 2
    assert (three[:24] < 100).any()  # the captions


@settings(max_examples=25)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=7),
    columns=st.integers(1, 4),
)
def test_every_picture_is_on_the_sheet(sizes: list[tuple[int, int]], columns: int) -> None:
    pictures = [np.full((*size, 3), index, np.uint8) for index, size in enumerate(sizes)]
    sheet = contact_sheet(pictures, columns)
    height, width = np.max(sizes, axis=0) + 6
    rows = -(-len(sizes) // columns)
    assert sheet.shape == (rows * height - 6, columns * width - 6, 3)
    for index, (h, w) in enumerate(sizes):
        top, left = index // columns * height, index % columns * width
        assert (sheet[top : top + h, left : left + w] == index).all()
    assert (sheet == 255).sum() == sheet.size - 3 * sum(h * w for h, w in sizes)


def test_sheet_of_nothing() -> None:
    with pytest.raises(ValueError, match="must be 1 or more, got 0 and 2"):
        contact_sheet([], 2)


def test_png_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", GREY)
    assert (np.asarray(Image.open(tmp_path / "a.png")) == GREY).all()
    with pytest.raises((TypeError, ValueError)):
        save_png(tmp_path / "a.png", GREY.astype(np.float64))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (np.asarray(Image.open(tmp_path / "a.png")) == GREY).all()
