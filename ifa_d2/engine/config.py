"""yacs keys of training that Detectron2 does not have, and its defaults that differ here."""

import torch
from detectron2.config import CfgNode


def add_train_config(cfg: CfgNode) -> None:
    """Add the keys of schedule, optimiser, input and run to a Detectron2 config, in place.

    Besides the new keys this changes these defaults: RGB input with ImageNet's mean and standard
    deviation, the poly schedule without warm-up, an output directory named after the config file,
    and the CPU where there is no GPU.
    """
    cfg.INPUT.FORMAT = "RGB"
    # Random scale of the image in training, a range of factors.
    cfg.INPUT.SCALE_RANGE = (0.5, 2.0)
    cfg.INPUT.COLOR_JITTER = True
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

    # "SGD" or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # "WarmupPolyLR" or any schedule of Detectron2.
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupPolyLR"
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.WARMUP_ITERS = 0
    # Learning rate of everything but the backbone, times BASE_LR.
    cfg.SOLVER.HEAD_LR_FACTOR = 10.0
    # Checkpoints kept besides model_best and model_final; 0 keeps all.
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 2
    # "float16" (GPU) or "bfloat16" (GPU and CPU).
    cfg.SOLVER.AMP.DTYPE = "float16"
    cfg.SOLVER.DDP = CfgNode()
    # For models that leave some parameters without a gradient.
    cfg.SOLVER.DDP.FIND_UNUSED_PARAMETERS = False
    cfg.SOLVER.DDP.FP16_COMPRESSION = False
    # Two runs of one SEED on the same machine then agree bit for bit on the CPU.
    cfg.SOLVER.DETERMINISTIC = False
    # Iterations between two lines of the log.
    cfg.SOLVER.LOG_PERIOD = 20

    # Empty: ./output/<path of the config file under configs/, without its suffix>.
    cfg.OUTPUT_DIR = ""
