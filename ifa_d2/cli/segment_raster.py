"""The work of ``tools/segment_raster.py``."""

import argparse

from omegaconf import DictConfig, OmegaConf

from ..demo import find_metadata
from ..engine.inference import apply_window_arguments, check_inference
from ..engine.outputs import check_command_outputs
from ..engine.predictor import Predictor
from ..engine.run import load_config


def class_colors(cfg: DictConfig, predictor: Predictor) -> list[list[int]] | None:
    """Colours of the config's test data, if it has as many as the model has classes."""
    try:
        colors = find_metadata(cfg).get("stuff_colors")
    except ValueError:
        return None
    known = colors is not None and len(colors) == predictor.model.sem_seg_head.num_classes
    return colors if known else None


def run(args: argparse.Namespace) -> None:
    """Segment, and say what was written."""
    from ..rasters import WINDOW, segment_raster  # where rasterio lacks, that is a line too

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
