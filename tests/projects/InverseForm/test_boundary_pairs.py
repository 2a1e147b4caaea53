"""Pairs of tiles: that they differ by the transforms that are said, and from where they are."""

import numpy as np
import pytest
import torch
from boundary_pairs import MIN_SHARE, BoundaryTiles, soften, transform_tiles
from tile_transforms import random_transforms, rotation

from ifa_d2.data import register_sem_seg_folder
from tests.tiny import write_tiny_data

OPTIONS = {"transform": "affine", "tile_size": 16, "boundary_width": 2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = write_tiny_data(tmp_path_factory.mktemp("tiny"))
    register_sem_seg_folder("tiles", str(root / "images"), str(root / "labels"), ("a", "b", "c"))
    register_sem_seg_folder("unlabelled", str(root / "images"), None, ("a", "b", "c"))
    return "tiles"


def test_identity_cuts_a_tile_out() -> None:
    picture = torch.rand(37, 50)
    corners = [(0, 0), (21, 34), (5, 9)]
    tiles = transform_tiles(picture, corners, 16, torch.eye(3).expand(3, 3, 3))
    for tile, (y, x) in zip(tiles, corners, strict=True):
        torch.testing.assert_close(tile, picture[y : y + 16, x : x + 16], rtol=0, atol=2e-5)


def test_a_shift_moves_what_is_shown() -> None:
    """Of b(p) = a(p + t), with t in halves of a tile; what lies outside is 0."""
    picture = torch.rand(40, 40)
    theta = torch.eye(3).repeat(2, 1, 1)
    theta[0, 0, 2], theta[1, 1, 2] = 3 * 2 / 16, -2 * 2 / 16
    down, left = transform_tiles(picture, [(10, 20), (10, 0)], 16, theta)
    torch.testing.assert_close(down, picture[13:29, 20:36], rtol=0, atol=2e-5)
    torch.testing.assert_close(left[:, 2:], picture[10:26, :14], rtol=0, atol=2e-5)
    assert left[:, :2].max() < 1e-5


def test_a_quarter_turn_and_a_perspective() -> None:
    picture = torch.rand(16, 16)
    quarter = rotation(torch.tensor([torch.pi / 2]))
    (turned,) = transform_tiles(picture, [(0, 0)], 16, quarter)
    # b(y, x) = a(x, -y)
    torch.testing.assert_close(turned, picture.t().flip(0), rtol=0, atol=1e-4)
    ramp = (2 * torch.arange(16.0) + 1) / 16 - 1
    theta = torch.eye(3)[None].clone()
    theta[0, 2, 0] = 0.3
    (seen,) = transform_tiles(ramp[:, None].expand(16, 16), [(0, 0)], 16, theta)
    expected = ramp / (1 + 0.3 * ramp)
    inside = expected.abs() < 0.9
    torch.testing.assert_close(seen[inside, 8], expected[inside], rtol=0, atol=1e-5)


def test_softening_is_a_mean_that_ends_at_one() -> None:
    picture = torch.rand(20, 30)
    soft = soften(picture, 5, 0.8)
    assert soft[7, 9] == pytest.approx(0.8 * picture[5:10, 7:12].mean().item(), abs=1e-6)
    assert soft[0, 0] == pytest.approx(0.8 * picture[:3, :3].mean().item(), abs=1e-6)
    torch.testing.assert_close(soften(picture, 1, 1.0), picture)
    assert soften(torch.ones(4, 4), 3, 1.5).max() == 1


def test_pairs_are_of_their_transforms_and_repeatable(tiny: str) -> None:
    draws = [BoundaryTiles(tiny, seed=4, **OPTIONS).draw(3, 5, soft=False) for _ in range(2)]
    for one, other in zip(*draws, strict=True):
        assert torch.equal(one, other)
    first, moved, theta = draws[0]
    assert (first.shape, moved.shape, theta.shape) == ((15, 16, 16), (15, 16, 16), (15, 3, 3))
    assert set(first.unique().tolist()) == {0, 1}
    assert (first.mean(dim=(1, 2)) >= MIN_SHARE).all()
    # The middle of a tile is seen where the transform puts it.
    again = transform_tiles(first[0], [(0, 0)], 16, theta[:1])[0]
    assert (again - moved[0])[5:11, 5:11].abs().max() < 1e-4
    soft = BoundaryTiles(tiny, seed=4, **OPTIONS).draw(3, 5)[1]
    assert 0 <= soft.min() and soft.max() <= 1 and not torch.equal(soft, moved)


def test_no_direction_is_another_than_the_others(tiny: str) -> None:
    """Long boundaries of the pictures go down; tiles have as many that go across."""
    first = BoundaryTiles(tiny, seed=0, **OPTIONS).draw(300, 2)[0]
    down, across = (first.amin(dim=dim).sum().item() for dim in (1, 2))
    assert 0.7 < down / across < 1.4


def test_what_cannot_be_drawn(tiny: str) -> None:
    for name, words in (("unlabelled", "'unlabelled' has none"), ("none", "none")):
        with pytest.raises(ValueError, match=words):
            BoundaryTiles(name, seed=0, **OPTIONS)
    with pytest.raises(ValueError, match=r"tile_size must be at most 40, .*40 x 48.*, got 41"):
        BoundaryTiles(tiny, seed=0, **OPTIONS | {"tile_size": 41})
    plain = BoundaryTiles(tiny, seed=0, **OPTIONS)
    plain._maps = [torch.zeros(40, 48, dtype=torch.bool)]
    with pytest.raises(ValueError, match="boundaries on 5% of their pixels"):
        plain.draw(1, 1)


def test_corners_are_inside(tiny: str) -> None:
    tiles = BoundaryTiles(tiny, seed=0, **OPTIONS)
    corners = tiles._corners(torch.ones(20, 17, dtype=torch.bool), 40)
    assert corners.min() == 0 and np.array_equal(corners.max(axis=0), [4, 1])
    theta = random_transforms(40, "affine", torch.Generator().manual_seed(0))
    assert transform_tiles(torch.ones(20, 17), corners, 16, theta).shape == (40, 16, 16)
