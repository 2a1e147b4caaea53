"""Configuration: keys for yacs, and the recipes that come with the package."""

from pathlib import Path

import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg
from omegaconf import DictConfig


def add_ifa_config(cfg: CfgNode) -> None:
    """Add to a Detectron2 config what this project's models, data and trainer read.

    ``MODEL.IFA`` holds the keyword arguments of :class:`ifa_d2.modeling.IFASemSegHead` that
    ``MODEL.SEM_SEG_HEAD`` has no key for, under the same names. No default of Detectron2 changes,
    so that this fits any of its configs, but ``MODEL.DEVICE`` is the CPU where there is no GPU.
    """
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.IFA = CfgNode(
        {
            "HIDDEN_DIMS": [512, 256, 256],
            "ALIGNMENT": "ifa",
            "ENCODING": "learned",
            "NUM_FREQUENCIES": 6,
            "FREQUENCY_LAW": "pow2",
            "COUPLED_FREQUENCIES": False,
            "UNFOLD": False,
            "LOCAL_ENSEMBLE": False,
            "ASPP_DILATIONS": [],
            "ASPP_DROPOUT": 0.1,
            "TARGETS": "grid",
            "OHEM_THRESHOLD": 0.7,
            "OHEM_MIN_KEPT": 100_000,
            "AUX_FEATURE": "",
            "AUX_CHANNELS": 256,
            "AUX_LOSS_WEIGHT": 0.4,
        }
    )
    # Of the meta-architecture FieldSegmentor.
    cfg.MODEL.FIELD_SEGMENTOR = CfgNode({"RETURN_LOGITS": False})
    # Of build_ifa_resnet_backbone; the first two are named and valued as Detectron2's DeepLab has.
    cfg.MODEL.RESNETS.STEM_TYPE = "basic"
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 1, 1]
    cfg.MODEL.RESNETS.ZERO_INIT_RESIDUAL = True
    _add_train_keys(cfg)


def _add_train_keys(cfg: CfgNode) -> None:
    # Random scale of the image in training, a range of factors; () is MIN_SIZE_TRAIN's choice.
    cfg.INPUT.SCALE_RANGE = ()
    cfg.INPUT.COLOR_JITTER = False
    # "SGD" or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Of the schedule LR_SCHEDULER_NAME "WarmupPolyLR".
    cfg.SOLVER.POLY_LR_POWER = 0.9
    # Learning rate of everything but the backbone, times BASE_LR.
    cfg.SOLVER.HEAD_LR_FACTOR = 1.0
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


def get_config_file(name: str) -> Path:
    """The path of a recipe such as ``"camvid/ifa_r18.py"``.

    Raises:
        ValueError: no such recipe; the message lists those there are.
    """
    package = Path(__file__).resolve().parent
    roots = [package.parent / "configs", package / "configs"]  # a checkout, an installed package
    root = next((r for r in roots if (r / "common").is_dir()), roots[-1])
    path = root / name
    if not path.is_file() or root not in path.resolve().parents:
        known = sorted(
            p.relative_to(root).as_posix()
            for p in root.rglob("*")
            if p.suffix in (".py", ".yaml") and "common" not in p.relative_to(root).parts
        )
        raise ValueError(f"name must be one of {known}, got {name!r}")
    return path


def get_config(name: str) -> DictConfig | CfgNode:
    """A recipe that comes with the package, such as ``"camvid/ifa_r18.py"``.

    Returns:
        The LazyConfig of a ``.py`` recipe, the yacs config of a ``.yaml`` one.

    Raises:
        ValueError: no such recipe; the message lists those there are.
    """
    path = get_config_file(name)
    if path.suffix == ".py":
        return LazyConfig.load(str(path))
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.merge_from_file(str(path))
    return cfg
