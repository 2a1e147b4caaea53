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
import sys
from pathlib import Path

from ifa_d2.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
)
from ifa_d2.choices import DECODES, EXPORT_FORMATS
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument("--format", required=True, choices=EXPORT_FORMATS, help="file format")
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
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.export_model import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line(ImportError):
        sys.exit(main())
