#!/usr/bin/env python
"""Segment pictures, videos or a camera, and draw the predictions.

    python tools/demo.py --config-file shapes/ifa_r18.py --input street.jpg photos/ 'more/*.png' \\
        --output drawn
    python tools/demo.py --config-file shapes/ifa_r18.py --input street.jpg --output zoomed.png \\
        --crop 40 100 72 132 --zoom 16
    python tools/demo.py --config-file shapes/ifa_r18.py --input drive.mp4 --output segmented.webm
    python tools/demo.py --config-file shapes/ifa_r18.py --input photos/ --save-labels labels
    python tools/demo.py --config-file shapes/ifa_r18.py --webcam
    python tools/demo.py --config-file shapes/ifa_r18.py --dataset shapes_val --num 8 --output drawn

The exit status is 1 if a picture could not be read; the others are drawn all the same.
"""

import argparse
import sys

from ifa_d2.arguments import (
    add_config_argument,
    add_drawing_arguments,
    add_inference_arguments,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
)
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    _add_input_arguments(parser)
    _add_view_arguments(parser)
    add_inference_arguments(parser, crop=True)
    add_overrides_argument(parser)
    args = parser.parse_args(argv)
    if args.output is None and args.save_labels is None and args.webcam is None:
        parser.error(
            "--output or --save-labels is needed: only a camera can be shown on the screen"
        )
    return args


def _add_input_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--input", nargs="+", metavar="FILE", help="pictures, glob patterns, folders; or one video"
    )
    source.add_argument("--dataset", metavar="NAME", help="draw pictures of this data set")
    source.add_argument(
        "--webcam", type=int, nargs="?", const=0, metavar="N", help="a camera, by default the first"
    )
    parser.add_argument(
        "--ground-truth",
        nargs="+",
        metavar="FILE",
        help="label files of the pictures, in their order",
    )
    parser.add_argument(
        "--num",
        type=int,
        default=12,
        metavar="N",
        help="number of pictures of the data set, evenly spread (default: 12)",
    )
    parser.add_argument(
        "--frames", type=int, metavar="N", help="end a video or camera after this many frames"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="threads that read pictures ahead (default: 2)",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="a folder; a .png or .jpg for one picture; for a video .webm or .mp4 (VP9, which "
        "browsers play), .mkv or .mov (MPEG-4), or .avi (motion JPEG)",
    )
    parser.add_argument(
        "--save-labels",
        metavar="DIR",
        help="a new folder for predicted class ids, as PNGs named after the pictures",
    )


def _add_view_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("view", "what is predicted and how it is drawn")
    group.add_argument(
        "--crop",
        nargs=4,
        type=int,
        metavar=("Y0", "X0", "Y1", "X1"),
        help="predict this part of every picture alone, in pixels",
    )
    size = group.add_mutually_exclusive_group()
    size.add_argument(
        "--zoom",
        type=float,
        metavar="F",
        help="samples decoded for each pixel, along each axis (default: 1)",
    )
    size.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="size of the output in samples, instead of --zoom",
    )
    group.add_argument(
        "--confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="hide pixels, or a panoptic model's instances, below this probability (default: 0)",
    )
    group.add_argument(
        "--opacity",
        type=float,
        default=0.6,
        metavar="A",
        help="opacity of the colours, 0 to 1 (default: 0.6)",
    )
    group.add_argument(
        "--entropy",
        action="store_true",
        help="draw the entropy of the probabilities beside the prediction, as a share of ln K: 0 "
        "is certain, 1 that all K classes are equally probable",
    )
    group.add_argument("--no-names", action="store_true", help="write no class names")
    add_drawing_arguments(group)
    group.add_argument(
        "--layout",
        choices=("row", "overlay"),
        help="image, prediction and ground truth side by side (default for pictures and with "
        "--entropy), or the drawing over the image alone (default for videos)",
    )


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.demo import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
