"""Resized pictures against Pillow and Detectron2, to the last bit."""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ifa_d2.layers.resample import bilinear_weights, resize_bilinear, shortest_edge_size

SIDES = st.integers(1, 80)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**16))
def test_as_pillow(h: int, w: int, height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize((width, height), Image.BILINEAR))
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    resized = resize_bilinear(image, (height, width))[0].permute(1, 2, 0)
    np.testing.assert_array_equal(resized.numpy(), expected)


@pytest.mark.parametrize(("h", "w", "height", "width"), [(300, 1024, 97, 333), (64, 96, 800, 1200)])
def test_as_pillow_of_larger_pictures(h: int, w: int, height: int, width: int) -> None:
    test_as_pillow.hypothesis.inner_test(h, w, height, width, 0)


@given(SIDES, SIDES)
def test_weights_are_shares(n: int, m: int) -> None:
    weights = bilinear_weights(n, m)
    assert weights.shape == (m, n) and weights.min() >= 0
    assert (weights.sum(dim=1) - 2**22).abs().max() <= n
    if n == m:
        assert torch.equal(weights, 2**22 * torch.eye(n, dtype=torch.int64))


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(32, 1200), st.integers(32, 2000))
def test_size_as_detectron2(height: int, width: int, short_edge: int, max_size: int) -> None:
    expected = T.ResizeShortestEdge.get_output_shape(height, width, short_edge, max_size)
    if min(expected) >= 1:
        assert shortest_edge_size(height, width, short_edge, max_size) == expected
