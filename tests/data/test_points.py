"""Where points lie, and what their labels are."""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.data import PointSampler, SemSegMapper, build_sem_seg_augmentations
from ifa_d2.data.points import POINT_SAMPLINGS, labels_at, near_boundary, trace_back

IGNORE = 255


@st.composite
def label_maps(draw, min_images=1):
    """(B, H, W) of up to 4 classes in blocks, with ignored pixels or all of them ignored."""
    size = draw(st.tuples(st.integers(min_images, 3), st.integers(1, 23), st.integers(1, 23)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    block = draw(st.integers(1, 9))
    labels = rng.integers(0, 4, size).repeat(block, 1).repeat(block, 2)[:, : size[1], : size[2]]
    labels[rng.random(size) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = IGNORE
    return torch.from_numpy(labels)


def pixels_of(points: torch.Tensor, size) -> torch.Tensor:
    """(..., 2) pixel numbers, in exact arithmetic of the float32 coordinates."""
    return (points.double() * torch.tensor(size, dtype=torch.float64)).floor().long()


@given(label_maps(), st.sampled_from(POINT_SAMPLINGS), st.integers(1, 40))
def test_points_lie_in_labelled_pixels(labels, sampling, num_points):
    sampler = PointSampler(num_points, sampling, importance_ratio=0.5, boundary_width=2)
    points = sampler(labels)
    assert points.shape == (len(labels), num_points, 2)
    assert points.dtype == torch.float32
    assert points.min() > 0 and points.max() < 1
    found = labels_at(labels, points)
    for image in range(len(labels)):
        y, x = pixels_of(points, labels.shape[1:])[image].unbind(1)
        assert torch.equal(found[image], labels[image, y, x])
        if (labels[image] != IGNORE).any():
            assert (found[image] != IGNORE).all()


@given(label_maps(), st.integers(1, 4))
def test_near_boundary_is_its_definition(labels, width):
    expected = torch.zeros_like(labels, dtype=torch.bool)
    for b, y, x in (labels != IGNORE).nonzero().tolist():
        window = labels[b, max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
        expected[b, y, x] = ((window != labels[b, y, x]) & (window != IGNORE)).any()
    assert torch.equal(near_boundary(labels, width, IGNORE), expected)


@given(label_maps(), st.integers(1, 3))
def test_boundary_points_lie_near_boundaries(labels, width):
    sampler = PointSampler(32, "boundary", importance_ratio=0.75, boundary_width=width)
    assert sampler.num_uniform == 8
    band = near_boundary(labels, width, IGNORE)
    inside = labels_at(band.long(), sampler(labels))[:, sampler.num_uniform :]
    there = band.flatten(1).any(1)
    assert (inside[there] == 1).all()


def test_uniform_points_are_uniform_over_pixels_and_within_them():
    labels = torch.zeros(1, 4, 6, dtype=torch.int64)
    labels[0, :, 4:] = IGNORE
    points = PointSampler(40_000)(labels)[0]
    counts = torch.bincount(pixels_of(points, (4, 6)) @ torch.tensor([6, 1]), minlength=24)
    counts = counts.view(4, 6)
    assert (counts[:, 4:] == 0).all()
    # 2500 expected a pixel, standard deviation 48.
    assert (counts[:, :4] - 2500).abs().max() < 250
    inner = points.double() * torch.tensor([4.0, 6.0]).double() % 1
    for part in inner.unbind(1):
        share = torch.histc(part, 10, 0, 1) / len(part)
        assert (share - 0.1).abs().max() < 0.01


def test_classes_are_balanced_whatever_their_area():
    labels = torch.zeros(2, 40, 50, dtype=torch.int64)
    labels[0, 3, 4], labels[0, :, 20:] = 7, 2
    labels[1, :5] = 1
    labels[1, 5:9] = IGNORE
    sampler = PointSampler(12_000, "class_balanced", importance_ratio=0.75)
    found = labels_at(labels, sampler(labels))
    balanced, uniform = found[:, sampler.num_uniform :], found[:, : sampler.num_uniform]
    assert balanced.shape[1] == 9000
    for image, classes in ((0, (0, 2, 7)), (1, (0, 1))):
        shares = torch.bincount(balanced[image], minlength=8) / 9000
        assert all(abs(shares[c] - 1 / len(classes)) < 0.02 for c in classes)
        assert shares.sum() == pytest.approx(1)
    assert (uniform[0] == 7).float().mean() < 0.01
    assert (uniform[0] == 2).float().mean() == pytest.approx(0.6, abs=0.03)


def test_balanced_boundary_points_lie_near_boundaries_and_on_each_class_alike():
    labels = torch.zeros(1, 20, 60, dtype=torch.int64)
    labels[0, 3, 4], labels[0, :, 20:], labels[0, 10:, 40:] = 7, 2, IGNORE
    sampler = PointSampler(12_000, "balanced_boundary", boundary_width=2)
    points = sampler(labels)[:, sampler.num_uniform :]
    y, x = pixels_of(points[0], labels.shape[1:]).unbind(1)
    assert near_boundary(labels, 2, IGNORE)[0, y, x].all()
    shares = torch.bincount(labels[0, y, x], minlength=8) / len(y)
    assert all(abs(shares[c] - 1 / 3) < 0.02 for c in (0, 2, 7))


@pytest.mark.parametrize("sampling", POINT_SAMPLINGS)
def test_points_of_a_seed_repeat(sampling):
    labels = torch.randint(0, 3, (2, 9, 11))
    torch.manual_seed(3)
    first = PointSampler(50, sampling)(labels)
    assert not torch.equal(first, PointSampler(50, sampling)(labels))
    torch.manual_seed(3)
    assert torch.equal(first, PointSampler(50, sampling)(labels))


@given(label_maps(), st.sampled_from([0, 1]))
def test_labels_commute_with_flips(labels, axis):
    points = PointSampler(30)(labels).double()
    mirrored = points.clone()
    mirrored[..., axis] = 1 - mirrored[..., axis]
    assert torch.equal(labels_at(labels.flip(1 + axis), mirrored), labels_at(labels, points))


def test_borders_belong_to_the_last_pixel():
    labels = torch.arange(6).view(1, 2, 3)
    points = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.5, 1 / 3 + 1e-6], [-1.0, 2.0]]])
    assert labels_at(labels, points).tolist() == [[0, 5, 4, 2]]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_points": 0}, "num_points must be at least 1, got 0"),
        ({"num_points": 4, "sampling": "edges"}, "point_sampling must be one of.*'edges'"),
        ({"num_points": 4, "importance_ratio": 1.0}, r"importance_ratio must be in \[0, 1\)"),
        ({"num_points": 4, "boundary_width": 0}, "boundary_width must be at least 1, got 0"),
        (
            {"num_points": 1, "sampling": "boundary", "importance_ratio": 0.9},
            "must leave at least one uniform point",
        ),
    ],
)
def test_bad_options(kwargs, words):
    with pytest.raises(ValueError, match=words):
        PointSampler(**kwargs)


