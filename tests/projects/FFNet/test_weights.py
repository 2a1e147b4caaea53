"""Published checkpoints: the same function under this project's names, and what is refused."""

from pathlib import Path

import convert_ffnet_weights
import pytest
import torch
from detectron2.config import instantiate
from ffnet_family import ffnet_model
from ffnet_weights import convert_ffnet_state_dict, count_classes
from torch import nn

from ifa_d2.engine.checkpoint import Checkpointer
from tests.projects.FFNet.published_network import PublishedNetwork


def _model(name: str, classes: int = 19, interpolation: str | None = None) -> nn.Module:
    model = ffnet_model(name)
    model.sem_seg_head.num_classes = classes
    if interpolation is not None:
        model.sem_seg_head.levels.dense_alignment.interpolation = interpolation
    return instantiate(model).eval()


CASES = [
    ("18_dAAC", ("18", "A", "C"), {"first_stride": 2}),
    ("50_AAA", ("50", "A", "A"), {}),
    ("22S_BBB_mobile", ("22S", "B", "B"), {"mobile": True}),
    ("46N_CBB", ("46N", "B", "B"), {"classes": 7}),
    ("46NS_CCC_mobile", ("46NS", "C", "C"), {"mobile": True}),
]


@pytest.mark.parametrize(("name", "arguments", "options"), CASES)
def test_converted_model_is_the_same_function(
    name: str, arguments: tuple[str, str, str], options: dict
) -> None:
    published = PublishedNetwork(*arguments, **options)
    source = published.state_dict()
    state = convert_ffnet_state_dict({f"module.{k}": v for k, v in source.items()}, name)
    assert count_classes(state) == options.get("classes", 19)
    assert sum(v.numel() for v in state.values()) == sum(v.numel() for v in source.values())
    interpolation = None if options.get("mobile") else "corner_aligned"
    model = _model(name, options.get("classes", 19), interpolation)
    model.load_state_dict(state)  # all of them
    image = torch.randn(2, 3, 64, 192)
    with torch.no_grad():
        features, theirs = model.backbone(image), published.backbone_model(image)
        for ours, other in zip(features.values(), theirs, strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)
        logits, expected = model.sem_seg_head.layers(features), published(image)
    assert expected.std() > 0.1  # of something that says something
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    # A copy, which leaves the source as it was.
    assert not {v.data_ptr() for v in state.values()} & {v.data_ptr() for v in source.values()}


def test_half_pictures_have_the_same_tensors() -> None:
    source = PublishedNetwork("46NS", "C", "C", mobile=True).state_dict()
    source["smoothing.weight"] = torch.ones(3, 1, 5, 5)
    plain, half = (
        convert_ffnet_state_dict(source, f"46NS_CCC_mobile{end}") for end in ("", "_pre_down")
    )
    for name, state in (("46NS_CCC_mobile", plain), ("46NS_CCC_mobile_pre_down", half)):
        _model(name).load_state_dict(state)
    assert {key.replace("stem.stem.", "stem.") for key in half} == plain.keys()


@pytest.mark.parametrize("name", ["22S_BBB", "22S_dBBB_mobile"])
def test_imagenet_models_give_their_backbone(name: str, tmp_path: Path) -> None:
    source = PublishedNetwork("22S", "B", "X").state_dict()
    state = convert_ffnet_state_dict(source, name)
    assert {key.split(".")[0] for key in state} == {"backbone"}
    assert count_classes(state) is None
    model = _model(name)
    fresh = {key for key in model.backbone.state_dict() if f"backbone.{key}" not in state}
    shortcut = {key for key in fresh if key.startswith("res2.0.shortcut.")}
    assert fresh == shortcut and bool(fresh) == ("_d" in name)
    torch.save({"model": state}, tmp_path / "weights.pth")
    Checkpointer(model).load_initial(str(tmp_path / "weights.pth"))
    for key, value in state.items():
        assert torch.equal(model.state_dict()[key], value)


def test_counters_may_be_absent() -> None:
    source = PublishedNetwork("22S", "B", "B").state_dict()
    source = {key: value for key, value in source.items() if "num_batches" not in key}
    missing = _model("22S_BBB").load_state_dict(
        convert_ffnet_state_dict(source, "22S_BBB"), strict=False
    )
    assert not missing.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)


def _without(key: str) -> dict[str, torch.Tensor]:
    source = PublishedNetwork("22S", "B", "B").state_dict()
    del source[key]
    return source


def test_other_tensors_are_named() -> None:
    source = PublishedNetwork("22S", "B", "B").state_dict()
    cases = {
        "22S_dBBB": r"missing backbone_model\.layer1\.0\.downsample\.0\.weight",
        "30S_BBB": r"missing backbone_model\.layer1\.2\.conv1\.weight.* and \d+ more",
        "22S_BCB": r"of another shape head\.layers\.0\.adapter_conv\.0\.layers\.0\.weight \(64, ",
        "22S_BBC": r"of another shape head\.layers\.3\.last_layer\.0\.weight \(256, 288, 3, 3\)",
        "46N_CBB": r"missing backbone_model\.conv2\.weight",
        "18_ABB": r"unknown backbone_model\.conv0\.weight",
        "22S-BBB": "got '22S-BBB'",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            convert_ffnet_state_dict(source, name)
    for key in ("head.layers.1.fam_4.layers.0.weight", "head.layers.3.last_layer.3.bias"):
        with pytest.raises(ValueError, match=rf"not the tensors of FFNet 22S_BBB: missing {key}"):
            convert_ffnet_state_dict(_without(key), "22S_BBB")
    with pytest.raises(ValueError, match="missing"):
        convert_ffnet_state_dict({}, "22S_BBB")


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    published = PublishedNetwork("22S", "B", "B", classes=5)
    source, target = tmp_path / "in.pth", tmp_path / "made" / "out.pth"
    torch.save(published.state_dict(), source)
    convert_ffnet_weights.main([str(source), str(target), "22S_BBB"])
    said = capsys.readouterr().out
    written = torch.load(target, weights_only=True)["model"]
    assert f"wrote {len(written)} tensors to {target}" in said
    assert f"ffnet_model('22S_BBB') with train.init_checkpoint={target}" in said
    assert "model.sem_seg_head.num_classes=5" in said
    assert said.rstrip().endswith("dense_alignment.interpolation=corner_aligned")
    model = _model("22S_BBB", 5)
    Checkpointer(model).load_trained(str(target))
    key = "sem_seg_head.alignment.predictor.bias"
    assert torch.equal(model.state_dict()[key], published.head.layers[3].last_layer[3].bias)


def test_the_command_names_mistakes(tmp_path: Path) -> None:
    source, target = str(tmp_path / "in.pth"), str(tmp_path / "out.pth")
    Path(source).write_bytes(b"no checkpoint")
    cases = [
        ((str(tmp_path / "none.pth"), target, "22S_BBB"), r"none\.pth does not exist"),
        ((source, target, "22S_BBB"), r"in\.pth is damaged or is no checkpoint"),
        ((source, str(tmp_path / "out.pkl"), "22S_BBB"), r"must end in \.pth, got .*out\.pkl"),
        ((source, source, "22S_BBB"), r"would replace the weights .*in\.pth"),
        ((source, target, "22S"), "such as 86_ABB, .* got '22S'"),
    ]
    for arguments, message in cases:
        with pytest.raises(SystemExit, match=f"error: .*{message}"):
            convert_ffnet_weights.main(list(arguments))
    assert list(tmp_path.iterdir()) == [Path(source)]
