"""A segmentation model as a function of tensors that can be recorded.

Shape legend: B pictures of one size, K classes, h x w pixels of the picture, H x W samples of the
output.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.data import transforms as T
from detectron2.modeling import PanopticFPN
from PIL import Image
from timm.layers import AvgPool2dSame, Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn

from ..choices import DECODES
from ..layers.queries import Length
from ..layers.resample import free_length, resize_bilinear, shortest_edge_size
from ..layers.traceable import TraceableDecoder
from ..modeling import IFASemSegHead
from ..modeling.picture_fields import padding_divisor


@dataclass(frozen=True)
class ShortestEdge:
    """A resize before the model, as Detectron2's ``ResizeShortestEdge`` of one length.

    Attributes:
        length: of the shorter edge, in pixels.
        max_size: that the longer edge does not pass.
    """

    length: int
    max_size: int

    @classmethod
    def of(cls, augmentations: Sequence[T.Augmentation | T.Transform]) -> "ShortestEdge | None":
        """Resize that the augmentations of a test make; None if they make none.

        Raises:
            ValueError: augmentations that a program cannot hold.
        """
        doing = [one for one in augmentations if not isinstance(one, T.NoOpTransform)]
        if not doing:
            return None
        one = doing[0]
        lengths = set(one.short_edge_length) if isinstance(one, T.ResizeShortestEdge) else set()
        if len(doing) > 1 or len(lengths) != 1 or one.interp != Image.BILINEAR:
            raise ValueError(
                "a program holds no other change of pictures than one bilinear ResizeShortestEdge "
                f"of one length, but the test mapper has {doing}: export without its resize and "
                "apply it to pictures yourself"
            )
        return cls(int(lengths.pop()), int(one.max_size)) if lengths != {0} else None

    def __call__(self, image: Tensor) -> Tensor:
        """(B, C, h, w) pictures of 0 to 255 resized, rounded to whole numbers before and after."""
        size = shortest_edge_size(image.shape[2], image.shape[3], self.length, self.max_size)
        return resize_bilinear(image.round(), size)


class ExportCore(nn.Module):
    """Resize, normalisation, padding, backbone, head and decoding at the output's size.

    It has none of Detectron2's image lists and dictionaries.

    Args:
        model: with ``backbone``, a ``sem_seg_head`` that is an ``IFASemSegHead``, ``pixel_mean``
            and ``pixel_std``, as Detectron2's ``SemanticSegmentor``; in eval mode.
        decode: ``"pixels"`` evaluates the field at each sample of the output; ``"grid"`` on the
            finest feature's grid, and interpolates, as ``SemanticSegmentor`` does, for about a
            sixteenth of the decoder's time and memory.
        resize: of the picture before the model.
        bands: pictures are of bands: a pixel where one is not finite has no data, and is the
            pixel mean, as a :class:`Predictor` shows it.
        nodata: a value of bands that means no data, too; None is none.
        semantic_only: take a ``PanopticFPN`` for its semantic head alone.

    Raises:
        ValueError: another model, a model in training mode, an unknown ``decode``, or a resize of
            bands.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        decode: str = "pixels",
        resize: ShortestEdge | None = None,
        semantic_only: bool = False,
        bands: bool = False,
        nodata: float | None = None,
    ) -> None:
        super().__init__()
        if bands and resize is not None:
            raise ValueError(
                "a program of bands holds no resize: leave it out (--no-test-resize) and apply it "
                "to pictures yourself"
            )
        head = getattr(model, "sem_seg_head", None)
        if not isinstance(head, IFASemSegHead):
            raise ValueError(f"model.sem_seg_head must be an IFASemSegHead, got {type(head)}")
        if isinstance(model, PanopticFPN) and not semantic_only:
            raise ValueError(
                "a program gives semantic logits alone, but the model is a PanopticFPN, which "
                "finds instances too: leave them out with semantic_only (--semantic-only)"
            )
        if hasattr(model, "head_features"):
            raise ValueError(
                "a program holds backbone and semantic head alone, but the model refines features "
                f"between them ({type(model).__name__}.head_features): export its base"
            )
        if decode not in DECODES:
            raise ValueError(f"decode must be one of {DECODES}, got {decode!r}")
        if model.training:
            raise ValueError("model must be in eval mode, got one in training mode")
        self.decode = decode
        self.resize = resize
        self.bands = bands
        self.nodata = nodata
        self.backbone = with_fixed_padding(copy.deepcopy(model.backbone))
        self.decoder = TraceableDecoder(head.alignment)
        self.levels = copy.deepcopy(head.levels)
        self.temperature = head.temperature
        self.register_buffer("pixel_mean", model.pixel_mean.clone())
        self.register_buffer("pixel_std", model.pixel_std.clone())
        constraints = model.backbone.padding_constraints
        self.square_size = constraints.get("square_size", 0)
        self.divisor = constraints.get("size_divisibility", padding_divisor(model))
        # TorchScript's recorder keeps a check only if it is a compiled function.
        self.check_image: Callable[[Tensor, int, bool], Tensor] = checked_image
        self.check_size: Callable[[Tensor], Tensor] = checked_size

    def forward(self, image: Tensor, size: Tensor | None = None) -> Tensor:
        """Logits of pictures of one size, divided by the head's temperature.

        Args:
            image: (B, 3, h, w) uint8 or floating point in 0..255, channels in the model's order;
                or (B, C, h, w) bands, of these types.
            size: (2,) int64, the (height, width) of the output; None is the picture's.

        Returns:
            (B, K, H, W) float32.

        Raises:
            ValueError: another shape or type, or numbers that are not finite.
        """
        image = self.check_image(image, self.pixel_mean.numel(), not self.bands).float()
        own = (image.shape[2], image.shape[3])
        output = own if size is None else _lengths(self.check_size(size))
        if self.resize is not None:
            image = self.resize(image)
        inside = (image.shape[2], image.shape[3])
        extent = (self._padded(inside[0]), self._padded(inside[1]))
        x = (image - self.pixel_mean) / self.pixel_std
        if self.bands:
            known = torch.isfinite(image)
            if self.nodata is not None:
                known = known & (image != self.nodata)
            x = torch.where(known.all(dim=1, keepdim=True), x, torch.zeros_like(x))
        x = F.pad(x, (0, extent[1] - inside[1], 0, extent[0] - inside[0]))
        levels = self.levels(self.backbone(x))
        if self.decode == "pixels":
            return self._divided(self.decoder(levels, output, inside, extent))
        grid = (levels[0].shape[2], levels[0].shape[3])
        logits = self._divided(self.decoder(levels, grid, extent, extent))
        stride = self.levels.common_stride
        logits = _resize(logits, (grid[0] * stride, grid[1] * stride))
        for dim in (2, 3):
            # Not a slice, whose strides would tell pictures that need no padding apart.
            cells = torch.arange(inside[dim - 2], device=logits.device)
            logits = logits.index_select(dim, cells)
        if size is None and self.resize is None:
            return logits
        return _resize(logits, output)

    def _divided(self, logits: Tensor) -> Tensor:
        return logits if self.temperature == 1 else logits / self.temperature

    def _padded(self, length: Length) -> Length:
        length = self.square_size or length
        if self.divisor > 1:
            length = (length + self.divisor - 1) // self.divisor
            if self.resize is not None:  # how the size came about is nothing to the backbone
                length = free_length(length)
            length = length * self.divisor
        return length


