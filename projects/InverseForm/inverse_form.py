"""The inverse-form loss: how far a predicted boundary map is from the true one, as a transform.

Shape legend: B batch, H x W pixels, N tiles of T x T pixels.
"""

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from inverse_net import load_inverse_net
from torch import Tensor, nn

# Of transforms of 64 x 64 pixels, pre-trained on drawn scenes; see the project's page.
DEFAULT_NET = Path(__file__).with_name("inverse_net.pth")


class InverseFormLoss(nn.Module):
    """Mean distance from the identity of the transforms that tiles differ by.

    Both maps are cut to tiles, and a frozen network estimates each tile's transform. Tiles without
    any boundary in the target are left out.

    Args:
        net_file: that ``pretrain_inverse_net.py`` has written; None is the project's own.
        tile_size: T that the file must have, in pixels; None is any.
        loss_weight: factor of the loss.

    Raises:
        FileNotFoundError, ValueError: see :func:`inverse_net.load_inverse_net`; a weight that is
            not positive.
    """

    def __init__(
        self,
        *,
        net_file: str | os.PathLike[str] | None = None,
        tile_size: int | None = None,
        loss_weight: float = 0.3,
    ) -> None:
        super().__init__()
        if not 0 < loss_weight < float("inf"):
            raise ValueError(
                f"loss_weight of the inverse form must be above 0, got {loss_weight}: "
                "inverse_form=null of the boundary head leaves it out"
            )
        self.net = load_inverse_net(net_file or DEFAULT_NET, tile_size=tile_size)
        self.loss_weight = loss_weight

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; 0, with a gradient of 0, where the target has no boundary.

        Args:
            prediction: (B, H, W) probabilities of a boundary, with a gradient.
            target: (B, H, W) in [0, 1].
        """
        predicted, true = (cut_tiles(maps, self.net.tile_size) for maps in (prediction, target))
        kept = true.flatten(1).any(dim=1)
        predicted, true = predicted[kept], true[kept].to(predicted.dtype)
        if not len(true):
            return prediction[..., :0].sum()
        estimate = self.net(true, predicted)
        identity = torch.eye(3, dtype=estimate.dtype, device=estimate.device)
        distances = self.net.distances(identity.expand_as(estimate), estimate)
        return distances.mean() * self.loss_weight


def cut_tiles(maps: Tensor, size: int) -> Tensor:
    """Cut maps (B, H, W) to tiles (N, T, T), by rows; what is cut off at the end is filled with 0.

    Of a picture whose sides are no multiples of T, the last tiles lie across its border.
    """
    height, width = maps.shape[1:]
    maps = F.pad(maps, (0, -width % size, 0, -height % size))
    tiles = maps.unflatten(1, (-1, size)).unflatten(3, (-1, size))
    return tiles.transpose(2, 3).flatten(0, 2)
