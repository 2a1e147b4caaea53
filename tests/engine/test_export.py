"""Exported files against the predictor, at sizes other than the command's own checks."""

import resource
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import Metadata
from detectron2.data import transforms as T
from detectron2.modeling import SemanticSegmentor
from torch import Tensor, nn

from ifa_d2.choices import EXPORT_FORMATS
from ifa_d2.engine.export import (
    ExportMismatchError,
    eager_logits,
    export_model,
    load_exported,
)
from ifa_d2.engine.export_metadata import model_metadata
from ifa_d2.engine.predictor import Predictor
from ifa_d2.modeling import TimmBackbone, use_alignment
from ifa_d2.modeling.backbone import PaddedResNet
from tests.heads import make_head
from tests.tiny import tiny_config

HEAD = "model.sem_seg_head"
# (picture, answer): odd, without need of padding, enlarged, of one row
SIZES = [((43, 57), (43, 57)), ((64, 96), (33, 131)), ((81, 40), (171, 81)), ((19, 22), (1, 7))]


class SizeMindedResNet(PaddedResNet):
    """Decides by the picture's size, in Python."""

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        return super().forward(x * 2 if int(x.shape[3]) > 110 else x)


def make(
    *overrides: str, backbone: type[nn.Module] = PaddedResNet, alignment: str = "ifa"
) -> nn.Module:
    """The trainer's tiny model over a padding backbone, with logits of size 1."""
    cfg = tiny_config(Path("unused"), *overrides)
    cfg.model.backbone["_target_"] = backbone
    if alignment != "ifa":
        use_alignment(cfg.model.sem_seg_head, alignment)
    return stirred(instantiate(cfg.model).eval())


def stirred(model: nn.Module) -> nn.Module:
    """A model whose norms and last layer are as after training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, std=0.1)
    nn.init.normal_(model.sem_seg_head.alignment.predictor.weight)
    return model


def picture(size: tuple[int, int]) -> Tensor:
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)


def array(image: Tensor) -> np.ndarray:
    """(H, W, 3) of a tensor (1, 3, H, W)."""
    return image[0].permute(1, 2, 0).numpy()


def relative_error(value: Tensor, expected: Tensor) -> float:
    assert value.shape == expected.shape
    value, expected = value.detach(), expected.detach()
    return float((value - expected).abs().max() / expected.abs().max())


class Exported:
    """A file of any size of answer, its folder's only one, and what it was made of."""

    def __init__(self, folder: Path, file_format: str, decode: str) -> None:
        torch.manual_seed(0)
        self.predictor = Predictor(make(f"{HEAD}.alignment.local_ensemble=True"))
        self.decode = decode
        path = folder / "made" / "model.bin"
        sized = {"decode": decode, "output_size_input": True, "example_size": (75, 101)}
        self.checks = export_model(self.predictor, path, file_format, **sized)
        assert list(path.parent.iterdir()) == [path]
        self.program = load_exported(path, file_format)

    def assert_any_size_and_number(self) -> None:
        assert [check.image_size for check in self.checks] == [(75, 101), (57, 127), (93, 75)]
        assert [check.output_size for check in self.checks] == [(50, 134), (38, 169), (62, 100)]
        assert all(check.error < 1e-5 and check.labels > 0.999 for check in self.checks)
        for count, (image_size, output_size) in enumerate(SIZES, start=1):
            images = [picture(image_size) for _ in range(count)]
            with torch.no_grad():
                logits = self.program(torch.cat(images), torch.tensor(output_size))
            assert logits.shape == (count, 3, *output_size)
            assert logits.dtype == torch.float32
            for image, answer in zip(images, logits, strict=True):
                expected = eager_logits(self.predictor, array(image), output_size, self.decode)
                assert relative_error(answer, expected) < 1e-5


@pytest.fixture(scope="module", params=EXPORT_FORMATS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("exported"), request.param, "pixels")


def test_files_take_any_size_and_number(exported: Exported) -> None:
    exported.assert_any_size_and_number()


@pytest.mark.parametrize("file_format", EXPORT_FORMATS)
def test_files_that_interpolate_take_any_size_and_number(file_format: str, tmp_path: Path) -> None:
    Exported(tmp_path, file_format, "grid").assert_any_size_and_number()


