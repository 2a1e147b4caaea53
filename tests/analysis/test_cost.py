import warnings
from pathlib import Path

import pytest
import timm
import torch
from detectron2.config import LazyCall as L
from detectron2.config import get_cfg
from detectron2.modeling import FPN
from fvcore.nn import FlopCountAnalysis
from omegaconf import OmegaConf
from torch import Tensor, nn

from ifa_d2.analysis.cost import (
    FIRST,
    REST,
    analyze,
    build_on_meta,
    count_alignment,
    count_model,
    report,
)
from ifa_d2.config import add_ifa_config
from ifa_d2.engine.run import load_config
from ifa_d2.modeling import TimmBackbone
from tests.reference_network import ReferenceNetwork

RECIPE = "cityscapes/ifa_r50.py"
HEAD = "model.sem_seg_head"


def _analyze(size: int, *overrides: str, recipe: str = RECIPE) -> dict:
    parts = analyze(load_config(recipe, overrides), (size, size))
    return report(parts)


R101 = ("model.backbone.depth=101", f"{HEAD}.alignment.hidden_dims=[512,256]")
ASPP = "cityscapes/ifa_aspp_r101.py"
NO_POSITION = (f"{HEAD}.alignment.encoding=none",)


@pytest.mark.parametrize(
    ("overrides", "size", "millions", "billions"),
    [
        ((), 1024, 27.8, 186.9),
        ((*NO_POSITION, f"{HEAD}.alignment.local_ensemble=True"), 1024, 27.7, 183.4),
        (NO_POSITION, 1024, 27.7, 183.4),
        (R101, 1024, 46.7, 262.8),
        (ASPP, 1024, 64.3, 281.4),
        (R101, 480, 46.7, 59.1),
        (ASPP, 480, 64.3, 63.5),
        (R101, 512, 46.7, 67.1),
        (ASPP, 512, 64.3, 72.0),
    ],
)
def test_figures_of_the_paper(
    overrides: tuple[str, ...] | str, size: int, millions: float, billions: float
) -> None:
    if overrides == ASPP:
        result = _analyze(size, recipe=ASPP)
    else:
        result = _analyze(size, *overrides)
    assert result["params"] / 1e6 == pytest.approx(millions, abs=0.06)
    assert result["macs_textbook"] / 1e9 == pytest.approx(billions, rel=0.01)


def test_r50_costs_less_than_the_textbook() -> None:
    result = _analyze(1024)
    assert result["macs"] <= 162e9
    first = {row["name"]: row for row in result["parts"]}[FIRST]
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
    size: tuple[int, int],
) -> None:
    network = ReferenceNetwork()
    with torch.no_grad():
        analysis = FlopCountAnalysis(_Whole(network), torch.zeros(1, 3, *size))
        analysis.unsupported_ops_warnings(False)
        expected = analysis.by_operator()["conv"]
    parts = analyze(load_config(RECIPE), size)
    assert sum(part.macs_textbook for part in parts) == expected
    # the authors' frequencies are a full matrix, of which ours are the half that acts on one axis
    expected = sum(p.numel() for p in network.parameters()) - 4 * 12
    assert sum(part.params for part in parts) == expected


def test_parts_are_those_of_the_modules() -> None:
    """The rest of the alignment is computed, not counted: it has to be what its layers take."""
    model = build_on_meta(load_config(RECIPE))
    counts = count_model(model, (64, 64), round_up=False, textbook=True)
    assert counts[REST] == 16 * 16 * (512 * 256 + 256 * 256 + 256 * 19)
    assert counts["backbone stem"] == 9 * 32 * 32 * (3 * 64 + 64 * 64 + 64 * 128)
    assert counts["projection res5"] == 2 * 2 * 2048 * 256
    assert counts["auxiliary head"] == 4 * 4 * (9 * 1024 * 256 + 256 * 19)


def test_ours_is_counted_on_the_evaluation_that_runs() -> None:
    """Features at their own cells, positions at rows and columns, the rest at queries."""
    model = build_on_meta(load_config(RECIPE))
    alignment = model.sem_seg_head.alignment
    levels = [torch.empty(1, 256, n, n, device="meta") for n in (32, 16, 8, 4)]
    total = count_alignment(alignment, levels, textbook=False)
    features = 256 * 512 * sum(n * n for n in (32, 16, 8, 4))
    rest = 32 * 32 * (512 * 256 + 256 * 256 + 256 * 19)
    # a row has 26 / 2 position values a level, and so has a column
    position = (32 + 32) * 4 * 13 * 512
    assert total == features + rest + position


