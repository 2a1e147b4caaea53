"""ResNets of the paper, put together from Detectron2's stems and blocks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from detectron2.projects.deeplab.resnet import DeepLabStem
from torch import Tensor, nn

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_STAGES = ("res2", "res3", "res4", "res5")
# Dilations of res4 and res5 in place of their strides.
_DILATIONS = {32: (1, 1), 16: (1, 2), 8: (2, 4)}


class PaddedResNet(ResNet):
    """A ResNet that asks for pictures padded to whole cells of its coarsest feature.

    All features then cover the same extent, as the coordinates of a field assume; of a picture of
    361 rows res2 would cover 364 and res5 384.

    Args:
        stem, stages, out_features, freeze_at: see Detectron2's ``ResNet``.
        res2_pool: see :func:`build_resnet`.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: list[list[nn.Module]],
        *,
        out_features: list[str],
        freeze_at: int = 0,
        res2_pool: int = 1,
    ) -> None:
        super().__init__(stem, stages, out_features=out_features, freeze_at=freeze_at)
        if res2_pool > 1 and "res3" in self.stage_names:
            self.res3 = self.stages[1] = _PooledStage(res2_pool, *self.res3)
            for name in self.stage_names[1:]:
                self._out_feature_strides[name] *= res2_pool

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features of images (B, C, H, W), channels last in memory: faster on CPUs."""
        return super().forward(x.contiguous(memory_format=torch.channels_last))

    @property
    def size_divisibility(self) -> int:
        """Number of pixels, the largest stride of the features it returns."""
        return max(self._out_feature_strides[name] for name in self._out_features)


class _PooledStage(nn.Sequential):
    """Stage whose output is averaged over squares of ``size`` cells, cut at the border."""

    def __init__(self, size: int, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, kernel_size=self.size, ceil_mode=True, count_include_pad=False)
        return super().forward(x)


def build_resnet(
    *,
    depth: int,
    norm: str,
    stem_channels: int | None = None,
    res5_multi_grid: Sequence[int] | None = None,
    out_features: Sequence[str] = _STAGES,
    freeze_at: int = 0,
    zero_init_residual: bool = True,
    stride_in_1x1: bool = False,
    avg_down: bool = False,
    output_stride: int = 32,
    res2_pool: int = 1,
    in_channels: int = 3,
) -> PaddedResNet:
    """Build a ResNet, of strides 4, 8, 16 and 32 unless asked for others.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: name of the normalisation of all layers, for Detectron2's ``get_norm``.
        stem_channels: output channels of a deep stem of three 3x3 convolutions, the first two of
            half as many channels (the paper's: 128 for R-50 and R-101, 64 for R-18). None is the
            ordinary stem, one 7x7 convolution to 64 channels.
        res5_multi_grid: dilations of res5's bottlenecks, which keep their stride (the paper's
            R-50 and R-101: 2, 2, 4). None is no dilation, the only choice for depth 18 and 34.
        out_features: stages to return; those after the last of them are left out.
        freeze_at: number of stages, from the stem on, that are not trained.
        zero_init_residual: let each block begin as its shortcut, by a last normalisation of
            weight 0.
        stride_in_1x1: put a bottleneck's stride in its first convolution, as weights converted
            from Caffe need it, not in the 3x3 one.
        avg_down: let shortcuts average cells before a 1x1 convolution without stride ("ResNet-D",
            Fig. 2c of https://arxiv.org/abs/1812.01187), as some pretrained weights need it.
        output_stride: 16 gives res5, 8 gives res4 and res5 a dilation in place of a stride
            (depth 50 or more).
        res2_pool: cells a side that are averaged between res2 and res3, whose stride and those
            after it grow by this factor (the paper's Table 3: 2 and 4).
        in_channels: channels of the image.

    Raises:
        ValueError: a depth, stage, stem width, stride or list of dilations that does not exist.
    """
    _check_depth(depth, output_stride, res5_multi_grid)
    unknown = [name for name in out_features if name not in ("stem", *_STAGES)]
    if unknown or not out_features:
        raise ValueError(
            f"out_features must name some of stem, {', '.join(_STAGES)}, got {list(out_features)}"
        )
    if res2_pool < 1:
        raise ValueError(f"res2_pool must be at least 1, got {res2_pool}")
    stem = _make_stem(stem_channels, in_channels=in_channels, norm=norm)
    stages: list[list[nn.Module]] = []
    for index, dilation in enumerate((1, 1, *_DILATIONS[output_stride])):
        stages.append(
            _make_stage(
                index,
                depth,
                in_channels=(stages[-1][-1] if stages else stem).out_channels,
                dilation=dilation,
                multi_grid=res5_multi_grid if index == 3 else None,
                norm=norm,
                stride_in_1x1=stride_in_1x1,
            )
        )
    if zero_init_residual:
        _zero_last_norms(stages)
    if avg_down:
        _average_shortcuts(stages)
    return PaddedResNet(
        stem,
        stages,
        out_features=list(out_features),
        freeze_at=freeze_at,
        res2_pool=res2_pool,
    )


def _check_depth(depth: int, output_stride: int, res5_multi_grid: Sequence[int] | None) -> None:
    if depth not in BLOCKS_PER_STAGE:
        raise ValueError(f"depth must be one of {sorted(BLOCKS_PER_STAGE)}, got {depth}")
    if output_stride not in _DILATIONS:
        raise ValueError(f"output_stride must be one of {sorted(_DILATIONS)}, got {output_stride}")
    dilations = None if res5_multi_grid is None else list(res5_multi_grid)
    if depth < 50:
        for name, value, only in (
            ("output_stride", output_stride, 32),
            ("res5_multi_grid", dilations, None),
        ):
            if value != only:
                raise ValueError(
                    f"{name} must be {only} at depth {depth}, whose blocks have no dilation, "
                    f"got {value}"
                )
    elif dilations is not None:
        count = BLOCKS_PER_STAGE[depth][3]
        if len(dilations) != count or min(dilations) < 1:
            raise ValueError(
                f"res5_multi_grid must be {count} dilations of 1 or more, got {dilations}"
            )


def _make_stem(stem_channels: int | None, *, in_channels: int, norm: str) -> nn.Module:
    if stem_channels is None:
        return BasicStem(in_channels=in_channels, out_channels=64, norm=norm)
    if stem_channels < 1 or stem_channels % 2:
        raise ValueError(f"stem_channels must be even and positive, got {stem_channels}")
    return DeepLabStem(in_channels=in_channels, out_channels=stem_channels, norm=norm)


def _make_stage(
    index: int,
    depth: int,
    *,
    in_channels: int,
    dilation: int,
    multi_grid: Sequence[int] | None,
    norm: str,
    stride_in_1x1: bool,
) -> list[nn.Module]:
    """The blocks of a stage, counted from 0; a dilation takes the place of its stride."""
    num_blocks, width = BLOCKS_PER_STAGE[depth][index], 64 * 2**index
    stride = 1 if index == 0 or dilation > 1 else 2
    common = {
        "in_channels": in_channels,
        "norm": norm,
        "stride_per_block": [stride] + [1] * (num_blocks - 1),
    }
    if depth < 50:
        return ResNet.make_stage(BasicBlock, num_blocks, out_channels=width, **common)
    return ResNet.make_stage(
        BottleneckBlock,
        num_blocks,
        out_channels=4 * width,
        bottleneck_channels=width,
        stride_in_1x1=stride_in_1x1,
        dilation_per_block=[dilation * factor for factor in multi_grid or [1] * num_blocks],
        **common,
    )


def _zero_last_norms(stages: list[list[nn.Module]]) -> None:
    for block in (block for stage in stages for block in stage):
        norm = block.conv2.norm if isinstance(block, BasicBlock) else block.conv3.norm
        # A frozen normalisation has no parameter, and would keep its block at 0 for ever.
        if norm is not None and isinstance(norm.weight, nn.Parameter):
            nn.init.zeros_(norm.weight)


class _AveragedConv2d(Conv2d):
    """Averages 2x2 cells, and what there is of them at a border, before it convolves."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, kernel_size=2, ceil_mode=True, count_include_pad=False)
        return super().forward(x)


def _average_shortcuts(stages: list[list[nn.Module]]) -> None:
    for block in (block for stage in stages for block in stage):
        conv = block.shortcut
        if conv is None or conv.stride == (1, 1):
            continue
        block.shortcut = _AveragedConv2d(
            conv.in_channels, conv.out_channels, kernel_size=1, bias=False, norm=conv.norm
        )
        block.shortcut.weight = conv.weight


@BACKBONE_REGISTRY.register()
def build_ifa_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PaddedResNet:
    """Build a ResNet of ``cfg.MODEL.RESNETS`` and ``cfg.MODEL.BACKBONE.FREEZE_AT``.

    Of Detectron2's own keys it takes DEPTH, NORM, OUT_FEATURES, STEM_OUT_CHANNELS, RES5_DILATION
    and STRIDE_IN_1X1; of those that ``add_ifa_config`` adds, STEM_TYPE ("basic" or "deeplab"),
    RES4_DILATION, RES5_MULTI_GRID, ZERO_INIT_RESIDUAL, AVG_DOWN and RES2_POOL.

    Raises:
        ValueError: a key asks for a ResNet that :func:`build_resnet` does not build.
    """
    resnets = cfg.MODEL.RESNETS
    fixed = {
        "NUM_GROUPS": 1,
        "WIDTH_PER_GROUP": 64,
        "RES2_OUT_CHANNELS": 64 if resnets.DEPTH < 50 else 256,
        "DEFORM_ON_PER_STAGE": [False] * 4,
    }
    for key, value in fixed.items():
        if resnets[key] != value:
            raise ValueError(
                f"MODEL.RESNETS.{key} must be {value} for build_ifa_resnet_backbone with "
                f"MODEL.RESNETS.DEPTH {resnets.DEPTH}, got {resnets[key]}"
            )
    if resnets.STEM_TYPE not in ("basic", "deeplab"):
        raise ValueError(
            f"MODEL.RESNETS.STEM_TYPE must be basic or deeplab, got {resnets.STEM_TYPE!r}"
        )
    deep = resnets.STEM_TYPE == "deeplab"
    if not deep and resnets.STEM_OUT_CHANNELS != 64:
        raise ValueError(
            "MODEL.RESNETS.STEM_OUT_CHANNELS must be 64 for MODEL.RESNETS.STEM_TYPE basic, "
            f"got {resnets.STEM_OUT_CHANNELS}"
        )
    multi_grid = list(resnets.RES5_MULTI_GRID)
    dilations = (resnets.RES4_DILATION, resnets.RES5_DILATION)
    strides = [stride for stride, known in _DILATIONS.items() if known == dilations]
    if not strides:
        raise ValueError(
            "MODEL.RESNETS.RES4_DILATION and RES5_DILATION must be one of "
            f"{tuple(_DILATIONS.values())}, got {dilations}"
        )
    return build_resnet(
        depth=resnets.DEPTH,
        norm=resnets.NORM,
        stem_channels=resnets.STEM_OUT_CHANNELS if deep else None,
        res5_multi_grid=multi_grid if set(multi_grid) - {1} else None,
        out_features=resnets.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        zero_init_residual=resnets.ZERO_INIT_RESIDUAL,
        stride_in_1x1=resnets.STRIDE_IN_1X1,
        avg_down=resnets.AVG_DOWN,
        output_stride=strides[0],
        res2_pool=resnets.RES2_POOL,
        in_channels=input_shape.channels,
    )
