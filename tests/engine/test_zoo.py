"""The models that come with the package."""

from pathlib import Path

import pytest
import torch
from detectron2.data import Metadata
from detectron2.utils.file_io import PathManager

import ifa_d2
from ifa_d2.engine import zoo
from ifa_d2.engine.checkpoint import Checkpointer

NAME = "camvid/ifa_lite0_frozen"


def test_every_model_has_a_recipe_and_a_card() -> None:
    assert NAME in zoo.zoo_names()
    for name in zoo.zoo_names():
        path = zoo.zoo_file(name)
        assert ifa_d2.config.get_config_file(f"{name}.py").is_file()
        card = path.with_suffix(".md").read_text()
        assert all(word in card for word in ("Data", "Training", "Metrics", "Limits", "seed"))
        assert path.stat().st_size < 10 << 20
        assert f"`{name}`" in (path.parents[1] / "README.md").read_text()


def test_a_model_is_whole_and_answers() -> None:
    predictor = ifa_d2.Predictor.from_zoo(NAME)
    saved = torch.load(zoo.zoo_file(NAME), weights_only=True)
    predictor.model.sem_seg_head.rename_moved(saved["model"], "sem_seg_head.")
    state = predictor.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in saved["model"].items())
    assert all(parameter.isfinite().all() for parameter in predictor.model.parameters())
    # A grey sky above a dark road.
    image = torch.full((3, 120, 160), 90, dtype=torch.uint8)
    image[:, :60] = 230
    probabilities = predictor(image).probabilities(size=(2, 1))
    assert probabilities.shape == (11, 2, 1)
    torch.testing.assert_close(probabilities.sum(0), torch.ones(2, 1))


def test_its_address_is_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    address = f"{zoo.PREFIX}{NAME}"
    assert PathManager.isfile(address)
    assert PathManager.get_local_path(address) == str(zoo.zoo_file(NAME))
    predictor = ifa_d2.Predictor.from_zoo(NAME)
    loaded = Checkpointer(predictor.model, str(tmp_path)).load(address, checkpointables=[])
    assert "model" not in loaded


@pytest.mark.parametrize("name", ["camvid/ifa_r999", "../secret", ""])
def test_other_names_are_answered_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=rf"the zoo has .*{NAME}.*, got {name!r}"):
        ifa_d2.Predictor.from_zoo(name)
    assert not PathManager.isfile(f"{zoo.PREFIX}{name}")


def test_it_knows_the_names_of_its_classes() -> None:
    predictor = ifa_d2.Predictor.from_zoo(NAME)
    assert len(predictor.class_names) == predictor.model.sem_seg_head.num_classes == 11
    assert predictor.class_names[:3] == ("sky", "building", "pole")
    # They are not known of a model alone, and must be all.
    assert ifa_d2.Predictor(predictor.model).class_names == ()
    with pytest.raises(ValueError, match=r"must have 11 stuff_classes, as many .* got 2 of 'two'"):
        ifa_d2.Predictor(predictor.model, metadata=Metadata(name="two", stuff_classes=["a", "b"]))
