"""The inverse transformation network, which tells by which transform two tiles differ.

Shape legend: N tiles of T x T pixels, s x s cells that a tile is averaged to.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tile_transforms import DISTANCES, TRANSFORMS, to_matrices
from torch import Tensor, nn

from ifa_d2.checkpoints.foreign_weights import read_weights_file
from ifa_d2.files import atomic_path

_FORMAT = "inverse_net"  # in a file, of its version
_VERSION = 1


class InverseNet(nn.Module):
    """Estimate the transform between a boundary map and another one, both cut to tiles.

    Both tiles are averaged to cells, laid one behind the other, and pass linear layers with ReLU.

    Args:
        transform: "affine" or "homography".
        distance: that it is trained by, "euclidean" or "geodesic".
        tile_size: T, in pixels.
        num_cells: s; it divides ``tile_size``.
        hidden_dims: of the layers before the last one.

    Raises:
        ValueError: an argument that is none of these.
    """

    def __init__(
        self,
        *,
        transform: str = "affine",
        distance: str = "euclidean",
        tile_size: int = 64,
        num_cells: int = 16,
        hidden_dims: Sequence[int] = (512, 64),
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("transform", transform, TRANSFORMS),
            ("distance", distance, DISTANCES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if num_cells < 1 or tile_size < 1 or tile_size % num_cells:
            raise ValueError(
                "tile_size must be a multiple of num_cells, both above 0, got "
                f"{tile_size} and {num_cells}"
            )
        if not hidden_dims or min(hidden_dims) < 1:
            raise ValueError(f"hidden_dims must be one or more sizes, got {list(hidden_dims)}")
        self.transform = transform
        self.distance = distance
        self.tile_size = tile_size
        self.num_cells = num_cells
        self.hidden_dims = tuple(hidden_dims)
        widths = [2 * num_cells**2, *hidden_dims, len(TRANSFORMS[transform])]
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in itertools.pairwise(widths))

    @property
    def settings(self) -> dict[str, Any]:
        """Its arguments."""
        return {
            "transform": self.transform,
            "distance": self.distance,
            "tile_size": self.tile_size,
            "num_cells": self.num_cells,
            "hidden_dims": list(self.hidden_dims),
        }

    def forward(self, target: Tensor, prediction: Tensor) -> Tensor:
        """Estimate matrices (N, 3, 3) that take tiles of ``target`` to those of ``prediction``.

        Args:
            target, prediction: (N, T, T) in [0, 1].

        Raises:
            ValueError: tiles of another size.
        """
        shape = (len(target), self.tile_size, self.tile_size)
        if target.shape != shape or prediction.shape != shape:
            raise ValueError(
                f"target and prediction must be tiles of tile_size {self.tile_size}, got "
                f"{tuple(target.shape)} and {tuple(prediction.shape)}"
            )
        step = self.tile_size // self.num_cells
        x = F.avg_pool2d(torch.stack([target, prediction], dim=1), step).flatten(1)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return to_matrices(self.layers[-1](x), self.transform)

    def distances(self, theta: Tensor, estimate: Tensor) -> Tensor:
        """Distances (N,) of matrices (N, 3, 3) as it is trained by."""
        return DISTANCES[self.distance](theta, estimate)


def save_inverse_net(net: InverseNet, path: str | os.PathLike[str], notes: Mapping) -> None:
    """Write a network in half precision, with its settings, all at once.

    Args:
        net: the network.
        path: the file.
        notes: of plain types, on how it was trained.
    """
    content = {
        _FORMAT: _VERSION,
        "settings": net.settings,
        "notes": dict(notes),
        "model": {name: value.half() for name, value in net.state_dict().items()},
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_inverse_net(path: str | os.PathLike[str], *, tile_size: int | None = None) -> InverseNet:
    """Read a network that ``pretrain_inverse_net.py`` wrote, in single precision and frozen.

    Its tensors are buffers: no optimizer finds them, and checkpoints of a model with it leave them
    to the file.

    Args:
        path: the file.
        tile_size: that it must have; None is any.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or none of a network, or has tiles of another size.
    """
    path = Path(path)
    how = f"`python projects/InverseForm/pretrain_inverse_net.py --output {path}` makes one"
    if not path.is_file():
        raise FileNotFoundError(
            f"inverse net {path} does not exist: {how}, and a model that only predicts does "
            "without, with inverse_form=null of its boundary head"
        )
    content = read_weights_file(str(path))
    if content.get(_FORMAT) != _VERSION:
        raise ValueError(f"{path} is no inverse net of this version: {how}")
    settings = content["settings"]
    if tile_size is not None and settings["tile_size"] != tile_size:
        raise ValueError(
            f"tile_size must be {settings['tile_size']}, that of the inverse net {path}, got "
            f"{tile_size}: pre-train another with `python "
            f"projects/InverseForm/pretrain_inverse_net.py --tile-size {tile_size} --output FILE`"
        )
    with torch.device("cpu"):
        net = InverseNet(**settings)
    try:
        net.load_state_dict(content["model"])
    except RuntimeError as error:
        raise ValueError(f"{path} has other weights than its settings {settings} say") from error
    for module in net.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach(), persistent=False)
    return net.eval()