def test_yacs_gives_the_same_figures() -> None:
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
    result = report(analyze(cfg, (128, 128)))
    assert result == _analyze(128)


@pytest.mark.parametrize("kind", ["LazyConfig", "yacs"])
def test_weights_to_start_from_are_not_read(kind: str, tmp_path: Path) -> None:
    """They would fill a model without values, tensor by tensor, with a warning each."""
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    if kind == "yacs":
        overrides = ["MODEL.BACKBONE.NAME=TimmBackbone", "MODEL.TIMM.MODEL_NAME=resnet18"]
        overrides += [f"MODEL.TIMM.WEIGHTS_FILE={path}", "MODEL.TIMM.PRETRAINED=True"]
        cfg = load_config("shapes/ifa_r18.yaml", overrides)
    else:
        backbone = L(TimmBackbone)(model_name="resnet18", weights_file=str(path), pretrained=True)
        model = L(FPN)(bottom_up=backbone, in_features=("res2", "res3"), out_channels=8)
        cfg = OmegaConf.create({"model": model}, flags={"allow_objects": True})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build_on_meta(cfg)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_field_without_hidden_layers_has_its_classifier_as_first_layer() -> None:
    result = _analyze(256, f"{HEAD}.alignment.hidden_dims=[]")
    parts = {row["name"]: row for row in result["parts"]}
    assert parts[REST]["macs"] == parts[REST]["params"] == 0
    assert parts[FIRST]["params"] == 1128 * 19 + 19 + 4 * 12  # and frequencies of each level
    assert parts[FIRST]["macs_textbook_same_maps"] == 64 * 64 * 1128 * 19
    cells = sum((64 >> i) ** 2 for i in range(4))
    assert cells * 256 * 19 < parts[FIRST]["macs"] < 1.05 * cells * 256 * 19


def test_only_a_pool_rounds_up() -> None:
    model = build_on_meta(load_config(RECIPE))
    counts = [count_model(model, (256, 256), round_up=up, textbook=True) for up in (True, False)]
    assert counts[0]["backbone res2"] > counts[1]["backbone res2"]

    model.backbone.stem = nn.Conv2d(3, 128, kernel_size=4, stride=4, device="meta")
    counts = [count_model(model, (256, 256), round_up=up, textbook=True) for up in (True, False)]
    assert counts[0] == counts[1]


class _Doubled(nn.Module):
    """A model that runs its head twice, and a convolution of the backbone's feature beside it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone, self.sem_seg_head = model.backbone, model.sem_seg_head
        self.beside = nn.Conv2d(64, 5, 1)
        self.head_passes = 2

    def further_parts(self, features: dict[str, Tensor]) -> dict[str, object]:
        return {"beside": lambda: self.beside(features["res2"])}


def test_parts_beside_backbone_and_head() -> None:
    cfg = load_config("shapes/ifa_r18.py")
    plain = {part.name: part for part in analyze(cfg, (64, 96))}
    doubled = OmegaConf.create(
        {"model": L(_Doubled)(model=cfg.model)}, flags={"allow_objects": True}
    )
    parts = {part.name: part for part in analyze(doubled, (64, 96))}
    beside = parts.pop("beside")
    assert beside.params == 64 * 5 + 5
    assert beside.macs == beside.macs_textbook_same_maps == 64 * 5 * 16 * 24
    assert beside.macs_textbook == 64 * 5 * 17 * 25  # of maps that are rounded up
    assert parts.keys() == plain.keys()
    for name, part in parts.items():
        times = 1 if name.startswith("backbone") or name == "auxiliary head" else 2
        assert part.macs == times * plain[name].macs and part.params == plain[name].params


def test_parts_whose_cost_is_not_known_are_named() -> None:
    cfg = load_config("panoptic/cityscapes/panoptic_ifa_r50.py")
    with pytest.raises(ValueError, match=r"got PanopticFPN with proposal_generator, roi_heads, wh"):
        analyze(cfg, (64, 96))
