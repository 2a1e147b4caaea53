"""The door: a yacs config is the same run as the recipe that it is a twin of."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from omegaconf import DictConfig, OmegaConf

import ifa_d2
from ifa_d2.engine import Predictor, Trainer, build
from ifa_d2.engine.inference import build_inference_model
from ifa_d2.engine.inputs import build_mapper, dataset_names
from ifa_d2.engine.run import load_config, setup_run
from ifa_d2.engine.saved_config import changed_settings, config_text
from ifa_d2.engine.settings import TrainSettings, unread_keys
from ifa_d2.engine.solver import build_optimizer, build_scheduler, scale_config
from ifa_d2.engine.yacs_config import model_config, to_lazy_config, yacs_config
from ifa_d2.evaluation import PanopticEvaluator, SemSegEvaluator
from ifa_d2.modeling import FieldSegmentor
from tests.tiny import assert_same, tiny_config

NAME = "shapes/ifa_r18"
ZOO = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"
# Small, on the CPU, without workers: the same of both kinds.
YACS = (
    *('DATASETS.TRAIN=("tiny",)', 'DATASETS.TEST=("tiny",)', "MODEL.SEM_SEG_HEAD.NUM_CLASSES=3"),
    *("SOLVER.IMS_PER_BATCH=2", "DATALOADER.NUM_WORKERS=0", "SOLVER.DETERMINISTIC=True"),
    *("INPUT.MIN_SIZE_TRAIN=(32,)", "INPUT.CROP.SIZE=[32,32]", "MODEL.DEVICE=cpu"),
    *("SOLVER.MAX_ITER=2", "SOLVER.WARMUP_ITERS=1", "TEST.EVAL_PERIOD=0"),
)
LAZY = (
    *("dataloader.train.dataset.names=tiny", "dataloader.test.dataset.names=tiny"),
    *("model.sem_seg_head.num_classes=3", "train.batch_size=2", "train.deterministic=True"),
    *("dataloader.train.num_workers=0", "dataloader.test.num_workers=0", "train.device=cpu"),
    "dataloader.train.mapper.augmentations.short_edge=32",
    "dataloader.train.mapper.augmentations.crop_size=[32,32]",
    *("train.max_iter=2", "lr_multiplier.warmup_iters=1", "train.eval_period=0"),
)


def twins(tmp_path: Path | None = None) -> tuple[DictConfig, DictConfig]:
    """The recipe and its twin; of small pictures where there is a folder for their data set."""
    if tmp_path is None:
        return load_config(f"{NAME}.py"), load_config(f"{NAME}.yaml")
    tiny_config(tmp_path)  # registers the data set
    lazy = load_config(f"{NAME}.py", [*LAZY, f"train.output_dir={tmp_path / 'lazy'}"])
    yacs = load_config(f"{NAME}.yaml", [*YACS, f"OUTPUT_DIR={tmp_path / 'yacs'}"])
    return lazy, yacs


def test_settings_are_the_recipes() -> None:
    lazy, yacs = twins()
    settings = TrainSettings.from_config(lazy)
    assert settings == TrainSettings.from_config(yacs)
    assert settings.output_dir == f"./output/{NAME}"
    assert set(yacs) - set(lazy) == {"yacs"} and set(lazy) <= set(yacs)
    for is_train in (True, False):
        assert dataset_names(lazy, is_train=is_train) == dataset_names(yacs, is_train=is_train)
    assert build.test_dataset_names(lazy) == build.test_dataset_names(yacs) == ["shapes_val"]
    assert lazy.dataloader.train.num_workers == yacs.dataloader.train.num_workers
    assert unread_keys(yacs) == []
    for flags in ({}, {"tta": True}, {"window": [64, 64]}):
        views = []
        for cfg in (lazy, yacs):
            cfg = copy.deepcopy(cfg)
            cfg.inference.update(flags)
            model = build_inference_model(cfg, torch.nn.Identity())
            size = (640, 480)
            views.append(type(model))
            if flags:
                shown = model.views
                views[-1] = (shown.sizes(size), shown.flip, shown.window, shown.strides())
        assert views[0] == views[1]


def test_model_optimizer_and_schedule_are_the_recipes() -> None:
    states, texts, rates, kinds = [], [], [], []
    for cfg in twins():
        torch.manual_seed(0)
        cfg.train.device = "cpu"
        model = build.build_model(cfg)
        states.append(model.state_dict())
        texts.append(str(model))
        optimizer = build_optimizer(cfg, model)
        kinds.append((type(optimizer), optimizer.defaults))
        groups = [
            [{k: v for k, v in group.items() if k != "params"}] * len(group["params"])
            for group in optimizer.param_groups
        ]
        schedule = build_scheduler(cfg, optimizer)
        found: list[Any] = [groups]
        for _ in range(60):
            found.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
        found += [schedule._multiplier(done) for done in (0.1, 0.5, 0.99)]
        rates.append(found)
    assert_same(*states)
    assert texts[0] == texts[1]
    assert kinds[0] == kinds[1]
    assert rates[0] == rates[1]


def test_data_and_evaluator_are_the_recipes(tmp_path: Path) -> None:
    batches, evaluators = [], []
    for cfg in twins(tmp_path):
        loader = iter(build.build_train_loader(cfg))
        batches.append([sample for _ in range(3) for sample in next(loader)])
        batches[-1] += [
            sample for batch in build.build_test_loader(cfg, "tiny") for sample in batch
        ]
        evaluators.append(build.build_evaluator(cfg, "tiny"))
    assert len(batches[0]) == len(batches[1])
    for one, other in zip(*batches, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same = value.equal(other[key]) if torch.is_tensor(value) else value == other[key]
            assert same, key
    assert [type(one) for one in evaluators] == [SemSegEvaluator] * 2
    assert [Path(one._output_dir).name for one in evaluators] == ["lazy", "yacs"]


def test_training_is_the_recipes_bit_for_bit(tmp_path: Path) -> None:
    """And what it saves trains again, from the file alone."""
    lazy, yacs = twins(tmp_path)
    configs = [lazy, yacs]
    finals = []
    for index in range(3):
        cfg = configs[index]
        setup_run(cfg)
        Trainer(cfg).train()
        folder = Path(cfg.train.output_dir)
        finals.append(torch.load(folder / "model_final.pth", weights_only=True)["model"])
        if index == 1:
            again = [f"train.output_dir={tmp_path / 'again'}"]
            configs.append(load_config(str(folder / "config.yaml"), again))
    assert_same(*finals[:2])
    assert_same(*finals[1:])


def _given(tmp_path: Path, *pairs: object) -> CfgNode:
    """A config of Detectron2's own API."""
    cfg = ifa_d2.get_config(f"{NAME}.yaml")
    assert isinstance(cfg, CfgNode)
    tiny_config(tmp_path)  # registers the data set
    for key, value in (override.split("=", 1) for override in YACS):
        cfg.merge_from_list([key, value])
    cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path / "out"), *pairs])
    return cfg


