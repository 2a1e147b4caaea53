"""The panoptic recipes: what differs, and each run from the published files to figures."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import OmegaConf

import ifa_d2
from ifa_d2.analysis.cost import build_on_meta
from ifa_d2.engine import build
from ifa_d2.engine.inputs import build_mapper
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from ifa_d2.engine.solver import build_optimizer, build_scheduler
from ifa_d2.engine.yacs_config import yacs_config
from ifa_d2.modeling import FieldPanopticFPN, IFASemSegHead, PanopticField
from ifa_d2.visualization import draw_panoptic
from tests.data.panoptic_miniatures import coco_at, make_cityscapes_panoptic, make_coco_panoptic
from tests.recipes import check_saved_again, logged, train_net

TRAIN_NET = Path(__file__).parents[2] / "tools" / "train_net.py"
ZOO = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"
NAMES = ("panoptic_fpn_r50", "panoptic_ifa_r50", "panoptic_ifa_r101")
RECIPES = [f"panoptic/{data}/{name}.py" for data in ("cityscapes", "coco") for name in NAMES]
# What makes the recipe of Detectron2's file.
KEYS = (
    *("MODEL.SEM_SEG_HEAD.NAME=IFASemSegHead", "MODEL.SEM_SEG_HEAD.NORM=SyncBN"),
    *("MODEL.IFA.HIDDEN_DIMS=[256,128]", "MODEL.IFA.OHEM_THRESHOLD=1.0"),
)
SMALL = (
    "train.output_dir=out",
    "train.init_checkpoint=",
    "train.device=cpu",
    "train.batch_size=2",
    "train.seed=1",
    "train.eval_period=0",
    "train.log_period=1",
    "train.clip_gradients.enabled=True",
    "optimizer.lr=0.1",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
    "dataloader.test.mapper.augmentations.0.short_edge_length=64",
    "model.backbone.bottom_up.stem.norm=BN",
    "model.backbone.bottom_up.stages.norm=BN",
    "model.backbone.bottom_up.freeze_at=0",
    "model.proposal_generator.post_nms_topk=[50,50]",
    "model.roi_heads.batch_size_per_image=16",
    "model.roi_heads.box_head.fc_dims=[32]",
    "model.roi_heads.box_predictor.input_shape.channels=32",
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
    "model.roi_heads.mask_head.conv_dims=[16,16]",
    "model.combine_instances_score_thresh=0.1",
    "model.combine_stuff_area_thresh=16",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with both data sets, where the runs' relative paths begin."""
    root = tmp_path_factory.mktemp("panoptic")
    make_cityscapes_panoptic(root)
    make_coco_panoptic(root)
    with pytest.MonkeyPatch.context() as patch, coco_at(root):
        patch.setenv("DETECTRON2_DATASETS", str(root))
        patch.chdir(root)
        yield root
    shutil.rmtree(root)


def check_figures(results: dict, classes: list[str]) -> None:
    quality = results["panoptic_seg"]
    parts = ("", "_th", "_st")
    assert set(quality) == {f"{name}{part}" for name in ("PQ", "SQ", "RQ") for part in parts}
    assert all(0 <= value <= 100 for value in quality.values())
    # A segment's quality is at most 1, however little such a training has learned.
    assert all(quality[f"PQ{part}"] <= quality[f"RQ{part}"] + 1e-9 for part in parts)
    assert 0 <= results["sem_seg"]["mIoU"] <= 100
    assert all(f"IoU-{name}" in results["sem_seg"] for name in classes)


@pytest.mark.parametrize("name", RECIPES)
def test_saved_recipe_loads_as_the_same(name: str, tmp_path: Path) -> None:
    cfg = ifa_d2.get_config(name)
    assert not OmegaConf.missing_keys(cfg)
    TrainSettings.from_config(cfg)
    check_saved_again(cfg, tmp_path)


@pytest.mark.parametrize("data", ["cityscapes", "coco"])
def test_recipes_differ_in_the_semantic_head_alone(data: str) -> None:
    base, ours, deep = (
        OmegaConf.to_container(ifa_d2.get_config(f"panoptic/{data}/{name}.py")) for name in NAMES
    )
    heads = [cfg["model"].pop("sem_seg_head") for cfg in (base, ours, deep)]
    assert len({cfg.pop("recipe") for cfg in (base, ours, deep)}) == 3
    assert base == ours
    assert heads[0]["num_classes"] == heads[1]["num_classes"] == {"coco": 54}.get(data, 12)
    assert heads[0]["loss_weight"] == heads[1]["loss_weight"]
    assert heads[1] == heads[2]
    assert deep["train"].pop("init_checkpoint").endswith("R-101.pkl")
    assert deep["model"]["backbone"]["bottom_up"]["stages"].pop("depth") == 101
    ours["train"].pop("init_checkpoint")
    ours["model"]["backbone"]["bottom_up"]["stages"].pop("depth")
    assert deep == ours


