from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig
from detectron2.layers import ShapeSpec

from ifa_d2.arguments import training_parser
from ifa_d2.engine.run import launch_run, load_config, setup_run
from ifa_d2.engine.saved_config import config_text
from ifa_d2.engine.yacs_config import yacs_config
from ifa_d2.modeling import IFASemSegHead, TimmBackbone
from ifa_d2.modeling.alignments import Sapa
from tests.tiny import RECIPE, tiny_config


def test_output_directory_is_named_after_the_recipe(tmp_path: Path) -> None:
    assert load_config("camvid/ifa_r18.py").train.output_dir == "./output/camvid/ifa_r18"
    assert load_config("shapes/ifa_r18.yaml").train.output_dir == "./output/shapes/ifa_r18"
    for key in ("train.output_dir", "OUTPUT_DIR"):
        suffix = "py" if key.islower() else "yaml"
        given = load_config(f"shapes/ifa_r18.{suffix}", [f"{key}={tmp_path}"])
        assert given.train.output_dir == str(tmp_path)
    assert load_config(str(RECIPE)).train.output_dir == "./output/tiny_recipe"
    here = load_config(str(RECIPE), [f"train.output_dir={tmp_path}"])
    assert here.train.output_dir == str(tmp_path)


def test_overrides_of_a_recipe() -> None:
    cfg = load_config(
        "cityscapes/ifa_r18.py",
        [
            "train.max_iter=7",
            "model.backbone.norm=GN",
            # An argument that the recipe leaves at its default.
            "model.sem_seg_head.alignment.hidden_dims=[64,32]",
            "dataloader.train.mapper.augmentations.crop_size=[64,96]",
            "model.pixel_mean.1=5",
            # Read, though no file has it.
            "inference.short_edges=[64,96]",
            # An argument of what is called by another override.
            "model.return_logits=True",
            "model._target_=ifa_d2.modeling.FieldSegmentor",
        ],
    )
    assert cfg.train.max_iter == cfg.lr_multiplier.max_iter == 7
    assert cfg.model.sem_seg_head.levels.norm == "GN"
    assert list(cfg.model.sem_seg_head.alignment.hidden_dims) == [64, 32]
    assert list(cfg.dataloader.train.mapper.augmentations.crop_size) == [64, 96]
    assert cfg.model.pixel_mean[1] == 5
    assert (list(cfg.inference.short_edges), cfg.model.return_logits) == ([64, 96], True)
    tiny = tiny_config(Path("out"), "train.reference_batch_size=8", "train.amp.enabled=true")
    assert (tiny.train.reference_batch_size, tiny.train.amp.enabled) == (8, True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_itr=7", "no key 'train.max_itr': .* did you mean max_iter"),
        ("model.sem_seg_head.alignment.num_frequency=4", "did you mean num_frequencies"),
        ("optimizer.learning_rate=1", "no key 'optimizer.learning_rate'"),
        ("inference.short_edge=[64]", "did you mean short_edges"),
        ("train.amp.type=bfloat16", "no key 'train.amp.type': .* did you mean dtype"),
        ("model.returns=True", "no key 'model.returns'"),
        ("model.pixel_mean.3=1", "no key 'model.pixel_mean.3'"),
        ("model._target_=no.such.thing", "no.such.thing cannot be imported"),
        # The names of what is made of parts now.
        (
            "model.sem_seg_head.channels=8",
            "no key 'model.sem_seg_head.channels': below model.sem_seg_head it is levels.channels",
        ),
        ("model.sem_seg_head.alignment=bilinear", "cannot be 'bilinear': .*use_alignment"),
        ("model.sem_seg_head.targets=points", "cannot be 'points': .*PointTargets"),
        ("train.max_iter", "overrides must be key=value each"),
        ("train.max_iter=[1,", r"\['train.max_iter=\[1,'\] cannot be read: .* input '\[1,'$"),
    ],
)
def test_overrides_that_change_nothing_are_errors(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config("shapes/ifa_r18.py", [override])


@pytest.mark.parametrize(
    "overrides",
    [
        ["SOLVER.MAX_ITER=7", "INPUT.CROP.SIZE=[64,96]"],
        ["SOLVER.MAX_ITER", "7", "INPUT.CROP.SIZE", "[64,96]"],
    ],
)
def test_overrides_of_yacs(overrides: list[str]) -> None:
    cfg = load_config("shapes/ifa_r18.yaml", overrides)
    assert cfg.train.max_iter == cfg.lr_multiplier.max_iter == 7
    assert list(cfg.yacs.INPUT.CROP.SIZE) == [64, 96]


def test_overrides_of_yacs_nodes_that_take_any_key() -> None:
    overrides = ["MODEL.IFA.ALIGNMENT=sapa", "MODEL.IFA.ALIGNMENT_OPTIONS.SIMILARITY=bilinear"]
    overrides += ["MODEL.TIMM.MODEL_OPTIONS.OUTPUT_STRIDE=16"]
    cfg = yacs_config(load_config("shapes/ifa_r18.yaml", overrides).yacs)
    shapes = {f"res{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 6)}
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = list(shapes)
    dense = IFASemSegHead.from_config(cfg, shapes)["levels"].dense_alignment
    assert isinstance(dense, Sapa) and dense.layers[0].key.out_channels == 64
    backbone = TimmBackbone.from_config(cfg, ShapeSpec(channels=3))
    assert backbone["model_options"] == {"output_stride": 16}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SOLVER.MAX_ITER"], "overrides must be KEY=value each"),
        (["SEED=1", "SOLVER.MAX_ITR=7"], r"'SOLVER\.MAX_ITR'; did you mean SOLVER\.MAX_ITER"),
        (["MODEL.IFA.HIDEN_DIMS=[8]"], r"did you mean MODEL\.IFA\.HIDDEN_DIMS"),
        (["MODEL.NO.SUCH=1"], r"no key 'MODEL\.NO\.SUCH'"),
        (["SOLVER.MAX_ITER=seven"], "SOLVER.MAX_ITER"),
    ],
)
def test_overrides_that_yacs_does_not_take(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config("shapes/ifa_r18.yaml", overrides)


def test_files_that_are_no_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"such as shapes/ifa_r18\.py, .* got .shapes/ifa_r19"):
        load_config("shapes/ifa_r19.py")
    for name, content, message in (
        ("config.json", "{}", r"config_file must end in \.py or \.yaml"),
        ("half.py", "model = (", r"half\.py is no config file: '\(' was never closed"),
        ("half.yaml", "model: [1,", r"half\.yaml is no config file: while parsing .* line 1"),
        ("list.yaml", "- 1", r"list\.yaml is no config file: it holds no keys"),
        ("empty.yaml", "", r"empty\.yaml is no config file: it holds no keys"),
        ("loop.yaml", "_BASE_: loop.yaml", r"loop\.yaml: its _BASE_ leads back to itself"),
        ("unknown.yaml", "NO_SUCH: 1", r"unknown\.yaml: .*NO_SUCH"),
        ("part.py", "model = dict()", r"part\.py is no recipe, .* but a part of one: model$"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message) as error:
            load_config(str(tmp_path / name))
        assert "\n" not in str(error.value)


def test_yaml_does_not_run_code(tmp_path: Path) -> None:
    file, trace = tmp_path / "config.yaml", tmp_path / "trace"
    file.write_text(f"model: !!python/object/apply:os.mkdir ['{trace}']\n")
    with pytest.raises(ValueError, match=r"config\.yaml"):
        load_config(str(file))
    assert not trace.exists()


def test_written_config_is_read_again(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path, "train.max_iter=9")
    (tmp_path / "config.yaml").write_text(config_text(cfg, []))
    again = load_config(str(tmp_path / "config.yaml"))
    LazyConfig.save(cfg, str(tmp_path / "one.yaml"))
    LazyConfig.save(again, str(tmp_path / "other.yaml"))
    assert (tmp_path / "one.yaml").read_text() == (tmp_path / "other.yaml").read_text()


def test_keys_that_nothing_reads_are_said(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path)
    cfg.train.sed = 2
    cfg.train.amp = {"enable": True}
    setup_run(cfg)
    log = (tmp_path / "log.txt").read_text()
    assert "train.sed is in the config, but nothing reads it" in log
    assert "train.amp.enable is in the config" in log
    assert log.count("nothing reads it") == 2


def test_seed_and_deterministic_mode(tmp_path: Path) -> None:
    draws = []
    for _ in range(2):
        setup_run(tiny_config(tmp_path))
        draws.append(torch.rand(2).tolist())
    assert draws[0] == draws[1]
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-gpus", "99"], "num_gpus is 99, but torch sees"),
        (["--num-processes", "0"], "number of processes must be 1 or more, got 0"),
        (["--num-machines", "2"], "dist_url must be tcp://HOST:PORT with several machines"),
    ],
)
def test_processes_that_cannot_be(arguments: list[str], message: str) -> None:
    args = training_parser("").parse_args(["--config-file", "x.py", *arguments])
    with pytest.raises(ValueError, match=message):
        launch_run(print, args)


def test_batch_has_to_divide_for_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ifa_d2.engine.run.comm.get_world_size", lambda: 3)
    cfg = tiny_config(tmp_path, "train.batch_size=4")
    with pytest.raises(ValueError, match="multiple of the number of processes, 3, got 4"):
        setup_run(cfg)
    assert not list(tmp_path.iterdir())
    setup_run(cfg, eval_only=True)
    # Detectron2's own rule makes a batch of 6 out of one of 16 for 8 processes.
    overrides = ["SOLVER.IMS_PER_BATCH=16", "SOLVER.REFERENCE_WORLD_SIZE=8"]
    setup_run(load_config("shapes/ifa_r18.yaml", [f"OUTPUT_DIR={tmp_path}", *overrides]))
