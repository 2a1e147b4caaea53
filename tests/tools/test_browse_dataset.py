"""What a mapper feeds, drawn."""

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import register_sem_seg_folder
from ifa_d2.visualization import draw_points, letter_size
from ifa_d2.visualization.captions import line_height
from tests.forked_python import forked_python
from tests.tiny import COUNT, RECIPE, write_tiny_data

COMMAND = Path(__file__).parents[2] / "tools" / "browse_dataset.py"
_GAP, _CAPTION = 6, line_height(letter_size(400, 480))


@pytest.fixture
def browse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command's main in this process on the trainer's small pictures; gives the picture."""
    monkeypatch.setenv("TINY_DATA", str(write_tiny_data(tmp_path)))
    main = runpy.run_path(str(COMMAND))["main"]

    def run(*arguments: object, output: Path = tmp_path / "drawn.png") -> np.ndarray:
        values = ["--config-file", RECIPE, "--output", output, *arguments]
        monkeypatch.setattr(sys, "argv", ["browse", *map(str, values)])
        main()
        return np.asarray(Image.open(output))

    return run


def test_test_pictures_come_as_they_are(browse, tmp_path: Path) -> None:
    sheet = browse("--test", "--num", 2)
    height, width = 10 * 40 + _CAPTION, 10 * 48
    assert sheet.shape == (2 * height + _GAP, 2 * width + _GAP, 3)
    image = np.asarray(Image.open(tmp_path / "images" / "0.png"))
    np.testing.assert_array_equal(sheet[_CAPTION + 5 : height : 10, 5:width:10], image)
    # Two rows of the label are not annotated: half of their pixels are black.
    top = sheet[_CAPTION : _CAPTION + 20, width + _GAP :]
    assert 0.4 < (top == 0).all(axis=-1).mean() < 0.6


def test_draws_differ_and_repeat_with_the_seed(
    browse, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    browse("--num", 2)
    output = tmp_path / "drawn.png"
    assert capsys.readouterr().out == f"2 images of tiny, 1 draw each, in {output}\n"
    first = browse("--num", 1, "--repeats", 3)
    assert capsys.readouterr().out == f"1 image of tiny, 3 draws each, in {output}\n"
    rows = np.split(first[: first.shape[0] // 3 * 3], 3)
    assert not np.array_equal(rows[0], rows[1])
    assert np.array_equal(browse("--num", 1, "--repeats", 3), first)
    assert not np.array_equal(browse("--num", 1, "--repeats", 3, "--seed", 1), first)


def test_sampled_points_are_a_third_panel(browse) -> None:
    plain = browse("--num", 1)
    sheet = browse("--num", 1, "--", "dataloader.train.mapper.num_points=40")
    assert sheet.shape[1] == plain.shape[1] // 2 * 3 + _GAP // 2
    image, third = (
        sheet[_CAPTION:, : plain.shape[1] // 2],
        sheet[_CAPTION:, plain.shape[1] + _GAP :],
    )
    third = third[:, : image.shape[1]]
    changed = (image[:, : third.shape[1]] != third).any(axis=-1).mean()
    assert 0.001 < changed < 0.5


def test_points_are_drawn_where_they_lie() -> None:
    metadata = SimpleNamespace(stuff_classes=["a", "b"], stuff_colors=[[200, 0, 0], [0, 200, 0]])
    image = np.full((20, 30, 3), 90, np.uint8)
    points = np.array([[5.5 / 20, 10.5 / 30], [14.5 / 20, 25.5 / 30], [10.5 / 20, 3.5 / 30]])
    drawn = draw_points(image, points, np.array([0, 1, 255]), metadata, scale=3)
    assert drawn.shape == (60, 90, 3) and (image == 90).all()
    for (y, x), color in zip(
        ((16, 31), (43, 76), (31, 10)), (*metadata.stuff_colors, [90] * 3), strict=True
    ):
        assert drawn[y, x].tolist() == color
    ring = drawn[31, 10 + 4]  # of the ignored one, which is hollow
    assert ring.min() > 150 and (drawn[31, 20:] == 90).all()
    with pytest.raises(ValueError, match=r"got \(3, 2\), \(2,\)"):
        draw_points(image, points, np.array([0, 1]), metadata)


def test_numbers_are_checked(browse) -> None:
    for arguments, message in (
        (("--num", 0), "num must be at least 1"),
        (("--repeats", 0), "repeats must be at least 1"),
        (("--dataset", "tinny"), "dataset must be .*, got 'tinny'; the nearest are tiny,"),
    ):
        with pytest.raises(ValueError, match=message):
            browse(*arguments)
    assert browse("--num", 100, "--columns", COUNT).shape[0] > 0


def test_the_suffix_says_of_what_kind_the_picture_is(browse, tmp_path: Path) -> None:
    for name, kind in (("a.JPG", "JPEG"), ("a.webp", "WEBP"), ("a.tif", "TIFF")):
        browse("--num", 1, output=tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.format == kind
    for name in ("b.txt", "b", "b.pdf"):
        with pytest.raises(ValueError, match=rf"output must end in \.jpg, .*, got '.*/{name}'"):
            browse("--num", 1, output=tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_data_set_that_the_config_is_not_for_is_noted(
    browse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    browse("--dataset", "tiny", "--num", 1)
    assert "the mapper is of" not in caplog.text
    folders = tmp_path / "images", tmp_path / "labels"
    register_sem_seg_folder("other", *folders, [f"class {i}" for i in range(40)])
    try:
        sheet = browse("--dataset", "other", "--num", 1, "--test")
    finally:
        DatasetCatalog.remove("other")
        MetadataCatalog.remove("other")
    assert f"the mapper is of {RECIPE}, which is for tiny: " in caplog.text
    assert "not be meant for other" in caplog.text
    assert sheet.shape[1] == 2 * 480 + _GAP


def test_errors_are_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [forked_python(), COMMAND, "--config-file", "nowhere.py", "--output", "a.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "got 'nowhere.py'" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
