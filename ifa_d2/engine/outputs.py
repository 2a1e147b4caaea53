"""Outputs of commands, apart from what the commands read."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from omegaconf import DictConfig

from ..config import get_config_file
from ..files import check_outputs
from .predictor import find_weights
from .settings import TrainSettings

Paths = Iterable[str | os.PathLike[str] | None]


def check_command_outputs(
    outputs: Paths,
    *,
    config_file: str | None = None,
    model: tuple[CfgNode | DictConfig, str | None, Sequence[str]] | None = None,
    datasets: Iterable[str] = (),
    others: Mapping[str, Paths] | None = None,
) -> None:
    """Check, before a command begins, that it will write over nothing that it reads.

    Args:
        outputs: files that it will write; None is passed over.
        config_file: as :func:`ifa_d2.engine.run.load_config` takes it.
        model: the arguments of :func:`ifa_d2.engine.predictor.load_model`, whose weights are read.
        datasets: names of data sets, whose pictures and labels are read.
        others: as ``inputs`` of :func:`ifa_d2.files.check_outputs`.

    Raises:
        ValueError: an output is one of the inputs.
    """
    inputs: dict[str, Paths] = {"config": _config_files(config_file)}
    if model is not None:
        cfg, weights, overrides = model
        inputs["weights"] = [weights or find_weights(TrainSettings.from_config(cfg), overrides)]
    inputs |= others or {}
    inputs["file of the data set"] = _dataset_files(datasets)
    check_outputs((path for path in outputs if path is not None), inputs)


def _config_files(config_file: str | None) -> Iterator[str | os.PathLike[str]]:
    if config_file is not None:
        yield config_file if os.path.isfile(config_file) else get_config_file(config_file)


def _dataset_files(names: Iterable[str]) -> Iterator[str | None]:
    for name in names:
        for record in DatasetCatalog.get(name):
            for key in ("file_name", "sem_seg_file_name", "pan_seg_file_name"):
                yield record.get(key)
