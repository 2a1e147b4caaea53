"""A checkpointer that never leaves half a file and never loads nothing in silence."""

import errno
import os
import shutil
from typing import Any
from urllib.parse import urlparse

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import Detectron2Handler, PathManager

from ..checkpoints.foreign_weights import read_weights_file, rename_weights
from ..commands import command_line
from ..files import atomic_path
from ..listing import join_some
from ..modeling import IFASemSegHead
from ..modeling.packaged_weights import with_frozen_backbone, without_frozen_backbone

_FROM_SCRATCH = 'train.init_checkpoint="" (MODEL.WEIGHTS "" in a .yaml) trains from scratch'
# The heads that training alone asks, by the name of their module.
_AUXILIARY = "aux_heads"
# What the recipes' weights are converted from.
_SOURCES = {
    "resnet18_v1c.pth": (
        "https://download.openmmlab.com/pretrain/third_party/resnet18_v1c-b5776b93.pth"
    ),
}


def check_initial_weights(path: str) -> None:
    """Make sure that the weights a training starts from are there; an address is downloaded.

    Args:
        path: a file or an address; empty is training from scratch.

    Raises:
        FileNotFoundError: they are not there; the message says how to come by them.
    """
    if not path:
        return
    if not _is_address(path):
        if os.path.isfile(path):
            return
        source = _SOURCES.get(os.path.basename(path))
        command = command_line("convert-imagenet", source or "IN.pth", path)
        raise FileNotFoundError(
            f"initial weights {path} do not exist: name others with train.init_checkpoint "
            f"(MODEL.WEIGHTS), or make them with `{command}`; {_FROM_SCRATCH}"
        )
    _fetch(path, f"initial weights {path}", f"; {_FROM_SCRATCH}")


def _is_address(path: str) -> bool:
    """Whether a name is one that ``PathManager`` resolves; to urllib, "ifa_d2" is no scheme."""
    return "://" in path


def _fetch(path: str, what: str, hint: str = "") -> None:
    """Download an address; what is there already stays."""
    address = path.partition("?")[0]
    try:
        PathManager.get_local_path(address)
    except OSError as error:
        prefix = Detectron2Handler.PREFIX
        address = address.replace(prefix, Detectron2Handler.S3_DETECTRON2_PREFIX)
        raise FileNotFoundError(
            f"{what} cannot be downloaded ({error}): fetch {address} elsewhere and "
            f"name the file with train.init_checkpoint (MODEL.WEIGHTS){hint}"
        ) from error


# How to start from a checkpoint that a run cannot be continued from.
_FINE_TUNE = (
    "continue with the config that it was trained with, or fine-tune from it in another folder: "
    "train.init_checkpoint={path} train.output_dir=DIR (MODEL.WEIGHTS, OUTPUT_DIR in a .yaml), "
    "without --resume"
)
# Of torch's errors where a write failed.
_FAILED_WRITES = ("unexpected pos", "PytorchStreamWriter", "iostream error")
_NAMED = 3  # how many parameters an error lists


