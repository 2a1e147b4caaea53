import runpy
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from torch import Tensor, nn

from ifa_d2 import get_config
from ifa_d2.checkpoints.reference import convert_reference_state_dict
from tests.reference_network import ReferenceNetwork

COMMAND = Path(__file__).parents[2] / "tools" / "convert_reference_checkpoint.py"
HEAD = "model.sem_seg_head"


@pytest.fixture(scope="module")
def convert_command():
    return runpy.run_path(str(COMMAND))["main"]


class _Checkpointer(DetectionCheckpointer):
    """Keeps what did not fit, which Detectron2's only logs."""

    def _load_model(self, checkpoint: dict) -> object:
        self.incompatible = super()._load_model(checkpoint)
        return self.incompatible


def _couple(network: ReferenceNetwork) -> None:
    for i in range(1, 5):
        emb = network.decoder.ifa.get_submodule(f"pos{i}").emb
        emb.data += 0.1 * torch.randn_like(emb)


@pytest.fixture
def converted(convert_command, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Run the command on a network: its model with the weights, and the overrides it asked for."""

    def run(network: nn.Module, prefix: str = "") -> tuple[nn.Module, list[str]]:
        state = {prefix + name: value for name, value in network.state_dict().items()}
        torch.save({"epoch": 3, "model_state": state}, tmp_path / "in.pth")
        convert_command([str(tmp_path / "in.pth"), str(tmp_path / "out.pth")])
        command = capsys.readouterr().out.splitlines()[-1]
        _, _, said = command.partition(" configs/")
        name, *overrides = said.split()
        recipe = get_config(name)
        model = instantiate(LazyConfig.apply_overrides(recipe, overrides).model).eval()
        checkpointer = _Checkpointer(model, save_to_disk=False)
        checkpointer.load(str(tmp_path / "out.pth"))
        assert checkpointer.incompatible.missing_keys == []
        assert checkpointer.incompatible.unexpected_keys == []
        assert checkpointer.incompatible.incorrect_shapes == []
        return model, overrides

    return run


@torch.no_grad()
def _compare(network: ReferenceNetwork, model: nn.Module, size: tuple[int, int] = (97, 65)) -> None:
    """Features, logits of both heads; ``size`` is one at which both max pools round alike."""
    image = torch.randn(2, 3, *size)
    expected = network.encoder(image)
    features = model.backbone(image)
    for mine, theirs in zip(features.values(), expected, strict=True):
        assert _distance(mine, theirs) < 1e-5
    given = dict(zip(features, expected, strict=True))
    assert _distance(model.sem_seg_head.layers(given), network.decoder(expected)) < 1e-4
    if hasattr(network, "auxor"):
        mine = model.sem_seg_head.aux_heads[0](given["res4"])
        assert _distance(mine, network.auxor(expected[2])) < 1e-4


def _distance(mine: Tensor, theirs: Tensor) -> float:
    """Largest difference, in units of the largest value where that is above 1."""
    assert mine.shape == theirs.shape
    assert theirs.std() > 1e-3  # of something that says something
    return float((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_recipe_loads_it_as_it_is(converted, prefix: str) -> None:
    network = ReferenceNetwork()
    model, overrides = converted(network, prefix)
    assert overrides == []
    _compare(network, model)
    parameters = model.sem_seg_head.alignment.encodings[2].frequencies
    torch.testing.assert_close(parameters[:, 0], 2 ** torch.linspace(0, 6, 6))


def test_learned_frequencies_of_one_axis_each(converted) -> None:
    network = ReferenceNetwork()
    _couple(network)
    for i in range(1, 5):
        emb = network.decoder.ifa.get_submodule(f"pos{i}").emb
        emb.data[:6, 1] = 0
        emb.data[6:, 0] = 0
    model, overrides = converted(network)
    assert overrides == []
    _compare(network, model)


def test_coupled_frequencies(converted) -> None:
    network = ReferenceNetwork()
    _couple(network)
    model, overrides = converted(network)
    assert overrides == [f"{HEAD}.alignment.coupled_frequencies=true"]
    _compare(network, model)


def test_one_coupled_level_couples_all(converted) -> None:
    network = ReferenceNetwork()
    network.decoder.ifa.pos3.emb.data[0, 1] = 1e-3
    model, overrides = converted(network)
    assert overrides == [f"{HEAD}.alignment.coupled_frequencies=true"]
    _compare(network, model)


def test_aspp(converted) -> None:
    network = ReferenceNetwork(dilations=(12, 24, 36))
    model, overrides = converted(network)
    assert overrides == [
        "model.backbone.depth=50",
        f"{HEAD}.alignment.hidden_dims=[512,256,256]",
    ]
    _compare(network, model)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"position": "fixed"}, []),
        ({"position": "coord"}, ['alignment.encoding="coord"']),
        ({"count": 4}, ["alignment.num_frequencies=4"]),
        ({"unfold": True}, ["alignment.unfold=true"]),
        ({"hidden": (512, 256)}, ["alignment.hidden_dims=[512,256]"]),
        ({"auxiliary": False}, ["aux_heads=[]"]),
        ({"classes": 60}, ["num_classes=60"]),
    ],
)
def test_other_heads(converted, options: dict, expected: list[str]) -> None:
    network = ReferenceNetwork(**options)
    model, overrides = converted(network)
    assert overrides == [f"{HEAD}.{override}" for override in expected]
    _compare(network, model)


@pytest.mark.parametrize("stem", [64, 128])
def test_basic_blocks(converted, stem: int) -> None:
    network = ReferenceNetwork(blocks=(2, 2, 2, 2), bottleneck=False, stem=stem)
    model, overrides = converted(network)
    assert "model.backbone.depth=18" in overrides
    assert "model.backbone.res5_multi_grid=null" in overrides
    _compare(network, model)


def test_counters_may_be_absent() -> None:
    state = ReferenceNetwork().state_dict()
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    for name in counters:
        del state[name]
    converted = convert_reference_state_dict(state).state
    ours = [value for name, value in converted.items() if name.endswith("num_batches_tracked")]
    assert len(ours) == len(counters)
    assert all(value == 0 and value.dtype == torch.int64 for value in ours)


def test_the_input_is_left_as_it_was() -> None:
    network = ReferenceNetwork(dilations=(12, 24, 36))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    converted = convert_reference_state_dict(network.state_dict()).state
    for value in converted.values():
        value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_missing_and_unknown_names_are_named() -> None:
    state = ReferenceNetwork().state_dict()
    del state["decoder.enc2.1.running_var"], state["encoder.layer3.4.conv2.weight"]
    state["decoder.extra.weight"] = torch.zeros(1)
    with pytest.raises(ValueError) as error:
        convert_reference_state_dict(state)
    text = str(error.value)
    assert "missing decoder.enc2.1.running_var, encoder.layer3.4.conv2.weight" in text
    assert "unknown decoder.extra.weight" in text


def test_half_an_embedding_is_named() -> None:
    state = ReferenceNetwork().state_dict()
    del state["decoder.ifa.pos2.emb"]
    with pytest.raises(ValueError, match=r"missing decoder\.ifa\.pos2\.emb"):
        convert_reference_state_dict(state)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("decoder.ifa.pos1.emb", (8, 2), r"pos1\.emb is of shape \(8, 2\).*\(12, 2\)"),
        ("decoder.ifa.imnet.0.weight", (512, 1124, 1), "1124 columns"),
    ],
)
def test_contradictory_sizes(name: str, shape: tuple[int, ...], message: str) -> None:
    state = ReferenceNetwork().state_dict()
    state[name] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        convert_reference_state_dict(state)


def test_other_depths_are_refused() -> None:
    state = ReferenceNetwork(blocks=(3, 4, 5, 3)).state_dict()
    with pytest.raises(ValueError, match=r"encoder\.layer3 has 5 bottlenecks"):
        convert_reference_state_dict(state)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_other_files_are_refused(convert_command, tmp_path: Path, content: bytes | None) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    if content is None:
        torch.save({"state_dict": {}}, source)
    else:
        source.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=r"in\.pth"):
        convert_command([str(source), str(target)])
    assert list(tmp_path.iterdir()) == [source]


def test_a_failed_write_leaves_what_was_there(convert_command, tmp_path: Path) -> None:
    torch.save({"model_state": ReferenceNetwork().state_dict()}, tmp_path / "in.pth")
    (tmp_path / "out.pth").mkdir()
    with pytest.raises((ValueError, OSError), match=r"out\.pth"):
        convert_command([str(tmp_path / "in.pth"), str(tmp_path / "out.pth")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.pth", "out.pth"]


def test_the_result_has_to_be_a_pth_file(convert_command, tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=r"must end in \.pth, got .*out\.pkl"):
        convert_command([str(tmp_path / "in.pth"), str(tmp_path / "out.pkl")])
