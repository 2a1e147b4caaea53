"""The program's steps, before they are recorded, against the predictor."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import FPN, ResNet, SemanticSegmentor
from timm.layers import AvgPool2dSame, Conv2dSame, ScaledStdConv2d, StdConv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import nn

from ifa_d2.choices import DECODES
from ifa_d2.engine.export import eager_logits, export_model
from ifa_d2.engine.export_core import ExportCore, with_fixed_padding
from ifa_d2.engine.predictor import Predictor
from ifa_d2.modeling.backbone import PaddedResNet
from tests.engine.test_export import HEAD, SIZES, array, make, picture, relative_error
from tests.heads import make_head
from tests.modeling.panoptic import small_model


class SquareResNet(PaddedResNet):
    """Pads to a square, as plain vision transformers are trained."""

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": 120, "size_divisibility": 16}


@pytest.mark.parametrize("decode", DECODES)
def test_backbone_that_asks_for_no_padding(decode: str) -> None:
    """Detectron2's ResNet: pictures are padded all the same, so that features cover the same."""
    model = make(backbone=ResNet)
    assert model.backbone.size_divisibility == 0
    core, predictor = ExportCore(model, decode=decode).eval(), Predictor(model)
    for size, output_size in SIZES:
        image = picture(size)
        with torch.no_grad():
            logits = core(image, torch.tensor(output_size))[0]
        expected = eager_logits(predictor, array(image), output_size, decode)
        assert relative_error(logits, expected) < 1e-5


def make_pyramid() -> nn.Module:
    fpn = FPN(make().backbone, in_features=("res2", "res3"), out_channels=8, norm="BN")
    head = make_head(
        input_shape=fpn.output_shape(),
        in_features=("p2", "p3"),
        num_classes=3,
        channels=4,
        hidden_dims=(8,),
        aux_feature=None,
    )
    return SemanticSegmentor(
        backbone=fpn, sem_seg_head=head, pixel_mean=[120.0] * 3, pixel_std=[60.0] * 3
    ).eval()


OPTIONS = {
    "coord": f"{HEAD}.alignment.encoding=coord",
    "unfold": f"{HEAD}.alignment.unfold=True",
    "aspp": f"{HEAD}.levels.projections={{res3:{{_target_:ifa_d2.modeling.ASPPProjection,"
    "in_channels:8,out_channels:4,dilations:[1,2,3]}}",
    "SyncBN": "model.backbone.stem.norm=SyncBN",
    "FrozenBN": "model.backbone.stem.norm=FrozenBN",
}


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize(
    "variant", [*OPTIONS, "bilinear", "nearest", "not padded", "square", "pyramid"]
)
def test_core_is_the_model(variant: str, decode: str) -> None:
    if variant == "pyramid":
        model = make_pyramid()
    elif variant in OPTIONS:
        model = make(OPTIONS[variant])
    elif variant in ("bilinear", "nearest"):
        model = make(alignment=variant)
    else:
        model = make(backbone={"not padded": ResNet, "square": SquareResNet}[variant])
    core, predictor = ExportCore(model, decode=decode), Predictor(model)
    for image_size, output_size in SIZES:
        image = picture(image_size)
        expected = eager_logits(predictor, array(image), output_size, decode)
        with torch.no_grad():
            assert relative_error(core(image, torch.tensor(output_size))[0], expected) < 1e-5
            assert torch.equal(core(image.float()), core(image))


def test_onnx_of_a_pyramid(tmp_path: Path) -> None:
    checks = export_model(
        Predictor(make_pyramid()), tmp_path / "fpn.onnx", "onnx", example_size=(64, 96)
    )
    assert len(checks) == 3


def test_bad_models() -> None:
    with pytest.raises(ValueError, match="IFASemSegHead"):
        ExportCore(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="training mode"):
        ExportCore(make().train())


class _Refining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sem_seg_head = make().sem_seg_head

    def head_features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        raise NotImplementedError


def test_what_refines_features_is_not_left_out_in_silence() -> None:
    with pytest.raises(ValueError, match=r"refines features .*_Refining.head_features.* its base"):
        ExportCore(_Refining().eval())


def test_instances_are_not_left_out_in_silence() -> None:
    model = small_model()
    with pytest.raises(ValueError, match=r"PanopticFPN, which finds instances too.*semantic_only"):
        ExportCore(model)
    image = picture((70, 90))
    with torch.no_grad():
        logits = ExportCore(model, semantic_only=True)(image)[0]
    assert relative_error(logits, eager_logits(Predictor(model), array(image), (70, 90))) < 1e-5


LAYERS = {
    "conv": Conv2dSame(2, 3, 3, stride=2),
    "wide conv": Conv2dSame(2, 3, (5, 4), stride=(2, 4)),
    "dilated conv": Conv2dSame(2, 3, 3, dilation=2),
    "narrow conv": Conv2dSame(2, 3, 1, stride=2),
    "standardised conv": StdConv2dSame(2, 3, 3, stride=2),
    "max": MaxPool2dSame(3, 2),
    "average": AvgPool2dSame(3, 2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_same_padding_is_fixed_on_multiples_of_the_stride(name: str) -> None:
    layer = LAYERS[name]
    image = torch.randn(1, 2, 16, 24) - 5
    expected = layer(image)
    network = with_fixed_padding(nn.Sequential(layer))
    assert isinstance(network[0], nn.Sequential)
    assert torch.equal(network(image), expected)


def test_other_layers_stay() -> None:
    layers = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), ScaledStdConv2d(3, 3, 3), nn.MaxPool2d(2))
    before = list(layers)
    assert list(with_fixed_padding(layers)) == before
