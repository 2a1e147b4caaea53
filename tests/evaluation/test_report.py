import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ifa_d2.evaluation import per_class_table
from ifa_d2.evaluation.report import write_confusion, write_json


def test_table() -> None:
    figures = {
        **{"IoU-grass": 50.0, "ACC-grass": 75.126, "Precision-grass": 60.0},
        **{"IoU-rock": float("nan"), "ACC-rock": float("nan")},
        **{"mIoU": 50.0, "mACC": 75.126, "mPrecision": 60.0},
        **{"mBoundaryIoU_3px": 30.0, "BoundaryIoU_3px-grass": 30.0},
    }
    lines = per_class_table(figures, ("grass", "rock")).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["class", "IoU", "precision", "recall", "boundary IoU 3px"]
    assert cells[2:] == [
        ["grass", "50.00", "60.00", "75.13", "30.00"],
        ["rock", "-", "-", "-", "-"],
        ["mean", "50.00", "60.00", "75.13", "30.00"],
    ]


@pytest.fixture(scope="module", params=[2, 40])
def matrix(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str], np.ndarray]:
    """The folder of a written confusion matrix of some classes, their names, and the matrix."""
    names = ['a "class", with a comma', *(f"class {index}" for index in range(1, request.param))]
    counts = np.random.default_rng(0).integers(0, 2**40, (request.param,) * 2)
    counts[1] = 0
    folder = tmp_path_factory.mktemp("matrix") / "new"
    write_confusion(folder, counts, names, "some data")
    return folder, names, counts


def test_confusion_matrix_is_three_files(matrix: tuple[Path, list[str], np.ndarray]) -> None:
    found = sorted(path.name for path in matrix[0].iterdir())
    assert found == [f"confusion_matrix.{suffix}" for suffix in ("csv", "json", "png")]


def test_confusion_matrix_as_json(matrix: tuple[Path, list[str], np.ndarray]) -> None:
    folder, names, counts = matrix
    content = json.loads((folder / "confusion_matrix.json").read_text())
    assert (content["rows"], content["columns"]) == ("labels", "predictions")
    assert content["classes"] == names
    assert content["pixels"] == counts.tolist()


def test_confusion_matrix_as_csv(matrix: tuple[Path, list[str], np.ndarray]) -> None:
    folder, names, counts = matrix
    with open(folder / "confusion_matrix.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head[1:] == names == [row[0] for row in rows]
    assert [[int(cell) for cell in row[1:]] for row in rows] == counts.tolist()


def test_confusion_matrix_as_a_picture(matrix: tuple[Path, list[str], np.ndarray]) -> None:
    with Image.open(matrix[0] / "confusion_matrix.png") as picture:
        assert min(picture.size) > 300
        assert len(picture.convert("RGB").getcolors(10**6)) > 10


def test_confusion_matrix_is_in_percent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr(Figure, "savefig", _recorded(figures, Figure.savefig))
    write_confusion(tmp_path, np.array([[3, 1], [0, 0]]), ["a", "b"], "some data")
    matrix, bar = figures[0].axes
    assert matrix.images[0].get_array().tolist() == [[75, 25], [0, 0]]
    assert [text.get_text() for text in matrix.texts] == ["75", "25"]
    assert bar.get_ylim() == (0, 100)
    assert bar.get_yticklabels()[-1].get_text() == "100 %"
    assert matrix.get_title() == "some data: percent of each label's pixels"


def _recorded(figures: list[Figure], save: Callable[..., None]) -> Callable[..., None]:
    def record(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    return record


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [1.5, float("inf"), (2, "z")]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": [1.5, None, [2, "z"]]}
