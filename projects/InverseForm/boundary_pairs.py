"""Pairs of boundary tiles of label maps, with the transforms that they differ by.

Shape legend: N pairs, T x T pixels of a tile, H x W of a picture.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data import Metadata, MetadataCatalog
from tile_transforms import random_transforms
from torch import Tensor

from ifa_d2.data.catalog import check_name, list_records
from ifa_d2.data.labels import read_record_classes
from ifa_d2.data.points import near_boundary

MIN_SHARE = 0.05  # of a tile's pixels near a boundary, below which nothing can be told of it
MAX_PICTURES = 500  # whose boundary maps are held
_TRIES = 20  # places of a picture for a tile with as many
# Of a prediction, that is softer than a target: pixels that it is averaged over, and what it is
# multiplied by before it ends at 1.
SOFT_WIDTHS = (1, 3, 5, 7, 9)
SOFT_GAINS = (0.7, 1.5)


class BoundaryTiles:
    """Draw pairs of tiles from the labels of a data set.

    Args:
        dataset: a registered data set with labels, of which :data:`MAX_PICTURES` at most are taken,
            at even steps.
        transform: of the pairs, see :func:`tile_transforms.random_transforms`.
        tile_size: T, in pixels.
        boundary_width: pixels on either side of a boundary.
        seed: of all random numbers.

    Raises:
        ValueError: an unknown data set, one without labels, or a picture that is smaller than a
            tile.
    """

    def __init__(
        self, dataset: str, *, transform: str, tile_size: int, boundary_width: int, seed: int
    ) -> None:
        check_name(dataset, "dataset")
        keys = ("sem_seg_file_name", "sem_seg_annotations")
        records = [r for r in list_records(dataset) if any(r.get(key) for key in keys)]
        if not records:
            raise ValueError(f"dataset must have labels, and {dataset!r} has none")
        self._transform = transform
        self._tile_size = tile_size
        metadata = MetadataCatalog.get(dataset)
        self._maps = [
            _boundary(record, metadata, tile_size, boundary_width)
            for record in records[:: math.ceil(len(records) / MAX_PICTURES)]
        ]
        self._random = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)

    def draw(
        self, num_pictures: int, per_picture: int, *, soft: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw pairs of random pictures.

        Args:
            num_pictures: pictures that have boundaries enough.
            per_picture: pairs of each.
            soft: make the second tiles as soft as predictions, each picture's alike.

        Returns:
            Tiles (N, T, T) in [0, 1], the tiles that transforms make of them, and these
            transforms, (N, 3, 3).

        Raises:
            ValueError: hardly any picture has boundaries enough.
        """
        drawn = []
        missed = 0
        while len(drawn) < num_pictures:
            boundary = self._turned(self._maps[int(self._random.integers(len(self._maps)))])
            corners = self._corners(boundary, per_picture)
            if corners is None:
                missed += 1
                if missed > 100 + 10 * len(drawn):
                    raise ValueError(
                        f"labels must have tiles of {self._tile_size} pixels a side with "
                        f"boundaries on {MIN_SHARE:.0%} of their pixels, and hardly any have"
                    )
                continue
            drawn.append(self._pairs(boundary, corners, soft))
        return tuple(map(torch.cat, zip(*drawn, strict=True)))

    def _turned(self, boundary: Tensor) -> Tensor:
        """One of the eight ways to lay a picture: no direction is another than the others."""
        transpose, *flips = self._random.integers(2, size=3).tolist()
        boundary = boundary.flip([axis for axis, flip in enumerate(flips) if flip])
        return boundary.t() if transpose else boundary

    def _corners(self, boundary: Tensor, count: int) -> np.ndarray | None:
        """Top left pixels (N, 2) of tiles with boundaries enough; None if they are rare."""
        size = self._tile_size
        tries = [count * _TRIES, 2]
        corners = self._random.integers(0, [s - size + 1 for s in boundary.shape], tries)
        sums = F.pad(boundary.long().cumsum(0).cumsum(1), (1, 0, 1, 0)).numpy()
        y, x = corners.T
        inside = sums[y + size, x + size] - sums[y, x + size] - sums[y + size, x] + sums[y, x]
        corners = corners[inside >= MIN_SHARE * size**2][:count]
        return corners if len(corners) == count else None

    def _pairs(
        self, boundary: Tensor, corners: np.ndarray, soft: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        size = self._tile_size
        first = torch.stack([boundary[y : y + size, x : x + size] for y, x in corners.tolist()])
        theta = random_transforms(len(corners), self._transform, self._generator)
        picture = boundary.float()
        if soft:
            width = SOFT_WIDTHS[int(self._random.integers(len(SOFT_WIDTHS)))]
            picture = soften(picture, width, float(self._random.uniform(*SOFT_GAINS)))
        return first.float(), transform_tiles(picture, corners, size, theta), theta


def _boundary(
    record: Mapping[str, Any], metadata: Metadata, tile_size: int, boundary_width: int
) -> Tensor:
    """Boundary map (H, W) of a record's label."""
    classes = read_record_classes(record, metadata)
    if min(classes.shape) < tile_size:
        raise ValueError(
            f"tile_size must be at most {min(classes.shape)}, as the label "
            f"{record.get('sem_seg_file_name')!r} has {classes.shape[0]} x {classes.shape[1]} "
            f"pixels, got {tile_size}"
        )
    labels = torch.from_numpy(classes.astype(np.int64))[None]
    return near_boundary(labels, boundary_width, len(metadata.stuff_classes))[0]


def soften(picture: Tensor, width: int, gain: float) -> Tensor:
    """Average (H, W) over an odd number of pixels a side, multiply, and end at 1."""
    maps = picture[None, None]
    for kernel in ((width, 1), (1, width)):
        padding = [side // 2 for side in kernel]
        maps = F.avg_pool2d(maps, kernel, 1, padding, count_include_pad=False)
    return (maps[0, 0] * gain).clamp(max=1)


def transform_tiles(
    picture: Tensor, corners: np.ndarray | Sequence[Sequence[int]], size: int, theta: Tensor
) -> Tensor:
    """Tiles (N, T, T) of a picture (H, W), each transformed, with 0 outside of the picture.

    Args:
        picture: floating point.
        corners: (N, 2), the top left pixels (y, x) of the tiles.
        size: T.
        theta: (N, 3, 3), see :mod:`tile_transforms`.
    """
    # From a tile's (y, x, 1) to the picture's (x, y), each from -1 to 1, as grid_sample wants it.
    height, width = picture.shape
    middles = torch.as_tensor(np.asarray(corners), dtype=theta.dtype) + size / 2
    to_picture = theta.new_zeros(len(theta), 3, 3)
    to_picture[:, 0, 1], to_picture[:, 1, 0] = size / width, size / height
    to_picture[:, 0, 2] = 2 * middles[:, 1] / width - 1
    to_picture[:, 1, 2] = 2 * middles[:, 0] / height - 1
    to_picture[:, 2, 2] = 1
    axis = (2 * torch.arange(size, dtype=theta.dtype) + 1) / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([y, x, torch.ones_like(y)], dim=2).flatten(0, 1)  # (T * T, 3)
    moved = places @ (to_picture @ theta).transpose(1, 2)
    grid = (moved[..., :2] / moved[..., 2:]).unflatten(1, (size, size))
    maps = picture[None, None].expand(len(theta), -1, -1, -1)
    return F.grid_sample(maps, grid, align_corners=False)[:, 0]
