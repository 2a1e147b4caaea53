"""Features of large pictures, window by window."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ifa_d2.analysis.measure import peak_memory
from ifa_d2.modeling import windowed_features as module
from ifa_d2.modeling.windowed_features import windowed_features
from tests.modeling.test_field_segmentor import make_model

STRIDES = {"fine": 4, "coarse": 8}


class Network(nn.Module):
    """Of 4 and 8 pixels to a cell; a coarse cell sees 15 pixels, which its own 8 are amid."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 5, stride=4, padding=2)
        self.second = nn.Conv2d(channels, 6, 3, stride=2, padding=1)
        self.seen: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.seen.append(tuple(images.shape[2:]))
        fine = self.stem(images).relu()
        return {"fine": fine, "coarse": self.second(fine).relu(), "unwanted": fine}


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "window", "margin", "count"),
    [
        ((40, 96), 32, 8, 10),
        ((8, 200), 48, 16, 11),  # one side is smaller than a window
        ((16, 16), 64, 8, 1),  # so are both
        ((136, 64), 57, 20, 6),  # 64 and 24 in cells
    ],
)
def test_features_that_see_no_further_than_the_margin_are_the_same(size, window, margin, count):
    network = Network().double()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    found = windowed_features(network, images, STRIDES, window=window, margin=margin)
    assert len(network.seen) == count
    expected = network(images)
    assert found.keys() == STRIDES.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)


def test_large_pictures_of_a_model_go_through_it_in_windows():
    """A cell of a ResNet-18 sees 217 pixels to each side, less than the margin."""
    picture = torch.randint(256, (3, 50, 2600), dtype=torch.uint8)
    plain, limited = make_model(), make_model("MODEL.FIELD_SEGMENTOR.MAX_PIXELS", 64 * 2048)
    seen = []
    limited.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[2:]))
    found, expected = (model.fields([{"image": picture}])[0] for model in (limited, plain))
    assert seen == [(64, 1568), (64, 1568)]
    torch.testing.assert_close(found.logits(), expected.logits(), rtol=1e-3, atol=1e-4)
    limited.fields([{"image": picture[:, :, :2048]}])  # no more than the limit
    limited.max_pixels = None
    limited.fields([{"image": picture}])
    assert seen[2:] == [(64, 2048), (64, 2624)]


@pytest.mark.parametrize("divisor", [1, 4])
@pytest.mark.parametrize(("window", "margin"), [(7, 3), (8, 1), (16, 0), (64, 8)])
def test_windows_cover_a_side_once_and_keep_their_margin(window, margin, divisor):
    for side in range(1, 300):
        side, most, rim = (divisor * value for value in (side, window, margin))
        parts = list(module._windows(side, most, rim, divisor))
        kept = [i for _, part in parts for i in range(part.start, part.stop)]
        assert kept == list(range(side))
        for whole, part in parts:
            assert 0 <= whole.start < whole.stop <= side and whole.stop - whole.start <= most
            assert whole.start % divisor == part.start % divisor == 0
            assert whole.start == 0 or part.start - whole.start == rim
            assert whole.stop == side or whole.stop - part.stop == rim
        assert len(parts) == 1 or side > most


def test_memory_is_of_a_window_and_the_features():
    """The first layer's answers about the larger picture alone would take 32 MiB."""
    network = Network(channels=64)
    for height in (512, 2048):
        images = torch.randn(1, 3, height, 512)
        ask = partial(windowed_features, network, images, {"coarse": 8}, window=256, margin=32)
        with torch.no_grad():
            peak = peak_memory(ask, warmup=1, device="cpu")
        assert peak < 4 * 6 * (height // 8) * 64 + (10 << 20)


def test_mistakes_are_named(monkeypatch):
    images = torch.zeros(1, 3, 64, 64)
    with pytest.raises(ValueError, match="window must be more than two margins of 16, got 32"):
        windowed_features(Network(), images, STRIDES, window=30, margin=9)  # rounded up
    with pytest.raises(ValueError, match=r"feature 'fine' of stride 8 must be of \(4, 4\) cells"):
        windowed_features(Network(), images, {"fine": 8}, window=32, margin=8)
    monkeypatch.setattr(module, "_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=r"features of a picture of 64 x 64 pixels take 0\.0 GiB"):
        windowed_features(Network(), images, STRIDES, window=32, margin=8)
    with pytest.raises(ValueError, match="max_pixels must be at least 1, or None, got -1"):
        make_model("MODEL.FIELD_SEGMENTOR.MAX_PIXELS", -1)