@pytest.mark.parametrize("data", ["cityscapes", "coco"])
def test_models_are_detectron2s_but_for_the_head(data: str) -> None:
    models = [
        build_on_meta(ifa_d2.get_config(f"panoptic/{data}/panoptic_{name}_r50.py"))
        for name in ("fpn", "ifa")
    ]
    shapes = [
        {k: v.shape for k, v in m.state_dict().items() if not k.startswith("sem_seg_head.")}
        for m in models
    ]
    assert shapes[0] == shapes[1]
    head = models[1].sem_seg_head
    assert isinstance(head, IFASemSegHead) and tuple(head.levels.in_features) == (
        "p2",
        "p3",
        "p4",
        "p5",
    )
    assert not head.aux_heads and head.criterion.threshold == 1.0
    things = len(MetadataCatalog.get(_data_sets(data)[0]).thing_classes)
    assert models[1].roi_heads.num_classes == things
    classes = MetadataCatalog.get(_data_sets(data)[0]).stuff_classes
    assert head.num_classes == len(classes)
    if data == "coco":
        theirs = build_on_meta(model_zoo.get_config(ZOO.replace(".yaml", ".py")))
        assert {k: v.shape for k, v in theirs.state_dict().items()} == {
            k: v.shape for k, v in models[0].state_dict().items()
        }


def _data_sets(data: str) -> list[str]:
    return build.test_dataset_names(ifa_d2.get_config(f"panoptic/{data}/panoptic_ifa_r50.py"))


def test_detectron2s_file_and_a_few_keys_are_the_recipe() -> None:
    lazy, yacs = ifa_d2.get_config("panoptic/coco/panoptic_ifa_r50.py"), load_config(ZOO, KEYS)
    assert yacs.train.output_dir.endswith("panoptic_fpn_R_50_1x")
    models = [build_on_meta(cfg) for cfg in (lazy, yacs)]
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in models]
    assert shapes[0] == shapes[1]
    assert str(models[0].sem_seg_head) == str(models[1].sem_seg_head)
    assert models[0].sem_seg_head.loss_weight == models[1].sem_seg_head.loss_weight == 0.5
    for key in ("max_iter", "batch_size", "init_checkpoint", "checkpoint_period"):
        values = [getattr(TrainSettings.from_config(cfg), key) for cfg in (lazy, yacs)]
        assert values[0] == values[1], key
    optimizers = [build_optimizer(c, m) for c, m in zip((lazy, yacs), models, strict=True)]
    groups = [[(g["lr"], g["weight_decay"]) for g in o.param_groups] for o in optimizers]
    assert set(groups[0]) == set(groups[1]) == {(0.02, 1e-4), (0.02, 0.0)}
    schedules = [build_scheduler(c, o) for c, o in zip((lazy, yacs), optimizers, strict=True)]
    for done in (0.0, 0.005, 0.5, 0.7, 0.95):
        factors = [schedule._multiplier(done) for schedule in schedules]
        assert factors[0] == pytest.approx(factors[1]), done
    assert build.test_dataset_names(lazy) == build.test_dataset_names(yacs)
    mappers = [build.build_test_mapper(cfg) for cfg in (lazy, yacs)]
    edges = [mapper.augmentations.augs[0] for mapper in mappers]
    assert {(edge.short_edge_length[0], edge.max_size) for edge in edges} == {(800, 1333)}
    assert [mapper.image_format for mapper in mappers] == ["BGR", "BGR"]


def test_detectron2s_file_in_its_own_api(tmp_path: Path) -> None:
    """What a user does by hand is what a file says."""
    path = tmp_path / "panoptic.yaml"
    path.write_text(
        f"_BASE_: model_zoo://{ZOO}\n"
        "MODEL:\n"
        "  SEM_SEG_HEAD: {NAME: IFASemSegHead, NORM: SyncBN}\n"
        "  IFA: {HIDDEN_DIMS: [256, 128], OHEM_THRESHOLD: 1.0}\n"
    )
    cfg = get_cfg()
    ifa_d2.add_ifa_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file(ZOO))
    cfg.MODEL.SEM_SEG_HEAD.NAME = "IFASemSegHead"
    keys = ["MODEL.SEM_SEG_HEAD.NORM", "SyncBN", "MODEL.IFA.HIDDEN_DIMS", [256, 128]]
    cfg.merge_from_list([*keys, "MODEL.IFA.OHEM_THRESHOLD", 1.0])
    cfg.OUTPUT_DIR = "out"
    told = load_config(str(path), ["OUTPUT_DIR=out"])
    assert (
        yacs_config(told.yacs)
        == cfg
        == yacs_config(load_config(ZOO, [*KEYS, "OUTPUT_DIR=out"]).yacs)
    )
    assert cfg.MODEL.MASK_ON
    assert build_on_meta(cfg).sem_seg_head.num_classes == 54
    cfg.MODEL.META_ARCHITECTURE = "FieldPanopticFPN"
    assert isinstance(build_on_meta(cfg), FieldPanopticFPN)


