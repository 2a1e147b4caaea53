"""From a command line to a run: config files, logs, seeds and processes."""

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, LazyConfig, get_cfg
from detectron2.engine import launch
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch.multiprocessing import ProcessRaisedException

from ..config import add_ifa_config, called_by, get_config_file, merge_yaml, recipe_name
from ..errors import error_sentence
from ..modeling import IFASemSegHead, fit_channels
from ..modeling.head_config import upgrade_head
from .output_dir import default_output_dir
from .overrides import apply_overrides, apply_yacs_overrides
from .run_start import open_folder, seed_run
from .saved_config import NamesLoader, note_registering_files
from .settings import TrainSettings
from .solver import scale_config
from .yacs_config import to_lazy_config


def load_config(config_file: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Read a config file of either kind.

    Args:
        config_file: a path, or the name of a recipe that comes with the package
            ("camvid/ifa_r18.py") or a ``.yaml`` of Detectron2's model zoo. ``.py`` files and the
            ``config.yaml`` of a run are LazyConfigs, other ``.yaml`` files yacs configs.
        overrides: "key=value" each, of the file's own keys; for a yacs file also Detectron2's
            "KEY", "value", in turn.

    Returns:
        The LazyConfig, of a yacs file too: :func:`ifa_d2.engine.yacs_config.to_lazy_config`. An
        output directory that is not set becomes ./output/<name of the recipe>.

    Raises:
        ValueError: no such file, a file that is no config or a part of one, or an override that
            cannot be read or is of a key that does not exist.
    """
    path = Path(config_file)
    if not path.is_file():
        path = get_config_file(config_file)
    if path.suffix not in (".py", ".yaml", ".yml"):
        raise ValueError(f"config_file must end in .py or .yaml, got {config_file!r}")
    content = None if path.suffix == ".py" else _read_yaml(path)
    if content is not None and "model" not in content:
        cfg = _read_yacs(path, overrides)
    else:
        cfg = _read_python(path) if content is None else _from_content(content)
        if "train" not in cfg:
            held = ", ".join(sorted(map(str, cfg))) or "nothing"
            raise ValueError(f"{path} is no recipe, which has train, but a part of one: {held}")
        head = _upgraded_head(cfg)
        apply_overrides(cfg, overrides)
        if head and any(part.startswith("model.sem_seg_head.levels.") for part in overrides):
            fit_channels(head)
    cfg.train.output_dir = cfg.train.get("output_dir") or default_output_dir(recipe_name(path))
    return cfg


def _upgraded_head(cfg: DictConfig) -> DictConfig | None:
    """Give a head whose options lie side by side its parts; None if the model has another."""
    head = OmegaConf.select(cfg, "model.sem_seg_head", default=None)
    target = called_by(head)
    if isinstance(target, type) and issubclass(target, IFASemSegHead):
        upgrade_head(head)
        return head
    return None


def names_weights(overrides: Sequence[str]) -> bool:
    """Whether overrides, as :func:`load_config` takes them, say which weights to load."""
    keys = [part.split("=", 1)[0] for part in overrides]
    return "train.init_checkpoint" in keys or "MODEL.WEIGHTS" in keys


def _read_python(path: Path) -> DictConfig:
    try:
        return LazyConfig.load(str(path))
    except SyntaxError as error:  # Detectron2's own, caused by the one that says where
        raise ValueError(f"{path} is no config file: {error.__cause__ or error}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    # Not by LazyConfig.load, which calls whatever a tag in the file asks for.
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, NamesLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no config file: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no config file: it holds no keys")
    note_registering_files(text)
    return content


def _from_content(content: dict[str, Any]) -> DictConfig:
    return OmegaConf.create(content, flags={"allow_objects": True})


def _read_yacs(path: Path, overrides: Sequence[str]) -> DictConfig:
    cfg = get_cfg()
    add_ifa_config(cfg)
    try:
        merge_yaml(cfg, path)
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: its _BASE_ leads back to itself") from error
    apply_yacs_overrides(cfg, overrides)
    if cfg.OUTPUT_DIR == get_cfg().OUTPUT_DIR:
        cfg.OUTPUT_DIR = ""  # to be named after the recipe
    return to_lazy_config(cfg)


def setup_run(cfg: CfgNode | DictConfig, *, eval_only: bool = False, verbose: bool = False) -> None:
    """Start logs, write down the environment, seed all random numbers.

    The output directory gets ``log.txt`` and ``environment.txt``.

    Args:
        cfg: the config.
        eval_only: the run does not train.
        verbose: all of the log goes to the terminal too.

    Raises:
        ValueError: a setting that is out of its range, or, unless ``eval_only``, a batch that does
            not divide evenly among the processes, or another training in the same output
            directory; nothing is written then.
    """
    settings = TrainSettings.from_config(cfg)
    if not eval_only:
        check_batch(cfg, comm.get_world_size())
    open_folder(cfg, eval_only=eval_only, verbose=verbose)
    seed_run(settings)


def check_batch(cfg: CfgNode | DictConfig, world_size: int) -> None:
    """Raise a ValueError unless the batch of a training divides evenly among processes."""
    TrainSettings.from_config(scale_config(cfg, world_size)).check_world_size(world_size)


def launch_run(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Call ``main(args)`` in as many processes as the arguments, or torchrun, ask for.

    Raises:
        ValueError: more GPUs than there are, or several machines without a meeting point; or what
            a process raises that a user can mend.
    """
    if "LOCAL_WORLD_SIZE" in os.environ:
        _join_torchrun()
        _run_together(main, args)
        return
    count = local_processes(args)
    if count < 1 or args.num_machines < 1:
        raise ValueError(f"the number of processes must be 1 or more, got {count}")
    if args.num_machines > 1 and args.dist_url == "auto":
        raise ValueError("dist_url must be tcp://HOST:PORT with several machines, got 'auto'")
    if args.num_processes is not None:
        # Inherited by the processes, which then choose the CPU's way to talk to each other.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    elif count > 1 and count > torch.cuda.device_count():
        raise ValueError(
            f"num_gpus is {count}, but torch sees {torch.cuda.device_count()} here: use "
            "num_processes for processes on the CPU"
        )
    try:
        launch(
            _run_together,
            count,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, args),
        )
    except ProcessRaisedException as error:
        if f"{ProcessError.__module__}.{ProcessError.__qualname__}: " not in str(error):
            raise
        raise ProcessError(error_sentence(error)) from None
    finally:
        for process in multiprocessing.active_children():  # of a launch that was interrupted
            process.terminate()
            process.join()


def count_processes(args: argparse.Namespace) -> int:
    """How many processes :func:`launch_run` runs in, on all machines, before it does."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return local_processes(args) * args.num_machines


def local_processes(args: argparse.Namespace) -> int:
    """How many processes the arguments ask for on one machine."""
    return args.num_gpus if args.num_processes is None else args.num_processes


class ProcessError(ValueError):
    """An error that a user can mend, found by one of several processes."""


def _run_together(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Run one process's part; none leaves while another still talks to it."""
    several = torch.distributed.is_initialized()
    try:
        main(args)
    except (ValueError, OSError) as error:
        if not several:
            raise
        raise ProcessError(error_sentence(error)) from error
    if several:
        comm.synchronize()
        torch.distributed.destroy_process_group()


def _join_torchrun() -> None:
    """Join the processes that torchrun has started."""
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if gpus else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
