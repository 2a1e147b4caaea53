"""Features of frames by which positions are compared.

Shape legend: H x W pixels of a frame, C channels, h x w positions.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ifa_d2.modeling import TimmBackbone, pretrained_pixel_mean, pretrained_pixel_std

_STRIDE = 8


class FrameFeatures(nn.Module):
    """Features of stride 8 of a network of timm that was trained on ImageNet.

    Args:
        model_name: in timm. Its feature map of index 2 is taken, which has stride 8 in ResNets and
            EfficientNets; of ``resnet18``, the published choice, that is ``layer2``.
        weights_file: weights as timm publishes them, a file or an address. Empty takes those of an
            installed package, which ``tf_efficientnet_lite0`` has, or those that timm downloads.
        pretrained: False leaves the weights as they are drawn.

    Attributes:
        stride: pixels from one position to the next.

    Raises:
        ValueError: a model or file that is not there, or a model whose map has another stride.
        FileNotFoundError: weights that cannot be downloaded.
    """

    stride = _STRIDE

    def __init__(
        self,
        model_name: str = "tf_efficientnet_lite0",
        *,
        weights_file: str = "",
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        self.net = TimmBackbone(
            model_name=model_name,
            out_features=("features",),
            out_indices=(2,),
            frozen=True,
            pretrained=pretrained,
            weights_file=weights_file,
        )
        stride = self.net.output_shape()["features"].stride
        if stride != _STRIDE:
            raise ValueError(
                f"model_name must be a model whose third feature map has stride {_STRIDE}, got "
                f"{model_name!r} with stride {stride}"
            )
        for name, pixels in (("mean", pretrained_pixel_mean), ("std", pretrained_pixel_std)):
            value = torch.tensor(pixels(model_name)).view(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)
        self.eval()

    def forward(self, image: np.ndarray) -> Tensor:
        """Compute features (C, h, w) of a frame (H, W, 3) uint8 RGB; h = ceil(H / 8)."""
        picture = torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
        picture = (picture.to(self.mean.device) - self.mean) / self.std
        height, width = image.shape[:2]
        margins = (0, -width % self.stride, 0, -height % self.stride)
        return self.net(F.pad(picture, margins)[None])["features"][0]

    def at_positions(self, values: Tensor) -> Tensor:
        """Take values (..., H, W) of the pixels in the middle of the positions, (..., h, w)."""
        rows, cols = (self._pixels(side).to(values.device) for side in values.shape[-2:])
        return values[..., rows[:, None], cols]

    def _pixels(self, side: int) -> Tensor:
        middles = torch.arange(self.stride // 2, side + self.stride // 2, self.stride)
        return middles.clamp(max=side - 1)  # of a position that is not wholly on the frame
