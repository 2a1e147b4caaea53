from itertools import pairwise

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from ifa_d2 import add_ifa_config
from ifa_d2.engine import get_optimizer_params, poly_schedule
from ifa_d2.engine.solver import (
    build_optimizer,
    build_scheduler,
    detectron2_schedule,
    scale_config,
)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 1)


def yacs_config() -> CfgNode:
    cfg = get_cfg()
    add_ifa_config(cfg)
    return cfg


def lazy_config(**train: object) -> OmegaConf:
    from detectron2.config import LazyCall as L

    return OmegaConf.create(
        {
            "optimizer": L(torch.optim.SGD)(
                params=L(get_optimizer_params)(base_lr="${..lr}"), lr=0.1, momentum=0.0
            ),
            "lr_multiplier": L(poly_schedule)(max_iter="${train.max_iter}", warmup_iters=0),
            "train": {"max_iter": 10, **train},
        },
        flags={"allow_objects": True},
    )


def settings_by_name(model: nn.Module, groups: list[dict]) -> dict[str, dict]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: {key: value for key, value in group.items() if key != "params"}
        for group in groups
        for parameter in group["params"]
    }


def test_heads_learn_at_their_own_rate() -> None:
    model = Model()
    groups = get_optimizer_params(
        model, 0.01, head_lr_factor=10.0, weight_decay_norm=0.0, weight_decay_bias=0.5
    )
    found = settings_by_name(model, groups)
    assert found == {
        "backbone.0.weight": {"lr": 0.01},
        "backbone.0.bias": {"lr": 0.01, "weight_decay": 0.5},
        "backbone.1.weight": {"lr": 0.01, "weight_decay": 0.0},
        "backbone.1.bias": {"lr": 0.01, "weight_decay": 0.5},
        "head.weight": {"lr": 0.1},
        "head.bias": {"lr": 0.1, "weight_decay": 0.5},
    }


def test_prefix_says_what_the_backbone_is() -> None:
    model = Model()
    groups = get_optimizer_params(model, 1.0, head_lr_factor=2.0, backbone_prefix="backbone.0.")
    rates = {name: group["lr"] for name, group in settings_by_name(model, groups).items()}
    assert rates["backbone.0.weight"] == 1.0
    assert rates["backbone.1.weight"] == rates["head.weight"] == 2.0


def test_bad_head_lr_factor() -> None:
    with pytest.raises(ValueError, match="head_lr_factor must be positive, got 0"):
        get_optimizer_params(Model(), 1.0, head_lr_factor=0)


@given(st.integers(1, 10_000), st.floats(0.1, 3.0), st.data())
def test_poly_schedule_is_its_formula(max_iter: int, power: float, data: st.DataObject) -> None:
    iteration = data.draw(st.integers(0, max_iter))
    factor = poly_schedule(max_iter=max_iter, power=power)(iteration / max_iter)
    assert factor == pytest.approx((1 - iteration / max_iter) ** power, abs=1e-12)


