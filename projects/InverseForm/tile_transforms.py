"""Transforms of tiles: random ones, and how far one is from another.

A transform is a matrix of 3 x 3 on (y, x, 1), with y and x from -1 at a tile's top or left border
to 1 at its bottom or right one; what moves is what is shown: tile b of tile a has b(p) = a(theta
p). The identity leaves it.

Shape legend: N transforms.
"""

import math
from typing import Any

import torch
from torch import Tensor

# The entries that a network gives as differences from the identity, by rows.
TRANSFORMS = {
    "affine": ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)),
    "homography": ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)),
}
# Ranges of random transforms: shift as a share of a tile's side, scale of each axis, rotation, and
# the two entries of perspective.
MAX_SHIFT = 0.1
MAX_SCALE = 1.25
MAX_ANGLE = math.radians(15)
MAX_PERSPECTIVE = 0.1


def to_matrices(values: Tensor, transform: str) -> Tensor:
    """Matrices (N, 3, 3) of entries less the identity's, (N, 6) or (N, 8), see ``TRANSFORMS``."""
    rows, columns = torch.tensor(TRANSFORMS[transform], device=values.device).unbind(1)
    flat = torch.eye(3, dtype=values.dtype, device=values.device).flatten().expand(len(values), 9)
    return flat.index_add(1, 3 * rows + columns, values).unflatten(1, (3, 3))


def from_matrices(matrices: Tensor, transform: str) -> Tensor:
    """Entries less the identity's, (N, 6) or (N, 8), of matrices (N, 3, 3)."""
    rows, columns = torch.tensor(TRANSFORMS[transform]).unbind(1)
    identity = torch.eye(3, dtype=matrices.dtype, device=matrices.device)
    return (matrices - identity)[:, rows, columns]


def rotation(angles: Tensor) -> Tensor:
    """Matrices (N, 3, 3) that turn what is shown by angles (N,), in radians, y towards x."""
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    rows = [cosine, sine, zero, -sine, cosine, zero, zero, zero, zero + 1]
    return torch.stack(rows, dim=1).unflatten(1, (3, 3))


def random_transforms(count: int, transform: str, generator: torch.Generator) -> Tensor:
    """Draw matrices (N, 3, 3), each part uniform in its range; scales by their logarithm."""

    def uniform(limit: float) -> Tensor:
        return limit * (2 * torch.rand(count, generator=generator) - 1)

    scale = torch.eye(3).repeat(count, 1, 1)
    for axis in (0, 1):
        scale[:, axis, axis] = uniform(math.log(MAX_SCALE)).exp()
    matrices = rotation(uniform(MAX_ANGLE)) @ scale
    for axis in (0, 1):
        matrices[:, axis, 2] = uniform(2 * MAX_SHIFT)
    if transform == "homography":
        for axis in (0, 1):
            matrices[:, 2, axis] = uniform(MAX_PERSPECTIVE)
    return matrices


def euclidean_distance(theta: Tensor, estimate: Tensor) -> Tensor:
    """Frobenius norm of the difference of matrices (N, 3, 3), (N,)."""
    return torch.linalg.matrix_norm(estimate - theta)


def geodesic_distance(theta: Tensor, estimate: Tensor, residual_weight: float = 0.1) -> Tensor:
    """Angle of the rotation nearest to ``theta^-1 estimate``, and what is left, (N,).

    With M that product, P the rotation nearest to it and R = M - P, it is ``arccos((tr P - 1) / 2)
    + residual_weight tr(R^T R)``, as of AETv2 (Qi et al. 2019), which the paper takes. The angle is
    computed by its sine and cosine, whose gradient is finite.

    Args:
        theta: (N, 3, 3), invertible.
        estimate: (N, 3, 3).
        residual_weight: the paper's lambda.
    """
    product = torch.linalg.solve(theta, estimate)
    nearest = _NearestRotation.apply(product)
    rest = product - nearest
    cosine = (nearest.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2
    # Its norm is the sine times the square root of 8, and has the gradient 0 at 0.
    sine = torch.linalg.matrix_norm(nearest - nearest.transpose(1, 2)) / math.sqrt(8)
    return torch.atan2(sine, cosine) + residual_weight * rest.square().sum(dim=(1, 2))


DISTANCES = {"euclidean": euclidean_distance, "geodesic": geodesic_distance}


class _NearestRotation(torch.autograd.Function):
    """The rotation nearest to each matrix, ``U diag(1, 1, det(U V^T)) V^T``.

    The gradient of a singular value decomposition is infinite where two singular values are equal,
    as they are for the identity; that of the rotation is not. With M = P H, H symmetric and of
    eigenvalues h, it follows from ``P^T dM - dM^T P = W H + H W`` for dP = P W.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        left, values, right = torch.linalg.svd(matrices)
        signs = torch.ones_like(values)
        signs[:, 2] = torch.linalg.det(left @ right).sign()
        nearest = (left * signs[:, None]) @ right
        ctx.save_for_backward(nearest, right, signs * values)
        return nearest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        nearest, right, values = ctx.saved_tensors
        sums = values[:, :, None] + values[:, None]
        tiny = torch.finfo(sums.dtype).eps
        inner = right @ nearest.transpose(1, 2) @ gradient @ right.transpose(1, 2)
        inner = inner / sums.where(sums.abs() > tiny, torch.inf)
        return nearest @ right.transpose(1, 2) @ (inner - inner.transpose(1, 2)) @ right
