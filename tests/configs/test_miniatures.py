"""Each recipe of the paper's data sets, from the published files to figures, on pictures of 60x80.

Data are prepared by the real command; weights lie where a download would leave them, in the files'
own format, so that every recipe runs as it stands but for sizes and counts.
"""

import json
import math
import pickle
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from detectron2.config import LazyConfig

from ifa_d2.arguments import training_parser
from ifa_d2.cli.train_net import main
from ifa_d2.engine import Trainer
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.run import load_config
from ifa_d2.modeling import build_resnet, fit_channels, use_alignment
from tests.configs.test_paper_recipes import RECIPES
from tests.data import miniatures

TOOLS = Path(__file__).parents[2] / "tools"
WEIGHTS = {"R-52": 50, "R-103": 101}
SMALL = (
    "train.device=cpu",
    "train.max_iter=2",
    "train.batch_size=2",
    "inference.scales=[0.5,0.75]",
)
DATA = tuple(
    f"dataloader.{key}"
    for key in (
        "train.mapper.augmentations.crop_size=[65,65]",
        "train.num_workers=0",
        "test.num_workers=0",
    )
)
CHEAP = (
    "model.sem_seg_head.levels.channels=[16,16,16,16]",
    "model.sem_seg_head.aux_heads.0.channels=16",
    "dataloader.evaluator.output_dir=null",  # no figures to draw
)


def _write_zoo_weights(path: Path, depth: int) -> None:
    """Random weights as Detectron2's zoo has them: numpy, no prefix, and a classifier."""
    state = build_resnet(depth=depth, norm="BN", stem_channels=128).state_dict()
    arrays = {k: v.numpy() for k, v in state.items() if "num_batches" not in k}
    arrays["stem.fc.weight"] = torch.zeros(1000, 2048).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(data))


