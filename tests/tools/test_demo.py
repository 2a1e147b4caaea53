"""The command in a process of its own, on the trainer's small pictures."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

from ifa_d2.data import read_picture
from ifa_d2.demo import Drawing, Segmenter, VideoFrames, VideoWriter, View
from ifa_d2.engine.build import build_test_mapper
from ifa_d2.engine.predictor import Predictor, load_model
from ifa_d2.modeling import MultiViewSegmentor
from ifa_d2.visualization import letter_size, side_by_side
from ifa_d2.visualization.captions import line_height
from tests.forked_python import forked_python
from tests.tiny import RECIPE, tiny_config

ROOT = Path(__file__).parents[2]


def run(root: Path, *arguments: object, check: bool = True) -> subprocess.CompletedProcess:
    command = [forked_python(), ROOT / "tools" / "demo.py", *arguments]
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=check,
        timeout=300,
    )


def width_in_panels(path: Path) -> int:
    """Panels in a row of drawings of the 40 x 48 pictures."""
    width = Image.open(path).size[0]
    assert (width + 6) % (480 + 6) == 0
    return (width + 6) // (480 + 6)


def test_pictures_of_a_data_set(trained: Path, tmp_path: Path) -> None:
    done = run(
        trained,
        *("--config-file", RECIPE, "--dataset", "tiny"),
        *("--weights", trained / "out" / "model_final.pth"),
        *("--num", 5, "--output", tmp_path / "drawn"),
    )
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["0.png", "1.png", "2.png", "4.png", "5.png", "sheet.png"]
    assert width_in_panels(tmp_path / "drawn" / "0.png") == 3
    height = Image.open(tmp_path / "drawn" / "0.png").size[1]
    assert Image.open(tmp_path / "drawn" / "sheet.png").size[1] == 3 * (height + 6) - 6
    assert f"all of them in {tmp_path / 'drawn' / 'sheet.png'}" in done.stdout


@pytest.fixture
def demo(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command in this process, in a folder of its own: gives the exit status."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*arguments: object) -> int:
        weights = trained / "out" / "model_final.pth"
        start = ["demo.py", "--config-file", RECIPE, "--weights", weights]
        monkeypatch.setattr(sys, "argv", [str(part) for part in [*start, *arguments]])
        return module.main()

    return call


def test_files_with_and_without_labels(demo: Callable[..., int], trained: Path) -> None:
    picture, label = trained / "images" / "1.png", trained / "labels" / "1.png"
    assert demo("--input", picture, "--output", "drawn") == 0
    assert width_in_panels(Path("drawn/1.png")) == 2
    first = np.asarray(Image.open("drawn/1.png"))
    assert demo("--input", picture, "--output", "drawn", "--ground-truth", label) == 0
    assert width_in_panels(Path("drawn/1.png")) == 3
    assert (np.asarray(Image.open("drawn/1.png"))[:, : first.shape[1]] == first).all()


def test_averaged_over_scales_and_windows(
    demo: Callable[..., int], trained: Path, tmp_path: Path
) -> None:
    """The prediction drawn is that of the same views in Python."""
    cfg = tiny_config(trained / "out")
    model = load_model(cfg, str(trained / "out" / "model_final.pth"))
    # Two iterations teach little: other weights of the classes let the answers vary.
    torch.nn.init.normal_(model.sem_seg_head.alignment.predictor.weight)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    views = {"scales": scales, "flip": True, "window": (60, 50)}
    picture = trained / "images" / "1.png"
    sample = build_test_mapper(cfg)({"file_name": str(picture)})
    labels = MultiViewSegmentor(model=model, return_logits=False, **views)([sample])[0]["sem_seg"]
    expected = side_by_side(
        np.asarray(Image.open(picture)), labels.numpy(), MetadataCatalog.get("tiny")
    )
    views = ["--tta", "--sliding-window", 60, 50]
    weights = ["--weights", tmp_path / "weights.pth"]
    assert demo(*weights, "--input", picture, "--output", ".", *views) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "1.png")), expected)


def drawing(trained: Path, picture: Path, layout: str = "row", **view: object) -> np.ndarray:
    """What a picture is to be drawn as."""
    cfg = tiny_config(trained / "out")
    model = load_model(cfg, str(trained / "out" / "model_final.pth"))
    segmenter = Segmenter(cfg, model, View(**view))
    drawn = Drawing(segmenter, MetadataCatalog.get("tiny"), layout=layout)
    return drawn.draw(read_picture(str(picture)))


def test_folders_patterns_and_broken_pictures(
    demo: Callable[..., int],
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = trained / "images"
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    shutil.copy(images / "2.png", folder)
    (folder / "cut.png").write_bytes((images / "2.png").read_bytes()[:200])
    (folder / "text.jpg").write_text("no picture")
    (folder / "link.png").symlink_to("away.png")
    status = demo("--input", "in", images / "[34].png", images / "2.png", "--output", "drawn")
    assert status == 1
    names = sorted(path.relative_to("drawn").as_posix() for path in Path("drawn").rglob("*.png"))
    assert names == ["2.png", "3.png", "4.png", "deep/2.png"]
    for path, name in (("2.png", "deep/2.png"), ("2.png", "2.png"), ("4.png", "4.png")):
        expected = drawing(trained, images / path)
        assert np.array_equal(np.asarray(Image.open(f"drawn/{name}")), expected)
    out, err = capsys.readouterr()
    assert "4 of 7 pictures in drawn" in out
    assert "in/deep/link.png" in err
    assert "skipped: cannot read the image 'in/deep/cut.png'" in err
    assert "skipped: cannot read the image 'in/deep/text.jpg'" in err
    assert "drawing: 100%" in err
    assert demo("--input", images / "3.png", "--output", "more") == 0


def test_a_window_of_one_picture(demo: Callable[..., int], trained: Path) -> None:
    view = ["--crop", 4, 8, 14, 20, "--zoom", 16, "--layout", "overlay", "--no-names"]
    picture = trained / "images" / "1.png"
    assert demo("--input", picture, "--output", "new/zoom.png", "--opacity", 1, *view) == 0
    drawn = np.asarray(Image.open("new/zoom.png"))
    cfg = tiny_config(trained / "out")
    predictor = Predictor(load_model(cfg, str(trained / "out" / "model_final.pth")))
    image = read_picture(str(picture))[:, :, ::-1]
    labels = predictor(np.ascontiguousarray(image)).labels((160, 192), (4, 8, 14, 20)).numpy()
    colors = np.array(MetadataCatalog.get("tiny").stuff_colors)
    assert np.array_equal(drawn, colors[labels])
    lines = ("--outlines", "--legend", "--output", "lines.png")
    assert demo("--input", picture, *lines) == 0
    assert demo("--input", picture, "--output", "plain.png") == 0
    lined, plain = (np.asarray(Image.open(name)) for name in ("lines.png", "plain.png"))
    assert lined.shape[0] > plain.shape[0] and lined.shape[1] == plain.shape[1]
    assert (lined[: len(plain)] != plain).any() == (len(np.unique(labels)) > 1)
    assert demo("--input", picture, "--output", "size.jpg", "--size", 30, 600) == 0
    assert Image.open("size.jpg").format == "JPEG"
    assert Image.open("size.jpg").size == (2 * 600 + 6, 30 + line_height(letter_size(30, 600)))


def test_labels_of_pictures_that_have_none(demo: Callable[..., int], trained: Path) -> None:
    """The ids are those of the model, in files named as the pictures; drawings are not needed."""
    os.makedirs("in/deep")
    for name in ("1", "deep/2"):
        shutil.copy(trained / "images" / f"{name[-1]}.png", f"in/{name}.png")
    assert demo("--input", "in", "--save-labels", "labels") == 0
    files = sorted(path.relative_to("labels").as_posix() for path in Path("labels").rglob("*.png"))
    assert files == ["1.png", "deep/2.png"] and sorted(os.listdir()) == ["in", "labels"]
    cfg = tiny_config(trained / "out")
    model = load_model(cfg, str(trained / "out" / "model_final.pth"))
    for name in files:
        answer = Segmenter(cfg, model, View())(read_picture(f"in/{name}"))
        label = Image.open(f"labels/{name}")
        assert label.mode == "L"
        assert np.array_equal(np.asarray(label), answer.labels)
    with pytest.raises(ValueError, match="predictions need a new or empty folder, but labels"):
        demo("--input", "in", "--save-labels", "labels")
    # Beside drawings; where nothing is sure, the id is that of no class.
    view = ["--confidence", 1, "--layout", "overlay"]
    assert demo("--input", "in", "--output", "drawn", "--save-labels", "unsure", *view) == 0
    assert (np.asarray(Image.open("unsure/1.png")) == 255).all()
    assert Path("drawn/deep/2.png").is_file()


def test_films(demo: Callable[..., int], trained: Path) -> None:
    frames = [read_picture(str(trained / "images" / f"{i}.png")) for i in range(4)]
    with VideoWriter("film.avi", 5.0) as writer:
        for frame in frames:
            writer.write(frame)
    with pytest.raises(ValueError, match="save_labels is of pictures"):
        demo("--input", "film.avi", "--save-labels", "labels")
    assert demo("--input", "film.avi", "--output", "film.webm", "--zoom", 2) == 0
    film = VideoFrames("film.webm")
    assert film.fps == pytest.approx(5.0, rel=0.01)
    assert [frame.shape for frame in film] == [(80, 96, 3)] * 4
    # Frame by frame into a folder, where nothing is lost.
    assert demo("--input", "film.avi", "--output", "frames", "--frames", 2) == 0
    assert sorted(os.listdir("frames")) == ["000001.png", "000002.png"]
    frame = list(VideoFrames("film.avi"))[1]
    Image.fromarray(frame).save("second.png")
    expected = drawing(trained, Path("second.png"), layout="overlay")
    assert np.array_equal(np.asarray(Image.open("frames/000002.png")), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--webcam", 97], "no frame can be read from camera 97"),
        (["--input", "a.mp4", "--output", "b"], "there is no file a.mp4"),
        (["--input", "a.png", "--output", "b"], "there is no file a.png"),
        (["--input", ".", "--output", "b.png"], "no pictures in the folder"),
        (["--dataset", "nowhere", "--output", "b"], "dataset must be .*, got 'nowhere'"),
        (["--dataset", "tiny", "--output", "b", "--zoom", 0], "zoom must be above 0, got 0"),
        (["--dataset", "tiny", "--output", "b", "--opacity", 2], "opacity must be in"),
        (["--dataset", "tiny", "--output", "b.png"], "need a folder for output, got b.png"),
        (["--dataset", "tiny", "--output", "b.mp4"], "need a folder for output, got b.mp4"),
        (["--dataset", "tiny", "--output", "b.gif"], "output b.gif cannot be written as .gif"),
        (["--webcam", 97, "--save-labels", "b"], "no frame can be read from camera 97"),
    ],
)
def test_what_cannot_be_done_is_said_before(
    demo: Callable[..., int], arguments: list[object], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        demo(*arguments)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["--input", "images/1.png", "--output", "images/1.png"], "picture images/1.png"),
        (["--input", "images/1.png", "--output", "link.png"], "picture images/1.png"),
        (["--input", "images", "--output", "images"], "picture images/1.png"),
        (["--input", "images/1.png", "--output", "linked"], "picture images/1.png"),
        (
            ["--input", "images/1.png", "--ground-truth", "a/1.png", "--output", "a"],
            "label a/1.png",
        ),
        (["--input", "film.avi", "--output", "film.avi"], "film film.avi"),
        (["--dataset", "tiny", "--output", "data/images"], "picture .*/images/0.png"),
        (["--dataset", "tiny", "--num", "1", "--output", "data/labels"], "label .*/labels/0.png"),
    ],
)
def test_what_is_read_is_not_written_over(
    demo: Callable[..., int], trained: Path, arguments: list[str], kind: str
) -> None:
    for folder in ("images", "a"):
        os.mkdir(folder)
        shutil.copy(trained / "images" / "1.png", folder)
    os.symlink("images/1.png", "link.png")
    os.symlink("images", "linked")
    os.symlink(trained, "data")
    with VideoWriter("film.avi", 5.0) as writer:
        writer.write(read_picture(str(trained / "images" / "1.png")))
    files = [path for path in [*Path().rglob("*"), *trained.rglob("*.png")] if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    with pytest.raises(ValueError, match=f"^output .* would replace the {kind}"):
        demo(*arguments)
    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "images/1.png"], "weights must be given"),
    ],
)
def test_errors_are_one_sentence(
    trained: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(trained, "--config-file", RECIPE, "--output", tmp_path, *arguments, check=False)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
