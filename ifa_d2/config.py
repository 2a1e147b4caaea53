"""Configuration: keys for yacs, and the recipes that come with the package."""

import copy
import difflib
from pathlib import Path
from typing import Any

from .compat import model_zoo  # before Detectron2

# isort: split
import torch
import yaml
from detectron2.config import CfgNode, LazyConfig, get_cfg
from detectron2.utils.registry import locate
from omegaconf import DictConfig

_MODEL_ZOO = "model_zoo://"
# Options of a head that are names and numbers, with their defaults: below MODEL.IFA, in capitals.
HEAD_OPTIONS: dict[str, Any] = {
    "hidden_dims": [512, 256, 256],
    "alignment": "ifa",
    "encoding": "learned",
    "num_frequencies": 6,
    "frequency_law": "pow2",
    "coupled_frequencies": False,
    "integrated_encoding": False,
    "cell_decoding": False,
    "unfold": False,
    "local_ensemble": False,
    "ensemble_outputs": False,
    "feature_slopes": False,
    "projections": ["pointwise"],
    "pool_sizes": [1, 2, 3, 6],
    "decoder": "pointwise",
    "aspp_dilations": [],
    "aspp_dropout": 0.1,
    "aspp_fuse_channels": 0,
    "targets": "grid",
    "target_spacings": [1.0],
    "num_points": 2048,
    "point_sampling": "uniform",
    "importance_ratio": 0.75,
    "boundary_width": 4,
    "point_balance": 1.0,
    "oversample_ratio": 3.0,
    "ohem_threshold": 0.7,
    "ohem_min_kept": 100_000,
    "class_weights": [],
    "label_smoothing": 0.0,
    "aux_feature": "",
    "aux_channels": 256,
    "aux_loss_weight": 0.4,
}


def add_ifa_config(cfg: CfgNode) -> None:
    """Add to a Detectron2 config what this project's models, data and trainer read.

    ``MODEL.IFA`` holds the options of :class:`ifa_d2.modeling.IFASemSegHead` that
    ``MODEL.SEM_SEG_HEAD`` has no key for, see :data:`HEAD_OPTIONS`. No default of Detectron2
    changes, so that this fits any of its configs, but ``MODEL.DEVICE`` is the CPU where there is no
    GPU.
    """
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    _add_head_keys(cfg)
    _add_backbone_keys(cfg)
    _add_inference_keys(cfg)
    _add_train_keys(cfg)


def _add_head_keys(cfg: CfgNode) -> None:
    options = copy.deepcopy(HEAD_OPTIONS)
    cfg.MODEL.IFA = CfgNode({key.upper(): value for key, value in options.items()})
    # Channels of each level; empty: MODEL.SEM_SEG_HEAD.CONVS_DIM for all.
    cfg.MODEL.IFA.LEVEL_CHANNELS = []
    # A node within a dict would forget that a file may add to it.
    cfg.MODEL.IFA.ALIGNMENT_OPTIONS = CfgNode(new_allowed=True)


def _add_backbone_keys(cfg: CfgNode) -> None:
    # Of build_ifa_resnet_backbone; the first two are named and valued as Detectron2's DeepLab has.
    cfg.MODEL.RESNETS.STEM_TYPE = "basic"
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 1, 1]
    cfg.MODEL.RESNETS.ZERO_INIT_RESIDUAL = True
    cfg.MODEL.RESNETS.AVG_DOWN = False
    cfg.MODEL.RESNETS.RES4_DILATION = 1
    cfg.MODEL.RESNETS.RES2_POOL = 1
    # Of TimmBackbone, under the names of its arguments; a file may add any MODEL_OPTIONS.
    cfg.MODEL.TIMM = CfgNode(
        {
            "MODEL_NAME": "",
            "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
            "OUT_INDICES": [],
            "NORM": "BN",
            "FREEZE": [],
            "FROZEN": False,
            "PRETRAINED": False,
            "WEIGHTS_FILE": "",
        }
    )
    cfg.MODEL.TIMM.MODEL_OPTIONS = CfgNode(new_allowed=True)


def _add_inference_keys(cfg: CfgNode) -> None:
    # Of the meta-architecture FieldSegmentor; MAX_PIXELS 0 is no limit.
    cfg.MODEL.FIELD_SEGMENTOR = CfgNode({"RETURN_LOGITS": False, "MAX_PIXELS": 1 << 23})
    # The arguments of Refinement; a BUDGET of 0 is none.
    cfg.MODEL.FIELD_SEGMENTOR.REFINEMENT = CfgNode(
        {"ENABLED": False, "THRESHOLD": 0.25, "BUDGET": 0.0, "LEVELS": 2}
    )
    # Factors of a picture's size that TEST.AUG takes instead of MIN_SIZES; () leaves those.
    cfg.TEST.AUG.SCALES = ()
    # Windows that a picture is predicted in, as of MultiViewSegmentor; SIZE () is none.
    cfg.TEST.SLIDING_WINDOW = CfgNode(
        {"SIZE": (), "STRIDE": (2 / 3, 2 / 3), "BLEND": None, "BATCH_SIZE": 1}
    )


