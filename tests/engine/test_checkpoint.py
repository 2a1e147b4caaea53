import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from ifa_d2.engine.checkpoint import Checkpointer, check_initial_weights


def model(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    left, right = model(), model()
    Checkpointer(left, str(tmp_path)).save("last", iteration=4)
    checkpointer = Checkpointer(right, str(tmp_path))
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 4
    assert torch.equal(left[0].weight, right[0].weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pth", "last_checkpoint"]


def test_without_a_tag_it_is_not_the_last(tmp_path: Path) -> None:
    checkpointer = Checkpointer(model(), str(tmp_path))
    checkpointer.save("last")
    checkpointer.save("best", tag=False)
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "last.pth")


def test_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    checkpointer = Checkpointer(model(), str(tmp_path))
    checkpointer.save("last")
    before = (tmp_path / "last.pth").read_bytes()
    with pytest.raises((TypeError, AttributeError, RuntimeError)):
        checkpointer.save("last", cannot_be_pickled=(x for x in ()))
    assert (tmp_path / "last.pth").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pth", "last_checkpoint"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", None])
def test_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    checkpointer = Checkpointer(model(), str(tmp_path))
    checkpointer.save("last")
    path = tmp_path / "last.pth"
    path.write_bytes(path.read_bytes()[:-300] if content is None else content)
    with pytest.raises(ValueError, match=r"last\.pth is damaged or is no checkpoint"):
        Checkpointer(model(), str(tmp_path)).load(str(path))


def test_file_without_weights(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth is no checkpoint"):
        Checkpointer(model()).load(str(tmp_path / "list.pth"))


@pytest.mark.parametrize("width", [3, 5])
def test_checkpoint_that_fits_nothing(tmp_path: Path, width: int) -> None:
    other = {"weight": torch.zeros(3)} if width == 3 else model(width).state_dict()
    torch.save({"model": other}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"no weight of .*\.p[tk][hl] fits the model"):
        Checkpointer(model()).load(str(tmp_path / "other.pth"))


def test_part_of_the_weights_will_do(tmp_path: Path) -> None:
    weights = {"0.bias": torch.full((3,), 7.0)}
    torch.save({"model": weights}, tmp_path / "part.pth")
    target = model()
    Checkpointer(target).load(str(tmp_path / "part.pth"))
    assert target[0].bias.tolist() == [7.0] * 3


def test_last_checkpoint_out_of_date(tmp_path: Path) -> None:
    checkpointer = Checkpointer(model(), str(tmp_path))
    checkpointer.save("last")
    (tmp_path / "last.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"last\.pth does not exist; .*last_checkpoint may"):
        checkpointer.resume_or_load("", resume=True)


class _Segmentor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"stem": model(), "res2": model()})
        self.head = model()


@pytest.mark.parametrize("heuristics", [True, False])
def test_weights_of_a_backbone_alone(tmp_path: Path, heuristics: bool) -> None:
    """Detectron2's zoo has them without the model's prefix, and says so in the file."""
    state = {"stem.0.weight": torch.full((3, 2), 7.0), "res2.0.bias": torch.full((3,), 8.0)}
    if not heuristics:
        state = {f"backbone.{name}": value for name, value in state.items()}
    data = {
        "model": {name: value.numpy() for name, value in state.items()},
        "__author__": "third_party",
        "matching_heuristics": heuristics,
    }
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps(data))
    target = _Segmentor()
    head = target.head[0].weight.clone()
    Checkpointer(target).load(str(path))
    assert target.backbone["stem"][0].weight.unique().tolist() == [7.0]
    assert target.backbone["res2"][0].bias.unique().tolist() == [8.0]
    assert torch.equal(target.head[0].weight, head)


def test_zoo_weights_that_fit_nothing(tmp_path: Path) -> None:
    names = {"conv1.weight": torch.zeros(3).numpy()}
    data = {"model": names, "__author__": "third_party", "matching_heuristics": True}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(data))
    with pytest.raises(ValueError, match=r"no weight of .*\.p[tk][hl] fits the model"):
        Checkpointer(_Segmentor()).load(str(tmp_path / "zoo.pkl"))


def test_trained_weights_are_all_there(tmp_path: Path) -> None:
    """Of any model, whatever its head is; a tensor of two names needs one of them."""
    source = _Segmentor()
    source.tied = source.head
    state = source.state_dict()
    path = tmp_path / "weights.pth"
    torch.save({key: w for key, w in state.items() if not key.startswith("head")}, path)
    target = _Segmentor()
    target.tied = target.head
    Checkpointer(target).load_trained(str(path))
    assert all(torch.equal(target.state_dict()[key], value) for key, value in state.items())
    torch.save({key: w for key, w in state.items() if key.startswith("backbone")}, path)
    message = r"weights\.pth is no .*: it lacks 2 of 6 tensors: head\.0\.weight, head\.0\.bias$"
    with pytest.raises(ValueError, match=message):
        Checkpointer(_Segmentor()).load_trained(str(path))
    Checkpointer(_Segmentor()).load(str(path))  # a training may start from it


def test_auxiliary_weights_that_nothing_asks_are_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(_Segmentor().state_dict(), path)
    target = _Segmentor()
    target.aux_heads = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    checkpointer = Checkpointer(target)
    checkpointer.load_trained(str(path))
    assert "not found in the checkpoint" not in caplog.text
    with pytest.raises(ValueError, match=r"it lacks 2 of 8 tensors: aux_heads\.0\.weight"):
        checkpointer.load_trained(str(path), auxiliary=True)
    assert "not found in the checkpoint" in caplog.text


def test_initial_weights_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_initial_weights("")
    (tmp_path / "here.pth").touch()
    check_initial_weights(str(tmp_path / "here.pth"))
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    (tmp_path / "detectron2" / "DeepLab").mkdir(parents=True)
    (tmp_path / "detectron2" / "DeepLab" / "R-7.pkl").touch()
    check_initial_weights("detectron2://DeepLab/R-7.pkl?matching_heuristics=True")


def test_initial_weights_that_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r'no\.pth do not exist: .*init_checkpoint=""'):
        check_initial_weights(str(tmp_path / "no.pth"))
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    address = "http://127.0.0.1:9/no.pkl"  # the port that discards, where nothing listens
    with pytest.raises(FileNotFoundError, match=rf"cannot be downloaded .*: fetch {address} .*scr"):
        check_initial_weights(address)


def test_trained_weights_that_cannot_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    address = "http://127.0.0.1:9/R-52.pkl"  # nothing listens there
    with pytest.raises(FileNotFoundError, match=rf"has no checkpoint, and {address} cannot be"):
        Checkpointer(model(), str(tmp_path / "out")).load_trained(address)
