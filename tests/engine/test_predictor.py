"""From config files and weights to fields, for both kinds of config."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog

import ifa_d2
from ifa_d2.data import read_picture
from ifa_d2.engine import Predictor
from ifa_d2.engine.predictor import find_weights, load_model
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from ifa_d2.evaluation import SemSegEvaluator
from ifa_d2.layers import GridQuery
from ifa_d2.modeling import FieldSegmentor, build_resnet
from ifa_d2.visualization import draw_field
from tests.tiny import RECIPE, tiny_config


def make_predictor(root: Path) -> Predictor:
    return Predictor.from_config(
        str(RECIPE), str(root / "out" / "model_final.pth"), [f"train.output_dir={root / 'out'}"]
    )


def test_same_features_as_the_model(trained: Path) -> None:
    predictor = make_predictor(trained)
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    field = predictor(image)
    rgb = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
    model = predictor.model
    with torch.no_grad():
        normalized = (rgb - model.pixel_mean) / model.pixel_std
        features = model.backbone(normalized[None])
        expected = model.sem_seg_head.layers(features)[0]
    assert field.image_size == (40, 48)
    assert torch.equal(field.logits(size=expected.shape[1:]), expected)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    assert torch.equal(predictor(tensor).logits(), field.logits())


def test_weights_of_the_output_directory_and_none(trained: Path, tmp_path: Path) -> None:
    named, found = (
        make_predictor(trained),
        Predictor.from_config(str(RECIPE), overrides=[f"train.output_dir={trained / 'out'}"]),
    )
    image = np.zeros((40, 48, 3), np.uint8)
    assert torch.equal(named(image).logits(), found(image).logits())
    with pytest.raises(ValueError, match="weights must be given"):
        Predictor.from_config(str(RECIPE), overrides=[f"train.output_dir={tmp_path}"])
    with pytest.raises(FileNotFoundError, match="absent"):
        Predictor.from_config(str(RECIPE), str(tmp_path / "absent.pth"))


def _backbone_alone(root: Path) -> Path:
    """What a training starts from: the trained model's weights, but without its head."""
    weights = torch.load(root / "out" / "model_final.pth", weights_only=True)["model"]
    path = root / "backbone.pth"
    torch.save({key: w for key, w in weights.items() if key.startswith("backbone.")}, path)
    return path


def _scaled(root: Path, factor: float) -> Path:
    """The trained weights times a number, as another checkpoint."""
    weights = torch.load(root / "out" / "model_final.pth", weights_only=True)["model"]
    path = root / f"times_{factor}.pth"
    torch.save({key: w * factor for key, w in weights.items()}, path)
    return path


def test_the_run_comes_before_what_it_started_from(trained: Path) -> None:
    cfg = tiny_config(trained / "out")
    cfg.train.init_checkpoint = str(_backbone_alone(trained))
    loaded = load_model(cfg, None).state_dict()
    expected = make_predictor(trained).model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())
    # As the config's own they are also behind what is trained elsewhere.
    cfg.train.init_checkpoint = str(_scaled(trained, 2.0))
    assert find_weights(TrainSettings.from_config(cfg)) == str(trained / "out" / "model_final.pth")


def test_weights_that_an_override_names_come_first(trained: Path) -> None:
    twice, thrice = _scaled(trained, 2.0), _scaled(trained, 3.0)
    overrides = [f"train.output_dir={trained / 'out'}", f"train.init_checkpoint={twice}"]
    key = "sem_seg_head.alignment.predictor.weight"
    once = make_predictor(trained).model.state_dict()[key]
    for weights, factor in ((None, 2), (str(thrice), 3)):
        predictor = Predictor.from_config(str(RECIPE), weights, overrides)
        assert torch.equal(predictor.model.state_dict()[key], once * factor)
    # An empty one names nothing.
    overrides[1] = "train.init_checkpoint="
    predictor = Predictor.from_config(str(RECIPE), overrides=overrides)
    assert torch.equal(predictor.model.state_dict()[key], once)