def test_warmup_leads_up_to_the_curve() -> None:
    warm = poly_schedule(max_iter=100, warmup_iters=20, warmup_factor=0.1)
    plain = poly_schedule(max_iter=100)
    factors = [warm(iteration / 100) for iteration in range(20)]
    assert factors[0] == pytest.approx(0.1)
    steps = [after - before for before, after in pairwise(factors)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert steps[0] == pytest.approx((plain(0.2) - 0.1) / 20)
    assert [warm(i / 100) for i in range(20, 100)] == [plain(i / 100) for i in range(20, 100)]


def test_warmup_may_be_a_share_of_the_training() -> None:
    share, count = (poly_schedule(max_iter=80, warmup_iters=n) for n in (0.25, 20))
    assert [share(i / 80) for i in range(80)] == [count(i / 80) for i in range(80)]


def test_a_share_does_not_follow_the_batch() -> None:
    cfg = lazy_config(max_iter=1000, batch_size=4, reference_batch_size=16)
    cfg.lr_multiplier.warmup_iters = 0.125
    assert scale_config(cfg, world_size=1).lr_multiplier.warmup_iters == 0.125


@pytest.mark.parametrize("warmup_iters", [30, 50])
def test_warmup_as_long_as_the_training_is_refused(warmup_iters: int) -> None:
    words = f"below the 30 iterations of the training, got {warmup_iters}"
    with pytest.raises(ValueError, match=rf"lr_multiplier\.warmup_iters \(SOLVER.* {words}"):
        poly_schedule(max_iter=30, warmup_iters=warmup_iters)
    solver = {key.lower(): value for key, value in get_cfg().SOLVER.items()}
    options = {key: solver[key] for key in ("warmup_factor", "warmup_method", "steps", "gamma")}
    with pytest.raises(ValueError, match=words):
        detectron2_schedule(
            name="WarmupMultiStepLR",
            base_lr=1.0,
            max_iter=30,
            warmup_iters=warmup_iters,
            **options,
        )


def test_bad_warmup() -> None:
    with pytest.raises(ValueError, match="warmup_iters must be 0 or more, got -1"):
        poly_schedule(max_iter=10, warmup_iters=-1)


@pytest.mark.parametrize("kind", ["lazy", "yacs"])
def test_rates_follow_the_schedule(kind: str) -> None:
    model = Model()
    if kind == "lazy":
        cfg = lazy_config()
        cfg.optimizer.params.head_lr_factor = 10.0
    else:
        cfg = yacs_config()
        cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER = 0.1, 10
        cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.WARMUP_ITERS = "WarmupPolyLR", 0
        cfg.SOLVER.HEAD_LR_FACTOR = 10.0
    optimizer = build_optimizer(cfg, model)
    scheduler = build_scheduler(cfg, optimizer)
    for iteration in range(10):
        found = settings_by_name(model, optimizer.param_groups)
        expected = 0.1 * (1 - iteration / 10) ** 0.9
        assert found["backbone.0.weight"]["lr"] == pytest.approx(expected)
        assert found["head.weight"]["lr"] == pytest.approx(10 * expected)
        optimizer.step()
        scheduler.step()
    # The config holds no model: it can still be saved.
    assert kind == "yacs" or "model" not in cfg.optimizer.params


def test_other_schedules_of_detectron2() -> None:
    cfg = yacs_config()
    cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.WARMUP_ITERS = "WarmupMultiStepLR", 0
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.BASE_LR = 10, (5,), 1.0
    optimizer = build_optimizer(cfg, Model())
    scheduler = build_scheduler(cfg, optimizer)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1.0] * 5 + [0.1] * 5)


@pytest.mark.parametrize("kind", ["lazy", "yacs"])
def test_gradients_are_clipped(kind: str) -> None:
    model = Model()
    if kind == "lazy":
        clip = {"enabled": True, "clip_type": "value", "clip_value": 0.5}
        cfg = lazy_config(clip_gradients=clip)
    else:
        cfg = yacs_config()
        cfg.SOLVER.CLIP_GRADIENTS.ENABLED, cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = True, 0.5
    optimizer = build_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.head.weight.grad = torch.tensor([[3.0, -0.25, -4.0]])
    optimizer.step()
    assert model.head.weight.grad.tolist() == [[0.5, -0.25, -0.5]]


def test_optimizers_of_yacs() -> None:
    cfg = yacs_config()
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = "AdamW", 0.5, 0.25
    optimizer = build_optimizer(cfg, Model())
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["lr"] == 0.5 and optimizer.defaults["weight_decay"] == 0.25
    cfg.SOLVER.OPTIMIZER = "Lion"
    with pytest.raises(ValueError, match=r"SOLVER\.OPTIMIZER must be SGD or AdamW, got 'Lion'"):
        build_optimizer(cfg, Model())


def test_unknown_clipping_key() -> None:
    cfg = lazy_config(clip_gradients={"enabled": True, "max_norm": 1.0})
    with pytest.raises(ValueError, match=r"clip_gradients has no key 'max_norm', only \["):
        build_optimizer(cfg, Model())


