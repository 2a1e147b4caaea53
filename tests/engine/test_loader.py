import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ifa_d2.data.rare_classes import repeat_factors
from ifa_d2.engine import TrainingStream, build_train_loader
from ifa_d2.engine.random_state import get_random_state
from tests.tiny import assert_same


def mapper(record: dict) -> tuple:
    """The record and a draw from each generator that an augmentation may use."""
    numpy = float(np.random.rand())  # noqa: NPY002 (what Detectron2's augmentations draw from)
    return record["index"], random.random(), numpy, float(torch.rand(()))


def records(count: int) -> list[dict]:
    return [{"index": index} for index in range(count)]


def batches(count: int, **kwargs: int) -> list[list[tuple]]:
    loader = build_train_loader(records(7), mapper=mapper, total_batch_size=3, **kwargs)
    return list(islice(loader, count))


@given(size=st.integers(1, 9), start=st.integers(0, 12), batch=st.integers(1, 4))
def test_entering_is_skipping(size: int, start: int, batch: int) -> None:
    stream = TrainingStream(records(size), mapper, batch_size=batch, seed=3)
    whole = list(islice(stream, (start + 3) * batch))
    stream.enter(start, seed=3)
    assert list(islice(stream, 3 * batch)) == whole[start * batch :]


def test_every_sample_once_an_epoch() -> None:
    stream = TrainingStream(records(5), mapper, batch_size=2, seed=0)
    indices = [index for index, *_ in islice(stream, 15)]
    epochs = [indices[start : start + 5] for start in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_pictures_of_rare_classes_are_repeated(tmp_path: Path) -> None:
    found = [
        {"file_name": f"{i}.jpg", "sem_seg_file_name": f"{tmp_path}/{i}.png"} for i in range(8)
    ]
    for index, one in enumerate(found):
        label = np.full((2, 3), 255, np.uint8)
        label[0] = index == 5  # class 1 in one picture, class 0 in the others
        Image.fromarray(label).save(one["sem_seg_file_name"])
    factors = repeat_factors(found, 0.5)
    assert factors.tolist() == pytest.approx([1, 1, 1, 1, 1, 2, 1, 1])  # sqrt(0.5 / (1 / 8))
    stream = build_train_loader(
        found,
        mapper=lambda record: record["file_name"],
        total_batch_size=1,
        seed=0,
        repeat_threshold=0.5,
    ).dataset
    names = list(islice(stream, 9 * 4))
    assert all(names.count(f"{i}.jpg") == (8 if i == 5 else 4) for i in range(8))
    stream.enter(10, seed=0)
    assert list(islice(stream, 5)) == names[10:15]


def test_bad_repeats() -> None:
    for threshold in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"repeat_threshold must be .* got {threshold}"):
            repeat_factors([], threshold)
    with pytest.raises(ValueError, match=r"needs labels, and 'a\.png' has no sem_seg_file_name"):
        repeat_factors([{"file_name": "a.png"}], 0.5)


def test_draws_differ_between_samples_and_seeds() -> None:
    stream = TrainingStream(records(1), mapper, batch_size=1, seed=0)
    draws = list(islice(stream, 20))
    for kind in (1, 2, 3):
        assert len({draw[kind] for draw in draws}) == 20
    stream.enter(0, seed=1)
    assert next(iter(stream))[1:] != draws[0][1:]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_batches(workers: int) -> None:
    assert batches(7, seed=4, num_workers=workers) == batches(7, seed=4)


def test_loading_leaves_the_generators_alone() -> None:
    before = get_random_state()
    batches(3, seed=4)
    assert_same(get_random_state(), before)


def test_without_a_seed_it_draws_one() -> None:
    assert batches(2, seed=-1) != batches(2, seed=-1)


def test_batch_of_no_sample() -> None:
    with pytest.raises(ValueError, match=r"total_batch_size must be .* got 0"):
        build_train_loader(records(2), mapper=mapper, total_batch_size=0)