def test_overrides_of_yacs_name_weights_too(trained: Path) -> None:
    name, out = str(_scaled(trained, 2.0)), f"OUTPUT_DIR={trained / 'out'}"
    for overrides in ([out, f"MODEL.WEIGHTS={name}"], [*out.split("="), "MODEL.WEIGHTS", name]):
        settings = TrainSettings.from_config(load_config("shapes/ifa_r18.yaml", overrides))
        assert find_weights(settings, overrides) == name
        assert find_weights(settings) == str(trained / "out" / "model_final.pth")


def test_initial_weights_alone_are_not_predicted_with(trained: Path, tmp_path: Path) -> None:
    backbone = _backbone_alone(trained)
    cfg = tiny_config(tmp_path)
    cfg.train.init_checkpoint = str(backbone)
    for weights in (None, str(backbone)):
        with pytest.raises(ValueError, match=r"backbone\.pth is no trained .* sem_seg_head\."):
            load_model(cfg, weights)
    weights = torch.load(trained / "out" / "model_final.pth", weights_only=True)["model"]
    key = "sem_seg_head.alignment.predictor.weight"
    weights[key] = weights[key][:2]
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"lacks 1 of .*: {key} \(of shape \(2, 8.*, not \(3, 8"):
        load_model(cfg, str(tmp_path / "other.pth"))
    # The auxiliary head is training's alone.
    whole = make_predictor(trained).model.state_dict()
    assert any(".aux_heads." in key for key in whole)
    torch.save({k: w for k, w in whole.items() if ".aux_heads." not in k}, tmp_path / "less.pth")
    assert torch.equal(load_model(cfg, str(tmp_path / "less.pth")).state_dict()[key], whole[key])
    load_model(cfg, str(trained / "out" / "model_final.pth"), auxiliary=True)
    with pytest.raises(ValueError, match=r"less\.pth is no trained .* lacks .*\.aux_heads\.0\."):
        load_model(cfg, str(tmp_path / "less.pth"), auxiliary=True)


def test_yaml_model_of_resized_input(tmp_path: Path) -> None:
    """Units stay the picture's own pixels; the padding of the resized input is not seen."""
    cfg = ifa_d2.get_config("shapes/ifa_r18.yaml")
    cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu"])
    model = ifa_d2.engine.build.build_model(cfg)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    predictor = Predictor.from_config(
        "shapes/ifa_r18.yaml",
        str(tmp_path / "weights.pth"),
        ["INPUT.MIN_SIZE_TEST=50", "MODEL.DEVICE=cpu"],
    )
    image = np.random.default_rng(0).integers(0, 256, (100, 142, 3), np.uint8)
    field = predictor(image)
    assert field.image_size == (100, 142)
    assert [float(share) for share in field.picture_share] == [50 / 64, 71 / 96]
    with torch.no_grad():
        inner = field.alignment(field.levels, GridQuery.regular(64, 96))[0, :, :50, :71]
    assert torch.allclose(field.logits(size=(50, 71)), inner, atol=1e-5)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        torch.zeros(4, 4, 3, dtype=torch.uint8),
        torch.zeros(3, 4, 4),
        np.full((4, 4, 3), None),
        torch.zeros(3, 4, 4, dtype=torch.uint8).to_sparse(),
        torch.zeros(3, 4, 4, dtype=torch.uint8, device="meta"),
        7,
        None,
    ],
)
def test_bad_images(trained: Path, image: object) -> None:
    with pytest.raises(ValueError, match="image must be") as raised:
        make_predictor(trained)(image)
    if isinstance(image, int | None):
        assert f"got {image!r}" in str(raised.value)
        assert ("cv2.imread" in str(raised.value)) == (image is None)


