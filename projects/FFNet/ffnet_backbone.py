"""Backbones of FFNet: deep ResNets of basic blocks, behind stems of three kinds.

Mehta et al., Simple and Efficient Architectures for Semantic Segmentation, CVPR workshops 2022,
https://arxiv.org/abs/2206.08236.

Shape legend: B batch, C channels, H x W the picture's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import fvcore.nn.weight_init as weight_init
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from ifa_d2.modeling.backbone import PaddedResNet

STAGES = ("res2", "res3", "res4", "res5")


@dataclass(frozen=True)
class Variant:
    """One of the published backbones.

    Attributes:
        stem: "A", "B" or "C".
        blocks: how many each stage has.
        widths: of the stages' convolutions of 3x3.
        bottleneck: stages are of bottlenecks, four times as wide outside.
    """

    stem: str
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    bottleneck: bool = False


_A, _B = (64, 128, 256, 512), (64, 128, 192, 320)
_N, _NS = (96, 160, 320), (64, 128, 256)
# By their published names; of stem C the first feature is the stem's, and stages are three.
VARIANTS = {
    "18": Variant("A", (2, 2, 2, 2), _A),
    "34": Variant("A", (3, 4, 6, 3), _A),
    "50": Variant("A", (3, 4, 6, 3), _A, bottleneck=True),
    "56": Variant("A", (4, 8, 12, 3), _A),
    "86": Variant("A", (8, 12, 16, 6), _A),
    "101": Variant("A", (3, 4, 23, 3), _A, bottleneck=True),
    "134": Variant("A", (8, 18, 28, 12), _A),
    "150": Variant("A", (16, 18, 28, 12), _A),
    "22S": Variant("B", (2, 3, 3, 2), _B),
    "30S": Variant("B", (3, 4, 4, 3), _B),
    "40S": Variant("B", (4, 5, 6, 4), _B),
    "54S": Variant("B", (5, 8, 8, 5), _B),
    "78S": Variant("B", (6, 12, 12, 8), _B),
    "86S": Variant("B", (8, 12, 16, 6), _B),
    "150S": Variant("B", (16, 18, 28, 12), _B),
    "46N": Variant("C", (6, 8, 8), _N),
    "74N": Variant("C", (8, 12, 16), _N),
    "122N": Variant("C", (16, 24, 20), _N),
    "46NS": Variant("C", (6, 8, 8), _NS),
    "74NS": Variant("C", (8, 12, 16), _NS),
    "122NS": Variant("C", (16, 24, 20), _NS),
}


class ConvBlock(CNNBlockBase):
    """Convolutions of 3x3 with norm and ReLU, one after another.

    Args:
        in_channels: of the input.
        channels: of each convolution.
        stride: of each convolution.
        norm: name of a norm, see Detectron2's ``get_norm``.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], *, stride: int, norm: str
    ) -> None:
        super().__init__(in_channels, channels[-1], stride ** len(channels))
        self.convs = nn.Sequential()
        for width in channels:
            conv = Conv2d(
                in_channels,
                width,
                kernel_size=3,
                stride=stride,
                padding=1,
                bias=not norm,
                norm=get_norm(norm, width),
                activation=F.relu_,
            )
            weight_init.c2_msra_fill(conv)
            self.convs.append(conv)
            in_channels = width

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels[-1], H / stride, W / stride)."""
        return self.convs(x)


class HalvingStem(CNNBlockBase):
    """Gaussian blur of the picture to half its size, then a stem.

    So a network for small pictures is shown large ones. The kernel of 5x5 is fixed: SciPy's
    Gaussian of sigma 0.7 pixels. The picture is mirrored at its border, and comes out at exactly
    half its size.

    Args:
        stem: that is shown the half picture.
    """

    def __init__(self, stem: CNNBlockBase) -> None:
        super().__init__(stem.in_channels, stem.out_channels, 2 * stem.stride)
        self.stem = stem
        profile = torch.tensor(gaussian_filter1d(np.eye(5)[2], sigma=0.7), dtype=torch.float32)
        self.register_buffer("kernel", torch.outer(profile, profile), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) of even sides to the stem's output for (B, C, H / 2, W / 2)."""
        return self.stem(self.halve(x))

    def halve(self, x: Tensor) -> Tensor:
        """Blur (B, C, H, W) to (B, C, H / 2, W / 2)."""
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
        x = F.pad(x, (1, 2, 1, 2), mode="reflect")
        return F.conv2d(x, kernel, stride=2, groups=x.shape[1])


