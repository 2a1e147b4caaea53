#!/usr/bin/env python3
"""Weights of a main and of an auxiliary model, in one checkpoint for a recipe of both.

    python projects/AuxAdapt/join_weights.py \\
        --config-file projects/AuxAdapt/configs/camvid/auxadapt_lite0.py \\
        --main ifa_d2://camvid/ifa_lite0_frozen \\
        --auxiliary output/camvid/half_lite0/model_final.pth --output output/auxadapt.pth
"""

import argparse
from pathlib import Path

import torch
from torch import nn

from ifa_d2.arguments import add_config_argument, add_overrides_argument, command_parser
from ifa_d2.engine.build import build_model
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.run import load_config
from ifa_d2.errors import errors_in_one_line
from ifa_d2.files import atomic_path

PARTS = ("main", "auxiliary")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    for part in PARTS:
        parser.add_argument(
            f"--{part}", required=True, metavar="FILE", help=f"checkpoint of the {part} model"
        )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="the joined checkpoint, a .pth"
    )
    add_overrides_argument(parser)
    args = parser.parse_args()
    if args.output.suffix != ".pth":
        parser.error(f"--output must end in .pth, got {args.output}")
    return args


def load_parts(model: nn.Module, weights: dict[str, str]) -> None:
    """Load a checkpoint into each part of a model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the model has no such part, or the checkpoint is not of that part.
    """
    for part, path in weights.items():
        if not isinstance(getattr(model, part, None), nn.Module):
            raise ValueError(f"the config's model must have a part {part}, got {type(model)}")
        Checkpointer(getattr(model, part)).load_trained(path)


def main() -> None:
    """Join the checkpoints, and say where they are."""
    args = parse_args()
    cfg = load_config(args.config_file, args.opts)
    weights = {part: getattr(args, part) for part in PARTS}
    check_command_outputs(
        [args.output], config_file=args.config_file, others={"weights": weights.values()}
    )
    model = build_model(cfg, pretrained=False)
    load_parts(model, weights)
    with atomic_path(args.output) as temporary:
        torch.save({"model": model.state_dict()}, temporary)
    print(f"{' and '.join(PARTS)} in {args.output}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