# -- through the mapper: labels of the annotation, not of the resized map


def record(write, label) -> dict:
    image, path = write(label=label, image=np.zeros((*label.shape, 3), np.uint8))
    return {"file_name": str(image), "sem_seg_file_name": str(path), "num_classes": 4}


def stripes(height=32, width=48) -> np.ndarray:
    """Columns of classes 0, 1, 2 and, one pixel wide each, 3."""
    label = np.zeros((height, width), np.uint8)
    label[:, 1::4], label[:, 2::4], label[:, 3::4] = 1, 2, 3
    return label


def test_without_augmentation_points_read_the_label(write):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, (13, 17)).astype(np.uint8)
    label[:3] = IGNORE
    sample = SemSegMapper(is_train=True, num_points=300, point_sampling="class_balanced")(
        record(write, label)
    )
    points = sample["sem_seg_points"]
    assert (points.shape, points.dtype) == ((300, 2), torch.float32)
    assert sample["sem_seg_point_labels"].dtype == torch.int64
    y, x = pixels_of(points, (13, 17)).unbind(1)
    assert torch.equal(sample["sem_seg_point_labels"], torch.from_numpy(label).long()[y, x])
    assert sample["sem_seg_num_uniform_points"] == 75


def test_points_see_what_a_reduced_label_map_has_lost(write):
    label = stripes()
    augmentations = build_sem_seg_augmentations(
        short_edge=8, scale_range=None, flip="none", color_jitter=False
    )
    mapper = SemSegMapper(is_train=True, augmentations=augmentations, num_points=4000)
    sample = mapper(record(write, label))
    assert sample["sem_seg"].shape == (8, 12)
    assert len(sample["sem_seg"].unique()) == 1
    labels = sample["sem_seg_point_labels"]
    y, x = pixels_of(sample["sem_seg_points"], (32, 48)).unbind(1)
    assert torch.equal(labels, torch.from_numpy(label).long()[y, x])
    shares = torch.bincount(labels) / 4000
    assert (shares - 0.25).abs().max() < 0.05


