"""A checkpointer that never leaves half a file and never loads nothing in silence."""

import os
import pickle
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlparse

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import Detectron2Handler, PathManager

from ..files import atomic_path
from ..modeling.packaged_weights import with_frozen_backbone, without_frozen_backbone

_FROM_SCRATCH = 'train.init_checkpoint="" (MODEL.WEIGHTS "" in a .yaml) trains from scratch'
# The head that training alone asks, by the name of its module.
_AUXILIARY = "aux_head"
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
        command = f"python tools/convert_imagenet_checkpoint.py {source or 'IN.pth'} {path}"
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


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with atomic writes and errors where it only warns.

    A checkpoint appears under its name when it is complete. A file that is missing, damaged, or
    has nothing in common with the model is an error that names it.
    """

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
            torch.save(data, temporary)
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
        return super().load(path, checkpointables=checkpointables)

    def load_trained(self, path: str) -> None:
        """Load the weights to predict with, of which none may be left as it was drawn.

        Raises:
            FileNotFoundError, ValueError: as :meth:`load`; or the file lacks a parameter that the
                model predicts by, or has it in another shape. An auxiliary head's may lack.
        """
        if _is_address(path):
            _fetch(path, f"{self.save_dir or 'this run'} has no checkpoint, and {path}")
        self.load(path, checkpointables=[])
        names = list(self.model.named_parameters(remove_duplicate=False))
        loaded = {id(parameter) for name, parameter in names if name not in self._absent}
        drawn = [
            f"{name} {self._absent[name]}".rstrip()
            for name, parameter in names
            if id(parameter) not in loaded and _AUXILIARY not in name.split(".")
        ]
        if drawn:
            some = ", ".join(drawn[:3]) + (", ..." if len(drawn) > 3 else "")
            raise ValueError(
                f"{path} is no trained checkpoint of this model, whose answers would be random: it "
                f"lacks {len(drawn)} of {len(names)} parameters: {some}"
            )

    def warn_of_absent(self, path: str, prefix: str = "backbone.") -> None:
        """Log how much of a part of the model the checkpoint loaded last, ``path``, has left."""
        names = [n for n, _ in self.model.named_parameters() if n.startswith(prefix)]
        absent = [name for name in names if name in self._absent]
        if absent:
            self.logger.warning(
                f"{len(absent)} of {len(names)} parameters of {prefix.rstrip('.')} are not in "
                f"{path}, or of another shape there, and start at random: is it of another model?"
            )

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            loaded = super()._load_file(filename)
        except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
            raise ValueError(f"{filename} is damaged or is no checkpoint") from error
        if not isinstance(loaded["model"], Mapping):
            raise ValueError(f"{filename} is no checkpoint: it holds no table of weights")
        return with_frozen_backbone(loaded, self.model)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        incompatible = super()._load_model(checkpoint)
        keys = self.model.state_dict().keys()
        # Keys that are not loaded, and what is to be said of them.
        self._absent = dict.fromkeys(incompatible.missing_keys, "")
        for key, found, needed in incompatible.incorrect_shapes:
            self._absent[key] = f"(of shape {tuple(found)}, not {tuple(needed)})"
        if keys and not keys - self._absent.keys():
            unexpected = ", ".join(sorted(incompatible.unexpected_keys)[:5]) or "of other shapes"
            raise ValueError(f"no weight of the checkpoint fits the model; its keys: {unexpected}")
        return incompatible
