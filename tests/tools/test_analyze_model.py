import json
import runpy
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[2] / "tools" / "analyze_model.py"
RECIPE = "cityscapes/ifa_r50.py"
HEAD = "model.sem_seg_head"


@pytest.fixture(scope="module")
def command() -> dict:
    return runpy.run_path(str(COMMAND))


def test_table_and_json(command: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "made" / "cost.json"
    arguments = ["--config-file", RECIPE, "--input-size", "128", "96", "--json", str(path)]
    command["main"]([*arguments, f"{HEAD}.aux_heads=[]"])
    result = json.loads(path.read_text())
    assert result["input_size"] == [128, 96]
    for key in ("params", "macs", "macs_textbook", "macs_textbook_same_maps"):
        assert result[key] == sum(part[key] for part in result["parts"]) > 0
    assert "auxiliary head" not in [part["name"] for part in result["parts"]]
    assert list(path.parent.iterdir()) == [path]
    total = capsys.readouterr().out.splitlines()[-1].split()
    assert total[0] == "total"
    assert float(total[1]) == pytest.approx(result["params"] / 1e6, abs=1e-3)
    assert float(total[2]) == pytest.approx(result["macs"] / 1e9, abs=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "no.py", "--input-size", "64", "64"], "no.py"),
        (["--config-file", RECIPE, "--input-size", "0", "64"], r"input_size.*\(0, 64\)"),
        (
            ["--config-file", RECIPE, "--input-size", "64", "64", f"{HEAD}.no_such=1"],
            "no_such",
        ),
    ],
)
def test_mistakes_are_named(command: dict, arguments: list[str], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        command["main"](arguments)
