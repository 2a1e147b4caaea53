"""The drawn street scenes that come with the package, whole pictures of 128x192."""

from .sem_seg import dataloader

dataloader.train.dataset.names = "shapes_train"
dataloader.train.mapper.augmentations.short_edge = 128
dataloader.train.mapper.augmentations.scale_range = (0.75, 1.5)
dataloader.train.mapper.augmentations.crop_size = (128, 192)
dataloader.test.dataset.names = "shapes_val"
