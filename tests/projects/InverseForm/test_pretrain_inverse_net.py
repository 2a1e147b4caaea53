"""The pre-training command, on small pictures."""

import json
import sys
from pathlib import Path

import pretrain_inverse_net
import pytest
import torch
from boundary_pairs import BoundaryTiles
from inverse_form import InverseFormLoss
from inverse_net import InverseNet, load_inverse_net
from pretrain_inverse_net import evaluate, pretrain

from ifa_d2.data import register_sem_seg_folder
from tests.tiny import write_tiny_data

OPTIONS = {"transform": "affine", "tile_size": 16, "boundary_width": 2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = write_tiny_data(tmp_path_factory.mktemp("tiny"))
    names = ("a", "b", "c")
    register_sem_seg_folder("pretrained_on", str(root / "images"), str(root / "labels"), names)
    return "pretrained_on"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    small = ("--dataset", "pretrained_on", "--test-dataset", "pretrained_on", "--tile-size", 16)
    small += ("--cells", 8, "--iterations", 3, "--batch-size", 16, "--hidden", 16, 8)
    words = ["pretrain_inverse_net.py", *map(str, small), *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", words)
    pretrain_inverse_net.main()


@pytest.mark.parametrize(
    ("transform", "distance"), [("affine", "euclidean"), ("homography", "geodesic")]
)
def test_it_writes_a_net_for_the_loss(
    tiny: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    transform: str,
    distance: str,
) -> None:
    path, report = tmp_path / "net.pth", tmp_path / "figures.json"
    written = []
    for _ in range(2):
        run(monkeypatch, "--output", path, "--json", report, "--transform", transform)
        written.append(torch.load(path, weights_only=True))
    assert {one.name for one in tmp_path.iterdir()} == {"net.pth", "figures.json"}
    net = load_inverse_net(path, tile_size=16)
    assert (net.transform, net.distance, net.hidden_dims) == (transform, distance, (16, 8))
    said, saved = json.loads(report.read_text()), written[0]["notes"]
    assert saved["dataset"] == tiny and saved["iterations"] == said["iterations"] == 3
    figures = said["test"][tiny]
    assert len(figures["r2"]) == {"affine": 6, "homography": 8}[transform]
    assert f"{figures['same']:.3f} of equal tiles" in capsys.readouterr().out
    # The same seed, the same network.
    for name, tensor in written[0]["model"].items():
        assert tensor.dtype == torch.float16 and torch.equal(tensor, written[1]["model"][name])
    loss = InverseFormLoss(net_file=path)
    logits = torch.randn(1, 20, 20, requires_grad=True)
    loss(logits.sigmoid(), torch.rand(1, 20, 20) > 0.5).backward()
    assert logits.grad.isfinite().all() and logits.grad.norm() > 0


@pytest.mark.parametrize("transform", ["affine", "homography"])
def test_it_learns(tiny: str, transform: str) -> None:
    options = OPTIONS | {"transform": transform}
    distance = {"affine": "euclidean", "homography": "geodesic"}[transform]
    net = InverseNet(
        transform=transform, distance=distance, tile_size=16, num_cells=8, hidden_dims=(32,)
    )
    pairs = BoundaryTiles(tiny, seed=1, **options).draw(20, 5, soft=False)
    before = evaluate(net, *pairs)
    tiles = BoundaryTiles(tiny, seed=0, **options)
    pretrain(net, tiles, iterations=150, batch_size=64, learning_rate=3e-3)
    after = evaluate(net, *pairs)
    assert after["identity"] == before["identity"]
    assert after["distance"] < min(before["distance"], 0.98 * after["identity"])
    assert after["same"] < before["same"]


def test_figures_are_of_their_definition(tiny: str) -> None:
    """Of a network that knows the transforms, and one that says their mean."""
    target, moved, theta = BoundaryTiles(tiny, seed=0, **OPTIONS).draw(10, 5)
    net = InverseNet(tile_size=16, num_cells=8)
    net.forward = lambda first, second: theta if second is moved else torch.eye(3).expand(50, 3, 3)
    figures = evaluate(net, target, moved, theta)
    assert set(figures["r2"]) == {"yy", "yx", "y", "xy", "xx", "x"}
    assert set(figures["r2"].values()) == {1.0}
    assert figures["distance"] == figures["same"] == figures["flat"] == 0
    norms = torch.linalg.matrix_norm(theta - torch.eye(3))
    assert figures["identity"] == pytest.approx(norms.mean().item())
    net.forward = lambda first, second: theta.mean(dim=0).expand(50, 3, 3)
    far = torch.linalg.matrix_norm(theta.mean(dim=0) - torch.eye(3)).item()
    figures = evaluate(net, target, moved, theta)
    assert figures["same"] == figures["flat"] == pytest.approx(far, rel=1e-5)
    assert list(figures["r2"].values()) == pytest.approx([0] * 6, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tile-size", 60, "--cells", 6], "tile_size must be at most 40, .* got 60"),
        (["--cells", 7], "tile_size must be a multiple of num_cells, .* got 16 and 7"),
        (["--dataset", "nowhere"], "nowhere"),
        (["--test-dataset", "pretrained_on", "elsewhere"], "elsewhere"),
    ],
)
def test_what_is_refused_before_it_trains(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list, words: str
) -> None:
    monkeypatch.setattr(pretrain_inverse_net, "pretrain", None)
    with pytest.raises(ValueError, match=words):
        run(monkeypatch, "--output", tmp_path / "net.pth", *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--iterations", 0], "--iterations must be at least 1, got 0"),
        (["--learning-rate", 0], "--learning-rate must be above 0, got 0"),
        (["--output", "net.txt"], r"--output must end in .pth, got net.txt"),
        (["--transform", "shear"], "invalid choice"),
    ],
)
def test_bad_arguments(
    tiny: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list,
    words: str,
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--output", "net.pth", *arguments)
    assert words in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_it(tiny: str) -> None:
    net = InverseNet(tile_size=16, num_cells=8)
    net.layers[0].weight.data.fill_(float("nan"))
    tiles = BoundaryTiles(tiny, seed=0, **OPTIONS)
    with pytest.raises(ValueError, match=r"--learning-rate must be less than 0\.1"):
        pretrain(net, tiles, iterations=2, batch_size=4, learning_rate=0.1)
