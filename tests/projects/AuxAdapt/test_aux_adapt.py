"""What adapts, what stays to the bit, and what an answer is."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from aux_adapt import AuxAdaptSegmentor
from detectron2.config import instantiate
from torch import Tensor, nn

from ifa_d2.modeling import FieldSegmentor
from tests.tiny import assert_same, tiny_config

RATE = 0.05  # at which a tiny model moves in a few frames
OPTIONS = {"learning_rate": RATE, "cut_distance": 0.5}


@pytest.fixture
def models(tmp_path) -> tuple[nn.Module, nn.Module]:
    """Two small segmentors of different random weights."""
    cfg = tiny_config(tmp_path)
    pair = instantiate(cfg.model).eval(), instantiate(cfg.model).eval()
    for model in pair:  # their first draw says little
        nn.init.normal_(model.sem_seg_head.alignment.predictor.weight, std=0.1)
    return pair


def segmentor(models: tuple[nn.Module, nn.Module], **options) -> AuxAdaptSegmentor:
    main, auxiliary = copy.deepcopy(models)
    return AuxAdaptSegmentor(main, auxiliary, **OPTIONS | options).eval()


def frames(count: int, *, size: tuple[int, int] = (40, 56)) -> list[dict[str, Tensor]]:
    """A picture that changes a little from frame to frame."""
    base = torch.randint(40, 200, (3, *size))
    return [{"image": (base + 2 * index).to(torch.uint8)} for index in range(count)]


def play(model: nn.Module, inputs: list[dict[str, Tensor]]) -> list[Tensor]:
    with torch.no_grad():  # as evaluation and demo call models
        return [model([one])[0]["sem_seg"] for one in inputs]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def plain_sum(models: tuple[nn.Module, nn.Module], one: dict, *, adapts: bool = True) -> Tensor:
    """The sum, to the bit: what has gradients is rounded otherwise than what has folded norms."""
    height, width = one["image"].shape[-2:]
    half = F.interpolate(
        one["image"][None].float(), (height // 2, width // 2), mode="bilinear", antialias=True
    )[0]
    with torch.no_grad():
        main = models[0]([one])[0]["sem_seg"]
    with torch.set_grad_enabled(adapts):
        addend = models[1]([{"image": half, "height": height, "width": width}])[0]["sem_seg"]
    return main + addend.detach()


def sharpness(answer: Tensor) -> float:
    return float(F.cross_entropy(answer[None], answer.argmax(0)[None]))


def test_main_stays_to_the_bit_and_the_auxiliary_adapts(models) -> None:
    model = segmentor(models)
    inputs = frames(20)
    answers = play(model, inputs)
    assert_same(state(model.main), state(models[0]))
    before, after = state(models[1]), state(model.auxiliary)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "backbone.stem.conv1.weight" in moved
    assert not {name for name in moved if "running" in name or "aux_heads" in name}
    torch.testing.assert_close(answers[0], plain_sum(models, inputs[0]), rtol=0, atol=0)
    assert not torch.equal(answers[1], plain_sum(models, inputs[1]))
    assert not any(answer.requires_grad for answer in answers)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_answer_follows_the_stepped_weights(models) -> None:
    """Nothing that is kept for inference, such as folded norms, is of the weights before."""
    model, inputs = segmentor(models), frames(3)
    play(model, inputs[:2])
    adapted = copy.deepcopy((models[0], model.auxiliary))
    fresh = (adapted[0], models[1])
    fresh[1].load_state_dict(state(adapted[1]))
    (answer,) = play(model, inputs[2:])
    torch.testing.assert_close(answer, plain_sum(fresh, inputs[2]))


@pytest.mark.parametrize("loss_on", ["sum", "aux"])
def test_a_step_is_that_of_the_formula(models, loss_on: str) -> None:
    model, (one,) = segmentor(models, loss_on=loss_on, max_gradient_norm=0.01), frames(1)
    play(model, [one])
    auxiliary = copy.deepcopy(models[1])
    half = F.interpolate(one["image"][None].float(), (20, 28), mode="bilinear", antialias=True)
    with torch.no_grad():
        main = models[0]([one])[0]["sem_seg"]
    addend = auxiliary([{"image": half[0], "height": 40, "width": 56}])[0]["sem_seg"]
    total = main + addend
    logits = total if loss_on == "sum" else addend
    chosen = total.argmax(0, keepdim=True)
    loss = (logits.logsumexp(0) - logits.gather(0, chosen)[0]).mean()
    named = dict(auxiliary.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    norm = torch.cat([each.flatten() for each in gradients if each is not None]).norm()
    assert norm > 0.01
    for (name, before), gradient in zip(named.items(), gradients, strict=True):
        step = 0 if gradient is None else RATE * gradient * 0.01 / norm
        after = model.auxiliary.get_parameter(name)
        torch.testing.assert_close(after, before - step, rtol=1e-5, atol=1e-7)


def test_a_frame_that_is_shown_again_gets_a_surer_answer(models) -> None:
    found = [sharpness(answer) for answer in play(segmentor(models), 8 * frames(1))]
    assert found[-1] < found[0]


def test_rate_0_is_the_sum_without_adaptation(models) -> None:
    model, inputs = segmentor(models, learning_rate=0), frames(3)
    for answer, one in zip(play(model, inputs), inputs, strict=True):
        expected = plain_sum(models, one, adapts=False)
        torch.testing.assert_close(answer, expected, rtol=0, atol=0)
    assert_same(state(model.auxiliary), state(models[1]))


def test_reset_is_the_first_frame_again(models) -> None:
    model, inputs = segmentor(models), frames(4)
    first = play(model, inputs)
    assert not torch.equal(play(model, inputs[:1])[0], first[0])
    model.reset()
    assert_same(state(model.auxiliary), state(models[1]))
    for one, other in zip(play(model, inputs), first, strict=True):  # momentum is new too
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_cut_returns_to_the_starting_weights_to_the_bit(models) -> None:
    model, inputs = segmentor(models), frames(3)
    other = {"image": (255 - inputs[0]["image"]) // 4}
    play(model, inputs)
    assert model.cuts == 0
    (answer,) = play(model, [other])
    assert model.cuts == 1
    torch.testing.assert_close(answer, plain_sum(models, other), rtol=0, atol=0)
    blind = segmentor(models, cut_distance=None)
    assert not torch.equal(play(blind, [*inputs, other])[-1], answer)
    assert blind.cuts == 0


class Flat(nn.Module):
    """A segmentor whose two logits are a colour's of the first pixel, of any frame."""

    def forward(self, inputs: list[dict]) -> list[dict[str, Tensor]]:
        one = inputs[0]
        logits = torch.zeros(2, one["height"], one["width"])
        return [{"sem_seg": logits + one["image"][0, 0, 0]}]


