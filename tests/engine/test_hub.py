import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ifa_d2 import Predictor
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, Path]:
    """The zoo's predictor, and the folder that it was written to."""
    predictor = Predictor.from_zoo("camvid/ifa_lite0_frozen")
    folder = tmp_path_factory.mktemp("hub") / "model"
    predictor.save_pretrained(folder)
    return predictor, folder


def test_a_folder_holds_weights_config_and_classes(saved: tuple[Predictor, Path]) -> None:
    predictor, folder = saved
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "config.yaml", "config.json", "README.md"}
    weights, expected = load_file(folder / "model.safetensors"), predictor.model.state_dict()
    assert weights.keys() == expected.keys()  # with the frozen backbone
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    described = json.loads((folder / "config.json").read_text())
    assert described["classes"] == list(predictor.class_names)
    assert "library_name: ifa_d2" in (folder / "README.md").read_text()


def test_a_folder_gives_the_same_predictor(saved: tuple[Predictor, Path]) -> None:
    predictor, folder = saved
    loaded = Predictor.from_pretrained(folder)
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    assert torch.equal(loaded(image).logits((20, 31)), predictor(image).logits((20, 31)))
    assert loaded.class_names == predictor.class_names
    assert loaded.image_format == predictor.image_format
    again = folder.parent / "again"
    loaded.save_pretrained(again)
    assert (again / "config.yaml").read_text() == (folder / "config.yaml").read_text()


def test_classes_need_no_registered_data_set(saved: tuple[Predictor, Path]) -> None:
    predictor, folder = saved
    loaded = Predictor.from_pretrained(
        folder, overrides=["dataloader.test.dataset.names=nowhere_registered"]
    )
    assert loaded.class_names == predictor.class_names
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    assert np.array_equal(loaded(image).draw(), predictor(image).draw())


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "config.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    for other in ("model.safetensors", "config.yaml", "config.json"):
        if other != name:
            (tmp_path / other).write_text("{}")
    if name != "model.safetensors":
        (tmp_path / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=rf"{name} does not exist: a folder must have been"):
        Predictor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "lines",
    [
        "model: {_target_: os.system, command: touch BROKEN}",
        "model: {'_target_': torch.hub.load}",
        "x: !!python/name:os.system",
        "x: [{y: !<tag:yaml.org,2002:python/name:subprocess.run> ''}]",
        "model: {_target_: ifa_d2x.modeling.FieldSegmentor}",
    ],
)
def test_configs_of_others_call_no_other_packages(
    lines: str, saved: tuple[Predictor, Path], tmp_path: Path
) -> None:
    for path in saved[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.yaml").write_text(lines)
    with pytest.raises(ValueError, match=r"config.yaml calls .*trust_remote_code=True"):
        Predictor.from_pretrained(tmp_path)


def test_a_config_that_is_trusted_may_call_anything(
    saved: tuple[Predictor, Path], tmp_path: Path
) -> None:
    for path in saved[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(f"{text}mine: {{_target_: collections.Counter}}\n")
    with pytest.raises(ValueError, match=r"calls collections\.Counter, which"):
        Predictor.from_pretrained(tmp_path)
    loaded = Predictor.from_pretrained(tmp_path, trust_remote_code=True)
    assert loaded.class_names == saved[0].class_names


def test_a_predictor_of_a_model_alone_is_not_saved(
    saved: tuple[Predictor, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="save_pretrained needs the config"):
        Predictor(saved[0].model).save_pretrained(tmp_path)


def test_places_on_this_machine_are_not_written(trained: Path, tmp_path: Path) -> None:
    cfg = tiny_config(trained / "out")
    Predictor.build(cfg).save_pretrained(tmp_path / "model")
    assert str(trained) not in (tmp_path / "model" / "config.yaml").read_text()
    assert cfg.train.output_dir == str(trained / "out")


def test_a_temperature_goes_along(saved: tuple[Predictor, Path], tmp_path: Path) -> None:
    predictor, _ = saved
    head = predictor.model.sem_seg_head
    head.temperature = 0.57
    try:
        predictor.save_pretrained(tmp_path / "calibrated")
    finally:
        head.temperature = 1.0
    loaded = Predictor.from_pretrained(tmp_path / "calibrated")
    assert loaded.model.sem_seg_head.temperature == 0.57
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    torch.testing.assert_close(loaded(image).logits(), predictor(image).logits() / 0.57)
