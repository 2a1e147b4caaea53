"""Outputs of commands against what they read."""

import shutil
from pathlib import Path

import pytest

from ifa_d2.config import get_config_file
from ifa_d2.engine.outputs import check_command_outputs
from tests.tiny import RECIPE, tiny_config


def test_configs_by_path_and_by_name(tmp_path: Path) -> None:
    recipe = Path(shutil.copy(RECIPE, tmp_path))
    with pytest.raises(ValueError, match="would replace the config"):
        check_command_outputs([None, recipe], config_file=str(recipe))
    name = "shapes/ifa_r18.py"
    with pytest.raises(ValueError, match="would replace the config"):
        check_command_outputs([get_config_file(name)], config_file=name)
    check_command_outputs([None, recipe], config_file=name)


def test_weights_that_are_found(trained: Path) -> None:
    """Named, or the last of the output directory."""
    last, named = trained / "out" / "model_final.pth", trained / "named.pth"
    shutil.copy(last, named)
    cfg = tiny_config(trained / "out")
    with pytest.raises(ValueError, match=r"would replace the weights .*named\.pth"):
        check_command_outputs([named], model=(cfg, str(named), ()))
    with pytest.raises(ValueError, match=r"would replace the weights .*model_final\.pth"):
        check_command_outputs([last], model=(cfg, None, ()))
    check_command_outputs([last], model=(cfg, str(named), ()))


@pytest.mark.parametrize("name", ["images/3.png", "labels/3.png"])
def test_files_of_a_data_set(tiny_data: Path, tmp_path: Path, name: str) -> None:
    tiny_config(tmp_path)  # registers it
    with pytest.raises(ValueError, match=f"would replace the file of the data set .*{name}"):
        check_command_outputs([tiny_data / name], datasets=["tiny"])
    check_command_outputs([tmp_path / "3.png"], datasets=["tiny"])