def test_points_follow_scale_crop_padding_and_flips(write):
    """Enlarged by a whole number the map loses nothing, so that it says what each point is."""
    label = np.random.default_rng(1).integers(0, 4, (9, 14)).astype(np.uint8)
    augmentations = [
        T.ResizeShortestEdge([27], 1000, "choice"),
        T.RandomCrop("absolute", (21, 30)),
        T.FixedSizeCrop((25, 36), pad_value=116, seg_pad_value=IGNORE),
        T.RandomFlip(horizontal=True),
        T.RandomFlip(horizontal=False, vertical=True),
    ]
    mapper = SemSegMapper(is_train=True, augmentations=augmentations, num_points=200)
    one = record(write, label)
    corners = set()
    for _ in range(12):
        sample = mapper(one)
        points, labels = sample["sem_seg_points"], sample["sem_seg_point_labels"]
        assert sample["sem_seg"].shape == (25, 36)
        assert torch.equal(labels, labels_at(sample["sem_seg"][None], points[None])[0])
        assert (labels != IGNORE).all()
        corners.add(tuple((sample["sem_seg"][[0, 0, -1], [0, -1, 0]] == IGNORE).tolist()))
    assert len(corners) == 4  # both flips came in both ways


def test_a_flip_of_the_image_flips_the_points_alone(write):
    one = record(write, stripes())
    plain, flipped = (
        SemSegMapper(is_train=True, augmentations=tfm, num_points=100)
        for tfm in ((), (T.HFlipTransform(48),))
    )
    sample = flipped(one)
    points = sample["sem_seg_points"].double()
    points[:, 1] = 1 - points[:, 1]
    original = plain(one)["sem_seg"][None]
    assert torch.equal(labels_at(original, points[None])[0], sample["sem_seg_point_labels"])


def test_an_image_without_any_label_gives_ignored_points(write):
    sample = SemSegMapper(is_train=True, num_points=20, point_sampling="boundary")(
        record(write, np.full((5, 6), IGNORE, np.uint8))
    )
    assert (sample["sem_seg_point_labels"] == IGNORE).all()
    assert 0 < sample["sem_seg_points"].min() and sample["sem_seg_points"].max() < 1


def test_trace_back_undoes_a_rotation():
    transform = T.RotationTransform(20, 30, 25, expand=True)
    size = transform.apply_image(np.zeros((20, 30, 3), np.uint8)).shape[:2]
    source = torch.rand(50, 2, dtype=torch.float64)
    moved = transform.apply_coords((source.flip(-1) * torch.tensor([30.0, 20.0])).numpy())
    points = torch.from_numpy(moved / [size[1], size[0]]).flip(-1)
    assert torch.allclose(trace_back(points, transform, (20, 30), size), source, atol=1e-6)


class Bend(T.Transform):
    """Moves coordinates by no affine map."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords + coords.prod(axis=1, keepdims=True)


def test_bent_images_are_refused():
    with pytest.raises(ValueError, match=r"augmentations must be resizes.*Bend"):
        trace_back(torch.rand(3, 2), Bend(), (4, 5), (4, 5))


def test_mapper_options_are_checked():
    with pytest.raises(ValueError, match="num_points must be 0 or a number above, got -3"):
        SemSegMapper(is_train=True, num_points=-3)
    with pytest.raises(ValueError, match="point_sampling must be one of"):
        SemSegMapper(is_train=True, num_points=3, point_sampling="edges")
    assert SemSegMapper(is_train=True).points is None