@pytest.mark.parametrize("part", ["", "backbone", "sem_seg_head"])
def test_no_answer_in_training_mode(trained: Path, part: str) -> None:
    predictor = make_predictor(trained)
    model, image = predictor.model, np.full((40, 48, 3), 90, np.uint8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = predictor(image).logits()
    model.get_submodule(part).train()
    with pytest.raises(ValueError, match="model must be in eval mode") as raised:
        predictor(image)
    assert (f"which {part} is not" in str(raised.value)) == bool(part)
    with pytest.raises(ValueError, match="model must be in eval mode"):
        predictor.averaged_labels(image, flip=True)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    model.eval()
    assert torch.equal(predictor(image).logits(), expected)


def test_asked_outside_the_autocast_it_was_computed_under(trained: Path) -> None:
    predictor = make_predictor(trained)
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        field = predictor(image)
    expected = predictor(image).logits()
    assert field.logits().dtype == torch.float32
    assert torch.allclose(field.logits(), expected, atol=0.1 * float(expected.abs().max()))


def test_a_field_draws_its_own_picture(trained: Path) -> None:
    """In RGB order, whether a file was given or OpenCV's array of it, which may change later."""
    predictor, file = make_predictor(trained), trained / "images" / "1.png"
    picture, metadata = read_picture(file), MetadataCatalog.get("tiny")
    frame = picture[:, :, ::-1].copy()
    for field in (predictor(file), predictor(frame)):
        frame[:] = 0
        assert np.array_equal(field.draw(), draw_field(field, picture, metadata))
        assert np.array_equal(field.draw(names=False, alpha=0), picture)
        view = {"size": (50, 61), "window": (4, 6, 30, 40), "legend": True}
        assert np.array_equal(field.draw(**view), draw_field(field, picture, metadata, **view))
        expected = draw_field(field, 255 - picture, metadata)
        assert np.array_equal(field.draw(255 - picture), expected)


def test_a_field_without_names_and_colours_is_not_drawn(trained: Path) -> None:
    predictor = Predictor(make_predictor(trained).model)
    with pytest.raises(ValueError, match=r"a Predictor with metadata gives .*\.draw_field"):
        predictor(trained / "images" / "1.png").draw()


def test_bad_models(trained: Path) -> None:
    with pytest.raises(ValueError, match="IFASemSegHead"):
        Predictor(build_resnet(depth=18, norm="BN"))
    with pytest.raises(ValueError, match="image_format"):
        Predictor(make_predictor(trained).model, image_format="GRB")


def test_field_segmentor(trained: Path) -> None:
    """Trains as Detectron2's segmentor, evaluates without logits, with the same labels."""
    cfg = tiny_config(trained / "out")
    cfg.model._target_ = FieldSegmentor
    models = {flag: instantiate({**cfg.model, "return_logits": flag}) for flag in (False, True)}
    weights = torch.load(trained / "out" / "model_final.pth", weights_only=True)["model"]
    loader = instantiate(cfg.dataloader.test)
    evaluators = {flag: SemSegEvaluator("tiny", distributed=False) for flag in models}
    for flag, model in models.items():
        model.load_state_dict(weights)
        model.eval()
        evaluators[flag].reset()
        for inputs in loader:
            inputs = [{**inputs[0], "image": inputs[0]["image"][:, 1:, 3:]}]
            with torch.no_grad():
                outputs = model(inputs)
            shape = (3, 40, 48) if flag else (40, 48)
            assert outputs[0]["sem_seg"].shape == shape
            evaluators[flag].process(inputs, outputs)
    of_labels, of_logits = (evaluators[flag].evaluate()["sem_seg"] for flag in (False, True))
    # A class that is nowhere predicted has no precision, which is NaN.
    assert of_labels == pytest.approx(of_logits, rel=0, abs=0, nan_ok=True)
    model.train()
    losses = model([{"image": torch.zeros(3, 32, 32), "sem_seg": torch.zeros(32, 32).long()}])
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux"}