@pytest.mark.parametrize(("file_format", "decode"), [("torchscript", "grid"), ("onnx", "pixels")])
def test_files_hold_the_temperature(file_format: str, decode: str, tmp_path: Path) -> None:
    model = make()
    path, programs = tmp_path / "model.bin", []
    for temperature in (1.0, 0.4):
        model.sem_seg_head.temperature = temperature
        export_model(Predictor(model), path, file_format, decode=decode, example_size=(64, 96))
        programs.append(load_exported(path, file_format))
    image = picture((43, 57))
    with torch.no_grad():
        plain, divided = (program(image) for program in programs)
    torch.testing.assert_close(divided, plain / 0.4, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("file_format", "nodata"), [("torchscript", None), ("onnx", 7.0), ("torch.export", 7.0)]
)
def test_programs_take_bands_as_the_predictor_does(
    file_format: str, nodata: float | None, tmp_path: Path
) -> None:
    mean, std = [500.0, 1000.0, 0.5, 80.0, 9.0], [100.0, 300.0, 0.2, 30.0, 4.0]
    pixels = (f"model.pixel_mean={mean}", f"model.pixel_std={std}")
    model = make("model.backbone.stem.in_channels=5", *pixels)
    given = {} if nodata is None else {"nodata": nodata}
    metadata = Metadata(name="fields", stuff_classes=["soil", "crop", "wood"], **given)
    predictor = Predictor(model, image_format="bands", metadata=metadata)
    path = tmp_path / "program"
    assert all(
        check.error < 1e-5
        for check in export_model(predictor, path, file_format, example_size=(64, 96))
    )
    program = load_exported(path, file_format)
    values = np.random.default_rng(1).normal(size=(50, 70, 5))
    bands = (np.array(mean) + np.array(std) * values).astype(np.float32)
    bands[:9, :7] = np.nan
    bands[20:30, 20:40, 3] = np.inf  # one band is enough
    bands[33:44, 50:66, 1] = 7
    with torch.no_grad():
        logits = program(torch.from_numpy(bands.transpose(2, 0, 1).copy())[None])[0]
    assert relative_error(logits, predictor(bands).logits()) < 1e-5
    described = model_metadata(predictor)
    assert described["channel_order"] == "bands" and described.get("nodata") == nodata
    assert described["normalization"].endswith("one is not finite or is nodata")
    if file_format == "torchscript":
        with pytest.raises(torch.jit.Error, match=r"image must have shape \(B, 5, H, W\), got"):
            program(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("file_format", "decode"),
    [("torchscript", "pixels"), ("onnx", "pixels"), ("torch.export", "grid")],
)
def test_answers_at_the_picture_s_size(file_format: str, decode: str, tmp_path: Path) -> None:
    predictor = Predictor(make(f"{HEAD}.alignment.coupled_frequencies=True"))
    path = tmp_path / "model.bin"
    export_model(predictor, path, file_format, decode=decode, example_size=(64, 96))
    program = load_exported(path, file_format)
    for size, _ in SIZES:
        image = picture(size)
        with torch.no_grad():
            logits = program(image)
        expected = eager_logits(predictor, array(image), size, decode)
        assert relative_error(logits[0], expected) < 1e-5


@pytest.mark.parametrize(
    ("file_format", "decode"),
    [
        ("torchscript", "pixels"),
        ("torchscript", "grid"),
        ("onnx", "pixels"),
        ("torch.export", "grid"),
    ],
)
def test_the_test_s_resize_is_part_of_the_file(
    file_format: str, decode: str, tmp_path: Path
) -> None:
    """Pictures that it enlarges, shrinks, and shrinks to the longest side."""
    resize = T.ResizeShortestEdge(70, 110)
    predictor = Predictor(make(), augmentations=[resize], image_format="BGR")
    path = tmp_path / "model.bin"
    checks = export_model(predictor, path, file_format, decode=decode, example_size=(64, 96))
    assert all(check.error < 1e-5 for check in checks)
    program = load_exported(path, file_format)
    without = Predictor(predictor.model, image_format="BGR")
    for size in ((43, 57), (131, 90), (60, 121)):
        image = picture(size)
        rgb = np.ascontiguousarray(array(image)[:, :, ::-1])
        expected = eager_logits(predictor, rgb, size, decode)
        if decode == "pixels":  # as users ask
            assert torch.equal(expected, predictor(array(image)).logits())
        with torch.no_grad():
            logits = program(image)
        assert relative_error(logits[0], expected) < 1e-5
        assert relative_error(eager_logits(without, rgb, size, decode), expected) > 0.01


def test_a_resize_can_be_left_out(tmp_path: Path) -> None:
    predictor = Predictor(make(), augmentations=[T.ResizeShortestEdge(70, 110)])
    path = tmp_path / "model.bin"
    export_model(predictor, path, "torchscript", test_resize=False, example_size=(64, 96))
    image = picture((43, 57))
    expected = eager_logits(Predictor(predictor.model), array(image), (43, 57))
    assert relative_error(torch.jit.load(path)(image)[0], expected) < 1e-5


@pytest.mark.parametrize(
    "augmentations",
    [
        [T.RandomFlip()],
        [T.ResizeShortestEdge((64, 96), 200, "choice")],
        [T.ResizeShortestEdge(64, 200, interp=3)],
        [T.ResizeShortestEdge(64), T.ResizeShortestEdge(96)],
    ],
)
def test_what_a_file_cannot_hold_is_refused(augmentations: list, tmp_path: Path) -> None:
    predictor = Predictor(make(), augmentations=augmentations)
    with pytest.raises(ValueError, match=r"holds no other .*but the test mapper has \["):
        export_model(predictor, tmp_path / "model.bin", "torchscript")
    assert not list(tmp_path.iterdir())


