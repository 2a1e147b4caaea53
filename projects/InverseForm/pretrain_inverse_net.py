#!/usr/bin/env python3
"""Pre-train the network of the inverse-form loss on boundaries of a data set's labels.

    python projects/InverseForm/pretrain_inverse_net.py --output output/inverse_net.pth

Pairs are a tile of a boundary map and the same place transformed at random, as soft as predictions
are. Pictures are not read. It ends with how much of each entry of the transforms the network
explains on tiles of other labels.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from boundary_pairs import BoundaryTiles
from inverse_net import InverseNet, save_inverse_net
from tile_transforms import DISTANCES, TRANSFORMS, from_matrices
from torch import Tensor, nn
from tqdm import trange

from ifa_d2.arguments import command_parser
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.errors import errors_in_one_line
from ifa_d2.evaluation.report import write_json

_DISTANCE = {"affine": "euclidean", "homography": "geodesic"}
_NAMES = ("yy", "yx", "y", "xy", "xx", "x", "py", "px")  # of the entries of a transform
_PICTURES, _TEST_PICTURES = 8, 40


def pretrain(
    net: InverseNet, tiles: BoundaryTiles, *, iterations: int, batch_size: int, learning_rate: float
) -> None:
    """Train a network on pairs of tiles, by the mean of its distance.

    Args:
        net: changed in place.
        tiles: where pairs come from.
        iterations: of AdamW, with the rate rising and falling once.
        batch_size: pairs of an iteration.
        learning_rate: the highest.

    Raises:
        ValueError: see :meth:`BoundaryTiles.draw`; or the loss is not finite.
    """
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=max(iterations, 2)
    )
    pictures = min(_PICTURES, batch_size)
    progress = trange(iterations, desc="pre-training", unit="batch")
    for _ in progress:
        target, moved, theta = tiles.draw(pictures, batch_size // pictures)
        loss = net.distances(theta, net(target, moved)).mean()
        if not loss.isfinite():
            raise ValueError(
                f"the loss became {loss.item()}: --learning-rate must be less than {learning_rate}"
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix(distance=f"{loss.item():.3f}", refresh=False)


@torch.no_grad()
def evaluate(net: InverseNet, target: Tensor, moved: Tensor, theta: Tensor) -> dict[str, Any]:
    """Compare a network's estimates with the transforms of pairs.

    Returns:
        ``r2``, the share of each entry's variance that is explained; ``distance``, the mean
        distance of estimates from the transforms; ``identity``, that of the identity from them;
        ``same``, that of the estimates for tiles and themselves from the identity, and ``flat``,
        for tiles and maps of 0.5.
    """
    maps = (moved, target, torch.full_like(target, 0.5))
    estimate, same, flat = (net(target, one) for one in maps)
    found, true = (from_matrices(each, net.transform) for each in (estimate, theta))
    errors = (found - true).square().mean(dim=0) / true.var(dim=0, correction=0)
    identity = torch.eye(3).expand_as(theta)
    return {
        "r2": dict(zip(_NAMES, (1 - errors).tolist(), strict=False)),
        "distance": net.distances(theta, estimate).mean().item(),
        "identity": net.distances(theta, identity).mean().item(),
        "same": net.distances(identity, same).mean().item(),
        "flat": net.distances(identity, flat).mean().item(),
    }


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="the network's file, a .pth"
    )
    parser.add_argument(
        "--dataset",
        default="shapes_train",
        metavar="NAME",
        help="whose labels to learn from (default: shapes_train)",
    )
    parser.add_argument(
        "--test-dataset",
        nargs="+",
        default=["shapes_val"],
        metavar="NAME",
        help="whose labels to test on (default: shapes_val)",
    )
    parser.add_argument(
        "--transform",
        choices=tuple(TRANSFORMS),
        default="affine",
        help="that a tile and its copy differ by (default: affine)",
    )
    parser.add_argument(
        "--distance",
        choices=tuple(DISTANCES),
        help="of transforms, to train by and in the loss (default: euclidean, of homographies "
        "geodesic)",
    )
    for name, default, text in (
        ("tile-size", 64, "pixels a side of a tile"),
        ("cells", 16, "cells a side that a tile is averaged to"),
        ("boundary-width", 2, "pixels on either side of a boundary, as of the boundary head"),
        ("iterations", 6000, "batches"),
        ("batch-size", 256, "pairs of a batch"),
        ("seed", 1, "of all random numbers"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    parser.add_argument(
        "--hidden",
        type=int,
        nargs="+",
        default=(512, 64),
        metavar="N",
        help="widths of the hidden layers (default: 512 64)",
    )
    parser.add_argument(
        "--learning-rate", type=float, default=2e-3, metavar="R", help="highest (default: 2e-3)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write there how good the network is"
    )
    args = parser.parse_args()
    if args.output.suffix != ".pth":
        parser.error(f"--output must end in .pth, got {args.output}")
    for name in ("iterations", "batch_size", "boundary_width"):
        if getattr(args, name) < 1:
            parser.error(
                f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}"
            )
    if not args.learning_rate > 0:
        parser.error(f"--learning-rate must be above 0, got {args.learning_rate}")
    return args


def describe(figures: Mapping[str, Any], dataset: str) -> str:
    """Say in words what :func:`evaluate` has found."""
    shares = ", ".join(f"{name} {value:.2f}" for name, value in figures["r2"].items())
    return (
        f"On {dataset}: R2 {shares}; mean distance from the transform {figures['distance']:.3f}, "
        f"where the identity's is {figures['identity']:.3f}; {figures['same']:.3f} of equal tiles, "
        f"{figures['flat']:.3f} of a map of 0.5"
    )


def main() -> None:
    """Train, test and write the network."""
    args = parse_args()
    torch.manual_seed(args.seed)
    net = InverseNet(
        transform=args.transform,
        distance=args.distance or _DISTANCE[args.transform],
        tile_size=args.tile_size,
        num_cells=args.cells,
        hidden_dims=args.hidden,
    )
    options = {
        "transform": args.transform,
        "tile_size": args.tile_size,
        "boundary_width": args.boundary_width,
    }
    tiles = BoundaryTiles(args.dataset, seed=args.seed, **options)
    pairs = {
        name: BoundaryTiles(name, seed=args.seed, **options).draw(_TEST_PICTURES, 25, soft=False)
        for name in args.test_dataset
    }
    check_command_outputs([args.output, args.json], datasets=[args.dataset, *args.test_dataset])
    settings = {"iterations": args.iterations, "batch_size": args.batch_size}
    pretrain(net, tiles, learning_rate=args.learning_rate, **settings)
    figures = {name: evaluate(net.eval(), *drawn) for name, drawn in pairs.items()}
    notes = {
        "dataset": args.dataset,
        "boundary_width": args.boundary_width,
        "learning_rate": args.learning_rate,
        "seed": args.seed,
        **settings,
    }
    save_inverse_net(net, args.output, notes)
    if args.json:
        write_json(args.json, {**net.settings, **notes, "test": figures})
    for name, found in figures.items():
        print(describe(found, name))
    print(f"Network of tiles of {args.tile_size} x {args.tile_size} pixels in {args.output}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
