"""An interpreter for documented commands: what they import is there, what takes hours is small.

Commands run as by tests/forked_python.py: as they are written, but afterwards these are made small:

- a config that was read, its overrides applied, or given to a Trainer: two iterations of two small
  crops, few points;
- the numbers of pictures that data sets were published with, and that `shapes` is drawn with;
- the sizes and repeats of benchmarks, and how many targets are compared (`ARGUMENTS`).

With PARSE_ONLY in the environment a command ends with status 0 when it has read its arguments.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.forked_python import ROOT, served_python

COUNTS = {"train": 4, "val": 2}
CRACKFOREST_COUNTS = {"train": 6, "val": 2}
CROP = [64, 96]  # (height, width) in pixels
MAX_POINTS = 2000
PARSE_ONLY = "PARSE_ONLY"

# Values of a command's arguments, by its file's name, in place of those that were parsed.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "benchmark.py": {
        **{"input_size": CROP, "repeats": 1, "points": [50]},
        **{
            "megapixels": [0.01, 0.02],
            "class_megapixels": 0.01,
            "parts": ["branch"],
            **{"sides": [64], "commands": ["check"]},
        },
    },
    "measure_refinement.py": {"input_size": CROP, "repeats": 1},
    "measure_raster.py": {"side": 200, "kills": 0, "crop": 200, "sliding_window": [128, 128]},
    "run_table.py": {"tables": ["6"], "rows": ["ifa"], "seeds": 1, "repeats": 1},
    "list_models.py": {"names": ["40S_dBBB_mobile"]},
    "pretrain_inverse_net.py": {"iterations": 2, "batch_size": 16},
    "compare_teacher.py": {"seeds": [1, 2], "frames": [5]},
    "compare_targets.py": {"targets": ["grid"], "local_ensemble": "no", "repeats": 1},
    "compare_alignments.py": {"seeds": [1]},
    "summarize_alignments.py": {"seeds": [1]},
}


def make_small(cfg: Any) -> None:
    """Change a config of either kind in place."""
    if "SOLVER" in cfg:
        cfg.SOLVER.MAX_ITER = cfg.SOLVER.IMS_PER_BATCH = 2
        cfg.SOLVER.WARMUP_ITERS = 0
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP.SIZE = (CROP[0],), CROP
        return
    cfg.train.update(max_iter=2, batch_size=2)
    if "yacs" in cfg:
        cfg.yacs.INPUT.MIN_SIZE_TRAIN, cfg.yacs.INPUT.CROP.SIZE = CROP[:1], CROP
    cfg.lr_multiplier.update({"warmup_iters": 0} if "warmup_iters" in cfg.lr_multiplier else {})
    mapper = cfg.dataloader.train.mapper
    if mapper.get("num_points"):
        mapper.num_points = min(mapper.num_points, MAX_POINTS)
    if "yacs" in cfg:
        return
    if isinstance(mapper.augmentations, Mapping):
        mapper.augmentations.update(crop_size=CROP, short_edge=CROP[0])
    else:  # of a panoptic recipe, whose test pictures are resized too
        sizes = {"short_edge_length": CROP[:1], "max_size": 2 * CROP[1]}
        mapper.augmentations[0].update(sizes)
        sizes["short_edge_length"] = CROP[0]
        cfg.dataloader.test.mapper.augmentations[0].update(sizes)


def make_package_small() -> None:
    """Import what all commands import, and change it as this module's docstring says."""
    from ifa_d2.cli import benchmark
    from ifa_d2.data.preparation import PREPARATIONS
    from ifa_d2.data.shapes.prepare import SHAPES_COUNTS
    from ifa_d2.engine import Trainer, run

    SHAPES_COUNTS.update(COUNTS)
    for preparation in itertools.chain(*PREPARATIONS.values()):
        counts = CRACKFOREST_COUNTS if preparation.name == "crackforest" else COUNTS
        object.__setattr__(preparation, "counts", counts)
    benchmark.FULL_MEGAPIXELS = 0.03
    apply_overrides, build_trainer = run.apply_overrides, Trainer.__init__
    parse = argparse.ArgumentParser.parse_args

    def apply_and_shrink(cfg: Any, overrides: Any) -> None:
        apply_overrides(cfg, overrides)
        make_small(cfg)

    def build_small_trainer(self: Any, cfg: Any, **options: Any) -> None:
        cfg = cfg.clone() if hasattr(cfg, "clone") else cfg.copy()
        getattr(cfg, "defrost", dict)()
        make_small(cfg)
        build_trainer(self, cfg, **options)

    def parse_small(self: Any, *args: Any, **kwargs: Any) -> argparse.Namespace:
        options = parse(self, *args, **kwargs)
        if PARSE_ONLY in os.environ:
            sys.exit(0)
        values = ARGUMENTS.get(os.path.basename(sys.argv[0]), {})
        vars(options).update({key: values[key] for key in values.keys() & vars(options).keys()})
        return options

    run.apply_overrides, Trainer.__init__ = apply_and_shrink, build_small_trainer
    argparse.ArgumentParser.parse_args = parse_small


@contextmanager
def small_python(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; yields the environment in which `python` is it.

    Args:
        folder: for its files, with a short path. DETECTRON2_DATASETS is ROOT, relative.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DETECTRON2_DATASETS": "ROOT",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "FVCORE_CACHE": str(folder / "cache"),
    }
    with served_python(folder, environment, "tests.small_python:make_package_small") as client:
        path = f"{Path(client).parent}{os.pathsep}{os.environ['PATH']}"
        yield {**environment, "PATH": path}
