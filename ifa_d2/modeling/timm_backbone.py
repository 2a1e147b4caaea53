"""Any model of timm as a backbone of Detectron2."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.utils.file_io import PathManager
from timm.layers import Conv2dSame, convert_sync_batchnorm
from timm.utils import freeze as freeze_modules
from timm.utils.model import freeze_batch_norm_2d
from torch import Tensor, nn

from ..data.bands import BANDS
from .packaged_weights import PREFIX, install_command, packaged_address

_logger = logging.getLogger(__name__)
NORMS = ("BN", "SyncBN", "FrozenBN")
_FETCH = (
    "fetch them elsewhere and name the file with model.backbone.weights_file "
    "(MODEL.TIMM.WEIGHTS_FILE)"
)
# Arguments of timm's models that make them take pictures of any size.
_ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}


@BACKBONE_REGISTRY.register()
class TimmBackbone(Backbone):
    """Backbone of a timm model with ``features_only=True``.

    Args:
        model_name: in timm, such as ``"hrnet_w18"`` or ``"convnext_tiny"``.
        out_features: names for the model's last feature maps, finest first.
        out_indices: which of the model's feature maps to take, in the order of ``out_features``;
            None or () for its last ones.
        norm: what batch norms become: ``"BN"`` leaves them, ``"SyncBN"`` shares their statistics
            over the GPUs, ``"FrozenBN"`` keeps them fixed. Other kinds of norm stay as they are.
        freeze: names of the model's parts that are not trained, such as ``("conv1", "bn1",
            "layer1")``; their batch norms are fixed.
        frozen: nothing of the model is trained: it gets no gradient, its norms use their stored
            statistics in training too, and it does not reach the optimizer.
        pretrained: start from the weights of this name, those of an installed package (see
            :mod:`.packaged_weights`) or else those that timm downloads. They expect RGB pictures,
            normalised by :func:`pretrained_pixel_mean` and :func:`pretrained_pixel_std`.
        weights_file: start from this file instead, as timm publishes them (.safetensors, .pth), or
            from an address such as ``"timm-package://tf_efficientnet_lite0"``.
        in_channels: channels of the image. For other than 3, timm repeats the first convolution of
            weights over them, times 3 / in_channels (for 1 it is summed).
        model_options: further keyword arguments of ``timm.create_model``, such as
            ``{"output_stride": 16}``, or ``{"feature_location": ""}`` for the raw branches of an
            HRNet.

    Attributes:
        weights_address: of the packaged weights that the model can have; empty where none are.

    Raises:
        ValueError: a model, feature map, part or file that is not there, or an unknown norm.
        FileNotFoundError: weights cannot be downloaded; the message says how to come by them.
    """

    @configurable
    def __init__(
        self,
        *,
        model_name: str,
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        out_indices: Sequence[int] | None = None,
        norm: str = "BN",
        freeze: Sequence[str] = (),
        frozen: bool = False,
        pretrained: bool = False,
        weights_file: str = "",
        in_channels: int = 3,
        model_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
        self._out_features = list(out_features)
        if not self._out_features or len(set(self._out_features)) < len(self._out_features):
            raise ValueError(f"out_features must be different names, got {self._out_features}")
        if frozen and in_channels != 3:
            raise ValueError(
                f"frozen must be False with in_channels {in_channels}: weights know RGB"
            )
        indices = tuple(out_indices or ())
        if indices and len(indices) != len(self._out_features):
            raise ValueError(
                f"out_indices must be {len(self._out_features)} numbers, one for each of "
                f"{self._out_features}, got {indices}"
            )
        packaged = packaged_address(model_name)
        self.weights_address = weights_file if weights_file.startswith(PREFIX) else packaged
        file = weights_file or (packaged if pretrained else "")
        self.net = _create(
            model_name,
            out_indices=indices or len(self._out_features),
            in_chans=in_channels,
            **(_file_options(file) if file else {"pretrained": pretrained}),
            **_plain(model_options or {}),
        )
        info = self.net.feature_info
        self._out_feature_channels = dict(zip(self._out_features, info.channels(), strict=True))
        self._out_feature_strides = dict(zip(self._out_features, info.reduction(), strict=True))
        # Layers beyond the features, which some models run too, meet any size.
        if self.size_divisibility == max(one["reduction"] for one in info.info):
            _fix_padding(self.net)
        self._channels_last = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")
        _freeze(self.net, tuple(freeze))
        if norm == "SyncBN":
            self.net = convert_sync_batchnorm(self.net)
        elif norm == "FrozenBN":
            self.net = freeze_batch_norm_2d(self.net)
        self.frozen = frozen
        if frozen:
            self.requires_grad_(False).eval()

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        keys = {key.lower(): value for key, value in cfg.MODEL.TIMM.items()}
        keys["model_options"] = {k.lower(): v for k, v in cfg.MODEL.TIMM.MODEL_OPTIONS.items()}
        if keys["pretrained"] or keys["weights_file"]:
            _warn_of_pixels(cfg)
        return {**keys, "in_channels": input_shape.channels}

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map images (B, in_channels, H, W) to features (B, C, h, w).

        Sides are multiples of ``size_divisibility``.
        """
        if self.frozen:
            with torch.no_grad():
                return self._features(image)
        return self._features(image)

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Set the mode; a frozen backbone stays in eval mode."""
        return super().train(mode and not self.frozen)

    def _features(self, image: Tensor) -> dict[str, Tensor]:
        features = self.net(image)
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return dict(zip(self._out_features, features, strict=True))

    @property
    def size_divisibility(self) -> int:
        """Number of pixels, the largest stride: all features then cover the same extent."""
        return max(self._out_feature_strides.values())


def pretrained_pixel_mean(model_name: str) -> list[float]:
    """Mean of each channel, RGB in [0, 255], that the weights of a timm model expect.

    Raises:
        ValueError: timm knows no weights of that name.
    """
    return _pixels(model_name, "mean")


def pretrained_pixel_std(model_name: str) -> list[float]:
    """Return the standard deviation of pixels, see :func:`pretrained_pixel_mean`."""
    return _pixels(model_name, "std")


def _pixels(model_name: str, what: str) -> list[float]:
    try:
        known = timm.get_pretrained_cfg(model_name, allow_unregistered=False)
    except RuntimeError as error:
        raise ValueError(
            f"model_name must be one whose pixel_{what} timm knows, got {model_name!r}: give "
            f"model.pixel_{what} as numbers"
        ) from error
    return [round(255 * value, 4) for value in getattr(known, what)]


def _warn_of_pixels(cfg: CfgNode) -> None:
    """Warn where a yacs config shows pretrained weights other pictures than they know."""
    name = cfg.MODEL.TIMM.MODEL_NAME
    if cfg.INPUT.FORMAT == BANDS or ":" in name or not timm.is_model(name.split(".")[0]):
        return
    expected = {
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": pretrained_pixel_mean(name),
        "MODEL.PIXEL_STD": pretrained_pixel_std(name),
    }
    given = dict(zip(expected, (cfg.INPUT.FORMAT, *map(list, _pixel_keys(cfg))), strict=True))
    for key, value in expected.items():
        if given[key] != value:
            _logger.warning(f"{key} is {given[key]}, but the weights of {name} expect {value}")


def _pixel_keys(cfg: CfgNode) -> tuple[Sequence[float], Sequence[float]]:
    return cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD


def _create(model_name: str, **options: Any) -> nn.Module:
    name = model_name.split(".")[0]  # what follows names weights
    if ":" not in model_name and not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise ValueError(
            f"model_name must be a model of timm {timm.__version__}, got {model_name!r}"
            + (f"; similar: {', '.join(close)}" if close else "")
        )
    try:
        options = {**_any_size_options(model_name), **options}
        return timm.create_model(model_name, features_only=True, **options)
    except OSError as error:
        hint = install_command(name)
        hint = f"`{hint}` has them" if hint else _FETCH
        raise FileNotFoundError(
            f"weights of {model_name} cannot be downloaded ({' '.join(str(error).split())}): {hint}"
        ) from error
    except (AssertionError, IndexError, TypeError) as error:
        raise ValueError(
            f"model_name {model_name!r} cannot be made with these feature maps and model_options, "
            f"{options}: {error!r}"
        ) from error


def _file_options(file: str) -> dict[str, Any]:
    """How timm is told of a file or address of weights."""
    try:
        local = PathManager.get_local_path(file)
    except OSError as error:
        raise FileNotFoundError(f"{file} cannot be downloaded ({error}): {_FETCH}") from error
    if not Path(local).is_file():
        raise ValueError(f"weights_file must be a file, got {file!r}")
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": local}}


def _plain(value: Any) -> Any:
    """A value of a LazyConfig as timm takes it, lists as tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(_plain, value))
    return value


