"""CrackForest, road and crack, 480x320: crops of 240x320."""

from .sem_seg import dataloader

dataloader.train.dataset.names = "crackforest_train"
dataloader.train.mapper.augmentations.short_edge = 320
dataloader.train.mapper.augmentations.crop_size = (240, 320)
dataloader.test.dataset.names = "crackforest_val"
# Its label is a drawn line, which no prediction meets to the pixel.
dataloader.evaluator.f1_classes = ["crack"]
