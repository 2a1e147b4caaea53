"""Encodings of offsets, and what levels with them have in channels."""

import pytest
import torch

from ifa_d2.layers import ENCODINGS, PositionEncoding
from ifa_d2.layers.position import build_encodings, count_columns

OPTIONS = {
    "encoding": "learned",
    "num_frequencies": 3,
    "frequency_law": "pow2",
    "coupled_frequencies": False,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_axes_are_the_columns_of_the_whole(encoding):
    module = PositionEncoding(encoding=encoding, num_frequencies=3)
    dy, dx = torch.rand(2, 5, 4, dtype=torch.float64) * 2 - 1
    whole = module(dy, dx)
    assert whole.shape == (5, 4, module.num_features)
    numbers = range(module.num_features)
    columns = [[n for part in module.axis_columns(axis) for n in numbers[part]] for axis in (0, 1)]
    for axis, offset in enumerate((dy, dx)):
        torch.testing.assert_close(module.encode_axis(offset, axis), whole[..., columns[axis]])
    assert sorted(columns[0] + columns[1]) == list(numbers)


def test_coupled_frequencies_start_as_those_of_each_axis():
    dy, dx = torch.rand(2, 7, dtype=torch.float64) * 2 - 1
    coupled = PositionEncoding(num_frequencies=3, coupled=True)
    assert coupled.frequencies.shape == (6, 2)
    torch.testing.assert_close(coupled(dy, dx), PositionEncoding(num_frequencies=3)(dy, dx))


def test_each_level_learns_its_own_frequencies():
    encodings = build_encodings(3, **OPTIONS)
    assert list(encodings.state_dict()) == [f"{i}.frequencies" for i in range(3)]
    assert len({id(p) for p in encodings.parameters()}) == 3


@pytest.mark.parametrize(("unfold", "columns"), [(False, 3 * 14 + 11), (True, 3 * 14 + 9 * 11)])
def test_columns_are_positions_and_features(unfold, columns):
    encodings = build_encodings(3, **OPTIONS)  # 2 + 4 * 3 values each
    assert count_columns(encodings, (5, 4, 2), unfold=unfold) == columns


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"encoding must be one of.*'polar'"):
        build_encodings(2, **{**OPTIONS, "encoding": "polar"})
    with pytest.raises(ValueError, match=r"coupled.*'fixed'"):
        build_encodings(2, **{**OPTIONS, "encoding": "fixed", "coupled_frequencies": True})