def _any_size_options(model_name: str) -> dict[str, bool]:
    """Options that let a model of timm take pictures of other sizes than its own."""
    with torch.device("meta"):
        model = timm.create_model(model_name)
    # A subclass may hand its keyword arguments on.
    known = {name for kind in type(model).__mro__ for name in signature(kind.__init__).parameters}
    return {name: value for name, value in _ANY_SIZE.items() if name in known}


class _FixedSameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding, of inputs that its stride divides.

    That padding is then the same for every picture, where timm's ``Conv2dSame`` finds it anew of
    sizes, which an export cannot follow in reasonable time.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        spans = zip(self.kernel_size, self.dilation, self.stride, strict=True)
        rows, columns = (max((size - 1) * step + 1 - stride, 0) for size, step, stride in spans)
        # Left, right, top, bottom.
        self.margins = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.margins))


def _fix_padding(net: nn.Module) -> None:
    places = [
        (parent, name, child)
        for parent in net.modules()
        for name, child in parent.named_children()
        if isinstance(child, Conv2dSame)
    ]
    for parent, name, child in places:
        setattr(parent, name, _FixedSameConv2d(child))


def _freeze(net: nn.Module, names: tuple[str, ...]) -> None:
    known = {name for name, _ in net.named_modules() if name}
    unknown = [name for name in names if name not in known]
    if unknown:
        parts = [name for name, _ in net.named_children()]
        raise ValueError(f"freeze must name parts of the model such as {parts}, got {unknown}")
    if names:
        freeze_modules(net, list(names))
