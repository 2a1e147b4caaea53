"""Several data sets in one training."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import LazyCall as L
from detectron2.config import instantiate

from ifa_d2.data import mixed_dataset_dicts, register_sem_seg_folder
from ifa_d2.engine import TrainingStream, build_train_loader
from ifa_d2.engine.inputs import dataset_names
from tests.tiny import tiny_config


@pytest.fixture
def names(write, tmp_path: Path) -> list[str]:
    """Data sets of four pictures and of two."""
    for index in range(4):
        write(f"many/{index}", (4, 5))
    for index in range(2):
        write(f"few/{index}", (4, 5))
    for name in ("many", "few"):
        roots = tmp_path / "images" / name, tmp_path / "labels" / name
        register_sem_seg_folder(name, *roots, ("a", "b", "c"))
    return ["many", "few"]


def drawn(stream: TrainingStream, count: int) -> list[str]:
    return list(islice(stream, count))


def name_of(record: dict) -> str:
    return "/".join(Path(record["file_name"]).with_suffix("").parts[-2:])


def test_a_pass_shows_pictures_as_often_as_their_factor(names: list[str]) -> None:
    records = mixed_dataset_dicts(names, [1, 3])
    stream = TrainingStream(records, name_of, batch_size=2, seed=3)
    counts = Counter(drawn(stream, 10))
    assert counts == {f"many/{index}": 1 for index in range(4)} | {"few/0": 3, "few/1": 3}
    assert stream.num_records == 6


def test_fractions_hold_in_the_mean(names: list[str]) -> None:
    records = mixed_dataset_dicts(names, [1.5, 0.5])
    stream = TrainingStream(records, name_of, batch_size=1, seed=0)
    passes = 400
    counts = Counter(drawn(stream, passes * 7))  # 4 * 1.5 + 2 * 0.5
    ratio = np.mean([counts[f"many/{i}"] for i in range(4)]) / np.mean(
        [counts[f"few/{i}"] for i in range(2)]
    )
    assert 2.6 < ratio < 3.4


def test_a_resumed_run_sees_what_another_would_have_seen(names: list[str]) -> None:
    records = mixed_dataset_dicts(names, [1, 2.5])
    stream = TrainingStream(records, name_of, batch_size=2, seed=3)
    whole = drawn(stream, 40)
    stream.enter(5, 3)
    assert drawn(stream, 30) == whole[10:]
    stream.enter(0, 4)
    assert drawn(stream, 40) != whole


def test_factors_of_one_are_no_factors(names: list[str]) -> None:
    """Equal counts in a pass, as without."""
    records = mixed_dataset_dicts(names, [1, 1])
    assert set(Counter(drawn(TrainingStream(records, name_of, batch_size=2), 6)).values()) == {1}


def test_in_a_recipe(names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_DATA", str(tmp_path))
    cfg = tiny_config(tmp_path / "out")
    cfg.dataloader.train.dataset = L(mixed_dataset_dicts)(names=names, repeat_factors=[1.0, 4.0])
    assert dataset_names(cfg, is_train=True) == names
    batches = islice(instantiate(cfg.dataloader.train), 3)
    shown = Counter(name_of(one).split("/")[0] for batch in batches for one in batch)
    assert shown == {"many": 4, "few": 8}
    assert cfg.dataloader.train._target_ in (build_train_loader, "ifa_d2.engine.build_train_loader")


@pytest.mark.parametrize(
    ("chosen", "factors", "said"),
    [
        (["many", "few"], [1], "repeat_factors must be 2 numbers, one for each of"),
        (["many", "few"], [1, 0], "repeat_factors must be above 0, and one of them at least 1"),
        (["many", "few"], [0.5, 0.2], "one of them at least 1, got"),
        (["many", "few"], [1, float("nan")], "repeat_factors must be above 0"),
        (["many", "many"], [1, 1], "names must be different data sets"),
        (["many", "fwe"], [1, 1], "names must be a registered data set .* got 'fwe'"),
    ],
)
def test_what_is_refused(names: list[str], chosen: list, factors: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mixed_dataset_dicts(chosen, factors)
