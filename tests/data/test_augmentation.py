"""Random scale, crop, flip and colour."""

import numpy as np
import pytest
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.data import transforms as T
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ifa_d2.data import build_sem_seg_augmentations


def _apply(image, label, **arguments):
    inputs = T.AugInput(image, sem_seg=label)
    T.AugmentationList(build_sem_seg_augmentations(**arguments))(inputs)
    return inputs.image, inputs.sem_seg


@given(
    size=st.tuples(st.integers(5, 60), st.integers(5, 60)),
    crop=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    seed=st.integers(0, 1000),
)
def test_image_and_label_stay_together_and_the_rest_is_ignored(size, crop, seed):
    np.random.seed(seed)  # noqa: NPY002 (Detectron2's augmentations draw from it)
    # The label says which of 2 colours a pixel has, in blocks, so that blending is recognisable.
    label = (np.indices(size).sum(0) // 4 % 2).astype(np.uint8)
    image = np.repeat((200 * label)[:, :, None], 3, axis=2)
    image, label = _apply(
        image,
        label,
        short_edge=min(size),
        scale_range=(1.0, 1.0),
        crop_size=crop,
        color_jitter=False,
        pad_value=99,
        ignore_value=77,
    )
    assert image.shape == (*crop, 3)
    assert label.shape == crop
    expected = np.choose(np.where(label == 77, 2, label), (0, 200, 99))
    np.testing.assert_array_equal(image[:, :, 0], expected)
    kept = min(crop[0], size[0]) * min(crop[1], size[1])
    assert (label != 77).sum() == kept


def test_scales_span_the_range():
    image = np.zeros((40, 60, 3), np.uint8)
    heights = [
        _apply(image, None, short_edge=40, scale_range=(0.5, 2.0), flip="none")[0].shape[0]
        for _ in range(300)
    ]
    assert min(heights) >= 20
    assert max(heights) <= 80
    assert min(heights) < 24 < 76 < max(heights)
    assert 45 < np.mean(heights) < 55  # uniform over 20..80


def test_without_range_one_of_the_lengths_is_taken():
    image = np.zeros((10, 20, 3), np.uint8)
    shapes = {
        _apply(image, None, short_edge=(5, 10, 30), scale_range=None)[0].shape for _ in range(60)
    }
    assert shapes == {(5, 10, 3), (10, 20, 3), (30, 60, 3)}
    bounded, _ = _apply(image, None, short_edge=(30,), scale_range=None, max_size=40)
    assert bounded.shape == (20, 40, 3)


def test_crops_reach_every_corner():
    """Both offsets vary, and not together."""
    label = np.arange(36, dtype=np.uint8).reshape(6, 6)
    image = np.zeros((6, 6, 3), np.uint8)
    corners = {
        int(
            _apply(image, label, short_edge=6, scale_range=None, crop_size=(4, 4), flip="none")[1][
                0, 0
            ]
        )
        for _ in range(200)
    }
    assert corners == {6 * y + x for y in range(3) for x in range(3)}


# Of fvcore's vertical flip.
@pytest.mark.parametrize(
    ("flip", "turned"), [("horizontal", [[2, 1], [4, 3]]), ("vertical", [[3, 4], [1, 2]])]
)
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_flips(flip, turned):
    label = np.array([[1, 2], [3, 4]], np.uint8)
    image = np.zeros((2, 2, 3), np.uint8)
    seen = [
        _apply(image, label, short_edge=2, scale_range=None, flip=flip)[1].tolist()
        for _ in range(100)
    ]
    assert 30 < seen.count(turned) < 70
    assert seen.count(turned) + seen.count(label.tolist()) == 100


def test_colour_jitter_changes_colours_but_not_the_padding():
    image = np.full((4, 4, 3), (40, 120, 200), np.uint8)
    tones = set()
    for _ in range(20):
        jittered, label = _apply(
            image,
            np.zeros((4, 4), np.uint8),
            short_edge=4,
            scale_range=None,
            crop_size=(4, 6),
            flip="none",
        )
        assert (jittered[:, 4:] == 116).all()
        assert (label[:, 4:] == 255).all()
        tones.add(tuple(jittered[0, 0].tolist()))
    assert len(tones) == 20


def test_a_crop_avoids_one_class_alone():
    label = np.zeros((20, 20), np.uint8)
    label[:, 18:] = 1
    image = np.zeros((20, 20, 3), np.uint8)
    arguments = {"short_edge": 20, "scale_range": None, "crop_size": (10, 10)}
    alone = [_apply(image, label, **arguments)[1].max() == 0 for _ in range(100)]
    mixed = [
        _apply(image, label, **arguments, single_category_max_area=0.95)[1].max() == 0
        for _ in range(100)
    ]
    assert sum(alone) > 60
    assert sum(mixed) < 40


def test_the_same_random_state_gives_the_same_picture():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    pictures = []
    for seed in (3, 3, 4):
        np.random.seed(seed)  # noqa: NPY002 (Detectron2's augmentations draw from it)
        pictures.append(_apply(image, None, short_edge=30, crop_size=(20, 20))[0])
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def test_a_recipe_builds_and_saves_it(tmp_path):
    recipe = L(build_sem_seg_augmentations)(short_edge=32, scale_range=(0.5, 1), crop_size=(16, 24))
    path = str(tmp_path / "recipe.yaml")
    LazyConfig.save(OmegaConf.create({"augmentations": recipe}), path)
    recipe = LazyConfig.load(path).augmentations
    augmentations = instantiate(recipe)
    inputs = T.AugInput(np.zeros((32, 48, 3), np.uint8), sem_seg=np.zeros((32, 48), np.uint8))
    T.AugmentationList(augmentations)(inputs)
    assert inputs.image.shape == (16, 24, 3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"short_edge": 0}, "short_edge"),
        ({"short_edge": ()}, "short_edge"),
        ({"short_edge": (32, 48)}, "short_edge"),
        ({"scale_range": (2.0, 0.5)}, "scale_range"),
        ({"scale_range": (0.0, 1.0)}, "scale_range"),
        ({"scale_range": (1.0,)}, "scale_range"),
        ({"crop_size": (0, 4)}, "crop_size"),
        ({"crop_size": (4,)}, "crop_size"),
        ({"flip": "sideways"}, "flip"),
    ],
)
def test_bad_arguments_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        build_sem_seg_augmentations(**({"short_edge": 32} | changes))


