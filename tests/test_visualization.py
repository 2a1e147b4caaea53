from pathlib import Path

import numpy as np
import pytest
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from ifa_d2.visualization import (
    add_legend,
    caption,
    check_image_path,
    check_plot_path,
    contact_sheet,
    draw_segmentation,
    letter_size,
    line_styles,
    save_plot,
    save_png,
    side_by_side,
)
from ifa_d2.visualization.captions import line_height

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
    above = line_height(letter_size(60, 90))
    assert two.shape == (60 + above, 2 * 90 + 6, 3)
    assert three.shape == (60 + above, 3 * 90 + 12, 3)
    middle = above + 30
    assert three[middle, 20].tolist() == [100, 100, 100]
    # The prediction has class 0 on its left, the ground truth class 1.
    assert three[middle, 96 + 20].argmax() == 0
    assert three[middle, 2 * 96 + 20].argmax() == 2
    assert all((three[:above, 96 * i : 96 * i + 90] < 100).any() for i in range(3))  # captions


def test_a_name_lies_above_the_stripes_of_what_is_ignored() -> None:
    """A name in a thin region reaches out of it, and is drawn whole all the same."""
    label = np.full((120, 160), 255)
    label[:, 76:84] = 0
    metadata = Metadata(name="pole", stuff_classes=["pole"], stuff_colors=[[0, 0, 255]])
    image = np.full((120, 160, 3), 100, np.uint8)
    plain, striped = (
        [draw_segmentation(image, label, metadata, names=n, stripes=s).astype(int) for n in (0, 1)]
        for s in (False, True)
    )
    written = (plain[1] != plain[0]).any(axis=2)
    letters = plain[1].min(axis=2) > 180
    assert letters.sum() > 20 and (letters & (label == 255)).sum() > 10
    # The same letters on both, and stripes beside them.
    np.testing.assert_allclose(plain[1][letters], striped[1][letters], atol=10)
    beside = (label == 255) & ~written
    assert (striped[1][beside] == 0).all(axis=1).mean() == pytest.approx(0.5, abs=0.1)
    assert (striped[0][label == 0] == plain[0][label == 0]).all()


@pytest.mark.parametrize("scale", [1.0, 2.5, 6.0])
def test_outlines_lie_on_the_borders_alone(scale: float) -> None:
    plain = draw_segmentation(GREY, HALVES, METADATA, scale=scale, names=False)
    lined = draw_segmentation(GREY, HALVES, METADATA, scale=scale, names=False, outlines=True)
    changed = np.nonzero((plain != lined).any(axis=(0, 2)))[0]
    assert len(changed) == 1 and abs(changed[0] + 0.5 - 15 * scale) <= 1
    assert (lined[:, changed[0]] == 255).all()
    one = np.zeros((20, 30), int)
    drawn = [draw_segmentation(GREY, one, METADATA, names=False, outlines=o) for o in (0, 1)]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("side", [300, 1200, 3000])
