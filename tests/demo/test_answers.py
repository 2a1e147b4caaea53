from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import Metadata, MetadataCatalog
from torch import nn

from ifa_d2 import get_config
from ifa_d2.data import read_picture
from ifa_d2.demo import Drawing, Picture, Segmenter, View
from ifa_d2.demo.answer_drawing import _row_scale
from ifa_d2.engine.build import build_test_mapper
from ifa_d2.engine.predictor import Predictor, load_model
from ifa_d2.modeling import compute_panoptic_fields
from ifa_d2.visualization import (
    add_legend,
    draw_segmentation,
    entropy_colors,
    letter_size,
    resize_window,
    side_by_side,
)
from ifa_d2.visualization.captions import line_height
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def parts(trained: Path) -> tuple:
    """Config, model with answers that vary, picture (40, 48, 3), and the predictor of the model."""
    cfg = tiny_config(trained / "out")
    model = load_model(cfg, str(trained / "out" / "model_final.pth"))
    generator = torch.Generator().manual_seed(3)
    weight = model.sem_seg_head.alignment.predictor.weight
    weight.data = torch.randn(weight.shape, generator=generator)
    image = read_picture(str(trained / "images" / "1.png"))
    return cfg, model, image, Predictor(model)


def ask(parts: tuple, model: nn.Module | None = None, **view: object):
    return Segmenter(parts[0], model or parts[1], View(**view))(parts[2])


def field(parts: tuple):
    return parts[3](np.ascontiguousarray(parts[2][:, :, ::-1]))


def test_a_plain_view_is_what_is_evaluated(parts: tuple, trained: Path) -> None:
    cfg, model, image, _ = parts
    sample = build_test_mapper(cfg)({"file_name": str(trained / "images" / "1.png")})
    expected = model([sample])[0]["sem_seg"].argmax(dim=0).numpy()
    answer = ask(parts)
    assert len(np.unique(expected)) > 1
    assert np.array_equal(answer.labels, expected) and np.array_equal(answer.image, image)
    assert answer.num_classes == 3


@pytest.mark.parametrize(
    ("view", "size"),
    [
        ({"window": (5, 7, 25, 40)}, (20, 33)),
        ({"window": (5, 7, 25, 40), "zoom": 2.5}, (50, 82)),
        ({"window": (0, 0, 40, 48), "size": (9, 31)}, (9, 31)),
        ({"zoom": 0.25}, (10, 12)),
    ],
)
def test_views_ask_the_field(parts: tuple, view: dict, size: tuple[int, int]) -> None:
    answer = ask(parts, **view)
    assert answer.labels.shape == size and answer.image.shape == (*size, 3)
    expected = field(parts).labels(size, view.get("window"))
    assert np.array_equal(answer.labels, expected.numpy())


def test_confidence_is_the_probability(parts: tuple) -> None:
    best, labels = field(parts).probabilities((80, 96)).max(dim=0)
    level = float(best.median())
    answer = ask(parts, zoom=2, confidence=level)
    assert np.array_equal(answer.labels, labels.masked_fill(best < level, -1).numpy())
    assert 0.3 < (answer.labels == -1).mean() < 0.7


