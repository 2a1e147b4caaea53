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

from omegaconf import DictConfig, OmegaConf

from ifa_d2 import Predictor
from ifa_d2.demo import find_metadata
from ifa_d2.engine.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
    errors_in_one_line,
)
from ifa_d2.engine.inference import add_window_arguments, apply_window_arguments, check_inference
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.run import load_config


def parse_arguments() -> argparse.Namespace:
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
    return parser.parse_args()


def class_colors(cfg: DictConfig, predictor: Predictor) -> list[list[int]] | None:
    """Colours of the config's test data, if it has as many as the model has classes."""
    try:
        colors = find_metadata(cfg).get("stuff_colors")
    except ValueError:
        return None
    known = colors is not None and len(colors) == predictor.model.sem_seg_head.num_classes
    return colors if known else None


def main() -> None:
    """Segment, and say what was written."""
    from ifa_d2.rasters import WINDOW, segment_raster  # where rasterio lacks, that is a line too

    args = parse_arguments()
    cfg = load_config(args.config_file, args.opts)
    apply_window_arguments(cfg, args, WINDOW)
    check_inference(cfg)
    options = OmegaConf.to_container(cfg.inference, resolve=True)
    if options.get("tta"):
        raise ValueError("inference.tta must be off for a raster, which is shown once")
    check_command_outputs(
        [args.output],
        config_file=args.config_file,
        model=(cfg, args.weights, args.opts),
        others={"raster": [args.input]},
    )
    predictor = Predictor.build(cfg, args.weights, args.opts)
    names = ("window", "stride", "blend", "batch_size")
    try:
        height, width = segment_raster(
            predictor,
            args.input,
            args.output,
            scale=args.scale,
            ground_distance=args.ground_distance,
            num_processes=args.num_processes,
            resume=args.resume,
            colors=None if args.no_colors else class_colors(cfg, predictor),
            **{name: options[name] for name in names if options.get(name) is not None},
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("go on with --resume") from None
    print(f"{height} x {width} labels in {args.output}")


if __name__ == "__main__":
    with errors_in_one_line(ImportError):
        main()