class ShortcutBlock(BasicBlock):
    """Basic block that has a shortcut convolution wherever it has a stride.

    Detectron2's has one only where channels change, and fails at 64 to 64 with stride 2.

    Args:
        in_channels, out_channels, stride, norm: see Detectron2's ``BasicBlock``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: str = "BN"
    ) -> None:
        super().__init__(in_channels, out_channels, stride=stride, norm=norm)
        if stride != 1 and self.shortcut is None:
            self.shortcut = Conv2d(
                in_channels,
                out_channels,
                kernel_size=1,
                stride=stride,
                bias=False,
                norm=get_norm(norm, out_channels),
            )
            weight_init.c2_msra_fill(self.shortcut)


def build_ffnet_backbone(
    *,
    variant: str,
    norm: str = "BN",
    stride2_first: bool = False,
    pre_down: bool = False,
    out_features: Sequence[str] = STAGES,
    freeze_at: int = 0,
    in_channels: int = 3,
) -> PaddedResNet:
    """Build a backbone whose features res2 to res5 have strides 4, 8, 16 and 32.

    Args:
        variant: one of :data:`VARIANTS`.
        norm: name of all norms, see Detectron2's ``get_norm``.
        stride2_first: the first stage has a stride too, so that strides are 8 to 64 (the "d" of
            published names); not for stem C, where it always has.
        pre_down: the network is shown the picture at half its size, so that strides, in pixels of
            the whole picture, are twice as large.
        out_features: stages to return.
        freeze_at: number of stages, from the stem on, that are not trained.
        in_channels: channels of the picture.

    Raises:
        ValueError: an unknown variant or stage, or ``stride2_first`` with stem C.
    """
    known = _find(variant, stride2_first)
    unknown = [name for name in out_features if name not in ("stem", *STAGES)]
    if unknown or not out_features:
        raise ValueError(
            f"out_features must name some of stem, {', '.join(STAGES)}, got {list(out_features)}"
        )
    stem, stages = _build_stem(known.stem, in_channels, norm)
    width = stem.out_channels
    for index, (count, channels) in enumerate(zip(known.blocks, known.widths, strict=True)):
        stride = 2 if index or stride2_first or known.stem == "C" else 1
        stages.append(_build_stage(known, width, channels, count, stride, norm))
        width = stages[-1][-1].out_channels
    if pre_down:
        stem = HalvingStem(stem)
    return PaddedResNet(stem, stages, out_features=list(out_features), freeze_at=freeze_at)


def feature_shapes(
    variant: str, *, stride2_first: bool = False, pre_down: bool = False
) -> dict[str, ShapeSpec]:
    """Channels and strides of the features of :func:`build_ffnet_backbone`.

    Args:
        variant, stride2_first, pre_down: see there.

    Raises:
        ValueError: an unknown variant, or ``stride2_first`` with stem C.
    """
    known = _find(variant, stride2_first)
    channels = [4 * width if known.bottleneck else width for width in known.widths]
    channels = [64, *channels] if known.stem == "C" else channels
    finest = 4 * (2 if stride2_first else 1) * (2 if pre_down else 1)
    return {
        name: ShapeSpec(channels=width, stride=finest * 2**index)
        for index, (name, width) in enumerate(zip(STAGES, channels, strict=True))
    }


def _find(variant: str, stride2_first: bool) -> Variant:
    known = VARIANTS.get(str(variant))  # a command line makes a number of "18"
    if known is None:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    if stride2_first and known.stem == "C":
        raise ValueError(
            f"stride2_first must be False for variant {variant}: after stem C the first stage has "
            "a stride already"
        )
    return known


def _build_stem(
    kind: str, in_channels: int, norm: str
) -> tuple[CNNBlockBase, list[list[CNNBlockBase]]]:
    """The stem, and res2 where it is of the stem too."""
    if kind == "A":
        return BasicStem(in_channels=in_channels, out_channels=64, norm=norm), []
    if kind == "B":
        return ConvBlock(in_channels, (32, 64), stride=2, norm=norm), []
    stem = ConvBlock(in_channels, (64, 64), stride=2, norm=norm)
    return stem, [[ConvBlock(64, (64,), stride=1, norm=norm)]]


def _build_stage(
    variant: Variant, in_channels: int, width: int, count: int, stride: int, norm: str
) -> list[CNNBlockBase]:
    strides = [stride] + [1] * (count - 1)
    common = {"in_channels": in_channels, "stride_per_block": strides, "norm": norm}
    if not variant.bottleneck:
        return ResNet.make_stage(ShortcutBlock, count, out_channels=width, **common)
    return ResNet.make_stage(
        BottleneckBlock, count, out_channels=4 * width, bottleneck_channels=width, **common
    )
