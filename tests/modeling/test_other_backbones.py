"""The head over backbones that others bring: timm's transformers, and Detectron2's own."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import MViT, SimpleFeaturePyramid, SwinTransformer, ViT
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem
from omegaconf import DictConfig
from torch import nn

from ifa_d2.layers import GridQuery, textbook_alignment
from ifa_d2.modeling import FieldSegmentor, IFASemSegHead, TimmBackbone, compute_fields
from ifa_d2.modeling.head_config import ALIGNMENTS, head_config
from ifa_d2.modeling.picture_fields import padded_images

SIZE = (61, 83)
_VIT = {"depth": 4, "embed_dim": 32, "num_heads": 2}
_STAGES = {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 2)}


def _timm(name: str, **options: object) -> DictConfig:
    return L(TimmBackbone)(model_name=name, model_options=options)


def _backbones() -> dict[str, DictConfig]:
    """Each at the least width and depth that has all its parts."""
    return {
        # Of another size than the pictures, as their weights are.
        "dinov2": _timm("vit_small_patch14_dinov2", img_size=42, **_VIT),
        "dinov3": _timm("vit_small_patch16_dinov3", img_size=48, **_VIT),
        "swin": _timm("swin_tiny_patch4_window7_224", **_STAGES),
        "swin v2": _timm("swinv2_tiny_window8_256", **_STAGES),
        "convnext": _timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
        "Detectron2 ViT": L(SimpleFeaturePyramid)(
            net=L(ViT)(
                img_size=64,
                embed_dim=32,
                depth=2,
                num_heads=2,
                pretrain_img_size=48,
                window_size=3,
                window_block_indexes=(0,),
                use_rel_pos=True,
            ),
            in_feature="last_feat",
            out_channels=16,
            scale_factors=(4.0, 2.0, 1.0, 0.5),
        ),
        "Detectron2 Swin": L(SwinTransformer)(window_size=3, **_STAGES),
        "Detectron2 MViT": L(MViT)(
            img_size=64,
            embed_dim=16,
            depth=4,
            num_heads=1,
            last_block_indexes=(0, 1, 2, 3),
            residual_pooling=True,
            use_abs_pos=False,
            use_rel_pos=True,
            out_features=("scale2", "scale3", "scale4", "scale5"),
        ),
        "Detectron2 RegNet": L(RegNet)(
            stem_class=SimpleStem,
            stem_width=8,
            block_class=ResBottleneckBlock,
            depth=13,
            w_a=36.44,
            w_0=24,
            w_m=2.49,
            group_width=8,
            norm="BN",
            out_features=("s1", "s2", "s3", "s4"),
        ),
    }


# By backbone; else (4, 8, 16, 32).
STRIDES = {"dinov2": (14,) * 4, "dinov3": (16,) * 4}


def _config(backbone: DictConfig, **options: object) -> DictConfig:
    shapes = instantiate(backbone).output_shape()
    names = tuple(shapes)
    parts = head_config(
        {
            "input_shape": shapes,
            "in_features": names,
            "num_classes": 3,
            "channels": 8,
            "hidden_dims": (16,),
            "aux_feature": names[2],
            "aux_channels": 8,
            "targets": "points",
            "local_ensemble": options.get("alignment") != "nearest",
            **options,
        }
    )
    head = L(IFASemSegHead)(**parts)
    pixels = {"pixel_mean": [123.7, 116.3, 103.5], "pixel_std": [58.4, 57.1, 57.4]}
    return L(FieldSegmentor)(backbone=backbone, sem_seg_head=head, **pixels)


def _inputs(count: int) -> list[dict]:
    images = torch.randint(0, 255, (count, 3, *SIZE), dtype=torch.uint8)
    labels = torch.randint(0, 3, (count, *SIZE))
    return [{"image": i, "sem_seg": s} for i, s in zip(images, labels, strict=True)]


def _train_step(model: nn.Module, inputs: list[dict]) -> None:
    losses = model.train()(inputs)
    assert losses.keys() == {"loss_sem_seg", "loss_sem_seg_aux"}
    sum(losses.values()).backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", _backbones())
def test_it_learns_and_answers_anywhere(name: str, tmp_path: Path) -> None:
    cfg = _config(_backbones()[name])
    LazyConfig.save(DictConfig({"model": cfg}, flags={"allow_objects": True}), f"{tmp_path}/c.yaml")
    model = instantiate(LazyConfig.load(f"{tmp_path}/c.yaml").model)
    strides = STRIDES.get(name, (4, 8, 16, 32))
    assert tuple(shape.stride for shape in model.backbone.output_shape().values()) == strides
    inputs = _inputs(2)
    _train_step(model, inputs)

    model.eval()
    images = padded_images(model, inputs)
    height, width = images.tensor.shape[-2:]
    assert (height, width) == tuple(-(-side // max(strides)) * max(strides) for side in SIZE)
    with torch.no_grad():
        features = model.backbone(images.tensor)
        levels = model.sem_seg_head.levels(features)
        for level, stride in zip(levels, strides, strict=True):
            assert level.shape[2:] == (height // stride, width // stride)
        query = GridQuery.regular(height, width)
        whole = textbook_alignment(model.sem_seg_head.alignment, levels, query)
    for field, output, logits in zip(
        compute_fields(model, inputs), model(inputs), whole, strict=True
    ):
        logits = logits[:, : SIZE[0], : SIZE[1]]
        torch.testing.assert_close(field.logits(), logits, rtol=1e-4, atol=1e-4)
        assert output["sem_seg"].shape == SIZE
        assert (output["sem_seg"] == logits.argmax(0)).float().mean() > 0.99


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_levels_of_one_stride_go_with_every_alignment(alignment: str) -> None:
    cfg = _config(_backbones()["dinov2"], alignment=alignment)
    model = instantiate(cfg)
    inputs = _inputs(1)
    _train_step(model, inputs)
    field = compute_fields(model.eval(), inputs)[0]
    coarse = field.logits(size=(5, 6))
    assert coarse.shape == (3, 5, 6) and coarse.isfinite().all()


@pytest.mark.parametrize("targets", ["grid", "jittered_grid", "uncertain_points"])
def test_dense_labels_are_padded_as_the_images(targets: str) -> None:
    """RegNet asks for no padding, with which its features would not cover the same pixels."""
    model = instantiate(_config(_backbones()["Detectron2 RegNet"], targets=targets))
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2:]))
    _train_step(model, _inputs(2))
    assert seen == [(64, 96)]
    # Labels in the padding do not count: all of them unlabelled is no loss, not another one.
    empty = [{**one, "sem_seg": torch.full(SIZE, 255)} for one in _inputs(2)]
    assert all(loss == 0 for loss in model(empty).values())


def test_lists_of_a_recipe_reach_timm_as_tuples() -> None:
    cfg = _timm("convnext_atto", depths=[1, 1, 1, 1], dims=[8, 16, 24, 32])
    channels = [shape.channels for shape in instantiate(cfg).output_shape().values()]
    assert channels == [8, 16, 24, 32]


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "swin"])
def test_frozen_transformer_is_the_same_in_training(name: str) -> None:
    cfg = _backbones()[name]
    cfg.model_options.drop_path_rate = 0.5
    cfg.frozen = True
    backbone = instantiate(cfg).train()
    image = torch.randn(1, 3, 112, 64 + 48)
    features = backbone(image)
    assert not any(feature.requires_grad for feature in features.values())
    for feature, again in zip(features.values(), backbone(image).values(), strict=True):
        assert torch.equal(feature, again)
