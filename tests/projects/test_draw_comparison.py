"""Framed differences and feature maps, by their parts and by the command."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from PIL import Image

from ifa_d2.engine.predictor import load_model
from ifa_d2.modeling import compute_fields
from ifa_d2.visualization import letter_size
from ifa_d2.visualization.captions import line_height
from tests.modeling.test_architectures import ROWS, shrink
from tests.tiny import COUNT, tiny_config

PROJECT = Path(__file__).parents[2] / "projects" / "IFA"


@pytest.fixture(scope="module")
def drawing() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROJECT))
        import draw_comparison

        yield draw_comparison


def _labels(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros((100, 150), np.uint8)
    for y0, x0, y1, x1 in boxes:
        labels[y0:y1, x0:x1] = 1
    return labels


def test_regions_are_boxed_with_the_largest_first(drawing: ModuleType) -> None:
    truth, first = _labels(), _labels()
    second = _labels((10, 10, 20, 30), (50, 100, 90, 140), (0, 0, 100, 2), (40, 40, 42, 60))
    # The strips are thinner than a square of three pixels. 2 % of 100 pixels is the margin.
    found = drawing.differing_regions(first, second, truth)
    assert found == [(48, 98, 92, 142), (8, 8, 22, 32)]
    assert drawing.differing_regions(second, first, truth) == found
    assert drawing.differing_regions(first, second, truth, max_regions=1) == found[:1]
    assert drawing.differing_regions(first, second, truth, min_share=0.02) == found[:1]
    assert drawing.differing_regions(first, second, truth, min_share=0.2) == []
    assert drawing.differing_regions(first, first, truth) == []
    thin = drawing.differing_regions(first, second, truth, thickness=1)
    assert set(thin) == {*found, (0, 0, 100, 4), (38, 38, 44, 62)}


def test_what_is_ignored_does_not_differ(drawing: ModuleType) -> None:
    truth = _labels()
    truth[:45] = 255
    second = _labels((10, 10, 20, 30), (50, 100, 90, 140))
    assert drawing.differing_regions(_labels(), second, truth) == [(48, 98, 92, 142)]
    boxes = drawing.differing_regions(_labels(), second, truth, ignore_value=254)
    assert len(boxes) == 2


def test_overlapping_boxes_become_one(drawing: ModuleType) -> None:
    merge = sys.modules["regions"].merge_boxes
    assert merge([(0, 0, 5, 5), (5, 0, 9, 5)]) == [(0, 0, 5, 5), (5, 0, 9, 5)]  # they touch
    # The third overlaps only what the first two have become.
    assert merge([(0, 0, 4, 4), (3, 3, 9, 9), (1, 6, 2, 7)]) == [(0, 0, 9, 9)]
    assert merge([(0, 0, 2, 9), (6, 0, 9, 2), (1, 0, 7, 1)]) == [(0, 0, 9, 9)]


def test_frames_lie_around_their_pixels(drawing: ModuleType) -> None:
    image = np.full((40, 60, 3), 128, np.uint8)
    drawn = drawing.draw_frames(image, [(10, 20, 30, 50)], scale=1)
    assert (image == 128).all()
    assert (drawn[10, 20:50] == drawn[29, 20:50]).all() and (drawn[10, 30] != 128).any()
    assert (drawn[15:25, 25:45] == 128).all() and (drawn[:7] == 128).all()


def test_maps_run_from_dark_to_bright(drawing: ModuleType) -> None:
    values = np.linspace(-3, 5, 12, dtype=np.float32).reshape(3, 4)
    colours = drawing.draw_map(values, (30, 40)).astype(int)
    assert colours.shape == (30, 40, 3)
    brightness = colours.sum(-1)[5::10, 5::10].ravel()
    assert (np.diff(brightness) > 0).all()
    assert np.ptp(drawing.draw_map(np.ones((3, 4)), (30, 40)).reshape(-1, 3), axis=0).max() == 0


@pytest.mark.parametrize(
    "config",
    ["table1/ifa_jittered", "table2/deeplabv3plus_ifa", "table2/pspnet"],
)
@torch.no_grad()
def test_hidden_maps_are_those_that_logits_are_made_of(drawing: ModuleType, config: str) -> None:
    cfg = ROWS["paper_model"](config)
    shrink(cfg.model)
    model = instantiate(cfg.model).eval()
    inputs = {"image": torch.randint(256, (3, 70, 101), dtype=torch.uint8)}
    field = compute_fields(model, [inputs])[0]
    last = drawing.hidden_map(field, (18, 26))
    logits = model.sem_seg_head.alignment.predictor(last[None])[0]
    torch.testing.assert_close(logits, field.logits((18, 26)), rtol=1e-4, atol=1e-5)

    run = drawing.Run("m", model, None)
    maps = drawing.feature_maps(run, inputs, stride=4, layer=0)
    assert [(name, v.shape) for name, v in maps.items()] == [
        ("res2, stride 4", (70, 101)),
        ("res5, stride 32", (70, 101)),
        ("aligned, stride 4", (18, 26)),
    ]
    first = drawing.hidden_map(field, (18, 26), 0)
    np.testing.assert_allclose(maps["aligned, stride 4"], first.mean(0).numpy(), rtol=1e-5)
    assert (maps["res5, stride 32"][32:64, 64:96] == maps["res5, stride 32"][32, 64]).all()
    with pytest.raises(ValueError, match=r"--layer must be from -\d to \d, got 7"):
        drawing.hidden_map(field, (18, 26), 7)


def test_labels_are_detectron2s_answer(drawing: ModuleType, trained: Path) -> None:
    run = drawing.load_run(f"a=b={trained / 'out'}")
    assert run.name == "a=b"
    weights = str(trained / "out" / "model_final.pth")
    model = load_model(tiny_config(trained / "out"), weights)
    for index, inputs in enumerate(drawing.iter_pictures(run, [2, 5])):
        assert inputs["file_name"].endswith(f"{(2, 5)[index]}.png")
        with torch.no_grad():
            expected = model([inputs])[0]["sem_seg"].argmax(0)
        field = compute_fields(run.model, [inputs])[0]
        assert torch.equal(drawing.decode(run, inputs, field, 4), expected)
        assert torch.equal(drawing.decode(run, inputs, field, 1), field.labels().long())
    with pytest.raises(ValueError, match="--pictures must be from 0 to 6, got"):
        list(drawing.iter_pictures(run, [7]))
    with pytest.raises(ValueError, match=r"no output folder of a training: it has no config.yaml"):
        drawing.load_run(str(trained))
    with pytest.raises(ValueError, match=r"got '.*/none': there is no such folder"):
        drawing.load_run(f"a={trained / 'none'}")


def test_the_command_draws_both(drawing: ModuleType, trained: Path, tmp_path: Path) -> None:
    runs = [f"a={trained / 'out'}", f"b={trained / 'out'}"]
    height = 80 + line_height(letter_size(80, 96))
    for arguments, rows in ((["predictions", *runs, "--count", "2"], 2), (["features", *runs], 6)):
        path = tmp_path / f"{arguments[0]}.png"
        drawing.main([*arguments, "--output", str(path), "--width", "96"])
        with Image.open(path) as picture:
            # Four panels a row, each 96 x 80 pixels below a caption.
            assert picture.size == (4 * 96 + 3 * 6, rows * height + (rows - 1) * 6)
    few = tmp_path / "few.png"
    drawing.main(["features", runs[0], "--output", str(few), "--width", "96", "--count", "99"])
    with Image.open(few) as picture:
        assert picture.size[1] == COUNT * height + (COUNT - 1) * 6
    with pytest.raises(SystemExit, match=rf"from 0 to {COUNT - 1}, got \[{COUNT}\]"):
        drawing.main(["features", runs[0], "--output", str(few), "--pictures", str(COUNT)])
    options = ["--width", "96", "--count", "1", "--outlines", "--legend"]
    drawing.main(["predictions", *runs, "--output", str(few), *options])
    with Image.open(few) as picture:
        assert picture.size[0] == 4 * 96 + 3 * 6 and picture.size[1] > height
    with pytest.raises(SystemExit, match="runs must have different names, NAME=RUN, got out, out"):
        drawing.main(["predictions", *[str(trained / "out")] * 2, "--output", str(few)])
    with pytest.raises(SystemExit, match=r"output must end in .*, got 'x.pdf'"):
        drawing.main(["predictions", *runs, "--output", "x.pdf"])
    with pytest.raises(SystemExit, match="predictions needs two runs or more, got 1"):
        drawing.main(["predictions", runs[0], "--output", str(tmp_path / "x.png")])