def test_same_padding_does_not_hold_up_the_recorder(tmp_path: Path) -> None:
    """timm's EfficientNets as TensorFlow has them, whose padding depends on each map's size."""
    backbone = TimmBackbone(
        model_name="tf_efficientnet_lite0",
        out_features=("res2", "res3"),
        out_indices=(1, 2),
    )
    head = make_head(
        input_shape=backbone.output_shape(),
        in_features=("res2", "res3"),
        num_classes=3,
        channels=4,
        hidden_dims=(8,),
        aux_feature=None,
    )
    stages = {"pixel_mean": [120.0] * 3, "pixel_std": [60.0] * 3}
    model = SemanticSegmentor(backbone=backbone, sem_seg_head=head, **stages).eval()
    path = tmp_path / "model.bin"
    predictor = Predictor(stirred(model))
    checks = export_model(predictor, path, "torch.export", example_size=(128, 160))
    assert all(check.error < 2e-5 for check in checks)


def test_pictures_that_are_given_are_compared_too(tmp_path: Path) -> None:
    pictures = [array(picture(size)) for size in ((30, 80), (90, 41))]
    arguments = (Predictor(make()), tmp_path / "model.bin", "torchscript")
    checks = export_model(*arguments, example_size=(64, 96), pictures=pictures)
    assert [check.image_size for check in checks[3:]] == [(30, 80), (90, 41)]


def test_grid_is_what_the_meta_architecture_answers() -> None:
    model = make()
    image = picture((43, 57))[0]
    inputs = {"image": image, "height": 90, "width": 70}
    with torch.no_grad():
        expected = model([inputs])[0]["sem_seg"]
    given = eager_logits(Predictor(model), array(image[None]), (90, 70), "grid")
    assert torch.equal(given, expected)


@pytest.mark.parametrize("file_format", ["torchscript", "torch.export"])
def test_a_file_that_differs_is_not_written(file_format: str, tmp_path: Path) -> None:
    """Its backbone takes a way at one size that it does not take at the next."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"before")
    with pytest.raises(ExportMismatchError, match=r"picture of \(49, 121\)"):
        predictor = Predictor(make(backbone=SizeMindedResNet))
        export_model(predictor, path, file_format, example_size=(65, 97))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_tolerance_decides(tmp_path: Path) -> None:
    """The model doubles its input at one of the sizes, its recorded file does not."""
    predictor, path = Predictor(make(backbone=SizeMindedResNet)), tmp_path / "model.bin"
    with pytest.raises(ExportMismatchError, match=r"tolerance 1.0e-03"):
        export_model(predictor, path, "torchscript", example_size=(65, 97), tolerance=1e-3)
    assert not list(tmp_path.iterdir())
    checks = export_model(predictor, path, "torchscript", example_size=(65, 97), tolerance=10)
    assert max(check.error for check in checks) > 1e-3
    assert min(check.labels for check in checks) < 1
    assert path.is_file()


WRONG = {
    "image must have shape": [
        torch.zeros(1, 1, 64, 64, dtype=torch.uint8),
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        torch.zeros(1, 3, 0, 64, dtype=torch.uint8),
    ],
    "image must be uint8": [
        torch.zeros(1, 3, 64, 64, dtype=torch.bool),
        torch.zeros(1, 3, 64, 64, dtype=torch.int64),
    ],
    "image must hold finite": [torch.full((1, 3, 64, 64), value) for value in (np.nan, np.inf)],
}


def test_a_file_refuses_what_it_cannot_answer(exported: Exported) -> None:
    program = exported.program
    size = torch.tensor([20, 30])
    words = isinstance(program, torch.jit.ScriptModule)
    for message, images in WRONG.items():
        for image in images:
            with pytest.raises(Exception, match=message if words else None):
                program(image, size)
    image = picture((64, 64))
    for bad in ([40, 50, 60], [40.5, 50.0], [0, 50], [[40, 50]]):
        with pytest.raises(Exception, match="size must be" if words else None):
            program(image, torch.tensor(bad))
    if words:
        for dtype in (torch.float64, torch.float32):
            assert torch.equal(program(image.to(dtype), size), program(image, size))


def test_the_model_stays_as_it_was(tmp_path: Path) -> None:
    model = make()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    predictor = Predictor(model)
    export_model(predictor, tmp_path / "model.bin", "torchscript", example_size=(64, 64))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert len(model.sem_seg_head.aux_heads)
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
        ({"tolerance": -1e-9}, "tolerance must be 0 or above, got -1e-09"),
        ({"tolerance": float("nan")}, "tolerance must be 0 or above, got nan"),
    ],
)
def test_bad_arguments(kwargs: dict, words: str, tmp_path: Path) -> None:
    arguments = {"path": tmp_path / "model.bin", "file_format": "torchscript", **kwargs}
    with pytest.raises(ValueError, match=words):
        export_model(Predictor(make()), **arguments)


@pytest.mark.parametrize("file_format", ["torchscript", "torch.export"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, file_format: str) -> None:
    """A limit of a file's size stands for the disk's; torch's own writers end the process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    predictor = Predictor(make())
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            export_model(predictor, tmp_path / "a.pt", file_format, example_size=(64, 64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
