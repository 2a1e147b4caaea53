"""A network with the tensors of the published FFNet checkpoints, written anew.

It has their names and shapes and the function that the published definitions describe, in plain
torch, and random weights and statistics.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UP = {
    "A": ([64, 128, 256, 512], [128, 128, 128, 128]),
    "B": ([64, 128, 128, 256], [96, 96, 64, 32]),
    "C": ([128, 128, 128, 128], [128, 16, 16, 16]),
}
LAST = {"A": (512, 1), "B": (256, 3), "C": (128, 1)}
# Stem, blocks and widths of some backbones, and whether these are bottlenecks.
BACKBONES = {
    "18": ("A", [2, 2, 2, 2], [64, 128, 256, 512], False),
    "50": ("A", [3, 4, 6, 3], [64, 128, 256, 512], True),
    "22S": ("B", [2, 3, 3, 2], [64, 128, 192, 320], False),
    "46N": ("C", [6, 8, 8], [96, 160, 320], False),
    "46NS": ("C", [6, 8, 8], [64, 128, 256], False),
}


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        sizes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        if not bottleneck:
            sizes = [(inputs, width, 3, stride), (width, width, 3, 1)]
        self.count = len(sizes)
        for i, (a, b, side, step) in enumerate(sizes, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(a, b, side, step, side // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(b))
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.count else y
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class Backbone(nn.Module):
    def __init__(self, variant: str, first_stride: int) -> None:
        super().__init__()
        self.kind, blocks, widths, bottleneck = BACKBONES[variant]
        if self.kind == "A":
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        else:
            sizes = [(3, 32, 2), (32, 64, 2)] if self.kind == "B" else [(3, 64, 2), (64, 64, 2)]
            sizes += [(64, 64, 1)] if self.kind == "C" else []
            for i, (a, b, stride) in enumerate(sizes):
                self.add_module(f"conv{i}", nn.Conv2d(a, b, 3, stride, 1, bias=False))
                self.add_module(f"bn{i}", nn.BatchNorm2d(b))
            self.stem = len(sizes)
        self.out_channels = [64] if self.kind == "C" else []
        inputs = 64
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            layer = nn.Sequential()
            for index in range(count):
                stride = (first_stride if stage == 1 else 2) if index == 0 else 1
                layer.append(Block(inputs, width, stride, bottleneck))
                inputs = 4 * width if bottleneck else width
            self.add_module(f"layer{stage}", layer)
            self.out_channels.append(inputs)
        self.stages = len(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.kind == "A":
            x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        else:
            for i in range(self.stem):
                x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)).relu()
        features = [x] if self.kind == "C" else []
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
            features.append(x)
        return features


class Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
        self.layers = nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Adapters(nn.Module):
    def __init__(self, inputs: list[int], outputs: list[int]) -> None:
        super().__init__()
        pairs = zip(inputs, outputs, strict=True)
        self.adapter_conv = nn.ModuleList(Unit(a, b, 1) for a, b in pairs)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [unit(x) for unit, x in zip(self.adapter_conv, features, strict=True)]


class TopDown(nn.Module):
    def __init__(self, widths: list[int], outputs: list[int], resize: dict) -> None:
        super().__init__()
        self.resize = resize
        self.fam_4 = Unit(widths[0], outputs[0], 3)
        for i, stride in enumerate((8, 16, 32), start=1):
            self.add_module(f"fam_{stride}_sm", Unit(widths[i], outputs[i], 3))
            self.add_module(f"fam_{stride}_up", Unit(widths[i], widths[i - 1], 1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        x, made = levels[3], [self.fam_32_sm(levels[3])]
        for i, stride in ((2, 32), (1, 16), (0, 8)):
            up = getattr(self, f"fam_{stride}_up")(x)
            x = F.interpolate(up, levels[i].shape[2:], **self.resize) + levels[i]
            made.append((self.fam_4 if i == 0 else getattr(self, f"fam_{stride // 2}_sm"))(x))
        size = made[-1].shape[2:]
        return torch.cat([F.interpolate(one, size, **self.resize) for one in made[::-1]], 1)


class SegmentationHead(nn.Module):
    def __init__(self, inputs: int, width: int, side: int, classes: int) -> None:
        super().__init__()
        self.last_layer = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, classes, side, padding=side // 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.last_layer(x)


class PictureHead(nn.Module):
    """Some tensors of the ImageNet models' classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.final_layer = nn.Sequential(nn.Conv2d(1024, 2048, 1), nn.BatchNorm2d(2048))
        self.classifier = nn.Linear(2048, 10)


class Head(nn.Module):
    def __init__(self, channels: list[int], up: str, last: str, resize: dict, classes: int) -> None:
        super().__init__()
        widths, outputs = UP[up]
        layers = [Adapters(channels, widths), TopDown(widths, outputs, resize)]
        if last == "X":
            layers.append(PictureHead())
        else:
            layers.append(nn.Identity())
            layers.append(SegmentationHead(sum(outputs), *LAST[last], classes))
        self.layers = nn.Sequential(*layers)


class PublishedNetwork(nn.Module):
    """In eval mode, with random weights and statistics.

    Args:
        variant: one of BACKBONES.
        up, last: letters of up-head and segmentation head; X is the ImageNet models' classifier.
        first_stride: of the first stage.
        mobile: nearest cells, otherwise bilinear from corner to corner.
        classes: K.
    """

    def __init__(
        self,
        variant: str,
        up: str,
        last: str,
        *,
        first_stride: int = 1,
        mobile: bool = False,
        classes: int = 19,
    ) -> None:
        super().__init__()
        resize = {"mode": "nearest"} if mobile else {"mode": "bilinear", "align_corners": True}
        self.backbone_model = Backbone(variant, 2 if variant.startswith("46") else first_stride)
        self.head = Head(self.backbone_model.out_channels, up, last, resize, classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1)
                nn.init.normal_(module.bias, std=0.2)
                nn.init.normal_(module.running_mean, std=0.2)
                nn.init.uniform_(module.running_var, 0.5, 2)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, K, h, w)."""
        return self.head.layers(self.backbone_model(image))
