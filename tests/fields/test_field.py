"""One picture's field, asked at sizes, windows and points."""

from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from ifa_d2.analysis.measure import peak_memory
from ifa_d2.fields import class_entropy
from ifa_d2.layers import GridQuery, ImplicitAlignment
from ifa_d2.modeling import SegmentationField
from ifa_d2.modeling.projection import PointwiseProjection

IMAGE, PADDED = (30, 44), (32, 64)


def make(num_classes=5, ensemble=False, image=IMAGE, padded=PADDED):
    torch.manual_seed(0)
    alignment = ImplicitAlignment(
        in_channels=(3, 2), num_classes=num_classes, hidden_dims=(8, 6), local_ensemble=ensemble
    ).eval()
    torch.nn.init.normal_(alignment.predictor.weight)
    levels = [
        torch.randn(1, 3, padded[0] // 4, padded[1] // 4),
        torch.randn(1, 2, padded[0] // 16, padded[1] // 16),
    ]
    extent = tuple(Fraction(a, b) for a, b in zip(image, padded, strict=True))
    return SegmentationField(alignment, levels, image, extent)


def test_padding_is_cut_off_exactly():
    field = make()
    with torch.no_grad():
        padded = field.alignment(field.levels, GridQuery.regular(*PADDED))[0]
    assert torch.allclose(field.logits(), padded[:, :30, :44], atol=1e-5)


def test_own_grid_is_that_of_layers():
    field = make(image=PADDED)
    with torch.no_grad():
        layers = field.alignment(field.levels, GridQuery.regular(8, 16))[0]
    assert torch.equal(field.logits(size=(8, 16)), layers)


windows = st.tuples(
    st.integers(0, 29), st.integers(0, 43), st.integers(1, 30), st.integers(1, 44)
).filter(lambda w: w[0] < w[2] and w[1] < w[3])


@given(window=windows, zoom=st.integers(1, 3))
def test_window_is_part_of_the_whole(window, zoom):
    field = make(ensemble=True)
    y0, x0, y1, x1 = window
    whole = field.logits(size=(30 * zoom, 44 * zoom))
    part = field.logits(size=((y1 - y0) * zoom, (x1 - x0) * zoom), window=window)
    expected = whole[:, y0 * zoom : y1 * zoom, x0 * zoom : x1 * zoom]
    assert torch.allclose(part, expected, atol=1e-4)


@given(window=windows)
def test_labels_and_probabilities_are_of_the_logits(window):
    field = make()
    logits = field.logits(window=window)
    assert torch.equal(field.labels(window=window), logits.argmax(0).byte())
    assert torch.allclose(field.probabilities(window=window), logits.softmax(0))


def test_points_are_where_the_grid_says():
    field = make(ensemble=True)
    logits = field.logits(size=(7, 9))
    y = (torch.arange(7).double() + 0.5) / 7
    x = (torch.arange(9).double() + 0.5) / 9
    points = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(-1, 2)
    assert torch.allclose(field.at(points).t(), logits.flatten(1), atol=1e-4)
    assert torch.allclose(field.at(points.numpy()).t(), logits.flatten(1), atol=1e-4)
    assert field.at(points[:0]).shape == (0, 5)


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_window_as_an_array(kind):
    field, window = make(), (2, 3, 20, 41)
    assert torch.equal(field.labels(window=np.array(window, kind)), field.labels(window=window))
    with pytest.raises(ValueError, match=r"window must be four finite numbers .* got \(\)"):
        field.labels(window=())


def test_window_between_pixels():
    field = make()
    half = field.logits(size=(2, 2), window=(0.5, 1.25, 2.5, 3.25))
    points = [[(0.5 + i + 0.5) / 30, (1.25 + j + 0.5) / 44] for i in range(2) for j in range(2)]
    assert torch.allclose(half.flatten(1), field.at(points).t(), atol=1e-4)


@pytest.mark.parametrize("width", [1e-9, 3e-4, 1e-3, 5.3])
def test_narrow_windows_are_exact(width):
    """To the last bit of their numbers, of any fraction of a pixel."""
    field, (y0, x0) = make(ensemble=True), (7.1, 9.7)
    y1, x1 = y0 + width, x0 + width
    query = field.query((4, 3), (y0, x0, y1, x1))
    for axis, begin, end, size, padded in (
        (query.rows, y0, y1, 4, 32),
        (query.cols, x0, x1, 3, 64),
    ):
        begin, end = Fraction(begin), Fraction(end)
        for j in range(size):
            exact = (begin + Fraction(2 * j + 1, 2 * size) * (end - begin)) / padded
            assert Fraction(axis.start + axis.step * j, axis.denominator) == exact
    logits = field.logits((4, 3), (y0, x0, y1, x1))
    middle = field.at([[(y0 + y1) / 2 / 30, (x0 + x1) / 2 / 44]])[0]
    centre = field.logits((1, 1), (y0, x0, y1, x1))[:, 0, 0]
    assert torch.allclose(centre, middle, atol=1e-4)
    if width < 1e-2:
        assert torch.allclose(logits, middle[:, None, None].expand(-1, 4, 3), atol=0.02)


@pytest.mark.parametrize("height", [1, 7, 100])
def test_bands_make_up_the_labels(height):
    field = make()
    bands = list(field.iter_bands(size=(33, 21), height=height))
    assert [top for top, _ in bands] == list(range(0, 33, height))
    assert torch.equal(torch.cat([band for _, band in bands]), field.labels(size=(33, 21)))


def test_written_to_a_memory_map(tmp_path):
    field = make()
    out = np.lib.format.open_memmap(tmp_path / "labels.npy", "w+", np.uint8, (60, 88))
    assert field.labels(size=(60, 88), out=out) is out
    out.flush()
    assert np.array_equal(np.load(tmp_path / "labels.npy"), field.labels(size=(60, 88)).numpy())


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (257, torch.int16)])
def test_smallest_label_type(classes, dtype):
    assert make(num_classes=classes).labels(size=(3, 3)).dtype == dtype