def test_file_of_no_model_zoo(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("_BASE_: model_zoo://COCO-PanopticSegmentation/none.yaml\n")
    with pytest.raises(ValueError, match=r"_BASE_ must be .* got 'model_zoo://COCO-Pan.*none.yaml"):
        load_config(str(path))
    with pytest.raises(ValueError, match="name must be a recipe such as"):
        load_config("COCO-PanopticSegmentation/none.yaml")


def test_cityscapes_trains_resumes_and_is_evaluated(root: Path) -> None:
    """And is asked as a field, and drawn."""
    recipe = "panoptic/cityscapes/panoptic_ifa_r50.py"
    shutil.rmtree(root / "out", ignore_errors=True)
    half = ("train.max_iter=10", "train.checkpointer.period=5")
    keys = (*SMALL, "dataloader.train.mapper.augmentations.1.prob=0")
    train_net(recipe, *keys, *half)
    values = logged(root / "out")
    assert len(values) == 10 and all(map(math.isfinite, values))
    assert sum(values[-3:]) < sum(values[:3])
    semantic = logged(root / "out", "loss_sem_seg")
    assert sum(semantic[-3:]) < 0.8 * sum(semantic[:3])
    first = torch.load(root / "out" / "model_final.pth", weights_only=True)
    # As if it had been stopped behind the checkpoint.
    (root / "out" / "last_checkpoint").write_text("model_0000004.pth")
    results = train_net(recipe, "--resume", *keys, *half)
    again = torch.load(root / "out" / "model_final.pth", weights_only=True)
    for name, value in first["model"].items():
        torch.testing.assert_close(again["model"][name], value, msg=name)
    check_figures(results, ["things", "road", "sky"])
    best = torch.load(root / "out" / "model_best.pth", weights_only=True)
    assert best["best_metric"] == pytest.approx(results["panoptic_seg"]["PQ"])
    own = train_net(
        recipe,
        "--eval-only",
        *SMALL,
        "model._target_=ifa_d2.modeling.FieldPanopticFPN",
        "train.init_checkpoint=out/model_final.pth",
    )
    check_figures(own, ["things"])

    predictor = ifa_d2.Predictor.from_config(recipe, "out/model_final.pth", SMALL)
    record = DatasetCatalog.get("cityscapes_fine_panoptic_val_separated")[0]
    image = cv2.imread(record["file_name"])
    field = predictor(image)
    assert isinstance(field, PanopticField) and field.image_size == image.shape[:2]
    window = (10, 20, 42, 68)
    merged, segments = field.panoptic((64, 96), window)
    assert merged.shape == (64, 96) and segments
    metadata = MetadataCatalog.get("cityscapes_fine_panoptic_val_separated")
    part = cv2.resize(image[10:42, 20:68, ::-1], (96, 64))
    drawn = draw_panoptic(part, merged.numpy(), segments, metadata)
    assert drawn.shape == part.shape and (drawn != part).any()


def test_coco_yaml_trains_and_is_evaluated(root: Path) -> None:
    shutil.rmtree(root / "out", ignore_errors=True)
    keys = [
        *("OUTPUT_DIR=out", "MODEL.DEVICE=cpu", "MODEL.WEIGHTS=", "SOLVER.MAX_ITER=6"),
        *("SOLVER.IMS_PER_BATCH=2", "SOLVER.BASE_LR=0.005", "SOLVER.WARMUP_ITERS=0"),
        *("SOLVER.STEPS=()", "SOLVER.LOG_PERIOD=1", "SEED=1", "DATALOADER.NUM_WORKERS=0"),
        *("INPUT.MIN_SIZE_TRAIN=(64,)", "INPUT.MIN_SIZE_TEST=64", "INPUT.RANDOM_FLIP=none"),
        *("MODEL.RESNETS.NORM=BN", "MODEL.BACKBONE.FREEZE_AT=0"),
        *("MODEL.RPN.POST_NMS_TOPK_TRAIN=50", "MODEL.RPN.POST_NMS_TOPK_TEST=50"),
        *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE=16", "MODEL.ROI_BOX_HEAD.FC_DIM=32"),
        *("MODEL.ROI_MASK_HEAD.CONV_DIM=16", "SOLVER.CLIP_GRADIENTS.ENABLED=True"),
        "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT=16",
    ]
    results = train_net(ZOO, *KEYS, *keys)
    values = logged(root / "out")
    assert len(values) == 6 and all(map(math.isfinite, values))
    assert sum(values[-2:]) < 0.9 * sum(values[:2])
    check_figures(results, ["things", "sky", "grass"])
    assert results["sem_seg"]["absent_classes"] <= 51


def test_mapper_of_bit_masks() -> None:
    cfg = load_config(ZOO, ["INPUT.MASK_FORMAT=bitmask"])
    mapper = build_mapper(cfg, is_train=True)
    assert type(mapper).__name__ == "PanopticInstanceMapper" and mapper.use_instance_mask
    assert np.array_equal(mapper.image_format, "BGR")