def test_rate_and_iterations_follow_the_batch() -> None:
    cfg = lazy_config(
        max_iter=1000,
        batch_size=4,
        reference_batch_size=16,
        eval_period=0,
        checkpointer={"period": 250},
    )
    cfg.lr_multiplier.warmup_iters = 30
    scaled = scale_config(cfg, world_size=2)
    assert scaled.optimizer.lr == pytest.approx(0.1 / 4)
    assert scaled.optimizer.params.base_lr == scaled.optimizer.lr
    assert (scaled.train.max_iter, scaled.lr_multiplier.max_iter) == (4000, 4000)
    assert scaled.lr_multiplier.warmup_iters == 120
    assert (scaled.train.eval_period, scaled.train.checkpointer.period) == (0, 1000)
    # The config given is as it was, and what came of it is not scaled again.
    assert (cfg.optimizer.lr, cfg.train.max_iter) == (0.1, 1000)
    assert scale_config(scaled, world_size=2) == scaled


def test_images_seen_stay_the_same_and_so_does_the_rate_of_each() -> None:
    for batch in (1, 3, 8, 48):
        cfg = lazy_config(max_iter=4800, batch_size=batch, reference_batch_size=16)
        scaled = scale_config(cfg, world_size=1)
        assert scaled.train.max_iter * batch == 4800 * 16
        assert scaled.optimizer.lr / batch == pytest.approx(0.1 / 16)


@pytest.mark.parametrize("reference", [None, 0, 4])
def test_without_another_reference_nothing_changes(reference: int | None) -> None:
    train = {} if reference is None else {"reference_batch_size": reference}
    cfg = lazy_config(batch_size=4, **train)
    assert scale_config(cfg, world_size=4) is cfg


def test_rate_that_is_written_twice() -> None:
    cfg = lazy_config(batch_size=8, reference_batch_size=16)
    cfg.optimizer.params.base_lr = 0.5
    scaled = scale_config(cfg, world_size=1)
    assert (scaled.optimizer.lr, scaled.optimizer.params.base_lr) == (0.05, 0.25)


@pytest.mark.parametrize("reference", [-1, 2.5])
def test_bad_reference_batch(reference: float) -> None:
    with pytest.raises(ValueError, match=rf"reference_batch_size must be 0 or .*, got {reference}"):
        scale_config(lazy_config(batch_size=4, reference_batch_size=reference), world_size=1)


def test_recipe_without_a_rate() -> None:
    cfg = lazy_config(batch_size=4, reference_batch_size=8)
    del cfg.optimizer.lr
    with pytest.raises(ValueError, match=r"needs optimizer\.lr"):
        scale_config(cfg, world_size=1)


def test_yacs_scales_with_the_processes() -> None:
    cfg = yacs_config()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER = 16, 0.1, 1000
    assert scale_config(cfg, world_size=3).train.max_iter == 1000
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 8
    scaled = scale_config(cfg, world_size=2)
    assert (scaled.train.batch_size, scaled.train.max_iter) == (4, 4000)
    assert scaled.optimizer.lr == pytest.approx(0.025)
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 5
    with pytest.raises(ValueError, match=r"reference_world_size must be .* \(16\), got 5"):
        scale_config(cfg, world_size=2)


def test_layers_of_the_backbone_have_rates_of_their_own() -> None:
    model = Model()
    model.backbone = nn.Sequential(
        nn.Linear(2, 2),
        nn.ModuleDict({"bottom_up": nn.Identity()}),
        *(nn.TransformerEncoderLayer(2, 1, 2) for _ in range(2)),
        nn.LayerNorm(2),
    )
    groups = get_optimizer_params(model, 1.0, head_lr_factor=3.0, layer_decay=0.5)
    rates = {name: group["lr"] for name, group in settings_by_name(model, groups).items()}
    expected = {"backbone.0": 0.125, "backbone.2": 0.25, "backbone.3": 0.5, "backbone.4": 1.0}
    for name, rate in rates.items():
        assert rate == expected.get(".".join(name.split(".")[:2]), 3.0)
    assert set(rates.values()) == {0.125, 0.25, 0.5, 1.0, 3.0}


def test_bad_layer_decay() -> None:
    with pytest.raises(ValueError, match=r"layer_decay must be in \(0, 1\], got 1.5"):
        get_optimizer_params(Model(), 1.0, layer_decay=1.5)
    with pytest.raises(ValueError, match="layer_decay needs a backbone of blocks, got Sequential"):
        get_optimizer_params(Model(), 1.0, layer_decay=0.5)
    model = Model()
    model.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match="must be 1 for a frozen backbone"):
        get_optimizer_params(model, 1.0, layer_decay=0.5)
