"""Scenes: exact labels at any resolution, repeatable pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.data.shapes import CLASSES, THINGS, Scene, make_scene
from ifa_d2.data.shapes.geometry import Ellipse, Rectangle
from ifa_d2.data.shapes.paint import Plain
from ifa_d2.data.shapes.palette import layer
from ifa_d2.data.shapes.scene import View

RED, GREEN = Plain((1.0, 0.0, 0.0), grain=0), Plain((0.0, 1.0, 0.0), grain=0)


@given(
    index=st.integers(0, 30),
    size=st.tuples(st.integers(1, 50), st.integers(1, 70)),
    factor=st.sampled_from((3, 5)),
)
def test_shared_pixel_centres_have_the_same_label_at_every_resolution(index, size, factor):
    scene = make_scene(1, index)
    coarse = scene.label(*size)
    fine = scene.label(size[0] * factor, size[1] * factor)
    middle = factor // 2
    np.testing.assert_array_equal(fine[middle::factor, middle::factor], coarse)
    assert coarse.shape == size
    assert coarse.dtype == np.uint8
    assert coarse.max() < len(CLASSES)


@given(index=st.integers(0, 20), tilt=st.floats(-0.3, 0.3), zoom=st.floats(0.5, 3))
def test_windows_cut_nothing_off(index, tilt, zoom):
    """The label equals every layer's region asked at every pixel."""
    layers = make_scene(2, index).layers
    scene = Scene(layers, View((0.5, 0.7), tilt, zoom))
    y, x = scene.view.world(((np.arange(20) + 0.5) / 20)[:, None], ((np.arange(30) + 0.5) / 30))
    expected = np.zeros((20, 30), np.uint8)
    for each in layers[1:]:
        expected[each.region.contains(y, x)] = each.label
    assert (scene.label(20, 30) != expected).mean() < 0.002  # centres on an edge, to rounding


def test_a_known_scene():
    scene = Scene(
        (
            layer("sky", Rectangle((0, 0, 1, 1.5)), RED),
            layer("car", Ellipse((0.5, 0.75), (0.25, 0.25)), GREEN),
            layer("road", Rectangle((0.5, 0.0, 1.0, 1.5)), RED),
        )
    )
    label = scene.label(4, 6)
    road, car = CLASSES.index("road"), CLASSES.index("car")
    assert label[:2].tolist() == [[0] * 6, [0, 0, car, car, 0, 0]]
    assert (label[2:] == road).all()
    assert (scene.label(400, 600) == car).mean() == pytest.approx(np.pi / 16 / 2 / 1.5, rel=0.01)
    image = scene.image(4, 6, supersample=16)
    assert image[0, 0].tolist() == [255, 0, 0]
    cover = image[:2, :, 1].sum() / 255 / 24  # antialiased: the green share is the area
    assert cover == pytest.approx(np.pi / 16 / 2 / 1.5, rel=0.02)
    assert (image[2:] == (255, 0, 0)).all()


def test_zoom_shows_the_middle():
    scene = make_scene(3, 0)
    level = Scene(scene.layers, View(zoom=1.0))
    close = Scene(scene.layers, View(zoom=2.0))
    np.testing.assert_array_equal(close.label(40, 60), level.label(80, 120)[20:60, 30:90])


def test_same_key_same_bits_other_key_another_scene():
    image, label = make_scene(7, 1).image(32, 48), make_scene(7, 1).label(32, 48)
    np.testing.assert_array_equal(make_scene(7, 1).image(32, 48), image)
    np.testing.assert_array_equal(make_scene(7, 1).label(32, 48), label)
    assert (make_scene(7, 2).label(32, 48) != label).mean() > 0.1
    assert (make_scene(8, 1).label(32, 48) != label).mean() > 0.1


def test_things_are_numbered():
    """All that is of their classes, and nothing else; parts of one thing lie together."""
    named = [CLASSES.index(name) for name in THINGS]
    counts = []
    for index in range(8):
        scene = make_scene(2022, 1, index)
        label, things = scene.label(128, 192), scene.things(128, 192)
        assert things.shape == (128, 192) and things.dtype == np.int32
        np.testing.assert_array_equal(things > 0, np.isin(label, named))
        np.testing.assert_array_equal(scene.things(384, 576)[1::3, 1::3], things)
        numbers = [layer.thing for layer in scene.layers if layer.thing]
        assert numbers == sorted(numbers) and set(numbers) == set(range(1, max(numbers) + 1))
        for number in set(numbers):
            classes = {one.label for one in scene.layers if one.thing == number}
            assert len(classes) == 1 or classes == {named[1], named[2]}  # a rider on a bicycle
            rows, columns = np.nonzero(things == number)
            assert not len(rows) or (np.ptp(rows) < 64 and np.ptp(columns) < 70)
        counts.append(max(numbers))
    assert 3 < np.mean(counts) < 12


def test_pictures_agree_across_resolutions():
    scene = make_scene(4, 2)
    coarse = scene.image(64, 96).astype(float)
    fine = scene.image(128, 192).reshape(64, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.abs(coarse - fine).mean() < 8


def test_colour_alone_does_not_tell_the_classes():
    """A colour histogram, even one of these very pictures, names few classes."""
    counts = np.zeros((8**3, len(CLASSES)))
    for index in range(12):
        scene = make_scene(5, index)
        bins = (scene.image(64, 96).astype(int) // 32) @ (64, 8, 1)
        np.add.at(counts, (bins.ravel(), scene.label(64, 96).ravel()), 1)
    hits = np.zeros(len(CLASSES))
    np.add.at(hits, counts.argmax(1), counts.max(1))
    recall = hits / counts.sum(0)
    small = [CLASSES.index(name) for name in ("pole", "fence", "sign", "car", "person", "bicycle")]
    assert recall.mean() < 0.5
    assert recall[small].max() < 0.4


def test_thin_things_are_thin():
    """Most wire, pole and fence pixels at nominal size have another class within two pixels."""
    for name in ("pole", "wire", "fence"):
        near = total = 0
        for index in range(8):
            mask = make_scene(6, index).label(128, 192) == CLASSES.index(name)
            inner = mask[2:-2, 2:-2]
            thick = (mask[:-4, 2:-2] & mask[4:, 2:-2]) & (mask[2:-2, :-4] & mask[2:-2, 4:])
            near, total = near + (inner & ~thick).sum(), total + inner.sum()
        assert near / total > 0.85, name


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_bad_sizes_are_named(size):
    with pytest.raises(ValueError, match=f"height and width must be at least 1, got {size[0]}"):
        make_scene(0).label(*size)


def test_bad_supersampling_is_named():
    with pytest.raises(ValueError, match="supersample must be at least 1, got 0"):
        make_scene(0).image(4, 4, supersample=0)


def test_the_smallest_picture():
    assert make_scene(0).image(1, 1).shape == (1, 1, 3)
