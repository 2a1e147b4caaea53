"""A small clip: frames of a picture that moves, with labels that move with it."""

from pathlib import Path

import numpy as np
from PIL import Image

from ifa_d2.data import register_sem_seg_folder

FRAMES, HEIGHT, WIDTH = 10, 48, 64
CLASSES = ("ground", "thing")


def write_clip(root: Path, *, labelled: bool = True) -> str:
    """Write frames 0, 2, 4 ... and register them; gives the name of the data set."""
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8 + FRAMES, 3), np.uint8)
    whole = blocks.repeat(8, axis=0).repeat(8, axis=1)
    labels = (whole[..., 0] > 127).astype(np.uint8)
    labels[:4] = 255
    for index in range(FRAMES):
        part = slice(2 * index, 2 * index + WIDTH)
        Image.fromarray(whole[:, part]).save(root / "images" / f"clip_{2 * index}.png")
        Image.fromarray(labels[:, part]).save(root / "labels" / f"clip_{2 * index}.png")
    folders = root / "images", root / "labels" if labelled else None
    register_sem_seg_folder(root.name, *folders, CLASSES)
    return root.name