def test_memory_beyond_the_labels_does_not_grow():
    field = make(num_classes=50)
    beyond = []
    for side in (1024, 2048):
        out = torch.empty(side, side, dtype=torch.uint8)
        beyond.append(peak_memory(lambda out=out: field.labels(size=out.shape, out=out)))
    assert beyond[1] < 1.1 * beyond[0] < 256 << 20
    assert beyond[1] < 50 * 4 * 2048 * 2048 / 4


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"size": (0, 4)}, "size.*0"),
        ({"size": (4,)}, "size"),
        ({"size": (4, 2.5)}, "size.*2.5"),
        ({"size": 512}, r"size must be \(height, width\), .* got 512"),
        ({"size": "ab"}, "size.* got 'ab'"),
        ({"size": (4, float("nan"))}, "size.*nan"),
        ({"size": (4, float("inf"))}, "size.*inf"),
        ({"size": (10**400, 1)}, r"size must be .* at most 2147483647 .* got \(1000"),
        ({"size": (2**63, 1)}, "size must be .* got .9223372036854775808, 1"),
        ({"window": (0, 0, 10**400, 5)}, r"inside the picture of \(30, 44\), got \(0, 0, 1000"),
        ({"window": 512}, r"window must be four .* \(y0, x0, y1, x1\), got 512"),
        ({"window": "abcd"}, "window.* got 'abcd'"),
        ({"window": (3, 3, 3, 9)}, "y1 > y0"),
        ({"window": (9, 3, 3, 9)}, "y1 > y0"),
        ({"window": (0, 9, 3, 3)}, "x1 > x0"),
        ({"window": (0, 0, 31, 3)}, "inside the picture"),
        ({"window": (-1, 0, 3, 3)}, "inside the picture"),
        ({"window": (0, 0, float("nan"), 3)}, "finite"),
        ({"window": (0, 0, 3)}, "four"),
        ({"window": (0, 0, 2.5, 3)}, "size must be given"),
    ],
)
def test_bad_queries(kwargs, words):
    with pytest.raises(ValueError, match=words) as raised:
        make().labels(**kwargs)
    assert len(str(raised.value)) < 250  # the value is cut short


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (torch.zeros(3), "shape"),
        (torch.zeros(3, 2, dtype=torch.int64), "floating point"),
        ([[0.5, float("nan")]], "finite"),
        ([[0.5, 1.01]], r"\[0, 1\]"),
        (None, "points must be .* got None"),
        ("ab", "points must be .* got 'ab'"),
        ([[0.5], [0.5, 0.5]], "points must be .* got "),
        ([[10**400, 0.5]], "points must be"),
        (np.array([[None, 0.5]]), "points must be .* got array"),
        (torch.zeros(3, 2).to_sparse(), "points must be a dense tensor .* torch.sparse_coo"),
        (torch.zeros(3, 2, device="meta"), "points must be a dense tensor .* meta"),
    ],
)
def test_bad_points(points, words):
    with pytest.raises(ValueError, match=words):
        make().at(points)


def test_points_outside_can_be_clamped():
    field = make()
    outside = field.at([[0.5, 1.5], [-1.0, 0.25]], clamp=True)
    assert torch.equal(outside, field.at([[0.5, 1.0], [0.0, 0.25]]))


def test_bad_out_and_height():
    with pytest.raises(ValueError, match=r"out.*\(3, 4\)"):
        make().labels(size=(3, 4), out=torch.empty(4, 3))
    with pytest.raises(ValueError, match=r"height.*0"):
        next(make().iter_bands(height=0))
    with pytest.raises(ValueError, match="one picture"):
        SegmentationField(make().alignment, [torch.zeros(2, 3, 4, 4)], IMAGE)
    with pytest.raises(ValueError, match="picture_share"):
        SegmentationField(make().alignment, make().levels, IMAGE, (Fraction(2), Fraction(1)))


