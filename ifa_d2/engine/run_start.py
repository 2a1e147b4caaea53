"""Start of a run: its folder, its logs and its random numbers.

A command starts a run by :func:`ifa_d2.engine.run.setup_run`. A trainer that is made without one,
from Python, starts it itself.
"""

import copy
import logging
import os

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig

from ..files import atomic_path
from .logs import has_logs, setup_logs
from .output_dir import check_no_run, default_output_dir, locked_output
from .settings import TrainSettings, unread_keys
from .yacs_config import to_lazy_config

_logger = logging.getLogger(__name__)


def with_output_dir(cfg: CfgNode | DictConfig) -> DictConfig:
    """Return a config whose output directory is named, by default as a command names it.

    Args:
        cfg: of either kind; it is not changed. Where ``train.output_dir`` is empty, that is
            ./output/ and the ``recipe`` that :func:`ifa_d2.get_config` has noted.

    Raises:
        ValueError: neither of them is there.
    """
    cfg = to_lazy_config(cfg)
    if cfg.train.get("output_dir"):
        return cfg
    if not cfg.get("recipe"):
        raise ValueError(
            "train.output_dir must name a folder, got '': the config is none of get_config's, "
            "after whose recipe it would be named"
        )
    cfg = copy.deepcopy(cfg)
    cfg.train.output_dir = default_output_dir(cfg.recipe)
    return cfg


def start_alone(settings: TrainSettings) -> None:
    """Start the terminal's log and seed all random numbers, unless ``setup_run`` did.

    Nothing is written to the output directory, which may be another run's.
    """
    if not has_logs(settings.output_dir):
        setup_logs(None, comm.get_rank())
        seed_run(settings)


def check_new_run(output_dir: str, *, resume: bool) -> None:
    """Raise a ValueError for a folder that holds a run, unless a training continues that."""
    if not resume and comm.is_main_process():
        check_no_run(output_dir)


def enter_folder(cfg: DictConfig, *, resume: bool) -> None:
    """Enter the output directory of a training, unless ``setup_run`` did.

    Args:
        cfg: the config.
        resume: the training continues what is there.

    Raises:
        ValueError: without ``resume``, the directory holds a run; or another training is in it.
    """
    output_dir = TrainSettings.from_config(cfg).output_dir
    check_new_run(output_dir, resume=resume)
    if not has_logs(output_dir):
        open_folder(cfg)


def open_folder(
    cfg: CfgNode | DictConfig, *, eval_only: bool = False, verbose: bool = False
) -> None:
    """Start logs in the output directory, and write down the environment.

    Args:
        cfg, eval_only, verbose: as of :func:`ifa_d2.engine.run.setup_run`.

    Raises:
        ValueError: unless ``eval_only``, another training is in it; nothing is written then.
    """
    output_dir = TrainSettings.from_config(cfg).output_dir
    if comm.is_main_process():
        os.makedirs(output_dir, exist_ok=True)
        with locked_output(output_dir, enabled=not eval_only):
            pass  # before anything is written there; the trainer holds it while it trains
    comm.synchronize()
    setup_logs(output_dir, comm.get_rank(), verbose=verbose)
    if not comm.is_main_process():
        return
    with atomic_path(os.path.join(output_dir, "environment.txt")) as temporary:
        # It would warn of a compiler without a GPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        temporary.write_text(collect_env_info())
    for key in unread_keys(cfg):
        _logger.warning(f"{key} is in the config, but nothing reads it")


def seed_run(settings: TrainSettings) -> None:
    """Seed all random numbers of this process, and choose deterministic kernels or not."""
    seed = settings.seed
    seed_all_rng(None if seed is None else seed + comm.get_rank())
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark and not settings.deterministic
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # A few GPU kernels have no deterministic form: those warn.
        torch.use_deterministic_algorithms(True, warn_only=True)
