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


KINDS = [
    *({"encoding": encoding} for encoding in ENCODINGS),
    *({"encoding": encoding, "integrated": True} for encoding in ENCODINGS[2:]),
    {"encoding": "coord", "cell": True},
    {"encoding": "learned", "integrated": True, "cell": True},
]


@pytest.mark.parametrize("kind", KINDS)
def test_axes_are_the_columns_of_the_whole(kind):
    module = PositionEncoding(num_frequencies=3, **kind)
    dy, dx = torch.rand(2, 5, 4, dtype=torch.float64) * 2 - 1
    widths = (torch.rand(5, 1, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64))
    whole = module((dy, dx), widths)
    assert whole.shape == (5, 4, module.num_features)
    numbers = range(module.num_features)
    columns = [[n for part in module.axis_columns(axis) for n in numbers[part]] for axis in (0, 1)]
    for axis, offset in enumerate((dy, dx)):
        part = module.encode_axis(offset, widths[axis], axis)
        torch.testing.assert_close(part, whole[..., columns[axis]])
    assert sorted(columns[0] + columns[1]) == list(numbers)


def test_coupled_frequencies_start_as_those_of_each_axis():
    dy, dx = torch.rand(2, 7, dtype=torch.float64) * 2 - 1
    coupled = PositionEncoding(num_frequencies=3, coupled=True)
    assert coupled.frequencies.shape == (6, 2)
    no_width = (torch.zeros(()),) * 2
    expected = PositionEncoding(num_frequencies=3)((dy, dx), no_width)
    torch.testing.assert_close(coupled((dy, dx), no_width), expected)


@pytest.mark.parametrize("coupled", [False, True])
def test_integrated_is_the_mean_over_a_sample(coupled):
    """The closed form equals the mean of the plain encoding at many places across the sample."""
    torch.manual_seed(0)
    plain = PositionEncoding(num_frequencies=4, coupled=coupled)
    if coupled:
        torch.nn.init.normal_(plain.frequencies, std=8)
    module = PositionEncoding(num_frequencies=4, coupled=coupled, integrated=True)
    module.load_state_dict(plain.state_dict())
    middle, width = torch.tensor([0.3, -0.7]).double(), torch.tensor([1.1, 0.4]).double()
    places = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000 - 0.5
    dy, dx = torch.meshgrid(*(middle[:, None] + width[:, None] * places), indexing="ij")
    none = (torch.zeros(()).double(),) * 2
    mean = plain((dy, dx), none).mean((0, 1))
    value = module(tuple(middle.unbind()), tuple(width.unbind()))
    torch.testing.assert_close(value, mean, rtol=0, atol=1e-4)
    # It matters, and a sample without a width is a point to the bit.
    assert (value - plain(tuple(middle.unbind()), none)).abs().max() > 0.1
    assert torch.equal(module((dy, dx), none), plain((dy, dx), none))


def test_cell_decoding_appends_the_width():
    module = PositionEncoding(num_frequencies=2, cell=True)
    value = module((torch.zeros(3), torch.zeros(3)), (torch.tensor(0.5), torch.tensor(2.0)))
    assert value.shape == (3, 2 + 4 * 2 + 2)
    assert value[:, -2:].tolist() == [[0.5, 2.0]] * 3


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
    with pytest.raises(ValueError, match=r"integrated.*'coord'"):
        build_encodings(2, **{**OPTIONS, "encoding": "coord"}, integrated=True)
    with pytest.raises(ValueError, match=r"cell decoding.*'none'"):
        build_encodings(2, **{**OPTIONS, "encoding": "none"}, cell=True)