ANSWERS = {
    "logits": lambda field: field.logits(),
    "probabilities": lambda field: field.probabilities(),
    "labels": lambda field: field.labels(),
    "refined_labels": lambda field: field.refined_labels(),
    "bands": lambda field: list(field.iter_bands()),
    "at": lambda field: field.at([[0.5, 0.5]]),
}


@pytest.mark.parametrize("ask", ANSWERS.values(), ids=ANSWERS)
def test_no_answer_in_training_mode(ask):
    field = make()
    before = {name: value.clone() for name, value in field.alignment.state_dict().items()}
    expected = field.logits()
    for part, words in (
        (field.alignment, "to predict: call model.eval"),
        (field.alignment.mlp.layers[1].norm, "which mlp.layers.1.norm is not"),
    ):
        part.train()
        with pytest.raises(ValueError, match=f"model must be in eval mode.*{words}"):
            ask(field)
        part.eval()
    after = field.alignment.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(field.logits(), expected)
    ask(field)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["weight", "feature"])
def test_logits_that_are_not_finite_are_no_labels(bad, place):
    field = make()
    target = field.alignment.predictor.weight if place == "weight" else field.levels[0]
    target.data.view(-1)[0] = bad
    assert not field.logits().isfinite().all()
    for name in ("labels", "refined_labels", "bands"):
        with pytest.raises(ValueError, match="logits must be finite to be labelled"):
            ANSWERS[name](field)


def test_computed_under_autocast_and_asked_outside():
    field = make(image=PADDED)
    projection = PointwiseProjection(7, 3, norm="BN").eval()
    source = torch.randn(1, 7, 8, 16)
    with torch.no_grad():
        levels = [projection.at_request(source.bfloat16()), field.levels[1].bfloat16()]
        whole = projection.at_request(source.bfloat16().float())
    expected = SegmentationField(
        field.alignment,
        [whole, levels[1].float()],
        PADDED,
    )
    field = SegmentationField(field.alignment, levels, PADDED)
    with torch.autocast("cpu", torch.bfloat16):
        inside = field.logits()
        assert [level.dtype for level in field.levels] == [torch.bfloat16] * 2
    assert torch.equal(field.logits(), expected.logits())
    assert torch.equal(field.labels(), expected.labels())
    assert torch.equal(field.at([[0.3, 0.7]]), expected.at([[0.3, 0.7]]))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(field.logits(), inside, atol=0.1)


@given(window=windows, zoom=st.integers(1, 3))
def test_entropy_is_that_of_the_probabilities(window, zoom):
    field = make()
    field.temperature = 2.5
    size = ((window[2] - window[0]) * zoom, (window[3] - window[1]) * zoom)
    expected = entropy(field.probabilities(size, window).double().numpy(), axis=0) / np.log(5)
    found = field.entropy(size, window)
    assert found.dtype == torch.float32 and tuple(found.shape) == size
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 1.0), (1e4, 0.0)])
def test_entropy_goes_from_certain_to_all_alike(scale, expected):
    field = make()
    for value in (field.alignment.predictor.weight, field.alignment.predictor.bias):
        value.data *= scale
    found = field.entropy()
    assert found.min() >= 0 and found.max() <= 1
    assert float(found.median()) == pytest.approx(expected, abs=1e-6)
    assert make(num_classes=1).entropy().unique().tolist() == [0.0]


def test_entropy_is_decoded_in_tiles():
    field = make(ensemble=True)
    whole = class_entropy(field.logits((300, 400)))
    with bound_tiles(field, 999):
        pieces = list(field.iter_entropy(field.query((300, 400))))
        assert len(pieces) > 50 and all(piece.numel() <= 1200 for _, piece in pieces)
        torch.testing.assert_close(field.entropy((300, 400)), whole, atol=1e-5, rtol=1e-4)


@contextmanager
def bound_tiles(field, queries):
    """The field's answers in small tiles."""
    field.bound._tile_queries, before = queries, field.bound._tile_queries
    yield
    field.bound._tile_queries = before


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_temperature_divides_logits_and_changes_no_label(temperature):
    plain, field = make(), make()
    field.temperature = temperature
    torch.testing.assert_close(field.logits(), plain.logits() / temperature)
    torch.testing.assert_close(field.logits(), plain.logits() / temperature)  # once, not twice
    points = [[0.2, 0.3], [0.9, 0.1]]
    torch.testing.assert_close(field.at(points), plain.at(points) / temperature)
    expected = (plain.logits() / temperature).softmax(dim=0)
    torch.testing.assert_close(field.probabilities(), expected)
    assert torch.equal(field.labels(), plain.labels())
    assert torch.equal(field.refined_labels((60, 88)), plain.refined_labels((60, 88)))
