"""A recipe whose model and pictures are small enough to train in a test.

The pictures are those in the folder that the environment variable TINY_DATA names.
"""

import torch
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.layers import ShapeSpec
from detectron2.modeling import ResNet, SemanticSegmentor
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem

from ifa_d2.data import SemSegMapper, build_sem_seg_augmentations, register_sem_seg_folder
from ifa_d2.engine import build_train_loader, get_optimizer_params, poly_schedule
from ifa_d2.evaluation import SemSegEvaluator
from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import AuxiliaryHead, FeatureLevels, GridTargets, IFASemSegHead, norm_factory

register_sem_seg_folder(
    "tiny", "$TINY_DATA/images", "$TINY_DATA/labels", ("left", "right", "middle")
)


def _stage(in_channels: int, out_channels: int, stride: int) -> dict:
    return L(ResNet.make_stage)(
        block_class=BasicBlock,
        num_blocks=1,
        in_channels=in_channels,
        out_channels=out_channels,
        stride_per_block=[stride],
        norm="${model.backbone.stem.norm}",
    )


model = L(SemanticSegmentor)(
    backbone=L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=4, norm="BN"),
        stages=[_stage(4, 4, 1), _stage(4, 8, 2)],
        out_features=("res2", "res3"),
    ),
    sem_seg_head=L(IFASemSegHead)(
        num_classes=3,
        levels=L(FeatureLevels)(
            input_shape={
                "res2": L(ShapeSpec)(channels=4, stride=4),
                "res3": L(ShapeSpec)(channels=8, stride=8),
            },
            channels=[4, 4],
            norm="${model.backbone.stem.norm}",
        ),
        alignment=L(ImplicitAlignment)(
            in_channels="${..levels.channels}",
            num_classes="${..num_classes}",
            hidden_dims=[8],
            norm=L(norm_factory)(name="${...levels.norm}"),
        ),
        targets=L(GridTargets)(),
        aux_heads=[
            L(AuxiliaryHead)(
                feature="res3",
                in_channels="${...levels.input_shape.res3.channels}",
                channels=4,
                num_classes="${...num_classes}",
                norm="${...levels.norm}",
            )
        ],
    ),
    pixel_mean=[120.0, 120.0, 120.0],
    pixel_std=[60.0, 60.0, 60.0],
)
dataloader = dict(
    train=L(build_train_loader)(
        dataset=L(get_detection_dataset_dicts)(names="tiny", filter_empty=False),
        mapper=L(SemSegMapper)(
            is_train=True,
            augmentations=L(build_sem_seg_augmentations)(short_edge=32, crop_size=(32, 32)),
        ),
        total_batch_size="${train.batch_size}",
        num_workers=0,
        seed="${train.seed}",
    ),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names="tiny", filter_empty=False),
        mapper=L(SemSegMapper)(is_train=False),
        num_workers=0,
    ),
    evaluator=L(SemSegEvaluator)(dataset_name="${..test.dataset.names}"),
)
optimizer = L(torch.optim.SGD)(
    params=L(get_optimizer_params)(base_lr="${..lr}", head_lr_factor=10.0),
    lr=0.01,
    momentum=0.9,
    weight_decay=1e-4,
)
lr_multiplier = L(poly_schedule)(max_iter="${train.max_iter}", warmup_iters=1 / 3)
train = dict(
    output_dir="",
    init_checkpoint="",
    max_iter=6,
    batch_size=4,
    seed=5,
    deterministic=True,
    device="cpu",
    amp=dict(enabled=False, dtype="bfloat16"),
    clip_gradients=dict(enabled=False, clip_type="norm", clip_value=1.0, norm_type=2.0),
    checkpointer=dict(period=3, max_to_keep=0),
    eval_period=3,
    log_period=1,
)