def _add_train_keys(cfg: CfgNode) -> None:
    # Random scale of the image in training, a range of factors; () is MIN_SIZE_TRAIN's choice.
    # MIN_SIZE_TRAIN () then leaves the image its own size at scale 1.
    cfg.INPUT.SCALE_RANGE = ()
    # "uniform", or "balanced": scales below 1 as often as above.
    cfg.INPUT.SCALE_LAW = "uniform"
    cfg.INPUT.COLOR_JITTER = False
    # Labelled points of each training image, for the FieldSegmentor; NUM_POINTS 0 is none.
    cfg.INPUT.POINTS = CfgNode(
        {
            "NUM_POINTS": 0,
            "SAMPLING": "uniform",
            "IMPORTANCE_RATIO": 0.75,
            "BOUNDARY_WIDTH": 4,
            "BALANCE": 1.0,
        }
    )
    # Whether MODEL.WEIGHTS may lack more than half of the backbone.
    cfg.MODEL.PARTIAL_WEIGHTS = False
    # "SGD" or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Of the schedule LR_SCHEDULER_NAME "WarmupPolyLR".
    cfg.SOLVER.POLY_LR_POWER = 0.9
    # Learning rate of everything but the backbone, times BASE_LR.
    cfg.SOLVER.HEAD_LR_FACTOR = 1.0
    # Learning rate of each layer of the backbone, times that of the next; 1 is none.
    cfg.SOLVER.LAYER_DECAY = 1.0
    # Parts in which a process's pictures pass the model, one after the other.
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # Compute the backbone's blocks again for their gradients, which takes less memory.
    cfg.SOLVER.ACTIVATION_CHECKPOINTING = False
    # Of the average of the weights, which is evaluated and saved; 0 is no average.
    cfg.SOLVER.EMA_DECAY = 0.0
    # Evaluations without a better figure, after which training ends; 0 never ends it.
    cfg.SOLVER.EARLY_STOPPING_PATIENCE = 0
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
    """Find a recipe, or a ``.yaml`` file of Detectron2's model zoo.

    Args:
        name: such as ``"camvid/ifa_r18.py"``, or
            ``"COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"``.

    Raises:
        ValueError: no such recipe; the message names those most like it.
    """
    package = Path(__file__).resolve().parent
    roots = [package.parent / "configs", package / "configs"]  # a checkout, an installed package
    root = next((r for r in roots if (r / "common").is_dir()), roots[-1])
    path = root / name
    if (zoo := _model_zoo_file(name)) and not path.is_file():
        return zoo
    if not path.is_file() or root not in path.resolve().parents:
        raise ValueError(
            f"name must be a recipe such as {', '.join(_alike(name, root))}; got {name!r}"
        )
    return path


def _alike(name: str, root: Path, number: int = 5) -> list[str]:
    """The recipes below a folder whose names are most like a wrong one."""
    files = (path.relative_to(root) for path in root.rglob("*") if path.suffix in (".py", ".yaml"))
    known = sorted(file.as_posix() for file in files if "common" not in file.parts)
    return difflib.get_close_matches(name, known, number, cutoff=0)


def recipe_name(path: Path) -> str:
    """The path below the folder "configs", or the file's name, without suffix."""
    parts = path.resolve().with_suffix("").parts
    if "configs" in parts:
        last = len(parts) - 1 - parts[::-1].index("configs")
        return "/".join(parts[last + 1 :])
    return parts[-1]


def get_config(name: str) -> DictConfig | CfgNode:
    """A recipe that comes with the package, such as ``"camvid/ifa_r18.py"``.

    Returns:
        The LazyConfig of a ``.py`` recipe, the yacs config of a ``.yaml`` one. The LazyConfig has
        the name, "camvid/ifa_r18", under ``recipe``: a :class:`ifa_d2.engine.Trainer` names its
        output directory after it, as the command does, unless ``train.output_dir`` is set.

    Raises:
        ValueError: no such recipe; the message names those most like it.
    """
    path = get_config_file(name)
    if path.suffix == ".py":
        cfg = LazyConfig.load(str(path))
        cfg.recipe = recipe_name(path)
        return cfg
    cfg = get_cfg()
    add_ifa_config(cfg)
    merge_yaml(cfg, path)
    return cfg


def called_by(node: Any) -> Any:
    """Return what a node of a LazyConfig calls, a class or function; None if nothing."""
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    return locate(target) if isinstance(target, str) else target


def merge_yaml(cfg: CfgNode, path: Path) -> None:
    """Merge a ``.yaml`` file into a config, as ``cfg.merge_from_file``.

    Its ``_BASE_`` may also be a file of Detectron2's model zoo, wherever that is installed:
    "model_zoo://COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml".

    Raises:
        ValueError: no such file in the model zoo.
    """
    content = yaml.safe_load(path.read_text())
    base = content.pop("_BASE_", None) if isinstance(content, dict) else None
    if not (isinstance(base, str) and base.startswith(_MODEL_ZOO)):
        cfg.merge_from_file(str(path), allow_unsafe=False)
        return
    zoo = _model_zoo_file(base.removeprefix(_MODEL_ZOO))
    if zoo is None:
        raise ValueError(f"_BASE_ must be a .yaml file of Detectron2's model zoo, got {base!r}")
    cfg.merge_from_file(str(zoo), allow_unsafe=False)
    cfg.merge_from_other_cfg(CfgNode(content))


def _model_zoo_file(name: str) -> Path | None:
    """A .yaml file of Detectron2's model zoo, or None."""
    if not name.endswith(".yaml"):
        return None
    try:
        return Path(model_zoo.get_config_file(name))
    except RuntimeError:
        return None
