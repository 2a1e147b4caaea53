"""Exported files against the model, at sizes other than the command's own checks."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling import FPN, ResNet, SemanticSegmentor
from torch import Tensor, nn

from ifa_d2.engine.export import (
    DECODES,
    FORMATS,
    ExportCore,
    ExportMismatchError,
    eager_logits,
    export_model,
    load_exported,
)
from ifa_d2.modeling import IFASemSegHead
from ifa_d2.modeling.backbone import PaddedResNet
from tests.tiny import tiny_config

HEAD = "model.sem_seg_head"
# (picture, answer): odd, without need of padding, enlarged, of one row
SIZES = [((43, 57), (43, 57)), ((64, 96), (33, 131)), ((81, 40), (171, 81)), ((19, 22), (1, 7))]


class SquareResNet(PaddedResNet):
    """Pads to a square, as plain vision transformers are trained."""

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": 120, "size_divisibility": 16}


class SizeMindedResNet(PaddedResNet):
    """Decides by the picture's size, in Python."""

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        return super().forward(x * 2 if int(x.shape[3]) > 110 else x)


def make(*overrides: str, backbone: type[nn.Module] = PaddedResNet) -> nn.Module:
    """The trainer's tiny model over a padding backbone, with logits of size 1."""
    cfg = tiny_config(Path("unused"), *overrides)
    cfg.model.backbone["_target_"] = backbone
    model = instantiate(cfg.model).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, std=0.1)
    nn.init.normal_(model.sem_seg_head.alignment.predictor.weight)
    return model


def picture(size: tuple[int, int]) -> Tensor:
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)


