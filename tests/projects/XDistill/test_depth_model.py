"""The model's losses and answers: gradients, sizes, and what is refused."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from depth_model import SelfSupervisedDepth
from torch import Tensor
from view_synthesis import photometric_error, pose_of, project, warp

from tests.projects.XDistill.film_data import inputs, tiny_model

SIZES = [(24, 32), (21, 37), (7, 50)]


@pytest.mark.parametrize("size", SIZES)
def test_losses_and_depths(size: tuple[int, int]) -> None:
    model = tiny_model(num_groups=3)
    batch = inputs(size)
    losses = model(batch)
    assert losses.keys() == {"loss_photometric", "loss_smoothness", "loss_teacher"}
    assert all(torch.isfinite(value) and value > 0 for value in losses.values())
    assert tiny_model()(batch).keys() == {"loss_photometric", "loss_smoothness"}
    model.eval()
    with torch.no_grad():
        answers = model(batch)
        larger = model([{**batch[0], "height": 50, "width": 61}])[0]["depth"]
    assert all(one["depth"].shape == size for one in answers) and larger.shape == (50, 61)
    assert all(((one["depth"] > 0.1) & (one["depth"] < 100)).all() for one in answers)


def reached(model: SelfSupervisedDepth, loss: Tensor) -> set[str]:
    """The parts that a loss's gradient reaches."""
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name.split(".")[0]
        for name, p in model.named_parameters()
        if p.grad is not None
        if p.grad.any()
    }


def test_gradients() -> None:
    """The teacher reaches the depth network through h, and not the pose network."""
    model = tiny_model(num_groups=3)
    losses = model(inputs())
    assert reached(model, losses["loss_teacher"]) == {"depth_net", "teacher_head"}
    assert reached(model, losses["loss_photometric"]) == {"depth_net", "pose_net"}
    assert reached(model, losses["loss_smoothness"]) == {"depth_net"}
    model.zero_grad()
    losses["loss_teacher"].backward(retain_graph=True)
    # Every layer of the decoder that the finest scale is made by, down to the encoder's first one.
    decoder = model.depth_net
    used = [*decoder.narrow, *decoder.join, decoder.predict[0]]
    assert all(layer.weight.grad.any() for layer in used)
    assert next(decoder.backbone.parameters()).grad.any()


def test_weight_of_the_teacher() -> None:
    batch = inputs()
    found = {
        weight: tiny_model(num_groups=3, loss_weight=weight)(batch) for weight in (0.0, 0.1, 0.3)
    }
    torch.testing.assert_close(found[0.3]["loss_teacher"], 3 * found[0.1]["loss_teacher"])
    assert found[0.0]["loss_teacher"] == 0
    for name in ("loss_photometric", "loss_smoothness"):
        assert torch.equal(found[0.0][name], found[0.3][name])
        assert torch.equal(found[0.0][name], tiny_model()(batch)[name])


@pytest.mark.parametrize("auto_mask", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_photometric_loss_step_by_step(size: tuple[int, int], auto_mask: bool) -> None:
    model = tiny_model(auto_mask=auto_mask)
    batch = inputs(size)
    loss = model(batch)["loss_photometric"]
    images = torch.stack([one["image"] for one in batch]).float()
    sources = torch.stack([one["sources"] for one in batch]).float()
    bottom, right = max(-size[0] % 8, 16 - size[0]), -size[1] % 8

    def normal(each: Tensor) -> Tensor:
        return F.pad((each - 120) / 60, (0, right, 0, bottom), mode="replicate")

    with torch.no_grad():
        moved = [
            pose_of(*model.pose_net(normal(sources[:, 0]), normal(images))).inverse(),
            pose_of(*model.pose_net(normal(images), normal(sources[:, 1]))),
        ]
        total = 0.0
        intrinsics = torch.stack([one["intrinsics"] for one in batch])
        scales = model.depth_net(normal(images))
        for scale in scales:
            full = F.interpolate(scale, scales[0].shape[2:], mode="bilinear")
            depth = 1 / (0.01 + 9.99 * full[..., : size[0], : size[1]])
            errors = [
                photometric_error(
                    warp(sources[:, k] / 255, project(depth, pose, intrinsics)), images / 255
                )
                for k, pose in enumerate(moved)
            ]
            if auto_mask:
                errors += [photometric_error(sources[:, k] / 255, images / 255) for k in (0, 1)]
            total += torch.cat(errors, 1).amin(1).mean()
    torch.testing.assert_close(loss, total / 2, rtol=1e-4, atol=1e-6)


def test_only_the_depth_network_is_asked() -> None:
    model = tiny_model(num_groups=3).eval()
    alone = SelfSupervisedDepth(
        depth_net=model.depth_net, pixel_mean=[120.0] * 3, pixel_std=[60.0] * 3
    ).eval()
    picture = [{"image": inputs()[0]["image"]}]
    with torch.no_grad():
        assert torch.equal(alone(picture)[0]["depth"], model(picture)[0]["depth"])
    with pytest.raises(ValueError, match="pose_net must be there to train, got None"):
        alone.train()(inputs())


def test_bfloat16() -> None:
    expected = tiny_model(num_groups=3)(inputs())
    with torch.autocast("cpu", torch.bfloat16):
        found = tiny_model(num_groups=3)(inputs())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.1, atol=0.02)
    sum(found.values()).backward()


def without(batch: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != name} for one in batch]


def test_inputs_that_do_not_fit() -> None:
    model, batch = tiny_model(num_groups=3), inputs()
    for name in ("sources", "is_before", "intrinsics", "teacher"):
        with pytest.raises(ValueError, match=f"inputs must have '{name}' here, got "):
            model(without(batch, name))
    with pytest.raises(ValueError, match=r"image must have one shape in a batch, got .*augmentat"):
        model([batch[0], inputs((32, 24))[0]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"smoothness_weight": -1}, "smoothness_weight must be 0 or above, got -1"),
        ({"ssim_weight": 1.5}, r"ssim_weight must be in \[0, 1\], got 1.5"),
    ],
)
def test_mistakes(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_model(**changes)
