"""Features of frames, and the pixels that they stand for."""

import numpy as np
import pytest
import torch
from frame_features import FrameFeatures


@pytest.fixture(scope="module")
def network() -> FrameFeatures:
    torch.manual_seed(0)
    return FrameFeatures("resnet18", pretrained=False)


def test_the_published_choice_has_128_channels_and_one_position_for_8_pixels(
    network: FrameFeatures,
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (43, 80, 3), np.uint8)
    with torch.no_grad():
        assert network(image).shape == (128, 6, 10)
        assert torch.equal(network(image), network(image))
        assert torch.equal(network.train()(image), network.eval()(image))


def test_values_are_those_of_the_middle_of_positions(network: FrameFeatures) -> None:
    rows = torch.arange(43)[:, None].expand(43, 80)
    assert network.at_positions(rows)[:, 0].tolist() == [4, 12, 20, 28, 36, 42]
    cols = torch.arange(80).expand(2, 43, 80)
    assert network.at_positions(cols)[1, 0].tolist() == list(range(4, 80, 8))


def test_a_feature_follows_its_place(network: FrameFeatures) -> None:
    """What changes at the right, of a frame that is not square, changes features at the right."""
    image = np.random.default_rng(0).integers(0, 256, (64, 192, 3), np.uint8)
    other = image.copy()
    other[:, 184:] = 0
    with torch.no_grad():
        change = (network(image) - network(other)).abs().amax(dim=(0, 1))
    assert change[:12].max() == 0 and change[23] > 0


def test_a_map_of_another_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="stride 8, got 'vgg11'"):
        FrameFeatures("vgg11", pretrained=False)
