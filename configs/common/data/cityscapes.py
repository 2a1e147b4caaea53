"""Cityscapes, 19 classes, 2048x1024: crops of 769x769 (Sec. 4.1), without colour jitter."""

from .sem_seg import dataloader

dataloader.train.dataset.names = "cityscapes_fine_sem_seg_train"
dataloader.train.num_workers = 4
# Scales are of the picture's own size, and as often below 1 as above (the authors' code).
dataloader.train.mapper.augmentations.update(
    short_edge=None, scale_law="balanced", crop_size=(769, 769), color_jitter=False
)
dataloader.test.num_workers = 4
dataloader.test.dataset.names = "cityscapes_fine_sem_seg_val"