def test_letters_and_lines_grow_with_the_picture(side: int) -> None:
    """Letters take the same share of a picture of any size."""
    assert letter_size(side, side) == pytest.approx(max(11, 0.032 * side))
    image = np.full((side, side, 3), 100, np.uint8)
    label = np.zeros((side, side), int)
    drawn = [draw_segmentation(image, label, METADATA, names=names) for names in (False, True)]
    rows = np.nonzero((drawn[0] != drawn[1]).any(axis=(1, 2)))[0]
    # The box around a line of letters, in the middle of its region.
    assert np.ptp(rows) / letter_size(side, side) == pytest.approx(1.15, abs=0.3)
    assert np.mean(rows) == pytest.approx(side / 2, abs=0.02 * side)
    label[:, side // 2 :] = 1
    lined = draw_segmentation(image, label, METADATA, names=False, outlines=True)
    width = (lined[0] == 255).all(axis=1).sum()
    assert width == max(1, round(0.002 * side))


def test_names_do_not_cover_each_other() -> None:
    """Of two that would, the larger region has its own."""
    label = np.where(np.arange(30) < 20, 0, 1)[None].repeat(20, axis=0)
    both = draw_segmentation(GREY, label, METADATA)
    plain = draw_segmentation(GREY, label, METADATA, names=False)
    left = draw_segmentation(plain, np.where(label == 0, 0, 255), METADATA, alpha=0)
    assert (left != plain).any()
    np.testing.assert_array_equal(both, left)


def test_a_legend_has_the_classes_that_are_there() -> None:
    colors = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]
    names = ["one", "a name of many letters, and of many synonyms", "three"]
    metadata = Metadata(name="legend", stuff_classes=names, stuff_colors=colors)
    picture = np.full((60, 200, 3), 100, np.uint8)
    drawn = add_legend(picture, [np.array([[2, 255]]), np.array([[0, -1]])], metadata)
    assert (drawn[:60] == picture).all() and drawn.shape[1] == 200
    below = drawn[60:].reshape(-1, 3).tolist()
    counts = [below.count(color) for color in colors]
    assert counts[1] == 0 and counts[0] > 50 and counts[2] == pytest.approx(counts[0], rel=0.2)
    assert add_legend(picture, [np.array([[255]])], metadata) is picture
    # As many lines as the names need.
    heights = [
        add_legend(np.zeros((60, width, 3), np.uint8), [np.arange(3)], metadata).shape[0]
        for width in (2000, 300, 60)
    ]
    lines = [round((height - 60) / line_height(letter_size(60, 300))) for height in heights[1:]]
    assert heights[0] < heights[1] <= heights[2] and lines[1] == 3


def test_a_row_may_have_a_legend_and_outlines() -> None:
    plain = side_by_side(GREY, HALVES, METADATA, min_width=300, names=False)
    more = side_by_side(GREY, HALVES, METADATA, min_width=300, outlines=True, legend=True)
    assert more.shape[1] == plain.shape[1] and more.shape[0] > plain.shape[0]
    assert (more[plain.shape[0] :] == [255, 0, 0]).all(axis=2).any()


def test_captions_in_any_letters_fit_their_panel() -> None:
    panel = np.zeros((40, 200, 3), np.uint8)
    for text in ("prediction", "Ω and ä", "a caption of many words " * 3, r"$\frac$"):
        strip = caption(panel, text)[:-40]
        assert strip.shape == (line_height(letter_size(40, 200)), 200, 3)
        inked = np.nonzero((strip < 200).any(axis=(0, 2)))[0]
        assert 3 <= inked.min() < inked.max() <= 197


@settings(max_examples=25)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=7),
    columns=st.integers(1, 4),
)
def test_every_picture_is_on_the_sheet(sizes: list[tuple[int, int]], columns: int) -> None:
    pictures = [np.full((*size, 3), index, np.uint8) for index, size in enumerate(sizes)]
    sheet = contact_sheet(pictures, columns)
    width = max(w for _, w in sizes) + 6
    rows = [sizes[start : start + columns] for start in range(0, len(sizes), columns)]
    tops = np.cumsum([0] + [max(h for h, _ in row) + 6 for row in rows])
    assert sheet.shape == (tops[-1] - 6, columns * width - 6, 3)
    for index, (h, w) in enumerate(sizes):
        top, left = tops[index // columns], index % columns * width
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


def test_a_plot_is_of_the_kind_that_its_suffix_says(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1], [0, 1])
    starts = {"a.png": b"\x89PNG", "a.pdf": b"%PDF", "a.SVG": b"<?xml"}
    for name, start in starts.items():
        save_plot(tmp_path / name, figure)
        assert (tmp_path / name).read_bytes().startswith(start)
    content = (tmp_path / "a.SVG").read_text()
    assert "<path" in content and "<image" not in content  # lines, not a picture of them
    for check, name in ((check_plot_path, "a.jpg"), (check_image_path, "a.pdf")):
        with pytest.raises(ValueError, match=rf"must end in .*\.png, .*, got '{name}'"):
            check(name)


def test_a_name_has_one_style_of_its_own() -> None:
    names = [str(index) for index in range(25)]
    styles = line_styles([*names, *reversed(names)])
    assert list(styles) == names
    assert len({tuple(style.items()) for style in styles.values()}) == 25
    assert len({style["color"] for style in list(styles.values())[:10]}) == 10
    with pytest.raises(ValueError, match="at most 40 different ones, got 41"):
        line_styles(map(str, range(41)))
