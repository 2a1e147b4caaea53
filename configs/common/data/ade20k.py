"""ADE20K, 150 classes, pictures of any size: crops of 480x480 (Sec. 4.1)."""

from .cityscapes import dataloader

dataloader.train.dataset.names = "ade20k_sem_seg_train"
dataloader.train.mapper.augmentations.crop_size = (480, 480)
dataloader.test.dataset.names = "ade20k_sem_seg_val"
