"""Every model of the paper's tables trains, evaluates and answers queries.

The models are those of the paper's tables with small backbones and few channels, on three drawn
scenes of odd sizes. Every one is tested, or shrinks to one that is.
"""

import json
import runpy
import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg, instantiate
from detectron2.modeling import build_sem_seg_head
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from ifa_d2 import add_ifa_config
from ifa_d2.data import register_sem_seg_folder
from ifa_d2.data.shapes import CLASSES
from ifa_d2.data.shapes.street import make_scene
from ifa_d2.engine import Trainer
from ifa_d2.engine.run import load_config
from ifa_d2.layers import GridQuery
from ifa_d2.modeling import compute_fields, fit_channels

ROWS = runpy.run_path(str(Path(__file__).parents[2] / "projects" / "IFA" / "table_rows.py"))
SIZE = (75, 109)

register_sem_seg_folder("odd_shapes", "$ODD_SHAPES/images", "$ODD_SHAPES/labels", CLASSES)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("odd")
    for kind in ("images", "labels"):
        (root / kind).mkdir()
    for index in range(3):
        scene = make_scene(1, 0, index)
        size = (SIZE[0] + 2 * index, SIZE[1])
        Image.fromarray(scene.image(*size)).save(root / "images" / f"{index}.png")
        Image.fromarray(scene.label(*size)).save(root / "labels" / f"{index}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ODD_SHAPES", str(root))
        yield root


def shrink(model: DictConfig) -> None:
    """A model's smaller sibling: the same parts, fewer channels and blocks."""
    head, levels = model.sem_seg_head, model.sem_seg_head.levels
    head.num_classes = len(CLASSES)
    if "model_name" in model.backbone:
        model.backbone.model_name = "hrnet_w18_small"
        channels = (16, 32, 64, 128)
    else:
        model.backbone.update(depth=18, stem_channels=16, res5_multi_grid=None)
        model.backbone.zero_init_residual = False  # some norms would not move at first
        channels = (64, 128, 256, 512)
        if "output_stride" in model.backbone:  # blocks of depth 18 have no dilation
            model.backbone.depth = 50
            channels = (256, 512, 1024, 2048)
    model.backbone.norm = "BN"
    for level, count in zip(("res2", "res3", "res4", "res5"), channels, strict=True):
        levels.input_shape[level].channels = count
    head.alignment.hidden_dims = [16] * len(head.alignment.hidden_dims)
    levels.channels = [16] * len(levels.channels)
    for projection in levels.get("projections", {}).values():
        if "out_channels" in projection:
            projection.out_channels = 16
        if "fuse_channels" in projection:
            projection.fuse_channels = 16
    decoder = levels.get("grid_decoder") or {}
    if "dims" in decoder:
        decoder.dims = [16] * len(decoder.dims)
    elif decoder:
        decoder.channels = 16
    for aux in head.aux_heads:
        aux.channels = 8
    if "sampler" in head.targets:
        head.targets.sampler.num_points = 64
    fit_channels(head)


def small_model(config: str) -> DictConfig:
    """Make the smaller sibling of a model of the paper's tables."""
    model = ROWS["paper_model"](config).model
    shrink(model)
    return model


@cache
def distinct_configs() -> tuple[str, ...]:
    """Names of the paper's models, one for each model that they shrink to."""
    found: dict[str, str] = {}
    for name in sorted(ROWS["paper_models"](), key=lambda n: (not n.startswith("table1/"), n)):
        head = (model := small_model(name)).sem_seg_head
        # What they are by default.
        for name_of, default in (("num_frequencies", 6), ("encoding", "learned")):
            if head.alignment.get(name_of) == default:
                head.alignment.pop(name_of)
        found.setdefault(OmegaConf.to_yaml(model, sort_keys=True), name)
    return tuple(found.values())


def image(height: int, width: int) -> dict:
    picture = torch.from_numpy(make_scene(2, 1, 0).image(height, width).copy())
    return {"image": picture.permute(2, 0, 1), "height": height, "width": width}


