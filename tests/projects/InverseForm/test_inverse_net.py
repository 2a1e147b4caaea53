"""The network and its file; and what the project's own file can do."""

import itertools
from pathlib import Path

import pytest
import torch
from boundary_pairs import transform_tiles
from inverse_form import DEFAULT_NET, InverseFormLoss
from inverse_net import InverseNet, load_inverse_net, save_inverse_net
from tile_transforms import from_matrices, random_transforms, rotation
from torch import Tensor

from ifa_d2.data.points import near_boundary
from ifa_d2.data.shapes import make_scene

SMALL = {"tile_size": 12, "num_cells": 4, "hidden_dims": (9, 5)}


def small(**options) -> InverseNet:
    return InverseNet(**SMALL | options)


@pytest.mark.parametrize(("transform", "outputs"), [("affine", 6), ("homography", 8)])
def test_layers_and_matrices(transform: str, outputs: int) -> None:
    net = small(transform=transform)
    shapes = [tuple(layer.weight.shape) for layer in net.layers]
    assert shapes == [(9, 32), (5, 9), (outputs, 5)]
    target, prediction = torch.rand(2, 3, 12, 12)
    found = net(target, prediction)
    assert found.shape == (3, 3, 3) and (found[:, 2, 2] == 1).all()
    # By cells of 3 x 3 pixels, the target's first.
    x = torch.cat(
        [
            maps.unflatten(1, (4, 3)).unflatten(3, (4, 3)).mean(dim=(2, 4)).flatten(1)
            for maps in (target, prediction)
        ],
        dim=1,
    )
    one, two, last = net.layers
    expected = last(two(one(x).relu()).relu())
    torch.testing.assert_close(from_matrices(found, transform), expected)


def test_the_size_of_the_published_net() -> None:
    """But for 6 outputs in place of its 4."""
    with torch.device("meta"):
        net = InverseNet(tile_size=224, num_cells=224, hidden_dims=(1000, 32))
    assert sum(p.numel() for p in net.parameters()) == 100_385_164 + 2 * 33


def test_tiles_of_another_size_are_refused() -> None:
    for shapes in ([(3, 12, 11)] * 2, [(3, 12, 12), (2, 12, 12)], [(3, 24, 24)] * 2):
        with pytest.raises(ValueError, match="tiles of tile_size 12, got"):
            small()(*map(torch.zeros, shapes))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transform": "shear"}, "transform must be one of affine, homography, got 'shear'"),
        ({"distance": "far"}, "distance must be one of euclidean, geodesic, got 'far'"),
        ({"num_cells": 5}, "tile_size must be a multiple of num_cells, .* got 12 and 5"),
        ({"tile_size": 0}, "both above 0"),
        ({"hidden_dims": ()}, r"hidden_dims must be one or more sizes, got \[\]"),
        ({"hidden_dims": (4, 0)}, "hidden_dims"),
    ],
)
def test_bad_options(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small(**options)


def test_a_file_gives_the_net_back_frozen(tmp_path: Path) -> None:
    net = small(transform="homography", distance="geodesic")
    path = tmp_path / "made" / "net.pth"
    save_inverse_net(net, path, {"seed": 1})
    assert [one.name for one in path.parent.iterdir()] == ["net.pth"]
    loaded = load_inverse_net(path, tile_size=12)
    assert loaded.settings == net.settings and not loaded.training
    assert not list(loaded.parameters()) and not loaded.state_dict()
    target, prediction = torch.rand(2, 3, 12, 12)
    torch.testing.assert_close(
        loaded(target, prediction), net(target, prediction), rtol=2e-3, atol=2e-3
    )
    assert all(layer.weight.dtype == torch.float32 for layer in loaded.layers)
    assert loaded.double()(target.double(), prediction.double()).dtype == torch.float64


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pth does not exist.*pretrain_inverse_net"):
        load_inverse_net(tmp_path / "none.pth")
    path = tmp_path / "net.pth"
    save_inverse_net(small(), path, {})
    with pytest.raises(
        ValueError, match=r"tile_size must be 12, .*net\.pth, got 64: .*--tile-size 64"
    ):
        load_inverse_net(path, tile_size=64)
    content = torch.load(path, weights_only=True)
    content["settings"]["num_cells"] = 6
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth has other weights than its settings"):
        load_inverse_net(tmp_path / "other.pth")
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth is no inverse net"):
        load_inverse_net(tmp_path / "model.pth")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"net\.pth is damaged"):
        load_inverse_net(path)


@pytest.fixture(scope="module")
def drawn() -> Tensor:
    """Boundaries of scenes that no data set has, (8, 128, 192)."""
    labels = [torch.from_numpy(make_scene(7, index).label(128, 192)) for index in range(8)]
    return near_boundary(torch.stack(labels).long(), 2, 255).float()


def tiles(drawn: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Six tiles of each scene, and those under transforms (48, 3, 3)."""
    size, corners = 64, [(y, x) for y in (10, 54) for x in (4, 64, 124)]
    first = [transform_tiles(one, corners, size, torch.eye(3).expand(6, 3, 3)) for one in drawn]
    moved = [
        transform_tiles(one, corners, size, part)
        for one, part in zip(drawn, theta.split(6), strict=True)
    ]
    return torch.cat(first).round(), torch.cat(moved)


def test_the_projects_net_is_small_and_of_its_settings() -> None:
    assert DEFAULT_NET.stat().st_size < 1_000_000
    net = load_inverse_net(DEFAULT_NET, tile_size=64)
    assert (net.transform, net.distance) == ("affine", "euclidean")


def test_the_projects_net_recovers_transforms(drawn: Tensor) -> None:
    net = load_inverse_net(DEFAULT_NET)
    theta = random_transforms(48, "affine", torch.Generator().manual_seed(0))
    found = net(*tiles(drawn, theta))
    # Less than half as far off as the identity, in the mean of all tiles.
    identity = torch.eye(3).expand(48, 3, 3)
    assert net.distances(theta, found).mean() < 0.5 * net.distances(theta, identity).mean()


@pytest.mark.parametrize("axis", [0, 1])
def test_the_projects_net_recovers_shifts(drawn: Tensor, axis: int) -> None:
    """Pixels that it says, in the median of tiles, for up to 6 of 64; and nothing across."""
    net = load_inverse_net(DEFAULT_NET)
    for pixels in (-6, -3, 0, 3, 6):
        theta = torch.eye(3).repeat(48, 1, 1)
        theta[:, axis, 2] = 2 * pixels / 64
        said = net(*tiles(drawn, theta))[:, :2, 2].median(dim=0).values * 32
        assert said[axis].item() == pytest.approx(pixels, abs=1.5)
        assert said[1 - axis].item() == pytest.approx(0, abs=1.5)


def _shifted(strength: float) -> Tensor:
    theta = torch.eye(3)
    theta[:2, 2] = 0.2 * strength
    return theta


def _turned(strength: float) -> Tensor:
    return rotation(torch.tensor([0.26 * strength]))[0]


def _scaled(strength: float) -> Tensor:
    return torch.diag(torch.tensor([1.25**strength, 1.25**strength, 1.0]))


@pytest.mark.parametrize("transform", [_shifted, _turned, _scaled])
def test_the_loss_grows_with_the_transform(drawn: Tensor, transform) -> None:
    loss = InverseFormLoss(loss_weight=1.0)
    found = []
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        first, moved = tiles(drawn, transform(strength).repeat(48, 1, 1))
        found.append(loss(moved, first).item())
    assert all(one < other for one, other in itertools.pairwise(found)), found
    assert found[0] < 0.4 * found[-1]
