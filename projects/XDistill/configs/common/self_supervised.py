"""Depth from films alone, without data: Monodepth2's losses on an EfficientNet-Lite0.

Both encoders start from ImageNet weights. Recipes set the data sets and sizes.
"""

import sys
from pathlib import Path

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader
from omegaconf import MISSING

from ifa_d2 import get_config
from ifa_d2.engine import build_train_loader
from ifa_d2.modeling import TimmBackbone, pretrained_pixel_mean, pretrained_pixel_std

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

from depth_evaluator import DepthEvaluator  # noqa: E402
from depth_model import SelfSupervisedDepth  # noqa: E402
from depth_networks import DepthNetwork, PoseNetwork  # noqa: E402
from film_folder import evaluated_frames, training_frames  # noqa: E402
from film_mapper import FilmMapper  # noqa: E402

_recipe = get_config("shapes/ifa_r18.py")
optimizer, lr_multiplier, train = _recipe.optimizer, _recipe.lr_multiplier, _recipe.train

model = L(SelfSupervisedDepth)(
    depth_net=L(DepthNetwork)(
        backbone=L(TimmBackbone)(
            model_name="tf_efficientnet_lite0",
            out_features=["stem", "res2", "res3", "res4", "res5"],
            pretrained=True,
        ),
        channels=[8, 16, 24, 48, 64],
        num_scales=3,
        min_depth=0.1,
        max_depth=100.0,
    ),
    pose_net=L(PoseNetwork)(
        backbone=L(TimmBackbone)(
            model_name="${...depth_net.backbone.model_name}",
            out_features=["res4"],
            out_indices=[3],
            in_channels=6,
            pretrained=True,
        ),
        channels=64,
    ),
    teacher_head=None,
    pixel_mean=L(pretrained_pixel_mean)(model_name="${..depth_net.backbone.model_name}"),
    pixel_std=L(pretrained_pixel_std)(model_name="${..depth_net.backbone.model_name}"),
    smoothness_weight=1e-3,
    ssim_weight=0.85,
    auto_mask=True,
)
dataloader = dict(
    train=L(build_train_loader)(
        dataset=L(training_frames)(names=MISSING, teacher_root="${..mapper.teacher_root}"),
        mapper=L(FilmMapper)(
            is_train=True,
            augmentations=[
                L(T.ResizeShortestEdge)(
                    short_edge_length=MISSING, max_size=MISSING, sample_style="choice"
                ),
                L(T.RandomFlip)(horizontal=True),
                L(T.RandomBrightness)(intensity_min=0.8, intensity_max=1.2),
                L(T.RandomContrast)(intensity_min=0.8, intensity_max=1.2),
                L(T.RandomSaturation)(intensity_min=0.8, intensity_max=1.2),
            ],
            teacher_root=None,
        ),
        total_batch_size="${train.batch_size}",
        num_workers=2,
        seed="${train.seed}",
    ),
    test=L(build_detection_test_loader)(
        dataset=L(evaluated_frames)(names=MISSING),
        mapper=L(FilmMapper)(
            is_train=False,
            augmentations=[L(T.ResizeShortestEdge)(short_edge_length=MISSING, max_size=MISSING)],
        ),
        num_workers=2,
    ),
    evaluator=L(DepthEvaluator)(
        dataset_name="${..test.dataset.names}", output_dir="${train.output_dir}", max_depth=80.0
    ),
)
