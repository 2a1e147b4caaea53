"""Where a field is asked in training."""

import pytest
import torch
from torch import nn

from ifa_d2.data import PointSampler
from ifa_d2.data.points import labels_at
from ifa_d2.layers import GridQuery, PointQuery
from ifa_d2.modeling.targets import (
    JitteredGridTargets,
    LabelledPoints,
    UncertainPointTargets,
    grid_labels,
    interpolate,
    jittered_grid,
    uncertainty,
)

# -- grids


@pytest.mark.parametrize("spacing", [1.0, 0.5, 0.3])
def test_jittered_grid_of_a_spacing(spacing):
    starts = []
    for _ in range(200):
        grid = jittered_grid((5, 8), spacing)
        assert grid.size == (5, 8)
        for axis, n in ((grid.rows, 5), (grid.cols, 8)):
            values = axis.coordinates
            assert values.min() >= 0 and values.max() <= 1
            inner = values[1:-1].diff()  # the ends may have been moved to the border
            assert torch.allclose(inner, torch.full_like(inner, spacing / n))
        starts.append(float(grid.rows.coordinates[2]) - spacing / 2)
    # The middle of the window lies anywhere where the window fits, plus half a spacing.
    assert min(starts) >= -spacing / 10 - 1e-9
    assert max(starts) <= 1 - spacing + spacing / 10 + 1e-9
    assert max(starts) - min(starts) > 0.9 * (1 - spacing + spacing / 5)


def test_every_spacing_is_drawn():
    targets = JitteredGridTargets((1.0, 0.5, 0.25))
    labels = torch.zeros(1, 64, 64, dtype=torch.int64)
    spacings = set()
    for _ in range(40):
        sample = targets((16, 16), labels, decode=None, ignore_value=255)
        assert sample.labels.shape == (1, 16, 16)
        rows = sample.query.rows.coordinates
        spacings.add(round(float(rows[8] - rows[7]) * 16, 6))
    assert spacings == {1.0, 0.5, 0.25}


def test_grid_labels_of_a_fine_grid_are_the_label_map():
    labels = torch.randint(0, 9, (2, 7, 11))
    assert torch.equal(grid_labels(labels, GridQuery.regular(7, 11)), labels)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_interpolation_at_a_grid_is_resizing(dtype):
    maps = torch.randn(2, 3, 5, 4).to(dtype)
    expected = nn.functional.interpolate(maps.double(), (13, 9), mode="bilinear")
    query = GridQuery.regular(13, 9)
    assert torch.allclose(interpolate(maps, query).double(), expected, atol=1e-5)
    axes = torch.meshgrid(query.rows.coordinates, query.cols.coordinates, indexing="ij")
    points = torch.stack(axes, -1).flatten(0, 1).expand(2, -1, -1)
    at_points = interpolate(maps, PointQuery(points)).double()
    assert torch.allclose(at_points, expected.flatten(2), atol=1e-5)


# -- uncertainty


def test_uncertainty_is_the_margin():
    logits = torch.tensor([[[3.0, 0.0], [1.0, 2.0], [2.5, 2.0]]])  # (1, 3, 2)
    assert uncertainty(logits).tolist() == [[-0.5, 0.0]]
    assert uncertainty(torch.randn(2, 1, 4)).tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize("given", [False, True])
def test_least_certain_points_are_kept(given):
    """Certainty is the distance to the middle row, so the points kept lie about it."""

    def decode(query):
        certain = (query.coordinates[..., 0] - 0.5).abs()
        return torch.stack([certain, torch.zeros_like(certain)], dim=1)

    count, oversample, ratio = 80, 4.0, 0.75
    choose = UncertainPointTargets(
        PointSampler(count), importance_ratio=ratio, oversample_ratio=oversample
    )
    targets = torch.zeros(2, 32, 32, dtype=torch.int64)
    targets[:, :, 16:] = 255
    if given:
        points = torch.rand(2, 340, 2)  # 80 * (4 + 1 - 0.75)
        targets = LabelledPoints(points, labels_at(targets, points), 340)
    sample = choose((8, 8), targets, decode=decode, ignore_value=255)
    assert sample.query.size == (count,)
    chosen = sample.query.coordinates[:, 20:]
    # 60 of 320 candidates (of the labelled half of them, where they were given).
    expected = 60 / 320 * (2 if given else 1) / 2
    assert (chosen[..., 0] - 0.5).abs().max() == pytest.approx(expected, abs=0.08)
    assert (sample.labels[:, 20:] == 0).all()
    assert (sample.query.coordinates[:, :20, 0] - 0.5).abs().max() > 0.4


def test_batches_of_unequal_points_are_refused():
    inputs = [{"sem_seg_points": torch.rand(n, 2)} for n in (3, 4)]
    for bad in (inputs, [inputs[0], {}]):
        with pytest.raises(ValueError, match="sem_seg_points must be as many of each image"):
            LabelledPoints.from_batch(bad, [(4, 4)] * 2, (4, 4), torch.device("cpu"))


def test_candidates_are_uniform():
    with pytest.raises(ValueError, match=r"sampling of the sampler must be 'uniform'.*'boundary'"):
        UncertainPointTargets(PointSampler(8, "boundary"))
