#!/usr/bin/env python
"""Write a model to one file that runs without this package: TorchScript, ONNX or torch.export.

    python tools/export_model.py --config-file camvid/ifa_r18.py \\
        --weights output/camvid/ifa_r18/model_best.pth --format onnx --output ifa_r18.onnx

The program in the file takes

- image: (B, 3, H, W) uint8, pictures of one size, channels in the order of the model's input, which
  the command prints (RGB for all recipes here); any B, H and W, for torch.export H and W above 32;
  of a model of bands (B, C, H, W) uint8 or float32, NaN where there is no data;
- size, with --output-size input: (2,) int64, the height and width of the output;

and gives logits, (B, classes, height, width) float32, at that size or the picture's own.
The config's resize before the model, normalisation and padding are part of it. Before the file gets
its name it is loaded and compared with a Predictor's logits, on drawn streets of three sizes,
two of them odd, and on the pictures of --image; where it differs there is no file, and the command
ends with status 1. The file's metadata hold names and colours of the classes, channel order,
normalisation and the ignored label: docs/EXPORT.md says how to read them.
"""

import argparse
from pathlib import Path

import torch
from omegaconf import DictConfig

from ifa_d2.engine.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
    errors_in_one_line,
)
from ifa_d2.engine.build import build_test_mapper
from ifa_d2.engine.export import DECODES, FORMATS, ExportMismatchError, export_model
from ifa_d2.engine.export_metadata import model_metadata
from ifa_d2.engine.inputs import read_input
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.predictor import Predictor, load_model
from ifa_d2.engine.run import load_config


def parse_arguments(args: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument("--format", required=True, choices=FORMATS, help="file format")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="file to write")
    parser.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        default=(192, 256),
        metavar=("H", "W"),
        help="size of the example that is recorded and checked; the file takes any "
        "(default: 192 256)",
    )
    parser.add_argument(
        "--output-size",
        choices=("picture", "input"),
        default="picture",
        help="size of the output: the picture's own (default), or an input named size",
    )
    parser.add_argument(
        "--decode",
        choices=DECODES,
        default=DECODES[0],
        help="evaluate the field at each sample of the output (pixels, the default), or at the "
        "finest feature's cells and interpolate, as SemanticSegmentor does, for about a sixteenth "
        "of the decoder's time and memory (grid)",
    )
    parser.add_argument(
        "--image", nargs="+", default=[], metavar="FILE", help="pictures to compare on as well"
    )
    parser.add_argument(
        "--no-test-resize",
        action="store_true",
        help="leave the config's resize out of the program: its pictures are resized before",
    )
    parser.add_argument(
        "--semantic-only",
        action="store_true",
        help="write the semantic half of a panoptic model, which is refused without this",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="device the exported program runs on; an ONNX file is bound to none (default: cpu)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        metavar="SHARE",
        help="largest difference from the Predictor, as a share of the largest logit "
        "(default: 1e-4)",
    )
    add_overrides_argument(parser)
    return parser.parse_args(args)


def channel_order(cfg: DictConfig) -> str:
    """Of the model's input, in words."""
    return "the model's" if is_model_alone(cfg) else build_test_mapper(cfg).image_format


def is_model_alone(cfg: DictConfig) -> bool:
    """Whether a recipe says nothing of pictures."""
    return "dataloader" not in cfg


def main(args: list[str] | None = None) -> None:
    """Export, and say how far the file is from the model."""
    options = parse_arguments(args)
    cfg = load_config(options.config_file, options.opts)
    check_command_outputs(
        [options.output],
        config_file=options.config_file,
        model=(cfg, options.weights, options.opts),
        others={"picture": options.image},
    )
    order = channel_order(cfg)
    if is_model_alone(cfg):
        predictor = Predictor(load_model(cfg, options.weights, options.opts))
    else:
        predictor = Predictor.build(cfg, options.weights, options.opts)
    predictor.model.to(torch.device(options.device))
    metadata, count = model_metadata(predictor), predictor.model.pixel_mean.numel()
    if is_model_alone(cfg):
        del metadata["channel_order"]  # which nothing says
    checks = export_model(
        predictor,
        options.output,
        options.format,
        decode=options.decode,
        output_size_input=options.output_size == "input",
        test_resize=not options.no_test_resize,
        semantic_only=options.semantic_only,
        example_size=tuple(options.input_size),
        pictures=[
            read_input(path, predictor.image_format, count, predictor.nodata)
            for path in options.image
        ],
        tolerance=options.tolerance,
        metadata=metadata,
    )
    for check in checks:
        picture, output = ("x".join(map(str, s)) for s in (check.image_size, check.output_size))
        print(
            f"picture {picture}, output {output}: differs from the Predictor by {check.error:.1e} "
            f"of the largest logit (tolerance {options.tolerance:.0e}), "
            f"{100 * check.labels:.3f} % of the labels are the same"
        )
    mebibytes = options.output.stat().st_size / 2**20
    print(f"{options.output}: {options.format}, {mebibytes:.1f} MiB, image in {order} order")
    left_out = predictor.augmentations.augs if options.no_test_resize else []
    for one in left_out:
        print(f"not in the program, apply it to pictures first: {one}")
    if options.semantic_only:
        print("of a panoptic model the program gives semantic logits alone, without instances")


if __name__ == "__main__":
    with errors_in_one_line(ImportError, ExportMismatchError):
        main()