def _prepare(root: Path) -> None:
    for name in ("cityscapes", "ade20k", "pascal_context"):
        getattr(miniatures, f"make_{name}")(root, {"train": 2, "val": 1})
        miniatures.prepare(name, root)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the prepared data sets, where the runs' relative paths begin."""
    root = tmp_path_factory.mktemp("miniatures")
    _prepare(root)
    torch.manual_seed(77)  # not the seed of each test, whose models would begin as the files
    for name, depth in WEIGHTS.items():
        _write_zoo_weights(root / "cache" / "detectron2" / "DeepLab" / f"{name}.pkl", depth)
    network = timm.create_model("resnet18d", pretrained=False)
    for block in (network.layer2[0], network.layer3[0], network.layer4[0]):
        block.downsample = block.downsample[1:]  # now as resnet18_v1c
    torch.save(network.state_dict(), root / "resnet18_v1c-b5776b93.pth")
    convert = runpy.run_path(str(TOOLS / "convert_imagenet_checkpoint.py"))["main"]
    convert([str(root / "resnet18_v1c-b5776b93.pth"), str(root / "pretrained/resnet18_v1c.pth")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        patch.setenv("FVCORE_CACHE", str(root / "cache"))
        patch.chdir(root)
        yield root
    shutil.rmtree(root)


def _train(root: Path, recipe: str, *overrides: str) -> list[dict]:
    """Run the command, evaluated at scales, mirrored and in windows; the lines of metrics.json."""
    flags = ["--tta", "--sliding-window", "40", "40", "--stride", "24", "24"]
    arguments = ["--config-file", recipe, *flags, *overrides]
    main(training_parser("").parse_args(arguments))
    lines = (root / "out" / "metrics.json").read_text().splitlines()
    assert (root / "out" / "model_final.pth").is_file()
    shutil.rmtree(root / "out")
    return [json.loads(line) for line in lines]


def _check(lines: list[dict], num_classes: int, parts: tuple[str, ...] = ("", "_aux")) -> None:
    losses = {key: value for line in lines for key, value in line.items() if "loss" in key}
    # A single loss is the total, and has no line of its own.
    assert {"total_loss", *(f"loss_sem_seg{part}" for part in parts)} == losses.keys()
    assert all(math.isfinite(value) and value > 0 for value in losses.values())
    # A guess costs ln(K); the auxiliary loss counts 0.4.
    main = losses.get("loss_sem_seg", losses["total_loss"])
    assert 0.2 * math.log(num_classes) < main < 5 * math.log(num_classes)
    figures = {key: value for line in lines for key, value in line.items() if "sem_seg/" in key}
    assert 0 <= figures["sem_seg/mIoU"] <= 100
    assert sum(key.startswith("sem_seg/IoU-") for key in figures) == num_classes


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_trains_and_evaluates(root: Path, recipe: str) -> None:
    cfg = load_config(recipe)
    cheap = CHEAP if "101" in recipe else ()
    lines = _train(root, recipe, "train.output_dir=out", *SMALL, *DATA, *cheap)
    _check(lines, cfg.model.sem_seg_head.num_classes)


@pytest.mark.parametrize(
    ("name", "alignment", "losses"),
    [
        ("deeplabv3plus_r50", "ifa", ("", "_aux")),
        ("pspnet_r50", "bilinear", ("", "_aux")),
        ("hrnet_w18", "ifa", ()),
        ("hrnet_w48_ocr", "bilinear", ("", "_regions")),
    ],
)
def test_other_architecture_trains_and_evaluates(
    root: Path, name: str, alignment: str, losses: tuple[str, ...]
) -> None:
    cfg = load_config(f"cityscapes/{name}.py", [*CHEAP[-1:], "train.output_dir=out"])
    head = cfg.model.sem_seg_head
    head.levels.channels = [16] * len(head.levels.channels)
    for projection in head.levels.get("projections", {}).values():
        if "out_channels" in projection:
            projection.out_channels = 16
    for aux in head.aux_heads:
        aux.channels = 16
    if alignment == "ifa":
        fit_channels(head)
    else:
        use_alignment(head, alignment)
    overrides = []
    if name.startswith("hrnet"):
        overrides += ["model.backbone.pretrained=False", "model.backbone.norm=BN"]
        assert load_config(f"cityscapes/{name}.py").model.backbone.pretrained
    recipe = root / f"{name}_{alignment}.yaml"
    LazyConfig.save(cfg, str(recipe))
    lines = _train(root, str(recipe), *overrides, *SMALL, *DATA)
    _check(lines, 19, losses)


@pytest.mark.parametrize("recipe", ["ifa_r18.py", "ifa_r50.py", "ifa_r101.py"])
def test_whole_backbone_starts_from_the_file(root: Path, recipe: str) -> None:
    cfg = load_config(f"cityscapes/{recipe}", ["train.device=cpu"])
    path = cfg.train.init_checkpoint
    model = Trainer.build_model(cfg)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Checkpointer(model).load(path)
    changed = {key for key, value in model.state_dict().items() if not value.equal(before[key])}
    assert {key.split(".")[0] for key in changed} == {"backbone"}
    convolutions = {
        key for key, value in before.items() if key.startswith("backbone.") and value.dim() == 4
    }
    assert convolutions <= changed
    if path.endswith(".pkl"):
        file = root / "cache" / "detectron2" / path.removeprefix("detectron2://")
        for name, value in pickle.loads(file.read_bytes())["model"].items():
            if "fc" not in name:
                assert torch.equal(model.state_dict()[f"backbone.{name}"], torch.tensor(value))


def test_weights_that_are_missing_are_named_before_anything_is_trained(root: Path) -> None:
    cases = {
        "pretrained/resnet18_v1d.pth": r"IN\.pth pretrained/resnet18_v1d\.pth",
        "elsewhere/resnet18_v1c.pth": r"third_party/resnet18_v1c-b5776b93\.pth elsewhere/",
    }
    for path, hint in cases.items():
        with pytest.raises(FileNotFoundError, match=rf"initial weights {path} .*{hint}.*scratch"):
            _train(
                root,
                RECIPES[-1],
                *SMALL,
                *DATA,
                "train.output_dir=out",
                f"train.init_checkpoint={path}",
            )
        assert not list((root / "out").glob("*.pth"))
        assert not (root / "out" / "metrics.json").exists()
        shutil.rmtree(root / "out")


def test_without_weights_it_trains_from_scratch(root: Path) -> None:
    lines = _train(
        root,
        "cityscapes/ifa_r18.py",
        *SMALL,
        *DATA,
        "train.output_dir=out",
        "train.init_checkpoint=",
    )
    _check(lines, 19)
