"""The most confident instances of a centre heat map and offsets, as soft maps.

As Panoptic-DeepLab groups pixels (Cheng et al. 2020, https://arxiv.org/abs/1911.10194, Sec. 3.2),
but for a batch, in a fixed number of slots, and with gradients.

Shape legend: B batch, N slots for instances, K classes, h x w cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def instance_maps(
    centers: Tensor,
    offsets: Tensor,
    thing_share: Tensor,
    *,
    max_instances: int,
    threshold: float = 0.1,
    nms_kernel: int = 3,
) -> tuple[Tensor, Tensor]:
    """Find instances and the cells of each.

    The most confident peaks of the heat map are instances, and a cell belongs to the one that its
    offset leads nearest to, by as much as it is a thing. Slots without an instance are empty: of
    score 0 and without cells. Gradients reach the heat map by the scores and ``thing_share`` by
    the maps; the choice of the nearest centre has none.

    Args:
        centers: heat map (B, 1, h, w).
        offsets: from each cell to the centre of its instance (B, 2, h, w), (y, x) in cells.
        thing_share: probability of a cell to be a thing (B, h, w).
        max_instances: N, at most.
        threshold: least score of a centre, above 0.
        nms_kernel: side of the neighbourhood in cells, odd, in which a centre has the highest
            score.

    Returns:
        Maps (B, N, h, w) in [0, 1], and scores (B, N), best first.
    """
    batch, _, height, width = centers.shape
    pooled = F.max_pool2d(centers, nms_kernel, stride=1, padding=nms_kernel // 2)
    is_peak = (centers == pooled) & (centers > threshold)
    heat = torch.where(is_peak, centers, centers.new_zeros(())).flatten(1)  # (B, h * w)
    scores, places = heat.topk(min(max_instances, height * width), dim=1)  # (B, N)
    is_found = scores > 0
    points = torch.stack([places // width, places % width], dim=2).to(offsets.dtype)  # (B, N, 2)
    y = torch.arange(height, device=offsets.device, dtype=offsets.dtype)[:, None]
    x = torch.arange(width, device=offsets.device, dtype=offsets.dtype)[None, :]
    targets = torch.stack([y + offsets[:, 0], x + offsets[:, 1]], dim=3).flatten(1, 2)
    # By differences: the way over a matrix product, which is the default, is not exact.
    distances = torch.cdist(points, targets.detach(), compute_mode="donot_use_mm_for_euclid_dist")
    distances = distances.masked_fill(~is_found[:, :, None], torch.inf)  # (B, N, h * w)
    nearest = distances.argmin(dim=1, keepdim=True)
    masks = torch.zeros_like(distances).scatter_(1, nearest, 1.0) * is_found[:, :, None]
    return masks.view(batch, -1, height, width) * thing_share[:, None], scores
