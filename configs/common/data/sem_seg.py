"""Loaders and evaluator of a data set whose names a recipe fills in."""

from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from omegaconf import MISSING

from ifa_d2.data import SemSegMapper, build_sem_seg_augmentations
from ifa_d2.engine import build_train_loader
from ifa_d2.evaluation import SemSegEvaluator

dataloader = dict(
    train=L(build_train_loader)(
        dataset=L(get_detection_dataset_dicts)(names=MISSING, filter_empty=False),
        mapper=L(SemSegMapper)(
            is_train=True,
            augmentations=L(build_sem_seg_augmentations)(
                short_edge=MISSING,
                scale_range=(0.5, 2.0),
                crop_size=MISSING,
                flip="horizontal",
                color_jitter=True,
            ),
            image_format="RGB",
        ),
        total_batch_size="${train.batch_size}",
        num_workers=2,
        seed="${train.seed}",
    ),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names=MISSING, filter_empty=False),
        mapper=L(SemSegMapper)(is_train=False, image_format="RGB"),
        num_workers=2,
    ),
    # A list of evaluators, the figures' first, is evaluated together.
    evaluator=L(SemSegEvaluator)(
        dataset_name="${..test.dataset.names}", output_dir="${train.output_dir}"
    ),
)