def test_config_of_detectron2_is_taken_everywhere(tmp_path: Path) -> None:
    cfg = _given(tmp_path)
    before = cfg.dump()
    trainer = Trainer(cfg)
    trainer.train()
    assert isinstance(trainer.cfg, DictConfig)
    assert Trainer.test(cfg, trainer.model)["sem_seg"].keys()
    predictor = Predictor.build(cfg)
    assert isinstance(predictor.model, FieldSegmentor) and predictor.image_format == "RGB"
    assert isinstance(build.build_model(cfg, pretrained=False), FieldSegmentor)
    assert dataset_names(cfg, is_train=True) == build.test_dataset_names(cfg) == ["tiny"]
    assert build_mapper(cfg, is_train=True).points.num_points == 1536
    assert build_mapper(cfg, is_train=False).points is None
    assert cfg.dump() == before
    assert build_inference_model(cfg, predictor.model) is predictor.model


@pytest.mark.parametrize("kind", ["lazy", "yacs"])
def test_saved_config_of_either_kind_compares(kind: str, tmp_path: Path) -> None:
    """Runs once saved yacs configs as such."""
    cfg = _given(tmp_path)
    old = cfg.dump() if kind == "yacs" else config_text(cfg, [])
    assert changed_settings(old, config_text(cfg, [])) == []
    cfg.SOLVER.MAX_ITER = 9
    changes = changed_settings(old, config_text(cfg, []))
    assert changes == ["train.max_iter: 2 -> 9", "yacs.SOLVER.MAX_ITER: 2 -> 9"]
    path = tmp_path / "config.yaml"
    path.write_text(old)
    loaded = load_config(str(path))
    assert config_text(loaded, []) == config_text(_given(tmp_path), [])


def test_run_that_saved_a_yacs_config_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _given(tmp_path)
    Trainer(cfg).train()
    (tmp_path / "out" / "config.yaml").write_text(cfg.dump())
    cfg.SOLVER.MAX_ITER = 3
    trainer = Trainer(cfg, resume=True)
    with caplog.at_level("INFO"):
        trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 2
    said = [record.getMessage() for record in caplog.records]
    assert "Resumed with train.max_iter: 2 -> 3" in said
    trainer.train()
    assert load_config(str(tmp_path / "out" / "config.yaml")).train.max_iter == 3


