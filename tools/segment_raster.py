#!/usr/bin/env python
"""Segment a raster of any size, such as a GeoTIFF, in bounded memory.

    python tools/segment_raster.py --config-file camvid/ifa_lite0_frozen.py \\
        --weights ifa_d2://camvid/ifa_lite0_frozen --input ortho.tif --output labels.tif
    python tools/segment_raster.py --config-file camvid/ifa_lite0_frozen.py \\
        --weights ifa_d2://camvid/ifa_lite0_frozen --input ortho.tif --output fine.tif \\
        --ground-distance 0.1

The raster is read window by window, and class ids are written as a Cloud-optimised GeoTIFF with its
georeference and the colours of the classes; 255 is where there are no data. Big JPEG, PNG and TIFF
pictures do as well. Finished blocks lie in .NAME.parts beside the output: a run that was
interrupted goes on with --resume, to the same bytes. Needs rasterio.
"""

import argparse
import sys

from ifa_d2.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    add_window_arguments,
    command_parser,
)
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument("--input", required=True, metavar="FILE", help="a raster that GDAL reads")
    parser.add_argument("--output", required=True, metavar="FILE", help="a new .tif for its labels")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--scale", type=float, metavar="F", help="samples for a pixel along each axis (default: 1)"
    )
    size.add_argument(
        "--ground-distance",
        type=float,
        metavar="M",
        help="metres between samples, of a raster in a projected coordinate system",
    )
    parser.add_argument(
        "--num-processes",
        type=int,
        default=1,
        metavar="N",
        help="processes, each on one processor; the bytes are the same (default: 1)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--no-colors", action="store_true", help="write no colour table")
    group = parser.add_argument_group("windows", "what the config says, unless given here")
    add_window_arguments(group, window="768 768", blend="gaussian")
    add_overrides_argument(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.segment_raster import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line(ImportError):
        sys.exit(main())
