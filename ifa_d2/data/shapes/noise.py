"""Smooth random functions of continuous coordinates, for textures and ragged outlines.

Everything here uses only comparisons, floors and polynomials, so that a coordinate gives the same
value whatever array it arrives in.
"""

import numpy as np

_SIDE = 64
_LATTICE = np.random.default_rng(20220711).random((_SIDE, _SIDE))
_LATTICE.setflags(write=False)
_PADDED = np.pad(_LATTICE, (0, 1), mode="wrap").ravel()  # its first row and column once more
_PADDED.setflags(write=False)


def cell_noise(row: np.ndarray, column: np.ndarray, phase: int = 0) -> np.ndarray:
    """A value in [0, 1) for each integer cell, repeating every 64 cells.

    Args:
        row: cell numbers downwards, any integer array
        column: cell numbers to the right, same shape
        phase: a number that picks another pattern
    """
    row = (np.asarray(row).astype(np.int64) + 7 * phase) % _SIDE
    column = (np.asarray(column).astype(np.int64) + 29 * phase) % _SIDE
    return _LATTICE[row, column]


def value_noise(
    y: np.ndarray, x: np.ndarray, frequency: float | tuple[float, float], phase: float = 0.0
) -> np.ndarray:
    """Smooth noise in [0, 1): random values on a lattice, blended in between.

    Args:
        y: coordinates downwards, in scene units
        x: coordinates to the right, same shape
        frequency: lattice cells in one scene unit; one number or (vertical, horizontal)
        phase: shift of the lattice in cells, so that two surfaces do not share a pattern
    """
    vertical, horizontal = frequency if isinstance(frequency, tuple) else (frequency, frequency)
    v = y * vertical + phase
    u = x * horizontal + 1.7 * phase
    top, left = np.floor(v), np.floor(u)
    row, column = top.astype(np.int64) % _SIDE, left.astype(np.int64) % _SIDE
    v, u = v - top, u - left
    v, u = v * v * (3 - 2 * v), u * u * (3 - 2 * u)
    corner = row * (_SIDE + 1) + column
    upper, lower = _PADDED[corner], _PADDED[corner + _SIDE + 1]
    upper = upper + (_PADDED[corner + 1] - upper) * u
    lower = lower + (_PADDED[corner + _SIDE + 2] - lower) * u
    return upper + (lower - upper) * v