def refuse_to_resume(path: str, reason: str) -> ValueError:
    """The error of a checkpoint that a run cannot be continued from, with what to do instead."""
    return ValueError(f"{path} cannot be resumed from: {reason}; {_FINE_TUNE.format(path=path)}")


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with atomic writes and errors where it only warns.

    A checkpoint appears under its name when it is complete. A file that is missing, damaged, or
    has nothing in common with the model is an error that names it.
    """

    # The checkpoint that a run is being continued from; its weights must be the model's.
    _resumed = ""
    _path = ""  # of the file that is being loaded
    _silent_on_auxiliary = False  # no warning of weights of auxiliary heads that are not there

    def save(self, name: str, *, tag: bool = True, **kwargs: Any) -> None:
        """Write model, checkpointables and ``kwargs`` to ``<save_dir>/<name>.pth``.

        Args:
            name: of the file, without directory and suffix.
            tag: make it the checkpoint that a resumed run continues from.
            kwargs: more to save; tensors and plain types only, or it will not load.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = without_frozen_backbone(self.model)
        data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
        data.update(kwargs)
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        with atomic_path(path) as temporary:
            _save(data, temporary)
        if tag:
            self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note the checkpoint that a resumed run continues from, atomically."""
        path = os.path.join(self.save_dir, "last_checkpoint")
        with atomic_path(path) as temporary:
            temporary.write_text(last_filename_basename)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint; an empty path loads nothing.

        Returns:
            What the checkpoint holds besides the model and the checkpointables.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no checkpoint, is damaged, or none of its weights is one of
                the model's.
        """
        if path and not _is_address(path):
            file = urlparse(path).path
            if not os.path.isfile(file):
                hint = ""
                if self.save_dir and os.path.dirname(file) == self.save_dir:
                    hint = f"; {os.path.join(self.save_dir, 'last_checkpoint')} may be out of date"
                raise FileNotFoundError(f"checkpoint {file} does not exist{hint}")
        self._path = path
        return super().load(path, checkpointables=checkpointables)

    def resume(self) -> dict[str, Any]:
        """Load the last checkpoint of the folder, model and checkpointables.

        Returns:
            As :meth:`load`.

        Raises:
            FileNotFoundError, ValueError: as :meth:`load`; or the checkpoint holds no state of a
                training, or other weights than the model has.
        """
        self._resumed = self.get_checkpoint_file()
        try:
            return self.load(self._resumed)
        finally:
            self._resumed = ""

    def load_initial(self, path: str, *, partial: bool = False) -> None:
        """Load the weights that a training starts from; an empty path loads nothing.

        How much of the backbone starts at random all the same is logged.

        Args:
            path: a file or an address.
            partial: less than half of the backbone will do.

        Raises:
            FileNotFoundError, ValueError: as :meth:`load`; or less than half of the backbone's
                parameters are in the file, by their numbers.
        """
        self.load(path, checkpointables=[])
        sizes = {name: p.numel() for name, p in self.model.named_parameters()}
        part = "backbone" if any(name.startswith("backbone.") for name in sizes) else ""
        sizes = {name: size for name, size in sizes.items() if name.startswith(part)}
        absent = [name for name in sizes if path and name in self._absent]
        if not absent:
            return
        said = (
            f"{len(absent)} of {len(sizes)} parameters of {part or 'the model'} are not in {path}, "
            "or of another shape there, and start at random"
        )
        if not partial and 2 * sum(sizes[name] for name in absent) > sum(sizes.values()):
            raise ValueError(
                f"{said} ({_some(absent)}): name weights of this backbone, or allow it by "
                f"train.partial_checkpoint=True (MODEL.PARTIAL_WEIGHTS); {_FROM_SCRATCH}"
            )
        self.logger.warning(f"{said}: is it of another model?")

    def load_trained(self, path: str, *, auxiliary: bool = False) -> None:
        """Load the weights to predict with, of which none may be left as it was drawn.

        Args:
            path: a file or an address.
            auxiliary: those of auxiliary heads may not lack either, for who asks these.

        Raises:
            FileNotFoundError, ValueError: as :meth:`load`; or the file lacks a parameter, or a
                statistic of a norm, that the model predicts by, or has it in another shape.
        """
        if _is_address(path):
            _fetch(path, f"{self.save_dir or 'this run'} has no checkpoint, and {path}")
        self._silent_on_auxiliary = not auxiliary
        self.load(path, checkpointables=[])
        self._silent_on_auxiliary = False
        tensors = self.model.state_dict(keep_vars=True)
        tensors = {n: t for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
        loaded = {id(tensor) for name, tensor in tensors.items() if name not in self._absent}
        drawn = [
            f"{name} {self._absent[name]}".rstrip()
            for name, tensor in tensors.items()
            if id(tensor) not in loaded and (auxiliary or _AUXILIARY not in name.split("."))
        ]
        if drawn:
            raise ValueError(
                f"{path} is no trained checkpoint of this model, whose predictions would be random:"
                f" it lacks {len(drawn)} of {len(tensors)} tensors: {_some(drawn)}"
            )

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            loaded = super()._load_file(filename)
        except (ValueError, FileNotFoundError):
            raise
        except Exception as error:  # what pickle raises of a .pkl
            raise ValueError(f"{filename} is damaged or is no checkpoint") from error
        return with_frozen_backbone(loaded, self.model)

    def _torch_load(self, f: str) -> dict[str, Any]:
        return read_weights_file(f)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if not (self._resumed or checkpoint.get("matching_heuristics")):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            checkpoint["model"] = rename_weights(checkpoint["model"], self.model)
        # Before shapes are compared, which Detectron2 does by names.
        for name, module in self.model.named_modules():
            if isinstance(module, IFASemSegHead):
                module.rename_moved(checkpoint["model"], f"{name}.")
        stateless = "trainer" not in checkpoint
        incompatible = super()._load_model(checkpoint)
        # Keys that are not loaded, and what is to be said of them.
        self._absent = dict.fromkeys(incompatible.missing_keys, "")
        for key, found, needed in incompatible.incorrect_shapes:
            self._absent[key] = f"(of shape {tuple(found)}, not {tuple(needed)})"
        if self._silent_on_auxiliary:  # what nothing asks is not warned of
            incompatible.missing_keys[:] = [
                key for key in incompatible.missing_keys if _AUXILIARY not in key.split(".")
            ]
        if self._resumed and stateless:
            raise refuse_to_resume(self._resumed, "it holds weights, but no state of a training")
        if self._resumed and (self._absent or incompatible.unexpected_keys):
            lacks = [f"{key} {what}".rstrip() for key, what in self._absent.items()]
            lacks += [f"{key} (which the model lacks)" for key in incompatible.unexpected_keys]
            raise refuse_to_resume(
                self._resumed, f"{len(lacks)} of its tensors are not the model's: {_some(lacks)}"
            )
        names = [name for name, _ in self.model.named_parameters()]
        if names and all(name in self._absent for name in names):
            unexpected = ", ".join(sorted(incompatible.unexpected_keys)[:5]) or "of other shapes"
            raise ValueError(f"no weight of {self._path} fits the model; its keys: {unexpected}")
        return incompatible


def _some(names: list[str]) -> str:
    return join_some(names, _NAMED)


def _save(data: dict[str, Any], path: os.PathLike[str]) -> None:
    """As ``torch.save``, which reports a full disk by its own counts of bytes."""
    try:
        torch.save(data, path)
    except RuntimeError as error:
        if not any(words in str(error) for words in _FAILED_WRITES):
            raise
        free = shutil.disk_usage(os.path.dirname(path)).free
        reason = f"cannot be written, with {free / 2**20:.0f} MiB free on its disk"
        raise OSError(errno.ENOSPC, reason) from error