def test_saved_config_loads_as_the_same(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for cfg in (load_config(f"{NAME}.yaml"), load_config(ZOO)):
        path.write_text(text := config_text(cfg, []))
        assert config_text(load_config(str(path)), []) == text
        LazyConfig.save(LazyConfig.load(str(path)), str(tmp_path / "again.yaml"))
        assert yaml.safe_load((tmp_path / "again.yaml").read_text()) == yaml.safe_load(text)
    # Model and mappers follow the keys that they are made of; those of a run have been translated.
    path.write_text(config_text(load_config(f"{NAME}.yaml"), []))
    cfg = load_config(str(path), ["yacs.MODEL.IFA.HIDDEN_DIMS=[16]", "yacs.INPUT.FORMAT=BGR"])
    assert instantiate(cfg.model.cfg).MODEL.IFA.HIDDEN_DIMS == [16]
    assert build.build_test_mapper(cfg).image_format == "BGR"
    for key, words in (
        ("SOLVER.MAX_ITER=7", "has become train.max_iter"),
        ("MODEL.WEIGHTS=x", "has become train.init_checkpoint"),
        ("SOLVER.MOMENTUM=0", "has become a key of its own"),
    ):
        with pytest.raises(ValueError, match=f"nothing reads yacs.{key.split('=')[0]} .* {words}"):
            load_config(str(path), [f"yacs.{key}"])
    with pytest.raises(ValueError, match=r"no key 'yacs.MODEL.IFA.HIDDEN'"):
        load_config(str(path), ["yacs.MODEL.IFA.HIDDEN=1"])
    with pytest.raises(ValueError, match=r"no key 'SOLVER.MAX_ITER'"):
        load_config(str(path), ["SOLVER.MAX_ITER=7"])


def test_the_config_that_comes_out_is_the_one_that_went_in() -> None:
    cfg = ifa_d2.get_config(f"{NAME}.yaml")
    # Keys of a user's own, in a place that takes any and in one that does not.
    cfg.MODEL.TIMM.MODEL_OPTIONS.OUTPUT_STRIDE = 16
    cfg.MINE = CfgNode({"DEPTH": 3, "DEEPER": {"WIDTH": 2.5}})
    cfg.MODEL.TIMM.PRETRAINED = True
    lazy = to_lazy_config(cfg)
    assert to_lazy_config(lazy) is lazy
    assert yacs_config(lazy.yacs) == instantiate(lazy.model.cfg) == cfg
    assert instantiate(build.without_pretrained(cfg).model.cfg).MODEL.TIMM.PRETRAINED is False
    assert model_config(lazy.yacs, pretrained=True).MODEL.TIMM.PRETRAINED is True
    # A config without the keys of this project has them at their defaults.
    plain = to_lazy_config(get_cfg())
    assert plain.optimizer._target_ is torch.optim.SGD
    assert yacs_config(plain.yacs).MODEL.IFA.HIDDEN_DIMS == [512, 256, 256]


def test_what_is_refused() -> None:
    for wrong in ({"train": {}}, None, OmegaConf.create([1])):
        with pytest.raises(ValueError, match="cfg must be a CfgNode or a DictConfig, got "):
            to_lazy_config(wrong)
    for key, value, words in (
        ("SOLVER.OPTIMIZER", "Lion", r"SOLVER\.OPTIMIZER must be SGD or AdamW, got 'Lion'"),
        ("MODEL.META_ARCHITECTURE", "No", r"META_ARCHITECTURE must be registered .*, got 'No'"),
    ):
        with pytest.raises(ValueError, match=words):
            load_config(f"{NAME}.yaml", [f"{key}={value}"])
    cfg = load_config(f"{NAME}.yaml", ["SOLVER.LR_SCHEDULER_NAME=Never"])
    with pytest.raises(ValueError, match="Never"):
        build_scheduler(cfg, torch.optim.SGD([torch.zeros(1)], lr=0.1))
    cfg.train.sed = 1
    assert unread_keys(cfg) == ["train.sed"]


def test_model_of_a_function(tmp_path: Path) -> None:
    """A meta-architecture may be one, and its parameter have any name that Detectron2 has."""

    def build_mine(cfg: CfgNode) -> torch.nn.Module:
        return torch.nn.Linear(cfg.SOLVER.MAX_ITER, 1)

    META_ARCH_REGISTRY._do_register("build_mine", build_mine)
    try:
        cfg = load_config(f"{NAME}.yaml", ["MODEL.META_ARCHITECTURE=build_mine", *YACS])
        assert build.build_model(cfg).in_features == 2
    finally:
        META_ARCH_REGISTRY._obj_map.pop("build_mine")


def test_several_data_sets_are_evaluated_one_after_the_other(tmp_path: Path) -> None:
    cfg = _given(tmp_path, "DATASETS.TEST", ("tiny", "tiny_panoptic"))
    MetadataCatalog.get("tiny_panoptic").set(
        evaluator_type="coco_panoptic_seg",
        stuff_classes=["a", "b"],
        thing_classes=[],
        ignore_label=255,
        thing_dataset_id_to_contiguous_id={},
        stuff_dataset_id_to_contiguous_id={},
        panoptic_json="",
        panoptic_root="",
    )
    try:
        lazy = to_lazy_config(cfg)
        assert build.test_dataset_names(lazy) == ["tiny", "tiny_panoptic"]
        assert len(build.build_test_loader(lazy, "tiny").dataset) == 7
        evaluator = build.build_evaluator(lazy, "tiny")
        assert Path(evaluator._output_dir) == tmp_path / "out" / "tiny"
        made = build.build_data_set_evaluators("tiny_panoptic", str(tmp_path))
        assert [type(one) for one in made] == [SemSegEvaluator, PanopticEvaluator]
        with pytest.raises(ValueError, match=r"dataset_name must be one of .*, got 'other'"):
            build.build_test_loader(lazy, "other")
        none = to_lazy_config(_given(tmp_path, "DATASETS.TEST", ()))
        assert build.test_dataset_names(none) == []
    finally:
        MetadataCatalog.pop("tiny_panoptic")


def test_steps_scale_with_the_processes() -> None:
    keys = ["SOLVER.LR_SCHEDULER_NAME=WarmupMultiStepLR", "SOLVER.STEPS=(50,80)"]
    keys += ["SOLVER.MAX_ITER=100", "SOLVER.REFERENCE_WORLD_SIZE=2", "SOLVER.WARMUP_ITERS=10"]
    cfg = load_config(f"{NAME}.yaml", [*keys, "SOLVER.IMS_PER_BATCH=4"])
    scaled = scale_config(cfg, 1)
    assert (scaled.train.batch_size, scaled.train.max_iter) == (2, 200)
    assert (list(scaled.lr_multiplier.steps), scaled.lr_multiplier.warmup_iters) == ([100, 160], 20)
    factors = [
        instantiate(one.lr_multiplier)(done) for one in (cfg, scaled) for done in (0.3, 0.6, 0.9)
    ]
    assert factors[:3] == factors[3:] == pytest.approx([1.0, 0.1, 0.01])
    assert scale_config(scaled, 1) is scaled
    scaled.train.reference_batch_size = 4
    with pytest.raises(ValueError, match="reference_batch_size or reference_world_size, not both"):
        scale_config(scaled, 1)


def test_expected_results(tmp_path: Path) -> None:
    for expected, ends in (("100.0", True), ("0.0", False)):
        value = f"[['sem_seg', 'mIoU', {expected}, 99.0]]"
        overrides = [
            *YACS,
            f"TEST.EXPECTED_RESULTS={value}",
            "SOLVER.MAX_ITER=1",
            "SOLVER.WARMUP_ITERS=0",
        ]
        tiny_config(tmp_path)
        cfg = load_config(f"{NAME}.yaml", [*overrides, f"OUTPUT_DIR={tmp_path / expected}"])
        assert [list(one) for one in cfg.train.expected_results] == [
            ["sem_seg", "mIoU", float(expected), 99.0]
        ]
        results = Trainer(cfg).train()["sem_seg"]["mIoU"]
        assert abs(results - float(expected)) <= 99.0, ends
    cfg.train.update(
        expected_results=[["sem_seg", "mIoU", -1.0, 0.5]], output_dir=str(tmp_path / "unreached")
    )
    with pytest.raises(SystemExit):
        Trainer(cfg).train()


def test_yacs_names_are_said_of_yacs_configs_alone() -> None:
    lazy, yacs = twins()
    for cfg, name in ((lazy, "train.max_iter"), (yacs, "train.max_iter (SOLVER.MAX_ITER in a")):
        cfg.train.max_iter = 0
        with pytest.raises(ValueError, match=f"^{re.escape(name)}"):
            TrainSettings.from_config(cfg)
