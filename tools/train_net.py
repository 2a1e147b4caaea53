#!/usr/bin/env python
"""Train or evaluate a model.

    python tools/train_net.py --config-file configs/shapes/ifa_r18.py
    python tools/train_net.py --config-file configs/shapes/ifa_r18.py --eval-only \
        train.init_checkpoint=output/shapes/ifa_r18/model_final.pth
"""

import argparse
import sys

from ifa_d2.engine import Trainer
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.run import argument_parser, launch_run, load_config, setup_run
from ifa_d2.engine.settings import TrainSettings


def main(args: argparse.Namespace) -> dict:
    """Train or evaluate in one process; returns the figures, on the main one."""
    cfg = load_config(args.config_file, args.opts)
    setup_run(cfg, eval_only=args.eval_only)
    if not args.eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    settings = TrainSettings.from_config(cfg)
    model = Trainer.build_model(cfg)
    checkpointer = Checkpointer(model, settings.output_dir)
    if not settings.init_checkpoint and not checkpointer.has_checkpoint():
        raise ValueError(
            "nothing to evaluate: name the weights with train.init_checkpoint=FILE "
            f"(MODEL.WEIGHTS=FILE for .yaml), or train first: {settings.output_dir} has none"
        )
    checkpointer.resume_or_load(
        settings.init_checkpoint, resume=args.resume or not settings.init_checkpoint
    )
    return Trainer.test(cfg, model)


if __name__ == "__main__":
    arguments = argument_parser(__doc__.splitlines()[0]).parse_args()
    try:
        launch_run(main, arguments)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")
