"""The network of the authors' checkpoints, written anew with their names of the tensors.

It follows the paper's formula and the published code's conventions: offsets in [-1, 1] image
coordinates times a level's cells, sines and cosines of the products with a frequency matrix, and
the concatenation of all levels before the MLP. It runs on any device and holds no training code.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _conv3x3(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)


class Block(nn.Module):
    """A basic block (two 3x3) or a bottleneck (1x1, 3x3 with the stride, 1x1 to 4x the width)."""

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int, bottleneck: bool
    ) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            convs = [
                nn.Conv2d(inputs, width, 1, bias=False),
                _conv3x3(width, width, stride, dilation),
                nn.Conv2d(width, outputs, 1, bias=False),
            ]
        else:
            convs = [_conv3x3(inputs, width, stride), _conv3x3(width, width)]
        self.count = len(convs)
        for i, conv in enumerate(convs, start=1):
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(conv.out_channels))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            y = y.relu() if i < self.count else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Encoder(nn.Module):
    """ResNet with a deep stem; its max pool rounds sizes up."""

    def __init__(self, blocks: Sequence[int], bottleneck: bool, stem: int) -> None:
        super().__init__()
        half = stem // 2
        self.conv1 = nn.Sequential(
            _conv3x3(3, half, 2),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            _conv3x3(half, half),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            _conv3x3(half, stem),
        )
        self.bn1 = nn.BatchNorm2d(stem)
        channels = stem
        for i, count in enumerate(blocks):
            width, made = 64 * 2**i, []
            for j in range(count):
                dilation = (2, 2, 4)[j] if i == 3 and bottleneck else 1
                stride = 2 if i > 0 and j == 0 else 1
                made.append(Block(channels, width, stride, dilation, bottleneck))
                channels = 4 * width if bottleneck else width
            self.add_module(f"layer{i + 1}", nn.Sequential(*made))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.bn1(self.conv1(x)).relu()
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        features = []
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
            features.append(x)
        return features


class Frequencies(nn.Module):
    """(4F) sines and cosines beside the offset itself."""

    def __init__(self, count: int, learned: bool) -> None:
        super().__init__()
        values = 2 ** torch.linspace(0, 6, count)
        zeros = torch.zeros(count)
        matrix = torch.cat([torch.stack([values, zeros], 1), torch.stack([zeros, values], 1)])
        self.emb = nn.Parameter(matrix) if learned else matrix

    def forward(self, offset: Tensor) -> Tensor:
        angle = offset @ self.emb.T
        return torch.cat([offset, angle.sin(), angle.cos()], dim=-1)


class Alignment(nn.Module):
    """Nearest cell and offset of each query at each level, then the MLP."""

    def __init__(
        self, classes: int, hidden: Sequence[int], position: str, count: int, unfold: bool
    ) -> None:
        super().__init__()
        self.unfold = unfold
        encoded = 2
        if position != "coord":
            encoded += 4 * count
            for i in range(1, 5):
                self.add_module(f"pos{i}", Frequencies(count, position == "learned"))
        sizes = [4 * (256 * (9 if unfold else 1) + encoded), *hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs), nn.ReLU()]
        self.imnet = nn.Sequential(*layers, nn.Conv1d(sizes[-1], classes, 1))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        height, width = levels[0].shape[-2:]
        parts = []
        for i, level in enumerate(levels, start=1):
            if self.unfold:
                batch, channels, h, w = level.shape
                level = F.unfold(level, 3, padding=1).view(batch, channels * 9, h, w)
            rows, dy = _nearest(height, level.shape[2])
            cols, dx = _nearest(width, level.shape[3])
            feature = level[:, :, rows][:, :, :, cols].flatten(2).transpose(1, 2)
            offset = torch.stack(torch.meshgrid(dy, dx, indexing="ij"), -1).flatten(0, 1)
            if hasattr(self, f"pos{i}"):
                offset = self.get_submodule(f"pos{i}")(offset)
            parts += [offset.expand(len(feature), *offset.shape), feature]
        logits = self.imnet(torch.cat(parts, dim=-1).transpose(1, 2))
        return logits.unflatten(2, (height, width))


def _nearest(queries: int, cells: int) -> tuple[Tensor, Tensor]:
    """Nearest cell of each of the queries along one axis, and the offset from it in half cells."""
    cell = torch.arange(queries).mul(2).add(1).mul(cells).div(2 * queries, rounding_mode="floor")
    at = (2 * torch.arange(queries).double() + 1) / queries - 1
    centre = (2 * cell.double() + 1) / cells - 1
    return cell, ((at - centre) * cells).float()


class ASPP(nn.Module):
    """Image pooling, 1x1 and three dilated 3x3 branches, concatenated in this order."""

    def __init__(self, inputs: int, dilations: Sequence[int]) -> None:
        super().__init__()
        pooled = nn.Conv2d(inputs, 256, 1, bias=False)
        self.conv1 = nn.Sequential(nn.AdaptiveAvgPool2d(1), pooled, nn.BatchNorm2d(256), nn.ReLU())
        branches = [nn.Conv2d(inputs, 256, 1, bias=False)]
        branches += [_conv3x3(inputs, 256, dilation=dilation) for dilation in dilations]
        for i, conv in enumerate(branches, start=2):
            self.add_module(f"conv{i}", nn.Sequential(conv, nn.BatchNorm2d(256), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.conv1(x).expand(-1, -1, *x.shape[2:])
        return torch.cat([pooled, *(self.get_submodule(f"conv{i}")(x) for i in range(2, 6))], 1)


class Decoder(nn.Module):
    """Projections of the four levels and the alignment function."""

    def __init__(
        self,
        classes: int,
        inputs: Sequence[int],
        hidden: Sequence[int],
        position: str,
        count: int,
        unfold: bool,
        dilations: Sequence[int] | None,
    ) -> None:
        super().__init__()
        for i in range(3):
            unit = (nn.Conv2d(inputs[i], 256, 1), nn.BatchNorm2d(256), nn.ReLU())
            self.add_module(f"enc{i + 1}", nn.Sequential(*unit))
        if dilations is None:
            last = [nn.Conv2d(inputs[3], 256, 1), nn.BatchNorm2d(256), nn.ReLU()]
        else:
            self.aspp = ASPP(inputs[3], dilations)
            last = [_conv3x3(5 * 256, 256), nn.BatchNorm2d(256), nn.ReLU(), nn.Dropout2d(0.1)]
        self.head = nn.Sequential(*last)
        self.ifa = Alignment(classes, hidden, position, count, unfold)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        levels = [self.get_submodule(f"enc{i + 1}")(features[i]) for i in range(3)]
        last = self.aspp(features[3]) if hasattr(self, "aspp") else features[3]
        return self.ifa([*levels, self.head(last)])


class AuxiliaryHead(nn.Module):
    """A 3x3 unit and a classifier."""

    def __init__(self, classes: int, inputs: int) -> None:
        super().__init__()
        self.aux = nn.Sequential(
            nn.Conv2d(inputs, 256, 3, padding=1),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(256, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.aux(x)


class ReferenceNetwork(nn.Module):
    """Encoder, decoder and auxiliary head, in evaluation mode and with random statistics.

    Args:
        blocks: blocks of each stage.
        bottleneck: whether they are bottlenecks, with dilations 2, 2, 4 in the last stage.
        stem: channels of the deep stem.
        hidden: sizes of the MLP's hidden layers.
        position: "learned", "fixed" or "coord".
        count: frequencies an axis.
        dilations: of ASPP on the last level; None for none.
    """

    def __init__(
        self,
        classes: int = 19,
        *,
        blocks: Sequence[int] = (3, 4, 6, 3),
        bottleneck: bool = True,
        stem: int = 128,
        hidden: Sequence[int] = (512, 256, 256),
        position: str = "learned",
        count: int = 6,
        unfold: bool = False,
        dilations: Sequence[int] | None = None,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        inputs = [64 * 2**i * (4 if bottleneck else 1) for i in range(4)]
        self.encoder = Encoder(blocks, bottleneck, stem)
        self.decoder = Decoder(classes, inputs, hidden, position, count, unfold, dilations)
        if auxiliary:
            self.auxor = AuxiliaryHead(classes, inputs[2])
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        self.eval()
