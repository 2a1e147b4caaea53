import io
import random

import numpy as np
import torch

from ifa_d2.engine.random_state import (
    get_random_state,
    preserved_random_state,
    seeded_sample,
    set_random_state,
)

# The generators under test are the global ones.
# ruff: noqa: NPY002


def draw() -> list[float]:
    return [random.random(), random.gauss(), np.random.rand(), np.random.randn(), *torch.rand(3)]


def test_state_survives_a_checkpoint_loaded_with_weights_only() -> None:
    np.random.randn()  # leaves a cached second value behind
    file = io.BytesIO()
    torch.save(get_random_state(), file)
    expected = draw()
    file.seek(0)
    set_random_state(torch.load(file, weights_only=True))
    assert draw() == expected


def test_preserved_even_if_it_fails() -> None:
    state = get_random_state()
    expected = draw()
    set_random_state(state)
    try:
        with preserved_random_state():
            draw()
            raise KeyError
    except KeyError:
        pass
    assert draw() == expected


def test_sample_depends_on_seed_and_position() -> None:
    seen = []
    for seed, position in ((1, 2), (1, 3), (2, 2), (1, 2)):
        with seeded_sample(seed, position):
            seen.append(draw())
    assert seen[0] == seen[3]
    assert seen[0] != seen[1] and seen[0] != seen[2] and seen[1] != seen[2]
