"""The work of ``tools/export_model.py``."""

import argparse

import torch
from omegaconf import DictConfig

from ..engine.build import build_test_mapper
from ..engine.export import ExportMismatchError, export_model
from ..engine.export_metadata import model_metadata
from ..engine.inputs import read_input
from ..engine.outputs import check_command_outputs
from ..engine.predictor import Predictor, load_model
from ..engine.run import load_config
from ..errors import errors_in_one_line


def channel_order(cfg: DictConfig) -> str:
    """Of the model's input, in words."""
    return "the model's" if is_model_alone(cfg) else build_test_mapper(cfg).image_format


def is_model_alone(cfg: DictConfig) -> bool:
    """Whether a recipe says nothing of pictures."""
    return "dataloader" not in cfg


def run(args: argparse.Namespace) -> None:
    """Export, and say how far the file is from the model."""
    with errors_in_one_line(ExportMismatchError):
        export(args)


def export(args: argparse.Namespace) -> None:
    """Write the file, and print what it was compared with."""
    cfg = load_config(args.config_file, args.opts)
    check_command_outputs(
        [args.output],
        config_file=args.config_file,
        model=(cfg, args.weights, args.opts),
        others={"picture": args.image},
    )
    order = channel_order(cfg)
    if is_model_alone(cfg):
        predictor = Predictor(load_model(cfg, args.weights, args.opts))
    else:
        predictor = Predictor.build(cfg, args.weights, args.opts)
    predictor.model.to(torch.device(args.device))
    metadata, count = model_metadata(predictor), predictor.model.pixel_mean.numel()
    if is_model_alone(cfg):
        del metadata["channel_order"]  # which nothing says
    checks = export_model(
        predictor,
        args.output,
        args.format,
        decode=args.decode,
        output_size_input=args.output_size == "input",
        test_resize=not args.no_test_resize,
        semantic_only=args.semantic_only,
        example_size=tuple(args.input_size),
        pictures=[
            read_input(path, predictor.image_format, count, predictor.nodata) for path in args.image
        ],
        tolerance=args.tolerance,
        metadata=metadata,
    )
    for check in checks:
        picture, output = ("x".join(map(str, s)) for s in (check.image_size, check.output_size))
        print(
            f"picture {picture}, output {output}: differs from the Predictor by {check.error:.1e} "
            f"of the largest logit (tolerance {args.tolerance:.0e}), "
            f"{100 * check.labels:.3f} % of the labels are the same"
        )
    mebibytes = args.output.stat().st_size / 2**20
    print(f"{args.output}: {args.format}, {mebibytes:.1f} MiB, image in {order} order")
    left_out = predictor.augmentations.augs if args.no_test_resize else []
    for one in left_out:
        print(f"not in the program, apply it to pictures first: {one}")
    if args.semantic_only:
        print("of a panoptic model the program gives semantic logits alone, without instances")
