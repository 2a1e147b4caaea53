"""A small predictor of random weights, and rasters of smooth noise."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import torch
from detectron2.modeling import ResNet, SemanticSegmentor
from detectron2.modeling.backbone.resnet import BasicStem
from rasterio.transform import Affine
from torch import nn

from ifa_d2.engine import Predictor
from tests.heads import SMALL_SHAPE, make_head, make_stages

K = 4
MULTIPLE = 8  # of pixels that the model pads to
UTM = {
    "crs": "EPSG:32632",
    "transform": Affine(0.5, 0.0, 400_000.0, 0.0, -0.5, 5_500_000.0),
}


def make_predictor(channels: int = 3, *, seed: int = 0, **kwargs: Any) -> Predictor:
    """Features of strides 4 and 8."""
    torch.manual_seed(seed)
    stages = make_stages()
    head = make_head(
        input_shape=SMALL_SHAPE,
        num_classes=K,
        in_features=("res2", "res3"),
        channels=6,
        hidden_dims=(6,),
        aux_feature=None,
        norm="BN",
    )
    nn.init.normal_(head.alignment.predictor.weight, std=2.0)
    model = SemanticSegmentor(
        backbone=ResNet(BasicStem(channels, 4, "BN"), stages, out_features=("res2", "res3")),
        sem_seg_head=head,
        pixel_mean=[120.0] * channels,
        pixel_std=[60.0] * channels,
    )
    return Predictor(model, **kwargs)


def make_pixels(
    height: int, width: int, bands: int = 3, dtype: str = "uint8", seed: int = 0
) -> np.ndarray:
    """Smooth noise of 0 to 255, (bands, height, width)."""
    coarse = np.random.default_rng(seed).random((height // 12 + 2, width // 12 + 2, bands))
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels = (255 * fine.reshape(height, width, bands)).clip(0, 255).astype(dtype)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def write_raster(path: Path, pixels: np.ndarray, **profile: Any) -> Path:
    """Write (bands, height, width) as a GeoTIFF of small tiles."""
    profile = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
        **profile,
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
    return path


def read_labels(path: Path) -> np.ndarray:
    """The one band of a file."""
    with rasterio.open(path) as dataset:
        assert dataset.count == 1
        return dataset.read(1)
