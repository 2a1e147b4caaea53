"""What a file says of its model, read by its own runtime."""

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from detectron2.data import Metadata

from ifa_d2.choices import EXPORT_FORMATS
from ifa_d2.engine.export import export_model
from ifa_d2.engine.export_metadata import METADATA_FILE, model_metadata
from ifa_d2.engine.predictor import Predictor
from tests.engine.test_export import make

CLASSES = Metadata(
    name="named",
    stuff_classes=["road", "道路", 'a "b"'],
    stuff_colors=[[128, 64, 128], (0, 255, 0), [1, 2, 3]],
)
# Digits of float32 that nobody wrote would be 123.67500305...
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
EXPECTED = {
    "channel_order": "BGR",
    "pixel_mean": MEAN,
    "pixel_std": STD,
    "ignore_value": 255,
    "temperature": 1.5,
    "classes": ["road", "道路", 'a "b"'],
    "colors": [[128, 64, 128], [0, 255, 0], [1, 2, 3]],
}


def described_predictor() -> Predictor:
    model = make(f"model.pixel_mean={MEAN}", f"model.pixel_std={STD}")
    model.sem_seg_head.temperature = 1.5
    return Predictor(model, image_format="BGR", metadata=CLASSES)


def read(path: Path, file_format: str) -> dict:
    """By the runtime alone, as docs/EXPORT.md says."""
    if file_format == "onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = session.get_modelmeta().custom_metadata_map
        words = ("channel_order", "normalization")
        return {name: text if name in words else json.loads(text) for name, text in found.items()}
    files = {METADATA_FILE: ""}
    if file_format == "torchscript":
        torch.jit.load(path, _extra_files=files)
    else:
        torch.export.load(path.open("rb"), extra_files=files)
    return json.loads(files[METADATA_FILE])


@pytest.mark.parametrize("file_format", EXPORT_FORMATS)
def test_a_file_says_what_its_model_is(file_format: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    export_model(described_predictor(), path, file_format, example_size=(64, 64))
    found = read(path, file_format)
    assert found.pop("normalization").startswith("part of the program: (image - pixel_mean)")
    assert found == EXPECTED


def test_what_is_not_known_is_left_out() -> None:
    described = model_metadata(Predictor(described_predictor().model))
    assert {"classes", "colors"}.isdisjoint(described) and described["channel_order"] == "RGB"
    names = Metadata(name="names alone", stuff_classes=["a", "b", "c"])
    described = model_metadata(Predictor(described_predictor().model, metadata=names))
    assert described["classes"] == ["a", "b", "c"] and "colors" not in described


def test_the_ignored_label_is_the_model_s() -> None:
    model = make(
        "model.sem_seg_head.criterion._target_=ifa_d2.modeling.OhemCrossEntropy",
        "model.sem_seg_head.criterion.ignore_value=65535",
        "dataloader.train.mapper.ignore_value=65535",
    )
    assert model_metadata(Predictor(model))["ignore_value"] == 65535


def test_metadata_of_one_s_own(tmp_path: Path) -> None:
    path, predictor = tmp_path / "model.bin", described_predictor()
    with pytest.raises(TypeError, match="JSON"):
        export_model(predictor, path, "torchscript", metadata={"model": predictor})
    assert not list(tmp_path.iterdir())
    own = {**model_metadata(predictor), "licence": "CC BY 4.0"}
    export_model(predictor, path, "torchscript", example_size=(64, 64), metadata=own)
    assert read(path, "torchscript") == own
