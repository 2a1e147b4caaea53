"""From config files and weights to fields, for both kinds of config."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate

import ifa_d2
from ifa_d2.engine import Predictor
from ifa_d2.evaluation import SemSegEvaluator
from ifa_d2.layers import GridQuery
from ifa_d2.modeling import FieldSegmentor, build_resnet
from tests.engine.tiny import RECIPE, tiny_config


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
    assert [float(share) for share in field.extent] == [50 / 64, 71 / 96]
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
    ],
)
def test_bad_images(trained: Path, image: object) -> None:
    with pytest.raises(ValueError, match="image must be"):
        make_predictor(trained)(image)


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
    assert evaluators[False].evaluate() == evaluators[True].evaluate()
    model.train()
    losses = model([{"image": torch.zeros(3, 32, 32), "sem_seg": torch.zeros(32, 32).long()}])
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux"}
