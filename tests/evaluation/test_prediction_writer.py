import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import read_label, register_sem_seg_folder
from ifa_d2.evaluation import PredictionWriter
from tests.evaluation.conftest import NAME, Pictures, labels, logits

PREDICTION = np.random.default_rng(0).integers(0, 3, (5, 7))


def write(pictures: Pictures, formats: list[str], output: dict, name: str = "town/a") -> Path:
    one = pictures.write(name, PREDICTION)
    folder = pictures.root / "out"
    writer = PredictionWriter(NAME, str(folder), formats)
    writer.process([one], [output])
    assert writer.evaluate() is None
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


@pytest.mark.parametrize("answer", [logits, labels])
def test_ids_and_palette(pictures: Pictures, answer) -> None:
    folder = write(pictures, ["ids", "palette"], answer(PREDICTION))
    assert files(folder) == ["ids/town/a.png", "palette/town/a.png"]
    for path in (folder / name for name in files(folder)):
        np.testing.assert_array_equal(read_label(str(path)), PREDICTION)
    with Image.open(folder / "ids/town/a.png") as image:
        assert image.mode == "L"
    with Image.open(folder / "palette/town/a.png") as image:
        colors = np.asarray(MetadataCatalog.get(NAME).stuff_colors)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colors[PREDICTION])


def test_probabilities(pictures: Pictures) -> None:
    values = 3 * torch.randn(3, 150, 7)  # three bands of rows, the last one not full
    folder = write(pictures, ["probabilities"], {"sem_seg": values})
    assert files(folder) == ["probabilities/town/a.npy"]
    found = np.load(folder / "probabilities/town/a.npy", mmap_mode="r")
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, values.softmax(dim=0).numpy(), atol=3e-4)


def test_labels_are_not_written_over(pictures: Pictures) -> None:
    one = pictures.write("a", PREDICTION)
    one["sem_seg_file_name"] = str(pictures.root / "ids" / "a.png")
    (pictures.root / "labels").rename(pictures.root / "ids")
    before = (pictures.root / "ids/a.png").read_bytes()
    with pytest.raises(ValueError, match=r"would replace the label .*ids/a\.png"):
        PredictionWriter(NAME, str(pictures.root)).process([one], [labels(PREDICTION)])
    assert (pictures.root / "ids/a.png").read_bytes() == before


FULL_DISK = """
import sys
from pathlib import Path
import torch
from ifa_d2.evaluation.prediction_writer import _write_probabilities
try:
    _write_probabilities(Path(sys.argv[1]), torch.zeros(3, 100, 100), 3, "a.png")
except OSError as error:
    print(error, list(Path(sys.argv[1]).parent.iterdir()))
"""


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """60 kB of probabilities on a disk of 24 kB."""
    inside = f"mount -t tmpfs -o size=24k tmpfs {tmp_path}"
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*own, inside]).returncode:
        pytest.skip("no disk of a chosen size can be mounted here")
    done = subprocess.run(
        [*own, f'{inside} && exec "$0" -c "$1" {tmp_path}/a.npy', sys.executable, FULL_DISK],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"No space left on device: '{tmp_path}/a.npy' []" in done.stdout


def test_probabilities_of_labels(pictures: Pictures) -> None:
    with pytest.raises(ValueError, match=r"a\.png' has the shape \(5, 7\).*return_logits=True"):
        write(pictures, ["ids", "probabilities"], labels(PREDICTION))
    assert not files(pictures.root / "out")


def test_more_than_256_classes(tmp_path: Path) -> None:
    folders = tmp_path / "images", tmp_path / "labels"
    register_sem_seg_folder("many_written", *folders, [f"class {index}" for index in range(300)])
    prediction = np.array([[0, 299, 256]])
    try:
        writer = PredictionWriter("many_written", str(tmp_path / "out"))
        writer.process([{"file_name": str(tmp_path / "images/a.jpg")}], [logits(prediction, 300)])
        with pytest.raises(
            ValueError, match="a palette holds 256 classes, but many_written has 300"
        ):
            PredictionWriter("many_written", str(tmp_path), ["palette"])
    finally:
        DatasetCatalog.remove("many_written")
        MetadataCatalog.remove("many_written")
    np.testing.assert_array_equal(read_label(str(tmp_path / "out/ids/a.png")), prediction)


def test_data_set_without_colours_or_root(tmp_path: Path) -> None:
    MetadataCatalog.get("bare").stuff_classes = ["a", "b"]
    try:
        writer = PredictionWriter("bare", str(tmp_path), ["palette"])
    finally:
        MetadataCatalog.remove("bare")
    writer.process([{"file_name": "some/where/a.jpg"}], [labels(np.array([[0, 1]]))])
    with Image.open(tmp_path / "palette/a.png") as image:
        assert len(image.convert("RGB").getcolors()) == 2


def test_two_images_of_one_name(pictures: Pictures) -> None:
    one, other = pictures.write("a", PREDICTION), {"file_name": str(pictures.root / "images/a.jpg")}
    writer = PredictionWriter(NAME, str(pictures.root / "out"))
    writer.process([one], [labels(PREDICTION)])
    writer.process([one], [labels(PREDICTION)])  # again is no other image
    with pytest.raises(ValueError, match=r"a\.png' and .*a\.jpg' would both be .*ids/a\.png'"):
        writer.process([other], [labels(PREDICTION)])
    writer.reset()
    writer.process([other], [labels(PREDICTION)])


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        (["jpeg"], r"formats must be some of \['ids', .* got \['jpeg'\]"),
        ([], r"formats must be some of .* got \[\]"),
        (["cityscapes"], r"'cityscapes' needs its classes, but evaluated has \['grass'"),
    ],
)
def test_formats(pictures: Pictures, formats: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictionWriter(NAME, str(pictures.root), formats)
