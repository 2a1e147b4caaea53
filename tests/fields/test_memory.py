"""Memory of every way to ask a field, beyond the answer: the table of docs/FIELD.md."""

from collections.abc import Callable

import pytest
import torch

from ifa_d2.analysis.measure import peak_memory
from tests.fields.test_field import make

CLASSES = 20
# Ways, and the bytes of an answer's sample.
WAYS: dict[str, tuple[Callable, int]] = {
    "labels": (lambda field, size: field.labels(size), 1),
    "refined_labels": (lambda field, size: field.refined_labels(size), 1),
    "logits": (lambda field, size: field.logits(size), 4 * CLASSES),
    "probabilities": (lambda field, size: field.probabilities(size), 4 * CLASSES),
    "entropy": (lambda field, size: field.entropy(size), 4),
}
# Of each as many samples; the second has twice those of the first.
SHAPES = {
    "square": ((512, 512), (512, 1024)),
    "one row": ((1, 1 << 18), (1, 1 << 19)),
    "one column": ((1 << 18, 1), (1 << 19, 1)),
}
# Of queries on refined grids, four levels deep, a block is larger than a tile.
MOST = {"refined_labels": 96 << 20}
TILE = 32 << 20


def beyond(ask: Callable[[], object], answer: int) -> int:
    return peak_memory(ask, warmup=0, device="cpu") - answer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_held_beyond_an_answer_has_a_bound(way: str, shape: str) -> None:
    """A tile, whatever the number of samples and however long the grid."""
    (ask, each), field = WAYS[way], make(num_classes=CLASSES)
    field.labels((8, 8))  # what is made once of a field
    for size in SHAPES[shape]:
        found = beyond(lambda size=size: ask(field, size), each * size[0] * size[1])
        assert found < MOST.get(way, TILE), size


def test_bands_hold_one_band() -> None:
    field = make(num_classes=CLASSES)
    field.labels((8, 8))
    for size in ((512, 512), (2048, 512), (64, 1 << 16)):

        def ask(size: tuple[int, int] = size) -> None:
            for _ in field.iter_bands(size, height=64):
                pass

        assert beyond(ask, 64 * size[1]) < TILE, size


def test_points_are_decoded_in_tiles() -> None:
    """Beyond logits, and the points in double precision where they lie among the cells."""
    field = make(num_classes=CLASSES)
    field.labels((8, 8))
    for count in (1 << 16, 1 << 18):
        points = torch.rand(count, 2)
        found = beyond(lambda points=points: field.at(points), (4 * CLASSES + 32) * count)
        assert found < TILE, count


def test_probabilities_are_the_softmax_of_logits() -> None:
    field = make(num_classes=CLASSES)
    field.temperature = 1.7
    for size, window in (((700, 300), None), (None, None), ((5, 9), (1.5, 2, 9.25, 30))):
        expected = field.logits(size, window).softmax(dim=0)
        torch.testing.assert_close(field.probabilities(size, window), expected)