def test_entropy_is_of_what_is_evaluated(parts: tuple, trained: Path) -> None:
    cfg, model, image, _ = parts
    sample = build_test_mapper(cfg)({"file_name": str(trained / "images" / "1.png")})
    with torch.no_grad():
        logits = model([sample])[0]["sem_seg"]
    answer = Segmenter(cfg, model, View(), entropy=True)(image)
    assert np.array_equal(answer.labels, ask(parts).labels) and ask(parts).entropy is None
    expected = torch.distributions.Categorical(logits=logits.permute(1, 2, 0)).entropy() / np.log(3)
    np.testing.assert_allclose(answer.entropy, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropy_of_a_window_is_the_fields(
    parts: tuple, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, model, image, _ = parts
    monkeypatch.setattr(model.sem_seg_head, "temperature", temperature)
    options = {"window": (2, 3, 22, 33), "zoom": 2.0}
    best, labels = field(parts).probabilities((40, 60), (2, 3, 22, 33)).max(dim=0)
    level = float(best.median())
    answer = Segmenter(cfg, model, View(confidence=level, **options), entropy=True)(image)
    assert np.array_equal(answer.labels, labels.masked_fill(best < level, -1).numpy())
    expected = field(parts).entropy((40, 60), (2, 3, 22, 33)).numpy()
    np.testing.assert_allclose(answer.entropy, expected, atol=1e-6)


def test_entropy_is_the_last_panel_over_its_colour_bar(parts: tuple) -> None:
    cfg, model, image, _ = parts
    metadata, truth = MetadataCatalog.get("tiny"), np.zeros((40, 48), np.uint8)
    segmenter = Segmenter(cfg, model, View(), entropy=True)
    row = Drawing(segmenter, metadata).draw(image, truth)
    plain = Drawing(Segmenter(cfg, model, View()), metadata).draw(image, truth)
    height, width = plain.shape[:2]
    assert np.array_equal(row[:height, :width], plain)
    answer = segmenter(image)
    expected = entropy_colors()[np.rint(255 * answer.entropy).astype(int)]
    expected = expected.repeat(10, axis=0).repeat(10, axis=1)
    assert np.array_equal(row[height - 400 : height, width + 6 :], expected)
    bar = row[height:].reshape(-1, 3).tolist()
    assert all(entropy_colors()[place].tolist() in bar for place in (10, 128, 250))
    with pytest.raises(ValueError, match="layout must be 'row', which has a panel for entropy"):
        Drawing(segmenter, metadata, layout="overlay")


class Ramp(nn.Module):
    """A segmentor without a field: class 1 grows linearly from left to right."""

    def forward(self, inputs: list[dict]) -> list[dict]:
        height, width = inputs[0]["height"], inputs[0]["width"]
        right = (torch.arange(width) + 0.5).expand(height, width)
        return [{"sem_seg": torch.stack([torch.full_like(right, 20.0), right])}]


def test_logits_of_other_models_are_interpolated(parts: tuple) -> None:
    answer = ask(parts, Ramp(), window=(3, 15, 13, 25), zoom=4)
    # Class 1 begins at column 20, half-way through the window.
    assert np.array_equal(answer.labels, np.repeat([[0] * 20 + [1] * 20], 40, axis=0))
    sure = ask(parts, Ramp(), confidence=0.9).labels  # |x - 20| > ln 9 = 2.2
    assert np.array_equal(sure[0], [0] * 18 + [-1] * 4 + [1] * 26)


def test_labels_alone_have_no_probabilities(parts: tuple) -> None:
    class Labels(nn.Module):
        def forward(self, inputs: list[dict]) -> list[dict]:
            return [{"sem_seg": torch.ones(40, 48, dtype=torch.uint8)}]

    assert (ask(parts, Labels()).labels == 1).all()
    with pytest.raises(ValueError, match="need logits, but Labels gives labels"):
        ask(parts, Labels(), confidence=0.5)
    with pytest.raises(ValueError, match="and entropy need logits, but Labels gives labels"):
        Segmenter(parts[0], Labels(), View(), entropy=True)(parts[2])


@pytest.fixture(scope="module")
def panoptic_model() -> nn.Module:
    """A panoptic model that has learned nothing, and takes anything for an instance."""
    torch.manual_seed(0)
    cfg = get_config("panoptic/coco/panoptic_ifa_r50.py")
    cfg.model.roi_heads.num_classes = 2
    cfg.model.sem_seg_head.num_classes = 3
    model = instantiate(cfg.model).eval()
    model.roi_heads.box_predictor.test_score_thresh = 0.0
    model.combine_stuff_area_thresh = 1
    # Without normalisation what has learned nothing is huge; all of it is linear in the stem,
    # and pixels are some 50 times those of this noise.
    features = model.backbone(torch.randn(1, 3, 64, 64))["p2"]
    model.backbone.bottom_up.stem.conv1.weight.data /= 50 * features.std().detach()
    torch.nn.init.ones_(model.roi_heads.mask_head.predictor.bias)  # masks fill their boxes
    torch.nn.init.normal_(model.sem_seg_head.alignment.predictor.weight)
    return model


@pytest.fixture
def panoptic(panoptic_model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The model, which gets its threshold back: a view's confidence replaces it."""
    name = "combine_instances_score_thresh"
    monkeypatch.setattr(panoptic_model, name, getattr(panoptic_model, name))
    return panoptic_model


def test_panoptic_views(parts: tuple, panoptic: nn.Module) -> None:
    answer = ask(parts, panoptic, window=(4, 6, 34, 46), zoom=2, confidence=0.01)
    assert answer.segment_ids.shape == (60, 80) and answer.image.shape == (60, 80, 3)
    assert any(one["isthing"] for one in answer.segments)
    with torch.no_grad():
        image = torch.from_numpy(parts[2].transpose(2, 0, 1).copy())
        (found,) = compute_panoptic_fields(panoptic, [{"image": image}])
    ids, segments = found.panoptic((60, 80), (4, 6, 34, 46))
    assert np.array_equal(answer.segment_ids, ids.numpy()) and answer.segments == segments


def test_panoptic_confidence_0_is_the_models_threshold(parts: tuple, panoptic: nn.Module) -> None:
    threshold = panoptic.combine_instances_score_thresh
    stuff = ask(parts, panoptic)
    assert panoptic.combine_instances_score_thresh == threshold
    assert not any(one["isthing"] for one in stuff.segments) and stuff.labels is None


def test_panoptic_drawings(parts: tuple, panoptic: nn.Module) -> None:
    metadata = Metadata(
        name="things and stuff",
        thing_classes=["cat", "dog"],
        thing_colors=[[200, 0, 0], [0, 0, 200]],
        stuff_classes=["things", "sky", "grass"],
        stuff_colors=[[0, 0, 0], [0, 100, 200], [0, 200, 0]],
    )
    segmenter = Segmenter(parts[0], panoptic, View(confidence=0.01))
    with pytest.raises(ValueError, match="legend is of semantic drawings"):
        Drawing(segmenter, metadata, legend=True)
    with pytest.raises(ValueError, match="entropy is of semantic models"):
        Segmenter(parts[0], panoptic, View(), entropy=True)
    row = Drawing(segmenter, metadata).draw(parts[2])
    assert row.shape == (line_height(letter_size(400, 480)) + 400, 2 * 480 + 6, 3)
    # Colours lie over most of the picture's second panel.
    changed = (row[-400:, :480] != row[-400:, -480:]).any(axis=-1)
    assert changed.mean() > 0.5


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"size": (4, 4), "zoom": 2}, "size and zoom must not both"),
        ({"size": (0, 4)}, r"size must be \(height, width\), each at least 1, got \(0, 4\)"),
        ({"zoom": -1.0}, "zoom must be above 0, got -1.0"),
        ({"zoom": 1e6}, r"zoom 1e\+06, 4e\+07 x 4.8e\+07 samples, is more than the 67108864"),
        ({"zoom": 1e308}, r"zoom 1e\+308, inf x inf samples, is more than"),
        ({"size": (10**400, 1)}, r"size \(1000.* is more than"),
        ({"size": (1, 2**16)}, r"size \(1, 65536\) is more than .* 65535 a side"),
        ({"confidence": 1.5}, r"confidence must be in \[0, 1\], got 1.5"),
        ({"window": (4, 4, 4, 9)}, r"inside the picture of \(40, 48\), got \(4, 4, 4, 9\)"),
        ({"window": (0, 0, 41, 9)}, r"inside the picture of \(40, 48\), got \(0, 0, 41, 9\)"),
    ],
)
def test_views_out_of_range(view: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        View(**view).resolve((40, 48))


@pytest.mark.parametrize("layout", ["overlay", "row"])
@pytest.mark.parametrize("more", [{}, {"outlines": True, "legend": True}])
def test_drawings(parts: tuple, trained: Path, layout: str, more: dict[str, bool]) -> None:
    cfg, model, image, _ = parts
    metadata = MetadataCatalog.get("tiny")
    options = {"alpha": 0.3, "names": False, **more}
    segmenter = Segmenter(cfg, model, View(window=(2, 3, 22, 33), zoom=2))
    drawing = Drawing(segmenter, metadata, layout=layout, **options)
    label = trained / "labels" / "1.png"
    record = {"sem_seg_file_name": str(label)}
    read, truth = drawing.read(Picture(str(trained / "images" / "1.png"), "1", record))
    shown = resize_window(image, (2, 3, 22, 33), (40, 60))
    labels = field(parts).labels((40, 60), (2, 3, 22, 33)).numpy()
    if layout == "overlay":
        legend = options.pop("legend", False)
        expected = draw_segmentation(shown, labels, metadata, **options)
        if legend:
            expected = add_legend(expected, [labels], metadata)
    else:
        doubled = truth[2:22, 3:33].repeat(2, axis=0).repeat(2, axis=1)
        expected = side_by_side(shown, labels, metadata, doubled, **options)
        assert expected.shape[1] == 3 * 480 + 12
    assert np.array_equal(drawing.draw(read, truth), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 2}, r"opacity must be in .0, 1., got 2"),
        ({"layout": "pile"}, "layout must be one of"),
    ],
)
def test_options_of_drawings(parts: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Drawing(Segmenter(parts[0], parts[1], View()), MetadataCatalog.get("tiny"), **options)


def test_a_window_out_of_the_picture_names_the_picture(parts: tuple, trained: Path) -> None:
    segmenter = Segmenter(parts[0], parts[1], View(window=(0, 0, 50, 9)))
    with pytest.raises(ValueError, match=r"1.png: window \(--crop\) must be .* inside the picture"):
        Drawing(segmenter, MetadataCatalog.get("tiny")).read(
            Picture(str(trained / "images" / "1.png"), "1")
        )


def test_a_label_of_another_size_is_named(parts: tuple, trained: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((9, 9), np.uint8))
    drawing = Drawing(Segmenter(parts[0], Ramp(), View()), MetadataCatalog.get("tiny"))
    with pytest.raises(ValueError, match=r"label .*small.png has \(height, width\) \(9, 9\)"):
        record = {"sem_seg_file_name": str(tmp_path / "small.png")}
        drawing.read(Picture(str(trained / "images/1.png"), "1", record))


def test_a_model_of_other_classes_is_not_drawn(parts: tuple) -> None:
    drawing = Drawing(Segmenter(parts[0], Ramp(), View()), MetadataCatalog.get("tiny"))
    with pytest.raises(ValueError, match="predicts 2 classes, but the data set has 3"):
        drawing.draw(parts[2])


def test_the_size_of_a_large_picture_is_its_owner_s_choice() -> None:
    size = (2**17, 2**10)
    assert View().resolve(size) == ((0, 0, *size), size)
    assert View(zoom=0.5).resolve(size)[1] == (2**16, 2**9)
    with pytest.raises(ValueError, match="is more than"):
        View(zoom=1.1).resolve(size)


@pytest.mark.parametrize(
    ("size", "scale"), [((40, 48), 10), ((40000, 20), 1), ((2000, 20), 24), ((9000, 20), 7)]
)
def test_narrow_answers_are_enlarged_as_far_as_can_be_drawn(
    size: tuple[int, int], scale: int
) -> None:
    assert _row_scale(np.empty((*size, 3), np.uint8)) == scale