def checked_image(image: Tensor, channels: int, finite: bool) -> Tensor:
    """The pictures, (B, C, h, w).

    Raises:
        ValueError: another shape or type, or, where it matters, a value that is not finite.
    """
    if image.dim() != 4 or image.size(1) != channels or image.numel() == 0:
        raise ValueError(f"image must have shape (B, {channels}, H, W), got {image.size()}")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ValueError("image must be uint8 or floating point, in colours from 0 to 255")
    if finite and image.is_floating_point() and not bool(torch.isfinite(image).all()):
        raise ValueError("image must hold finite numbers")
    return image


def checked_size(size: Tensor) -> Tensor:
    """A size of the output, (2,).

    Raises:
        ValueError: another shape or type, or a side below 1.
    """
    if size.dim() != 1 or size.numel() != 2 or size.is_floating_point():
        raise ValueError("size must be (height, width), int64 of shape (2,)")
    if bool((size < 1).any()):
        raise ValueError(f"size must be at least 1 a side, got {int(size.min())}")
    return size


def with_fixed_padding(module: nn.Module) -> nn.Module:
    """A network, changed in place, whose layers of "same" padding pad by constants.

    timm's, those of TensorFlow's EfficientNets among them, reckon it from each map's size, which
    makes a recorder's terms of sizes grow without end. On maps whose sides are multiples of their
    strides, as padded pictures have, it does not depend on the size.
    """
    for name, child in module.named_children():
        with_fixed_padding(child)
        padding = _fixed_padding(child)
        if padding is not None:
            module.set_submodule(name, nn.Sequential(padding, child))
    return module


def _fixed_padding(layer: nn.Module) -> nn.Module | None:
    """The padding of a layer, which from then on pads nothing; None where it is no such layer."""
    plain = {Conv2dSame: nn.Conv2d, MaxPool2dSame: nn.MaxPool2d, AvgPool2dSame: nn.AvgPool2d}
    if type(layer) in plain:
        layer.__class__ = plain[type(layer)]
    elif getattr(layer, "same_pad", False):  # of standardised weights
        layer.same_pad = False
    else:
        return None
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    dilation = _pair(getattr(layer, "dilation", 1))
    sides: list[int] = []
    for axis in (1, 0):
        total = max((kernel[axis] - 1) * dilation[axis] + 1 - stride[axis], 0)
        sides += [total // 2, total - total // 2]
    return nn.ConstantPad2d(sides, float("-inf") if isinstance(layer, nn.MaxPool2d) else 0.0)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _lengths(size: Tensor) -> tuple[Length, Length]:
    if torch.jit.is_tracing():
        return size[0], size[1]
    height, width = size.tolist()
    for length in (height, width):
        torch._check(length > 0)
    return height, width


def _resize(logits: Tensor, size: tuple[Length, Length]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
