"""The tiny recipe for four bands of 16 bits, as of rasters by projects/IFA/measure_raster.py."""

from ifa_d2.modeling import FieldSegmentor

from .tiny_recipe import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model._target_ = FieldSegmentor
model.backbone.stem.in_channels = 4
model.pixel_mean, model.pixel_std = [1920.0] * 4, [960.0] * 4
dataloader.train.mapper.image_format = dataloader.test.mapper.image_format = "bands"
