"""COCO panoptic as Detectron2 has it: 80 things, and 53 stuff classes beside "things".

Sizes, batch, rate and schedule are those of `COCO-PanopticSegmentation/panoptic_fpn_R_50_1x`.
"""

import detectron2.data.transforms as T
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import (
    build_detection_test_loader,
    get_detection_dataset_dicts,
)

from ifa_d2.data import PanopticMapper
from ifa_d2.engine import build_train_loader
from ifa_d2.evaluation import PanopticEvaluator, SemSegEvaluator

from ...common.inference import inference
from ...common.optim import optimizer
from ...common.train import train

dataloader = dict(
    train=L(build_train_loader)(
        dataset=L(get_detection_dataset_dicts)(
            names="coco_2017_train_panoptic_separated", filter_empty=False
        ),
        mapper=L(PanopticMapper)(
            is_train=True,
            augmentations=[
                L(T.ResizeShortestEdge)(
                    short_edge_length=(640, 672, 704, 736, 768, 800),
                    sample_style="choice",
                    max_size=1333,
                ),
                L(T.RandomFlip)(horizontal=True),
            ],
            image_format="BGR",
            use_instance_mask=True,
        ),
        total_batch_size="${train.batch_size}",
        num_workers=4,
        seed="${train.seed}",
    ),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(
            names="coco_2017_val_panoptic_separated", filter_empty=False
        ),
        mapper=L(PanopticMapper)(
            is_train=False,
            augmentations=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
            image_format="BGR",
        ),
        num_workers=4,
    ),
    # Both in one run. mIoU is over 54 classes, "things" among them.
    evaluator=[
        L(SemSegEvaluator)(
            dataset_name="${...test.dataset.names}", output_dir="${train.output_dir}"
        ),
        L(PanopticEvaluator)(
            dataset_name="${...test.dataset.names}", output_dir="${train.output_dir}"
        ),
    ],
)
lr_multiplier = model_zoo.get_config("common/coco_schedule.py").lr_multiplier_1x
optimizer.update(lr=0.02, weight_decay=1e-4)
optimizer.params.update(head_lr_factor=1.0, weight_decay_norm=0.0)
train.update(max_iter=90_000, batch_size=16, eval_period=5000)
train.checkpointer.period = 5000
inference.update(scales=(0.5, 0.75, 1.0, 1.25, 1.5))