def relative_error(value: Tensor, expected: Tensor) -> float:
    assert value.shape == expected.shape
    return float((value - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("decode", DECODES)
def test_backbone_that_asks_for_no_padding(decode: str) -> None:
    """Detectron2's ResNet: pictures are padded all the same, so that features cover the same."""
    model = make(backbone=ResNet)
    assert model.backbone.size_divisibility == 0
    core = ExportCore(model, decode=decode).eval()
    for size, output_size in SIZES:
        image = picture(size)
        with torch.no_grad():
            logits = core(image, torch.tensor(output_size))[0]
        assert relative_error(logits, eager_logits(model, image[0], output_size, decode)) < 1e-5


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_files_take_any_size(file_format: str, decode: str, tmp_path: Path) -> None:
    model = make(f"{HEAD}.local_ensemble=True")
    path = tmp_path / "made" / "model.bin"
    sized = {"decode": decode, "output_size_input": True}
    checks = export_model(model, path, file_format, example_size=(75, 101), **sized)
    assert [check.image_size for check in checks] == [(75, 101), (57, 127), (93, 75)]
    assert [check.output_size for check in checks] == [(50, 134), (38, 169), (62, 100)]
    assert all(check.error < 1e-5 for check in checks)
    assert list(path.parent.iterdir()) == [path]
    program = load_exported(path, file_format)
    for image_size, output_size in SIZES:
        image = picture(image_size)
        expected = eager_logits(model, image[0], output_size, decode)
        with torch.no_grad():
            logits = program(image, torch.tensor(output_size))
        assert logits.shape == (1, 3, *output_size)
        assert logits.dtype == torch.float32
        assert relative_error(logits[0], expected) < 1e-5


@pytest.mark.parametrize(
    ("file_format", "decode"),
    [("torchscript", "pixels"), ("onnx", "pixels"), ("torch.export", "grid")],
)
def test_answers_at_the_picture_s_size(file_format: str, decode: str, tmp_path: Path) -> None:
    model = make(f"{HEAD}.coupled_frequencies=True")
    export_model(model, tmp_path / "model.bin", file_format, decode=decode, example_size=(64, 96))
    program = load_exported(tmp_path / "model.bin", file_format)
    for size, _ in SIZES:
        image = picture(size)
        with torch.no_grad():
            logits = program(image)
        assert relative_error(logits[0], eager_logits(model, image[0], size, decode)) < 1e-5


def make_pyramid() -> nn.Module:
    fpn = FPN(make().backbone, in_features=("res2", "res3"), out_channels=8, norm="BN")
    head = IFASemSegHead(
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
    "bilinear": f"{HEAD}.alignment=bilinear",
    "nearest": f"{HEAD}.alignment=nearest",
    "coord": f"{HEAD}.encoding=coord",
    "unfold": f"{HEAD}.unfold=True",
    "aspp": f"{HEAD}.aspp_dilations=[1,2,3]",
    "SyncBN": "model.backbone.stem.norm=SyncBN",
    "FrozenBN": "model.backbone.stem.norm=FrozenBN",
}


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize("variant", [*OPTIONS, "not padded", "square", "pyramid"])
def test_core_is_the_model(variant: str, decode: str) -> None:
    if variant == "pyramid":
        model = make_pyramid()
    elif variant in OPTIONS:
        model = make(OPTIONS[variant])
    else:
        model = make(backbone={"not padded": ResNet, "square": SquareResNet}[variant])
    core = ExportCore(model, decode=decode)
    for image_size, output_size in SIZES:
        image = picture(image_size)
        expected = eager_logits(model, image[0], output_size, decode)
        with torch.no_grad():
            assert relative_error(core(image, torch.tensor(output_size))[0], expected) < 1e-5
            assert torch.equal(core(image.float()), core(image))


def test_onnx_of_a_pyramid(tmp_path: Path) -> None:
    checks = export_model(make_pyramid(), tmp_path / "fpn.onnx", "onnx", example_size=(64, 96))
    assert len(checks) == 3


def test_grid_is_what_the_meta_architecture_answers() -> None:
    model = make()
    image = picture((43, 57))[0]
    inputs = {"image": image, "height": 90, "width": 70}
    with torch.no_grad():
        expected = model([inputs])[0]["sem_seg"]
    assert torch.equal(eager_logits(model, image, (90, 70), "grid"), expected)


@pytest.mark.parametrize("file_format", ["torchscript", "torch.export"])
def test_a_file_that_differs_is_not_written(file_format: str, tmp_path: Path) -> None:
    """Its backbone takes a way at one size that it does not take at the next."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"before")
    with pytest.raises(ExportMismatchError, match=r"picture of \(49, 121\)"):
        export_model(make(backbone=SizeMindedResNet), path, file_format, example_size=(65, 97))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_tolerance_decides(tmp_path: Path) -> None:
    arguments = (make(), tmp_path / "model.bin", "torchscript")
    with pytest.raises(ExportMismatchError, match=r"tolerance 1.0e-12"):
        export_model(*arguments, example_size=(64, 64), tolerance=1e-12)
    assert not list(tmp_path.iterdir())


def test_the_model_stays_as_it_was(tmp_path: Path) -> None:
    model = make()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export_model(model, tmp_path / "model.bin", "torchscript", example_size=(64, 64))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert model.sem_seg_head.aux_head is not None
    image, label = picture((64, 64))[0], torch.zeros(64, 64, dtype=torch.int64)
    losses = model.train()([{"image": image, "sem_seg": label}])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.sem_seg_head.parameters())


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"file_format": "onxx"}, "file_format.*'onxx'"),
        ({"decode": "rows"}, "decode.*'rows'"),
        ({"example_size": (64, 63)}, "example_size.*63"),
        ({"path": "."}, "directory"),
    ],
)
def test_bad_arguments(kwargs: dict, words: str, tmp_path: Path) -> None:
    arguments = {"path": tmp_path / "model.bin", "file_format": "torchscript", **kwargs}
    with pytest.raises(ValueError, match=words):
        export_model(make(), **arguments)


def test_bad_models() -> None:
    with pytest.raises(ValueError, match="IFASemSegHead"):
        ExportCore(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="training mode"):
        ExportCore(make().train())
