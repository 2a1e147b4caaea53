"""Models with dense alignments as recorded programs: files of any picture size."""

from pathlib import Path

import pytest
from torch import nn

from ifa_d2.engine.export import export_model
from ifa_d2.engine.predictor import Predictor
from ifa_d2.modeling.alignments import AlignSeg
from tests.engine.test_export import make


def make_model(alignment: str) -> nn.Module:
    model = make(alignment=alignment)
    dense = model.sem_seg_head.levels.dense_alignment
    if isinstance(dense, AlignSeg):
        for name, parameter in dense.named_parameters():
            if "offsets.1" in name:
                nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize(
    ("alignment", "file_format"),
    [
        ("deconvolution", "torchscript"),
        ("upsampling", "torchscript"),
        ("carafe", "torchscript"),
        ("carafe", "torch.export"),
        ("sapa", "torchscript"),
        ("alignseg", "torchscript"),
        ("alignseg", "onnx"),
    ],
)
def test_files_take_any_size(alignment: str, file_format: str, tmp_path: Path) -> None:
    predictor, path = Predictor(make_model(alignment)), tmp_path / "model.bin"
    checks = export_model(predictor, path, file_format, example_size=(75, 101))
    assert len({check.image_size for check in checks}) == 3
    assert all(check.error < 2e-5 for check in checks)
