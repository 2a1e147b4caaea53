from pathlib import Path

import pytest
import torch
from torch import nn

from ifa_d2.engine.checkpoint import Checkpointer


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
    with pytest.raises(ValueError, match="no weight of the checkpoint fits the model"):
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