@pytest.mark.parametrize("size", [(6, 5), (360, 480)])
def test_cuts_are_found_by_colours_in_frames_of_any_size(size: tuple[int, int]) -> None:
    model = AuxAdaptSegmentor(Flat(), Flat(), learning_rate=0, cut_distance=0.5).eval()
    dark, light = (torch.full((3, *size), value, dtype=torch.uint8) for value in (20, 220))
    half = torch.where(torch.arange(size[1]) < size[1] // 4, light, dark)
    for image in (dark, dark, half, light, light, dark):
        model([{"image": image, "height": size[0], "width": size[1]}])
    assert model.cuts == 2


def test_a_step_that_is_not_finite_is_left_out_and_said(models, caplog) -> None:
    model, inputs = segmentor(models, cut_distance=None), frames(2)
    broken = {"image": inputs[0]["image"].float().masked_fill(inputs[0]["image"] > 190, torch.inf)}
    with caplog.at_level(logging.WARNING):
        play(model, [broken])
    assert (
        model.skipped == 1 and "a step was left out, as it is not finite: loss nan" in caplog.text
    )
    assert_same(state(model.auxiliary), state(models[1]))
    (answer,) = play(model, inputs[:1])
    torch.testing.assert_close(answer, plain_sum(models, inputs[0]), rtol=0, atol=0)
    play(model, inputs[1:])
    assert model.skipped == 1
    assert all(value.isfinite().all() for value in model.auxiliary.state_dict().values())


def test_loaded_weights_are_the_starting_ones(models) -> None:
    model, inputs = segmentor(models), frames(2)
    play(model, inputs)
    main, auxiliary = models
    model.load_state_dict(segmentor((auxiliary, main)).state_dict())
    play(model, inputs)
    model.reset()
    assert_same(state(model.auxiliary), state(main))
    assert_same(state(model.main), state(auxiliary))


def test_frames_of_a_batch_are_of_one_film(models) -> None:
    inputs = frames(3)
    together = segmentor(models)(inputs)
    for one, other in zip(play(segmentor(models), inputs), together, strict=True):
        torch.testing.assert_close(one, other["sem_seg"], rtol=0, atol=0)
    model = segmentor(models)
    model(inputs)
    with pytest.raises(ValueError, match=r"\(40, 56\) came \(56, 40\): call reset"):
        model(frames(1, size=(56, 40)))
    model.reset()
    assert model(frames(1, size=(56, 40)))[0]["sem_seg"].shape == (3, 56, 40)


def test_models_that_do_not_fit(models, tmp_path) -> None:
    cfg = tiny_config(tmp_path)
    cfg.model._target_ = FieldSegmentor
    field = instantiate(cfg.model).eval()
    with pytest.raises(ValueError, match="return_logits=True"):
        segmentor((field, models[1]))(frames(1))
    field.return_logits = True
    with pytest.raises(ValueError, match=r"with gradients .* got FieldSegmentor"):
        segmentor((models[0], field))(frames(1))
    assert segmentor((models[0], field), learning_rate=0)(frames(1))
    with pytest.raises(ValueError, match="eval mode"):
        segmentor(models).train()(frames(1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -1),
        ("learning_rate", float("nan")),
        ("momentum", 1.0),
        ("max_gradient_norm", 0),
        ("loss_on", "main"),
        ("scale", 0),
        ("cut_distance", 1.5),
    ],
)
def test_arguments_out_of_range(models, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be .*, got {value!r}"):
        segmentor(models, **{name: value})
