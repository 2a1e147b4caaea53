"""Drawings of fields, and windows of pictures, against what they are made of."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from detectron2.data import Metadata

from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import Merging, PanopticField, SegmentationField
from ifa_d2.visualization import (
    add_color_bar,
    add_legend,
    draw_entropy,
    draw_field,
    draw_panoptic,
    draw_segmentation,
    entropy_colors,
    is_drawable,
    resize_window,
)
from tests.modeling.panoptic import detections

SIZE = (30, 44)
METADATA = Metadata(
    name="drawn",
    stuff_classes=["things", "sky", "road"],
    stuff_colors=[[200, 0, 0], [0, 200, 0], [0, 0, 200]],
    thing_classes=["car"],
    thing_colors=[[250, 250, 0]],
)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
VIEWS = [
    {},
    {"size": (61, 45)},
    {"window": (3, 5, 20, 30)},
    {"size": (40, 50), "window": (3, 5.25, 20.5, 30)},
]


def field_parts() -> dict:
    alignment = ImplicitAlignment(in_channels=(4,), num_classes=3, hidden_dims=(8,)).eval()
    torch.nn.init.normal_(alignment.predictor.weight)
    share = (Fraction(30, 32), Fraction(44, 64))
    levels = [3 * torch.randn(1, 4, 8, 16)]
    return {
        "alignment": alignment,
        "levels": levels,
        "image_size": SIZE,
        "picture_share": share,
    }


def panoptic_field() -> PanopticField:
    found = detections(SIZE, (4, 4, 20, 20, 0.9, 0), (10, 8, 40, 28, 0.8, 0))
    return PanopticField(detections=found, merging=Merging(stuff_area=5), **field_parts())


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("options", [{}, {"alpha": 0.2, "names": False, "outlines": True}])
def test_a_drawing_is_that_of_the_labels(view: dict, options: dict) -> None:
    field = SegmentationField(**field_parts())
    labels = field.labels(**view).numpy()
    assert len(np.unique(labels)) == 3
    shown = resize_window(IMAGE, view.get("window", (0, 0, *SIZE)), labels.shape)
    expected = draw_segmentation(shown, labels, METADATA, **options)
    drawn = draw_field(field, IMAGE, METADATA, **view, **options)
    assert drawn.dtype == np.uint8 and np.array_equal(drawn, expected)
    with_legend = draw_field(field, IMAGE, METADATA, legend=True, **view, **options)
    assert np.array_equal(with_legend, add_legend(expected, [labels], METADATA))


@pytest.mark.parametrize("view", VIEWS)
def test_a_panoptic_field_is_drawn_by_its_segments(view: dict) -> None:
    field = panoptic_field()
    ids, segments = field.panoptic(**view)
    assert {one["isthing"] for one in segments} == {True, False}
    shown = resize_window(IMAGE, view.get("window", (0, 0, *SIZE)), ids.shape)
    np.random.seed(1)  # noqa: NPY002 (Detectron2 draws the shades of instances from it)
    expected = draw_panoptic(shown, ids.numpy(), segments, METADATA, alpha=0.4)
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(draw_field(field, IMAGE, METADATA, alpha=0.4, **view), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": IMAGE[:9]}, r"image must have the shape .* \(30, 44, 3\), got \(9, 44, 3\)"),
        (
            {"image": IMAGE.astype(float)},
            r"image must be an \(H, W, 3\) uint8 .* dtype\('float64'\)",
        ),
        ({"image": (4, 4)}, r"image must be an \(H, W, 3\) uint8 RGB array, got \(4, 4\)"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"size": (1, 2**16)}, r"size \(1, 65536\) is more than the 67108864 samples, 65535 a"),
        ({"size": (0, 4)}, "size must be"),
        ({"window": (0, 0, 31, 9)}, "window"),
    ],
)
def test_what_cannot_be_drawn(options: dict, message: str) -> None:
    arguments = {"image": IMAGE, "metadata": METADATA, **options}
    with pytest.raises(ValueError, match=message):
        draw_field(SegmentationField(**field_parts()), **arguments)


@pytest.mark.parametrize("options", [{"legend": True}, {"names": False}])
def test_options_that_a_panoptic_drawing_has_not(options: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="are of semantic drawings"):
        draw_field(panoptic_field(), IMAGE, METADATA, **options)


def test_the_size_of_a_large_picture_is_its_owner_s_choice() -> None:
    assert is_drawable((2**17, 2**10), (2**17, 2**10))
    assert not is_drawable((2**17, 2**10), (2**17 - 1, 2**10))
    assert is_drawable((2**13, 2**13), (1, 1)) and not is_drawable((2**13 + 1, 2**13), (1, 1))


def test_a_window_at_its_own_size_is_cut_out() -> None:
    assert np.array_equal(resize_window(IMAGE, (0, 0, *SIZE), SIZE), IMAGE)
    assert np.array_equal(resize_window(IMAGE, (3, 5, 20, 30), (17, 25)), IMAGE[3:20, 5:30])


def test_windows_agree_with_the_whole() -> None:
    whole = resize_window(IMAGE, (0, 0, *SIZE), (3 * SIZE[0], 3 * SIZE[1]))
    part = resize_window(IMAGE, (3, 5, 20, 30), (51, 75))
    assert np.array_equal(part, whole[9:60, 15:90])


def test_windows_between_pixels() -> None:
    """A ramp of 4 a pixel, asked a quarter of a pixel further."""
    ramp = np.broadcast_to(4 * np.arange(44, dtype=np.uint8)[None, :, None], (*SIZE, 3))
    moved = resize_window(np.ascontiguousarray(ramp), (4, 5.25, 20, 30.25), (16, 25))
    assert np.abs(moved.astype(int) - (ramp[4:20, 5:30].astype(int) + 1)).max() == 0


def test_all_pixels_count_where_a_window_shrinks() -> None:
    checks = np.indices((40, 40)).sum(axis=0) % 2 * np.uint8(200)
    image = np.repeat(checks[..., None].astype(np.uint8), 3, axis=2)
    assert np.abs(resize_window(image, (0, 0, 40, 40), (5, 5)).astype(int) - 100).max() <= 2


def test_entropy_has_a_colour_for_each_of_256_parts() -> None:
    colors = entropy_colors()
    assert colors.shape == (256, 3) and colors.dtype == np.uint8
    lightness = colors.astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > -0.5).all() and lightness[0] < 5 and lightness[-1] > 220
    drawn = draw_entropy(np.array([[0.0, 0.5], [0.25, 1.0]], np.float32), scale=2)
    assert drawn.shape == (4, 4, 3)
    assert np.array_equal(drawn[::2, ::2].reshape(4, 3), colors[[0, 128, 64, 255]])


@pytest.mark.parametrize("width", [100, 140, 600, 3000])
def test_a_colour_bar_fits_under_its_picture(width: int) -> None:
    picture = np.full((40, width, 3), 7, np.uint8)
    drawn = add_color_bar(picture, entropy_colors(), ("0, certain", "1, all alike"))
    assert drawn.shape[1] == width and np.array_equal(drawn[:40], picture)
    below = drawn[40:].astype(int)
    # From dark to light, white around it, and letters on both sides.
    row = below[len(below) // 2 + 1]
    (bar,) = np.nonzero(np.ptp(row, axis=1) > 60)
    assert len(bar) >= 3 and 0 < bar[0] and bar[-1] < width - 1
    assert row[bar[0]].sum() < row[bar[-1]].sum()
    assert (below[:, -1] == 255).all()
