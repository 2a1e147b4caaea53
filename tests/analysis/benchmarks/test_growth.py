"""How cost grows: what is measured, not how long it took."""

from pathlib import Path

import cv2
import pytest

from ifa_d2.analysis.benchmarks import growth_tables, plot_growth, run_growth


@pytest.fixture(scope="module")
def result() -> dict:
    return run_growth(
        input_size=(32, 64),
        grids=[(0.03, 150), (0.12, 150), (0.03, 19)],
        stride_ratios=[1, 2],
        points=[100, 1000],
        repeats=1,
        device="cpu",
    )


def test_memory_does_not_grow_with_the_answer(result: dict) -> None:
    small, large, _ = result["rows"]
    # All logits of the larger answer would take 69 MiB.
    assert large["tensor_mib"] < 1.2 * small["tensor_mib"] < 64


def test_answers_have_the_size_and_shape_asked_for(result: dict) -> None:
    for row in result["rows"]:
        height, width = row["size"]
        assert 1 <= height * width / (1e6 * row["megapixels"]) < 1.02
        assert width / height == pytest.approx(2, rel=0.02)


def test_cells_are_those_of_the_levels(result: dict) -> None:
    assert [row["cells"] for row in result["stride_ratios"]] == [4 * 128, 128 + 32 + 8 + 2]


def test_points_are_measured_without_their_answer(result: dict) -> None:
    for row in result["points"]:
        # two layers' vectors of a point are held at least, however the layers are evaluated
        assert row["tensor_mib"] * 2**20 > row["points"] * 4 * (512 + 256)


def test_exponents_are_of_rows_that_differ_in_one_thing(result: dict) -> None:
    found = {(row["over"], row["at"], row["rows"]) for row in result["exponents"]}
    assert found == {
        ("megapixels", "150 classes", 2),
        ("classes", "0.03 megapixels", 2),
        ("cells", "all levels", 2),
        ("points", "", 2),
    }


def test_tables_and_plot_show_all_rows(result: dict, tmp_path: Path) -> None:
    tables = growth_tables(result).split("\n\n")
    assert [len(table.splitlines()) - 2 for table in tables] == [3, 2, 2, 4]
    plot_growth(result, tmp_path / "made" / "growth.png")
    picture = cv2.imread(str(tmp_path / "made" / "growth.png"))
    assert picture.shape[1] > picture.shape[0] > 500
    assert picture.std() > 5
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["growth.png"]
