import json
import runpy
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from ifa_d2.config import add_ifa_config
from ifa_d2.engine.run import load_config
from tests.reference_network import ReferenceNetwork

COMMAND = Path(__file__).parents[2] / "tools" / "analyze_model.py"
RECIPE = "cityscapes/ifa_r50.py"
HEAD = "model.sem_seg_head"


@pytest.fixture(scope="module")
def command() -> dict:
    return runpy.run_path(str(COMMAND))


def _analyze(command: dict, size: int, *overrides: str, recipe: str = RECIPE) -> dict:
    parts = command["analyze"](load_config(recipe, overrides), (size, size))
    return command["report"](parts)


R101 = ("model.backbone.depth=101", f"{HEAD}.hidden_dims=[512,256]")
ASPP = f"{HEAD}.aspp_dilations=[12,24,36]"


@pytest.mark.parametrize(
    ("overrides", "size", "millions", "billions"),
    [
        ((), 1024, 27.8, 186.9),
        ((f"{HEAD}.alignment=bilinear",), 1024, 27.7, 183.4),
        ((f"{HEAD}.alignment=nearest",), 1024, 27.7, 183.4),
        (R101, 1024, 46.7, 262.8),
        ((*R101, ASPP), 1024, 64.3, 281.4),
        (R101, 480, 46.7, 59.1),
        ((*R101, ASPP), 480, 64.3, 63.5),
        (R101, 512, 46.7, 67.1),
        ((*R101, ASPP), 512, 64.3, 72.0),
    ],
)
def test_figures_of_the_paper(
    command: dict, overrides: tuple[str, ...], size: int, millions: float, billions: float
) -> None:
    result = _analyze(command, size, *overrides)
    assert result["params"] / 1e6 == pytest.approx(millions, abs=0.06)
    assert result["macs_textbook"] / 1e9 == pytest.approx(billions, rel=0.01)


def test_r50_costs_less_than_the_textbook(command: dict) -> None:
    result = _analyze(command, 1024)
    assert result["macs"] <= 162e9
    first = {row["name"]: row for row in result["parts"]}[command["FIRST"]]
    # 1128 columns at each of 256 x 256 queries, and nothing else
    assert first["macs_textbook_same_maps"] == 256 * 256 * 1128 * 512
    # 256 columns at each cell of four levels; position terms add less than 1 %
    cells = sum((256 >> i) ** 2 for i in range(4))
    assert cells * 256 * 512 < first["macs"] < 1.01 * cells * 256 * 512


class _Whole(nn.Module):
    def __init__(self, network: ReferenceNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.encoder(image)
        return self.network.decoder(features), self.network.auxor(features[2])


@pytest.mark.parametrize("size", [(128, 96), (97, 160), (66, 67)])
def test_textbook_is_what_fvcore_counts_of_the_reference(
    command: dict, size: tuple[int, int]
) -> None:
    network = ReferenceNetwork()
    with torch.no_grad():
        analysis = FlopCountAnalysis(_Whole(network), torch.zeros(1, 3, *size))
        analysis.unsupported_ops_warnings(False)
        expected = analysis.by_operator()["conv"]
    parts = command["analyze"](load_config(RECIPE), size)
    assert sum(part.macs_textbook for part in parts) == expected
    # the authors' frequencies are a full matrix, of which ours are the half that acts on one axis
    expected = sum(p.numel() for p in network.parameters()) - 4 * 12
    assert sum(part.params for part in parts) == expected


def test_parts_are_those_of_the_modules(command: dict) -> None:
    """The rest of the alignment is computed, not counted: it has to be what its layers take."""
    model = command["build_on_meta"](load_config(RECIPE))
    counts = command["count_model"](model, (64, 64), round_up=False, textbook=True)
    assert counts[command["REST"]] == 16 * 16 * (512 * 256 + 256 * 256 + 256 * 19)
    assert counts["backbone stem"] == 9 * 32 * 32 * (3 * 64 + 64 * 64 + 64 * 128)
    assert counts["projection res5"] == 2 * 2 * 2048 * 256
    assert counts["auxiliary head"] == 4 * 4 * (9 * 1024 * 256 + 256 * 19)


def test_ours_is_counted_on_the_evaluation_that_runs(command: dict) -> None:
    """Features at their own cells, positions at rows and columns, the rest at queries."""
    model = command["build_on_meta"](load_config(RECIPE))
    alignment = model.sem_seg_head.alignment
    levels = [torch.empty(1, 256, n, n, device="meta") for n in (32, 16, 8, 4)]
    total = command["count_alignment"](alignment, levels, textbook=False)
    features = 256 * 512 * sum(n * n for n in (32, 16, 8, 4))
    rest = 32 * 32 * (512 * 256 + 256 * 256 + 256 * 19)
    # a row has 26 / 2 position values a level, and so has a column
    position = (32 + 32) * 4 * 13 * 512
    assert total == features + rest + position


def test_yacs_gives_the_same_figures(command: dict) -> None:
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    cfg.MODEL.BACKBONE.NAME = "build_ifa_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.STEM_TYPE = "deeplab"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 128
    cfg.MODEL.SEM_SEG_HEAD.NAME = "IFASemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 256
    cfg.MODEL.SEM_SEG_HEAD.NORM = "BN"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 19
    cfg.MODEL.IFA.AUX_FEATURE = "res4"
    result = command["report"](command["analyze"](cfg, (128, 128)))
    assert result == _analyze(command, 128)


def test_table_and_json(command: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "made" / "cost.json"
    arguments = ["--config-file", RECIPE, "--input-size", "128", "96", "--json", str(path)]
    command["main"]([*arguments, f"{HEAD}.aux_feature=null"])
    result = json.loads(path.read_text())
    assert result["input_size"] == [128, 96]
    for key in ("params", "macs", "macs_textbook", "macs_textbook_same_maps"):
        assert result[key] == sum(part[key] for part in result["parts"]) > 0
    assert "auxiliary head" not in [part["name"] for part in result["parts"]]
    assert list(path.parent.iterdir()) == [path]
    total = capsys.readouterr().out.splitlines()[-1].split()
    assert total[0] == "total"
    assert float(total[1]) == pytest.approx(result["params"] / 1e6, abs=1e-3)
    assert float(total[2]) == pytest.approx(result["macs"] / 1e9, abs=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "no.py", "--input-size", "64", "64"], "no.py"),
        (["--config-file", RECIPE, "--input-size", "0", "64"], r"input_size.*\(0, 64\)"),
        (
            ["--config-file", RECIPE, "--input-size", "64", "64", f"{HEAD}.no_such=1"],
            "no_such",
        ),
    ],
)
def test_mistakes_are_named(command: dict, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        command["main"](arguments)
