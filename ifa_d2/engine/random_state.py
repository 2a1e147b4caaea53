"""Random numbers of a process: seeding, saving, and drawing without leaving a trace."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm

# Detectron2's augmentations draw from numpy's global generator, so it is that one which has to be
# seeded and saved here.
# ruff: noqa: NPY002


def get_random_state() -> dict[str, Any]:
    """The state of the generators of Python, numpy and torch (the current GPU's too).

    Holds tensors and plain types only, so that a checkpoint with it loads with weights only.
    """
    name, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`get_random_state` returned.

    A GPU's state is left out where there is none."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def gather_random_states() -> list[dict[str, Any]]:
    """The states of all processes by rank, on the main process; all must call this together."""
    return comm.gather(get_random_state())


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Leave all generators as they were found, whatever is drawn inside."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)


@contextmanager
def seeded_sample(seed: int, position: int) -> Iterator[None]:
    """Let the random numbers drawn inside depend on ``seed`` and ``position`` alone.

    The generators (those of the CPU: nothing else is used to prepare a sample) are afterwards as
    they were found.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    value = int(np.random.SeedSequence([seed, position]).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    # Not torch.manual_seed, which would set the GPU's generator too.
    torch.default_generator.manual_seed(value)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
