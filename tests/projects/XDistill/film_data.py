"""Small films in a folder, and a depth model of random weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from depth_model import SelfSupervisedDepth
from depth_networks import DepthNetwork, DepthToSegmentation, PoseNetwork
from film_folder import write_depth
from PIL import Image

from ifa_d2.modeling import TimmBackbone

INTRINSICS = [[20.0, 0, 15.5], [0, 22.0, 11.0], [0, 0, 1]]


def write_film(
    root: Path,
    name: str = "00",
    numbers: Sequence[int] = range(4),
    size: tuple[int, int] = (24, 32),
) -> Path:
    """Write a film of noise, with depth and labels of three classes; gives its frames' folder."""
    rng = np.random.default_rng(len(name))
    for folder in ("images", "depth", "labels"):
        (root / folder / name).mkdir(parents=True)
    (root / "cameras").mkdir(exist_ok=True)
    write_camera(root / "cameras" / f"{name}.json")
    for number in numbers:
        file = f"{number:04d}.png"
        image = rng.integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(image).save(root / "images" / name / file)
        label = rng.integers(0, 3, size, np.uint8)
        Image.fromarray(label).save(root / "labels" / name / file)
        write_depth(root / "depth" / name / file, rng.uniform(2, 40, size))
    return root / "images" / name


def write_camera(path: Path, intrinsics: Any = INTRINSICS) -> None:
    path.write_text(json.dumps({"intrinsics": intrinsics}))


def tiny_model(
    *, num_groups: int = 0, num_scales: int = 2, loss_weight: float = 0.1, **changes: Any
) -> SelfSupervisedDepth:
    """A model in training mode, of the same weights each time; without groups, without teacher."""
    torch.manual_seed(0)
    encoder = {"model_name": "test_resnet"}
    depth_net = DepthNetwork(
        backbone=TimmBackbone(**encoder, out_features=["a", "b", "c"], out_indices=[0, 1, 2]),
        channels=(4, 6, 8),
        num_scales=num_scales,
    )
    pose_net = PoseNetwork(
        backbone=TimmBackbone(**encoder, out_features=["c"], out_indices=[2], in_channels=6),
        channels=8,
    )
    teacher_head = None
    if num_groups:
        teacher_head = DepthToSegmentation(
            num_groups=num_groups, channels=8, loss_weight=loss_weight
        )
    options = {"pose_net": pose_net, "teacher_head": teacher_head} | changes
    return SelfSupervisedDepth(
        depth_net=depth_net, pixel_mean=[120.0] * 3, pixel_std=[60.0] * 3, **options
    )


def inputs(size: tuple[int, int] = (24, 32), count: int = 2) -> list[dict[str, Any]]:
    """Training inputs of noise, with labels of three groups."""
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int, high: int = 256) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    return [
        {
            "image": noise(3, *size).to(torch.uint8),
            "sources": noise(2, 3, *size).to(torch.uint8),
            "is_before": torch.tensor([True, False]),
            "intrinsics": torch.tensor(INTRINSICS),
            "teacher": noise(*size, high=3),
            "height": size[0],
            "width": size[1],
        }
        for _ in range(count)
    ]
