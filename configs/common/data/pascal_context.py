"""PASCAL Context, 59 classes and background, pictures of any size: crops of 513x513 (Sec. 4.1)."""

from .cityscapes import dataloader

dataloader.train.dataset.names = "pascal_context_60_train"
dataloader.train.mapper.augmentations.crop_size = (513, 513)
dataloader.test.dataset.names = "pascal_context_60_val"