@given(
    size=st.tuples(st.integers(5, 60), st.integers(5, 60)),
    law=st.sampled_from(("uniform", "balanced")),
    seed=st.integers(0, 1000),
)
def test_scales_of_the_pictures_own_size(size, law, seed):
    np.random.seed(seed)  # noqa: NPY002
    image = np.zeros((*size, 3), np.uint8)
    out, _ = _apply(image, None, short_edge=None, scale_law=law, flip="none", color_jitter=False)
    scales = [after / before for after, before in zip(out.shape[:2], size, strict=True)]
    assert all(0.5 - 0.5 / min(size) <= scale <= 2 + 0.5 / min(size) for scale in scales)
    # both sides by one scale, but for whole pixels
    assert abs(scales[0] - scales[1]) <= 0.5 / size[0] + 0.5 / size[1]


def test_balanced_scales_shrink_as_often_as_they_enlarge():
    image = np.zeros((100, 150, 3), np.uint8)
    arguments = {"scale_range": (0.5, 2.0), "flip": "none", "color_jitter": False}
    means = {}
    for law in ("uniform", "balanced"):
        for short_edge in (None, 100):
            heights = np.array(
                [
                    _apply(image, None, short_edge=short_edge, scale_law=law, **arguments)[0].shape[
                        0
                    ]
                    for _ in range(400)
                ]
            )
            means[law, short_edge] = (heights < 100).mean()
            assert 50 <= heights.min() < 55
            assert 190 < heights.max() <= 200
    # standard deviation of a share of 400: 0.025
    assert abs(means["balanced", None] - 1 / 2) < 0.1
    assert abs(means["balanced", 100] - 1 / 2) < 0.1
    assert abs(means["uniform", None] - 1 / 3) < 0.1
    assert abs(means["uniform", 100] - 1 / 3) < 0.1


def test_longer_edge_of_a_scaled_picture_is_bounded():
    image = np.zeros((40, 60, 3), np.uint8)
    arguments = {"short_edge": None, "flip": "none", "color_jitter": False}
    out, _ = _apply(image, None, scale_range=(2.0, 2.0), max_size=90, **arguments)
    assert out.shape == (60, 90, 3)
    out, _ = _apply(image, None, scale_range=None, **arguments)
    assert out.shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale_law": "normal"}, "scale_law must be one of .*, got 'normal'"),
        ({"scale_law": "balanced", "scale_range": (1.5, 2.0)}, r"hold 1 .*, got \(1.5, 2.0\)"),
    ],
)
def test_bad_laws_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_sem_seg_augmentations(short_edge=None, **arguments)


def test_others_of_detectron2_go_between_scale_and_crop():
    options = {
        "short_edge": 20,
        "crop_size": [16, 16],
        "before_crop": [L(T.RandomRotation)(angle=[30, 30], expand=False)],
    }
    found = instantiate(L(build_sem_seg_augmentations)(**options))
    kinds = [type(one) for one in found]
    assert kinds[:3] == [T.ResizeShortestEdge, T.RandomRotation, T.RandomCrop]
    assert kinds[3:] == [type(one) for one in build_sem_seg_augmentations(
        short_edge=20, crop_size=(16, 16)
    )][2:]  # fmt: skip
