"""A reader's folder: the checkout, and small files under the names that the pages have."""

import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from detectron2.modeling import ResNet
from PIL import Image

from ifa_d2 import get_config
from ifa_d2.data.preparation import PREPARATIONS, prepare
from ifa_d2.demo import VideoWriter
from ifa_d2.engine import Trainer
from tests.data import miniatures
from tests.data.panoptic_miniatures import make_coco_panoptic
from tests.rasters.made import UTM, write_raster
from tests.reference_network import ReferenceNetwork
from tests.small_python import COUNTS, CRACKFOREST_COUNTS, ROOT

DATASETS = ("cityscapes", "pascal_context", "ade20k", "camvid", "crackforest")
PICTURES = ("street.jpg", "street.png", "photo.jpg", "photos/a.jpg", "more/b.png")
# The folders of runs that a page draws are those of trainings that it has commands for.
RUNS = {"a": "grid/seed1", "b": "grid/seed2"}


def make_folder(folder: Path, prepared: Sequence[str]) -> None:
    """Make it.

    Args:
        folder: that is made.
        prepared: the data sets below ROOT that the page has no command to prepare for.
    """
    folder.mkdir()
    for name in ("tools", "configs", "zoo"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "projects", folder / "projects")  # a command draws a figure there
    _write_datasets(folder, prepared)
    rng = np.random.default_rng(0)
    for name in PICTURES:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(_picture(rng)).save(folder / name)
    Image.fromarray(_picture(rng)).save(folder / "PICTURES", format="PNG")
    write_raster(folder / "ortho.tif", _picture(rng).transpose(2, 0, 1), **UTM)
    with VideoWriter(folder / "drive.mp4", 12.0) as writer:
        for _ in range(3):
            writer.write(_picture(rng))
    (folder / "output").mkdir()
    for name, run in RUNS.items():
        (folder / "output" / name).symlink_to(f"targets/shapes/{run}")


def _picture(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 255, (120, 160, 3), np.uint8)


def _write_datasets(folder: Path, prepared: Sequence[str]) -> None:
    """The data sets as they are published, and a folder of leaves."""
    root = folder / "ROOT"
    miniatures.make_cityscapes(root, COUNTS)
    miniatures.make_cityscapes_test(root)
    miniatures.make_pascal_context(root, COUNTS)
    miniatures.make_ade20k(root, COUNTS)
    miniatures.make_camvid_segnet(root, COUNTS)
    miniatures.make_crackforest(root, CRACKFOREST_COUNTS)
    make_coco_panoptic(root, COUNTS)
    for split in COUNTS:  # which it has prepared
        shutil.rmtree(root / "coco" / f"panoptic_stuff_{split}2017")
    for name in prepared:
        for preparation in PREPARATIONS[name]:
            prepare(preparation, root, allow_partial=True)
    rng = np.random.default_rng(1)
    for part, count in COUNTS.items():
        for kind in ("images", "labels"):
            (folder / "leaves" / kind / part).mkdir(parents=True)
        for index in range(count):
            label = rng.integers(0, 3, (6, 8), np.uint8).repeat(20, 0).repeat(20, 1)
            noise = rng.integers(0, 40, (*label.shape, 3), np.uint8)
            picture = (80 * label)[..., None] + noise
            Image.fromarray(label).save(folder / "leaves" / "labels" / part / f"{index}.png")
            Image.fromarray(picture).save(folder / "leaves" / "images" / part / f"{index}.png")


def write_downloads(cache: Path) -> None:
    """Random weights where Detectron2 keeps what it has downloaded."""
    network = timm.create_model("resnet18d", pretrained=False)
    for block in (network.layer2[0], network.layer3[0], network.layer4[0]):
        block.downsample = block.downsample[1:]  # now as resnet18_v1c
    path = cache / "pretrain" / "third_party" / "resnet18_v1c-b5776b93.pth"
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    backbone = Trainer.build_model(get_config("panoptic/cityscapes/panoptic_ifa_r50.py")).backbone
    assert isinstance(backbone.bottom_up, ResNet)
    state = {k: v.numpy() for k, v in backbone.bottom_up.state_dict().items()}
    for name, value in state.items():  # of the size that trained ones give to features
        value *= {"stem.conv1.norm.weight": 0.01}.get(name, 0.1 if "conv3.norm.w" in name else 1)
    path = cache / "detectron2" / "ImageNetPretrained" / "MSRA" / "R-50.pkl"
    path.parent.mkdir(parents=True)
    content = {"model": state, "__author__": "random", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))


def write_checkpoints(folder: Path) -> None:
    """`best.pth` of the authors' form, and `ifa_r50.pth`."""
    torch.save({"model_state": ReferenceNetwork().state_dict()}, folder / "best.pth")
    model = Trainer.build_model(get_config("cityscapes/ifa_r50.py"))
    torch.save({"model": model.state_dict()}, folder / "ifa_r50.pth")
