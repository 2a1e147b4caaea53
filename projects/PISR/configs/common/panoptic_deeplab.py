"""Panoptic-DeepLab with IFA as its semantic head, without data: the base of PISR.

Heads, losses and thresholds are those of Detectron2's Panoptic-DeepLab. Recipes set what the
backbone has, and the classes.
"""

import sys
from pathlib import Path

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader
from omegaconf import MISSING

from ifa_d2 import get_config
from ifa_d2.data import PanopticMapper
from ifa_d2.engine import build_train_loader
from ifa_d2.engine.build import build_data_set_evaluators
from ifa_d2.modeling import IFAPanopticDeepLabHead

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

from panoptic_deeplab import (  # noqa: E402
    PanopticDeeplabDatasetMapper,
    PanopticDeepLabTargetGenerator,
    build_instance_head,
    panoptic_records,
)
from pisr_deeplab import PISRPanopticDeepLab  # noqa: E402

_head = get_config("cityscapes/ifa_r18.py").model.sem_seg_head
_head._target_ = IFAPanopticDeepLabHead
_head.update(num_classes=MISSING, aux_heads=[], loss_top_k=0.2)
model = L(PISRPanopticDeepLab)(
    backbone=MISSING,
    sem_seg_head=_head,
    ins_embed_head=L(build_instance_head)(
        input_shape="${..sem_seg_head.levels.input_shape}",
        in_features=["res2", "res3", "res5"],
        project_channels=[32, 64],
        decoder_channels=[128, 128, 256],  # of res2, res3 and, for the ASPP, res5
        head_channels=32,
        aspp_dilations=[6, 12, 18],
        aspp_dropout=0.1,
        common_stride=4,
        norm="${..backbone.norm}",
        train_size=None,
        center_loss_weight=200.0,
        offset_loss_weight=0.01,
    ),
    relations=None,
    thing_classes=MISSING,
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
    label_divisor=1000,
    center_threshold=0.1,
    nms_kernel=7,
    top_k=200,
    stuff_area=2048,
)
dataloader = dict(
    train=L(build_train_loader)(
        dataset=L(panoptic_records)(names=MISSING),
        mapper=L(PanopticDeeplabDatasetMapper)(
            augmentations=[
                L(T.ResizeShortestEdge)(
                    short_edge_length=MISSING, max_size=MISSING, sample_style="choice"
                ),
                L(T.RandomFlip)(horizontal=True),
            ],
            image_format="RGB",
            panoptic_target_generator=L(PanopticDeepLabTargetGenerator)(
                ignore_label=255,
                thing_ids="${model.thing_classes}",
                sigma=10,
                ignore_stuff_in_offset=True,
                small_instance_area=4096,
                small_instance_weight=3,
            ),
        ),
        total_batch_size="${train.batch_size}",
        num_workers=2,
        seed="${train.seed}",
    ),
    test=L(build_detection_test_loader)(
        dataset=L(panoptic_records)(names=MISSING),
        mapper=L(PanopticMapper)(
            is_train=False,
            augmentations=[L(T.ResizeShortestEdge)(short_edge_length=MISSING, max_size=MISSING)],
            image_format="RGB",
        ),
        num_workers=2,
    ),
    # mIoU and panoptic quality.
    evaluator=L(build_data_set_evaluators)(
        dataset_name="${..test.dataset.names}", output_dir="${train.output_dir}"
    ),
)