class Architecture:
    """Properties of every model.

    A subclass is parametrised by ``model_config``, names of the paper's models.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def model_config(cls, request: pytest.FixtureRequest) -> DictConfig:
        return small_model(request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def run(
        cls, model_config: DictConfig, scenes: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[tuple[torch.nn.Module, Path]]:
        """The model after two iterations and an evaluation, and the folder of the run."""
        output = tmp_path_factory.mktemp("run")
        names = [f"dataloader.{part}.dataset.names=odd_shapes" for part in ("train", "test")]
        augment = "dataloader.train.mapper.augmentations"
        cfg = load_config(
            "shapes/ifa_r18.py",
            [
                *names,
                f"{augment}.crop_size=[65,97]",
                f"{augment}.short_edge=65",
                "dataloader.train.mapper.num_points=0",
                "dataloader.train.num_workers=0",
                "dataloader.test.num_workers=0",
                "train.max_iter=2",
                "train.batch_size=2",
                "train.device=cpu",
                f"train.output_dir={output}",
            ],
        )
        cfg.model = model_config
        torch.manual_seed(1)
        trainer = Trainer(cfg)
        before = {k: v.detach().clone() for k, v in trainer.model.named_parameters()}
        trainer.train()
        still = [k for k, v in trainer.model.named_parameters() if torch.equal(v, before[k])]
        assert not [name for name in still if "bias" not in name]
        torch.use_deterministic_algorithms(False)
        yield trainer.model.eval(), output
        shutil.rmtree(output)  # checkpoints of all models are gigabytes

    def test_losses_and_figures(self, run: tuple[torch.nn.Module, Path]) -> None:
        model, output = run
        lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
        metrics = {key: value for line in lines for key, value in line.items()}
        expected = {"loss_sem_seg"}
        if len(model.sem_seg_head.aux_heads):
            expected.add("loss_sem_seg_aux")
        if getattr(model.sem_seg_head.levels.grid_decoder, "context", None) is not None:
            expected.add("loss_sem_seg_regions")
        if len(expected) > 1:  # Detectron2 logs one loss as the total alone
            assert {key for key in metrics if key.startswith("loss_")} == expected
        assert 0 < metrics["total_loss"] < 20
        assert 0 <= metrics["sem_seg/mIoU"] <= 100

    def test_checkpoint_gives_the_same_model(
        self, run: tuple[torch.nn.Module, Path], model_config: DictConfig
    ) -> None:
        model, output = run
        other = instantiate(model_config).eval()
        saved = torch.load(output / "model_final.pth", weights_only=True)["model"]
        other.load_state_dict(saved)
        with torch.no_grad():
            expected, answer = (m([image(*SIZE)])[0]["sem_seg"] for m in (model, other))
        assert answer.shape == (len(CLASSES), *SIZE)
        assert torch.equal(answer, expected)
        assert model_config.sem_seg_head.levels.input_shape.res5.stride == (
            other.backbone.output_shape()["res5"].stride
        )

    @torch.no_grad()
    def test_field_answers_as_the_head(self, run: tuple[torch.nn.Module, Path]) -> None:
        model, _ = run
        step = model.backbone.size_divisibility
        size = (-(-SIZE[0] // step) * step, -(-SIZE[1] // step) * step)
        picture = image(*size)
        field = compute_fields(model, [picture])[0]
        features = model.backbone((picture["image"] - model.pixel_mean)[None] / model.pixel_std)
        logits = model.sem_seg_head.layers(features)[0]
        grid = field.logits(tuple(logits.shape[1:]))
        torch.testing.assert_close(grid, logits, rtol=1e-4, atol=1e-5)
        points = [[(2 * i + 1) / (2 * n) for i, n in zip((1, 2), logits.shape[1:], strict=True)]]
        torch.testing.assert_close(field.at(points)[0], logits[:, 1, 2], rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_windows_are_parts_of_the_whole(self, run: tuple[torch.nn.Module, Path]) -> None:
        model, _ = run
        field = compute_fields(model, [image(*SIZE)])[0]
        whole = field.logits()
        assert whole.shape == (len(CLASSES), *SIZE)
        assert torch.equal(field.labels().long(), whole.argmax(0))
        window = field.logits(window=(10, 21, 33, 84))
        torch.testing.assert_close(window, whole[:, 10:33, 21:84], rtol=1e-4, atol=1e-5)
        assert field.labels((7, 300)).shape == (7, 300)
        direct = model.sem_seg_head.decode(field.levels, GridQuery.regular(5, 9))
        assert direct.shape == (1, len(CLASSES), 5, 9) and direct.isfinite().all()


def of_configs(names: Iterable[str]) -> pytest.MarkDecorator:
    """Parametrise an :class:`Architecture` by configs; each is trained once for its tests."""
    return pytest.mark.parametrize("model_config", list(names), indirect=True, scope="class")


def other_configs() -> list[str]:
    """All but table 1's, which alignments/test_training.py has: two processes share the work."""
    return [name for name in distinct_configs() if not name.startswith("table1/")]


@of_configs(other_configs())
class TestArchitectures(Architecture):
    pass


@pytest.mark.parametrize(
    ("config", "head", "ifa"),
    [
        (
            "table2/deeplabv3plus_ifa",
            {"IN_FEATURES": ["res2", "res5"]},
            {
                "PROJECTIONS": ["pointwise", "aspp"],
                "LEVEL_CHANNELS": [48, 256],
                "ASPP_DILATIONS": [6, 12, 18],
                "DECODER": "conv",
                "HIDDEN_DIMS": [256, 256],
            },
        ),
        (
            "table2/pspnet",
            {"IN_FEATURES": ["res5"], "CONVS_DIM": 512},
            {
                "PROJECTIONS": ["pyramid_pooling"],
                "DECODER": "conv",
                "HIDDEN_DIMS": [512],
                "ALIGNMENT": "bilinear",
            },
        ),
        (
            "table2/hrnet_w48_ocr_ifa",
            {},
            {"PROJECTIONS": ["identity"], "DECODER": "ocr", "HIDDEN_DIMS": [512]},
        ),
    ],
)
def test_yacs_builds_the_same_head(config: str, head: dict, ifa: dict) -> None:
    lazy = ROWS["paper_model"](config).model.sem_seg_head
    lazy.num_classes = 5
    lazy.levels.norm = "BN"
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.MODEL.SEM_SEG_HEAD.NAME = "IFASemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.update(
        {
            "IN_FEATURES": ["res2", "res3", "res4", "res5"],
            "NUM_CLASSES": 5,
            "NORM": "BN",
            "CONVS_DIM": 256,
            **head,
        }
    )
    cfg.MODEL.IFA.update({"AUX_FEATURE": "res4" if lazy.aux_heads else "", **ifa})
    with torch.device("meta"):
        shapes = {k: instantiate(v) for k, v in lazy.levels.input_shape.items()}
        built = build_sem_seg_head(cfg, shapes)
        assert str(built) == str(instantiate(lazy))


def test_every_config_is_tested() -> None:
    """Models that are not tested shrink to one that is."""
    assert set(ROWS["paper_models"]()) - set(distinct_configs()) == {
        *("figure3/dim24", "table4/learned", "table4/learned_jittered"),
        *(f"table3/fpn_32{form}" for form in ("", "_ifa", "_ifa_jittered")),
        *(f"table3/deeplabv3plus_32{form}" for form in ("", "_ifa")),
        "table5/ifa_r18",
    }
