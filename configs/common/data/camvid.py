"""CamVid, 11 classes, 480x360: crops of two thirds of a side."""

from .sem_seg import dataloader

dataloader.train.dataset.names = "camvid_train"
dataloader.train.mapper.augmentations.short_edge = 360
dataloader.train.mapper.augmentations.crop_size = (240, 320)
dataloader.test.dataset.names = "camvid_val"
