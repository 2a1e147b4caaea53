"""The driver of the paper's tables, and the models it names."""

import csv
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from functools import reduce
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig
from omegaconf import OmegaConf
from PIL import Image

from ifa_d2 import get_config
from ifa_d2.analysis.cost import build_on_meta
from ifa_d2.data.shapes import SHAPES_COUNTS, prepare_shapes
from ifa_d2.data.shapes.street import make_scene
from ifa_d2.layers import PositionEncoding
from ifa_d2.modeling import use_alignment

PROJECT = Path(__file__).parents[2] / "projects" / "IFA"
_ROWS = runpy.run_path(str(PROJECT / "table_rows.py"))
paper_model, paper_models = _ROWS["paper_model"], _ROWS["paper_models"]


@pytest.fixture(scope="module")
def command() -> Iterator[dict]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROJECT))
        yield runpy.run_path(str(PROJECT / "run_table.py"))


def _model(config: str) -> dict:
    return OmegaConf.to_container(paper_model(config).model)


def test_every_row_has_a_model_and_every_model_a_row(command: dict, tmp_path: Path) -> None:
    tables = command["read_paper_tables"]()
    assert sorted(tables) == [*"1234567", "figure3"]
    named = set()
    for table in tables.values():
        for row in table["rows"]:
            cfg = command["row_config"](row, table["num_classes"])
            assert not OmegaConf.missing_keys(cfg.model)
            assert cfg.model.sem_seg_head.num_classes == table["num_classes"]
            named.add(row["config"])
        assert len({row["row"] for row in table["rows"]}) == len(table["rows"])
    assert set(paper_models()) == named


@pytest.mark.parametrize("name", ["ifa_r101", "ifa_aspp_r101"])
@pytest.mark.parametrize("dataset", ["pascal_context", "ade20k"])
def test_rows_of_tables_6_and_7_are_the_models_of_their_recipes(name: str, dataset: str) -> None:
    models = [_model(f"table5/{name}")]
    models.append(OmegaConf.to_container(get_config(f"{dataset}/{name}.py").model))
    for model in models:
        model["sem_seg_head"]["num_classes"] = None
    assert models[0] == models[1]


def test_rows_that_are_trained_once_are_the_same_model(command: dict) -> None:
    pairs = [
        (row["config"], row["same_as"])
        for table in command["read_paper_tables"]().values()
        for row in table["rows"]
        if "same_as" in row
    ]
    assert ("table4/learned", "table1/ifa") in pairs
    assert ("figure3/dim24", "table1/ifa") in pairs
    defaults = {"num_frequencies": 6, "encoding": "learned"}
    for one, other in pairs:
        models = [_model(config) for config in (one, other)]
        for model in models:
            head = model["sem_seg_head"]
            head["alignment"] = {**defaults, **head["alignment"]}
        assert models[0] == models[1], (one, other)


@pytest.mark.parametrize("table", ["1", "3", "4"])
def test_rows_of_jittered_grids(command: dict, table: str) -> None:
    rows = command["read_paper_tables"]()[table]["rows"]
    jittered = [row for row in rows if "jittered" in row["config"]]
    assert len(jittered) == (3 if table == "3" else 1)
    for row in jittered:
        model, plain = _model(row["config"]), _model(row["config"].replace("_jittered", ""))
        plain["sem_seg_head"]["targets"] = {"_target_": "ifa_d2.modeling.JitteredGridTargets"}
        plain["sem_seg_head"]["alignment"]["local_ensemble"] = True
        assert model == plain


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("table1/ifa", f"table1/{name}") for name in ("bilinear", "carafe", "alignseg")),
        *(
            (f"table2/{name}_ifa", f"table2/{name}")
            for name in ("deeplabv3plus", "pspnet", "hrnet_w18", "hrnet_w48_ocr")
        ),
        ("table3/fpn_64_ifa", "table3/fpn_64"),
        ("table3/deeplabv3plus_128_ifa", "table3/deeplabv3plus_128"),
    ],
)
def test_alignments_are_one_call_apart(one: str, other: str) -> None:
    name = json.loads((PROJECT / "paper_tables.json").read_text())["models"][other]["alignment"]
    ifa, plain = paper_model(one), paper_model(other)
    assert ifa != plain
    use_alignment(ifa.model.sem_seg_head, name)
    assert ifa == plain


@pytest.mark.parametrize("dimensions", [12, 24, 36, 48, 60, 72])
def test_dimensions_of_the_encoding(dimensions: int) -> None:
    head = _model(f"figure3/dim{dimensions}")["sem_seg_head"]
    encoding = PositionEncoding(num_frequencies=head["alignment"]["num_frequencies"])
    assert encoding.num_features == 2 + dimensions


def test_saved_model_loads_as_the_same(tmp_path: Path) -> None:
    for config in ("table2/hrnet_w48_ocr_ifa", "table3/deeplabv3plus_128"):
        cfg = paper_model(config)
        cfg.model.sem_seg_head.num_classes = 19
        LazyConfig.save(cfg, str(tmp_path / "a.yaml"))
        LazyConfig.save(LazyConfig.load(str(tmp_path / "a.yaml")), str(tmp_path / "b.yaml"))
        assert (tmp_path / "a.yaml").read_text() == (tmp_path / "b.yaml").read_text()


def test_costs_beside_the_papers(
    command: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "costs.json"
    command["main"](["costs", "--tables", "6", "7", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert [(row["table"], row["row"]) for row in rows] == [
        (6, "IFA, R-101"),
        (6, "IFA*, R-101"),
        (7, "PSPNet, dilated R-101"),
        (7, "IFA, R-101"),
        (7, "IFA*, R-101"),
    ]
    assert [row["paper_macs"] / 1e9 for row in rows] == [59.1, 63.5, 280.3, 67.1, 72.0]
    for row in rows:
        assert row["paper_params"] is None
        assert row["macs"] == pytest.approx(row["paper_macs"], rel=0.01)
        assert row["macs_here"] < row["macs"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(rows) + 2
    assert "280.3" in lines[4] and "%" in lines[4]
    assert lines[-2].startswith("Table 6") and lines[-2].endswith(": 2 of the paper's 11 rows")
    assert lines[-1].startswith("Table 7") and "those that can be built here" in lines[-1]


def test_tables_with_all_rows_need_no_note(command: dict) -> None:
    (note,) = command["notes"](["1", "2", "3", "5"])
    assert "Table 5" in note and note.endswith(": 5 of the paper's 21 rows")


def test_pspnet_of_table_5_costs_what_the_paper_says(command: dict) -> None:
    table = command["read_paper_tables"]()["5"]
    row = table["rows"][0]
    cfg = command["row_config"](row, table["num_classes"])
    cost = command["report"](command["analyze"](cfg, tuple(table["input_size"])))
    assert cost["params"] == pytest.approx(row["params"], rel=0.003)
    assert cost["macs_textbook"] == pytest.approx(row["macs"], rel=0.005)


def test_hrnet_w48_costs_what_was_published(command: dict) -> None:
    """65.9 M and 747.3 G on Cityscapes: Wang et al., Deep High-Resolution Representation Learning
    for Visual Recognition (PAMI 2020)."""
    cfg = paper_model("table2/hrnet_w48_ocr")
    head = cfg.model.sem_seg_head
    head.num_classes, head.alignment.hidden_dims = 19, [15 * 48]
    head.levels.grid_decoder = None
    use_alignment(head, "bilinear")
    cost = command["report"](command["analyze"](cfg, (1024, 2048)))
    assert cost["params"] / 1e6 == pytest.approx(65.9, rel=0.002)
    assert cost["macs_textbook"] / 1e9 == pytest.approx(747.3, rel=0.002)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["costs", "--tables", "9"], "invalid choice: '9'"),
        (["8"], "invalid choice: '8'"),
        (["1", "--dataset", "voc"], "invalid choice: 'voc'"),
        (["6", "--dataset", "cityscapes"], "invalid choice: 'cityscapes'"),
        (["1", "--num-gpus", "2", "--num-processes", "2"], "not allowed with argument"),
        (["1", "--num-gpus", "0"], "--num-gpus must be 1 or more, got 0"),
        (["1", "--num-processes", "-1"], "--num-processes must be 1 or more, got -1"),
        (
            ["1", "--rows", "ifa", "train.max_itr=3"],
            "got train.max_itr=3: key=value goes after a lone --",
        ),
        (
            ["6", "--dataset", "pascal_context", "--backbone", "r18"],
            "--backbone must be paper on pascal_context for a ResNet-101, got 'r18'",
        ),
        (["1", "--seeds", "0"], "--seeds and --budget must be 1 or more, got 0 and None"),
        (["3", "--rows", "fpn_16"], "--rows must be of fpn_32, fpn_32_ifa, fpn_32_ifa_jittered"),
        (["1", "train.max_iters=3"], "the config has no key 'train.max_iters'"),
    ],
)
def test_mistakes_are_named(
    command: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        command["main"](arguments)
    assert message in f"{capsys.readouterr().err}{error.value.code}"


SMALL = {
    "table1/carafe": 18,
    "table2/deeplabv3plus_ifa": 18,
    "table2/pspnet": 18,
    "table2/hrnet_w18": "hrnet_w18_small",
    "table2/hrnet_w48_ocr_ifa": "hrnet_w18_small_v2",
    "table3/deeplabv3plus_128": 18,
    "table5/ifa_aspp_r18": 18,
    "table5/ifa_aspp_r101": 34,
    "table5/pspnet_r101": 34,
}


def _hrnet(*channels: int) -> dict[str, list[int]]:
    return {"levels.channels": list(channels)}


def _pspnet(channels: int) -> dict[str, list[int]]:
    widths = [channels, 512, 512, 512, 512]
    return {"levels.grid_decoder.align.in_channels": widths, "alignment.in_channels": [sum(widths)]}


# Widths of the small form and of the whole one, where these are not the same.
WIDTHS = {
    "table2/pspnet": (_pspnet(512), _pspnet(2048)),
    "table5/pspnet_r101": (_pspnet(512), _pspnet(2048)),
    "table2/hrnet_w18": (_hrnet(16, 32, 64, 128), _hrnet(18, 36, 72, 144)),
    "table2/hrnet_w48_ocr_ifa": (_hrnet(18, 36, 72, 144), _hrnet(48, 96, 192, 384)),
}


@pytest.mark.parametrize("config", SMALL)
def test_small_form_keeps_what_a_table_compares(command: dict, config: str) -> None:
    module = command["table_training"]
    row = {"config": config}
    small = module.training_config(row, "shapes", "r18")
    whole = module.training_config(row, "shapes", "paper")
    backbone = small.model.backbone
    assert backbone.get("depth", backbone.get("model_name")) == SMALL[config]
    heads = [OmegaConf.to_container(cfg.model.sem_seg_head) for cfg in (small, whole)]
    for head in heads:
        levels, alignment = head["levels"], head["alignment"]
        strides = {k: v["stride"] for k, v in levels.pop("input_shape").items()}
        if config == "table5/pspnet_r101":  # dilated, which the small blocks cannot be
            dilated = head is not heads[0]
            assert list(strides.values()) == ([4, 8, 8, 8] if dilated else [4, 8, 16, 32])
        else:
            head["strides"] = strides
        for aux in head["aux_heads"]:
            aux["channels"] = None
        if config == "table2/hrnet_w18":
            assert alignment.pop("hidden_dims") == ([240] if head is heads[0] else [270])
        widths = WIDTHS.get(config, ({}, {}))[0 if head is heads[0] else 1]
        for key, width in widths.items():  # that follow the backbone's
            *parents, last = key.split(".")
            assert reduce(dict.__getitem__, parents, head).pop(last) == width, key
    assert heads[0] == heads[1]
    model = build_on_meta(small)
    assert model.sem_seg_head.num_classes == 13
    for name, shape in model.backbone.output_shape().items():
        declared = small.model.sem_seg_head.levels.input_shape[name]
        assert (declared.channels, declared.stride) == (shape.channels, shape.stride)


def test_weights_of_a_training_fit_its_backbone(command: dict) -> None:
    config = command["table_training"].training_config
    resnet = config({"config": "table1/ifa"}, "cityscapes", "paper")
    assert resnet.train.init_checkpoint == "detectron2://DeepLab/R-52.pkl"
    assert resnet.model.backbone.norm == "BN"
    hrnet = config({"config": "table2/hrnet_w18"}, "cityscapes", "paper")
    assert hrnet.train.init_checkpoint == "" and hrnet.model.backbone.pretrained
    scratch = config({"config": "table2/hrnet_w18"}, "camvid", "paper")
    assert "pretrained" not in scratch.model.backbone
    with pytest.raises(ValueError, match=r"--num-processes must be 1 for table2/hrnet_w18, or"):
        config({"config": "table2/hrnet_w18"}, "shapes", "r18", "naiveSyncBN")
    for name, weights in (
        ("cityscapes/ifa_r18", "pretrained/resnet18_v1c.pth"),
        ("cityscapes/ifa_aspp_r101", "detectron2://DeepLab/R-103.pkl"),
        ("ade20k/pspnet_r101", "detectron2://DeepLab/R-103.pkl"),
    ):
        dataset, row = name.split("/")
        cfg = config({"config": f"table5/{row}"}, dataset, "paper", "SyncBN")
        assert (cfg.train.init_checkpoint, cfg.model.backbone.norm) == (weights, "SyncBN")
        assert cfg.dataloader.train.dataset.names.startswith(dataset)
        assert cfg.model.sem_seg_head.num_classes == (19 if dataset == "cityscapes" else 150)


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few small pictures where the data set is looked for."""
    root = tmp_path_factory.mktemp("datasets")
    for split, count in (("train", 2), ("val", 1)):
        for kind in ("images", "annotations"):
            (root / "camvid" / kind / split).mkdir(parents=True)
        for index in range(count):
            scene = make_scene(1, 0, index)
            label = scene.label(64, 96)
            for kind, picture in (("images", scene.image(64, 96)), ("annotations", label % 12)):
                Image.fromarray(picture).save(root / "camvid" / kind / split / f"{index}.png")
    return root


def _arguments(output: Path, *arguments: str) -> list[str]:
    augmentations = "dataloader.train.mapper.augmentations"
    return [
        *("1", "--dataset", "camvid", "--seeds", "1", "--output", str(output), *arguments, "--"),
        *(f"{augmentations}.crop_size=[64,96]", f"{augmentations}.short_edge=64"),
        *("train.batch_size=2", "train.device=cpu", "model.sem_seg_head.levels.channels=[8,8,8,8]"),
        *("dataloader.train.num_workers=0", "dataloader.test.num_workers=0"),
        "model.sem_seg_head.levels.dense_alignment.kernel_size=3",
    ]


@pytest.mark.slow
def test_a_table_is_trained_and_goes_on(
    command: dict,
    camvid: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """A row that fails is named and the others go on; what is done is not done again."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(camvid))
    rows = ["--rows", "bilinear", "carafe", "--budget", "1", "--repeats", "1"]
    done = subprocess.run(
        [sys.executable, str(PROJECT / "run_table.py"), *_arguments(tmp_path, *rows)],
        env={**os.environ, "PYTHONPATH": str(PROJECT.parents[1]), "OMP_NUM_THREADS": "1"},
        cwd=camvid,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "error: 1 of the rows failed" in done.stderr
    assert "[2/2] table1/carafe, seed 1: mIoU" in done.stderr
    assert done.stdout == (tmp_path / "table1.md").read_text(encoding="utf-8")
    reason = "levels.dense_alignment must say what it calls (_target_)"
    assert f"- Bilinear Up-sampling: {reason}" in done.stdout
    assert "1 iterations of 2 pictures" in done.stdout and "R-18 form" in done.stdout
    assert str(tmp_path) not in done.stdout

    with (tmp_path / "table1.csv").open(newline="", encoding="utf-8") as file:
        failed, carafe = csv.DictReader(file)
    assert (failed["row"], failed["mIoU, stride 4"]) == ("Bilinear Up-sampling", "failed")
    result = json.loads((tmp_path / "table1.json").read_text())["rows"][1]
    assert result["paper_miou"] == 76.8 and carafe["paper, Cityscapes val"] == "76.80"
    assert result["seconds"] > 0 and result["mib"] > 0
    # 360 rows are padded to 384 here, and are not in the paper's count.
    assert result["macs_here"] < result["macs"] * 384 / 360
    run = tmp_path / "table1" / "carafe" / "seed1"
    metrics = json.loads((run / "metrics.json").read_text().splitlines()[-1])
    assert result["miou"]["1"]["4"] == pytest.approx(metrics["sem_seg/mIoU"], abs=1e-3)
    assert [p.name for p in run.glob("*.pth")] == ["model_final.pth"]
    weights = torch.load(run / "model_final.pth", weights_only=True)["model"]
    assert result["params"] == sum(
        value.numel()
        for key, value in weights.items()
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    with Image.open(tmp_path / "table1.png") as picture:
        assert min(picture.size) > 100

    before = (run / "model_final.pth").stat().st_mtime_ns
    again = ["--rows", "carafe", "--repeats", "0", "--budget"]
    command["main"](_arguments(tmp_path, *again, "1"))
    captured = capsys.readouterr()
    assert "(was trained)" in captured.err and "| CARAFE" in captured.out
    assert (run / "model_final.pth").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match="carafe/seed1 holds a run of other settings"):
        command["main"](_arguments(tmp_path, *again, "2"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of the drawn scenes, under a marker that says they are all there."""
    root = tmp_path_factory.mktemp("datasets")
    marker = prepare_shapes(root / "shapes", counts={"train": 2, "val": 1}) / "shapes.json"
    recipe = json.loads(marker.read_text(encoding="utf-8"))
    marker.write_text(json.dumps({**recipe, "counts": SHAPES_COUNTS}), encoding="utf-8")
    return root


def _train_on_shapes(command: dict, output: Path, table: str, *arguments: str) -> dict:
    """Run the command; returns what it writes as JSON."""
    augmentations = "dataloader.train.mapper.augmentations"
    command["main"](
        [
            *(table, "--seeds", "1", "--repeats", "0", "--output", str(output), *arguments, "--"),
            *(f"{augmentations}.crop_size=[64,96]", f"{augmentations}.short_edge=64"),
            *("train.batch_size=2", "train.device=cpu"),
            *("dataloader.train.num_workers=0", "dataloader.test.num_workers=0"),
        ]
    )
    return json.loads((output / f"table{table}.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_tables_6_and_7_train(
    command: dict,
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Rows of the same model are trained once; each carries what is known of its training."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes))
    for table, rows, paper in (
        ("6", ["ifa_r101"], [53.0]),
        ("7", ["pspnet_r101", "ifa_r101"], [43.29, 45.23]),
    ):
        written = _train_on_shapes(command, tmp_path, table, "--budget", "1", "--rows", *rows)
        captured = capsys.readouterr()
        assert captured.err.count("(was trained)") == (table == "7")
        assert [row["run"] for row in written["rows"]] == [f"table5/{name}" for name in rows]
        assert [row["paper_miou"] for row in written["rows"]] == paper
        assert "(the paper's: multi-scale)" in written["what"]
        for row in written["rows"]:
            figures, training = row["miou"]["1"], row["trainings"]["1"]
            assert 0 <= figures["4"] <= 100 and 0 <= figures["1"] <= 100
            run = tmp_path / row["run"] / "seed1"
            metrics = [json.loads(line) for line in (run / "metrics.json").open()]
            losses = [line["total_loss"] for line in metrics if "total_loss" in line]
            assert training["total_loss"] == losses[-1] > 0
            assert training["seconds"] > 1 and training["torch"] == torch.__version__
            assert date.fromisoformat(training["date"]).year > 2000
        seconds = sorted(round(row["trainings"]["1"]["seconds"]) for row in written["rows"])
        assert f"A training took {seconds[0]}" in captured.out
        assert f"{seconds[-1]} s of wall time." in captured.out
    deep = torch.load(tmp_path / "table5/ifa_r101/seed1/model_final.pth", weights_only=True)
    assert "backbone.res4.5.conv2.weight" in deep["model"]  # a ResNet-34's, not a ResNet-18's


@pytest.mark.slow
def test_table_5_is_trained_by_two_processes_and_resumed(
    command: dict, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes))
    arguments = ["--budget", "2", "--rows", "ifa_r18", "--num-processes"]
    first = _train_on_shapes(command, tmp_path, "5", *arguments, "2")
    assert "--num-processes 2 --rows ifa_r18 --" in first["command"]
    run = tmp_path / "table5" / "ifa_r18" / "seed1"
    assert (run / "log.txt.rank1").is_file()
    assert LazyConfig.load(str(run.parent / "recipe.yaml")).model.backbone.norm == "naiveSyncBN"
    assert json.loads((run / "overrides.json").read_text())["processes"] == 2

    # As if it had been stopped after one iteration.
    checkpoint = torch.load(run / "model_final.pth", weights_only=True)
    assert checkpoint["iteration"] == checkpoint["trainer"]["iteration"] == 1
    checkpoint["iteration"] = checkpoint["trainer"]["iteration"] = 0
    torch.save(checkpoint, run / "model_0000000.pth")
    (run / "last_checkpoint").write_text("model_0000000.pth")
    (run / "model_final.pth").unlink()
    (run / "strides.json").unlink()
    second = _train_on_shapes(command, tmp_path, "5", *arguments, "2")
    assert "iterations 1 to 2 of 2 pictures" in (run / "train_output.txt").read_text()
    assert torch.load(run / "model_final.pth", weights_only=True)["iteration"] == 1
    before, after = (one["rows"][0]["trainings"]["1"]["seconds"] for one in (first, second))
    assert after > before
    with pytest.raises(SystemExit, match="ifa_r18/seed1 holds a run of other settings"):
        _train_on_shapes(command, tmp_path, "5", *arguments, "1")


@pytest.mark.parametrize("table", ["1", "3", "4"])
def test_results_without_a_training_record_are_read(
    command: dict, tmp_path: Path, table: str
) -> None:
    """Those that were committed before runs kept a record of their training."""
    writing = sys.modules["table_writing"]
    path = PROJECT / "results" / f"table{table}.json"
    results = json.loads(path.read_text(encoding="utf-8"))["rows"]
    for result in results:
        result.pop("trainings", None)
    assert writing.training_times(results) == ""
    paper = command["read_paper_tables"]()[table]
    with path.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        assert writing.table_rows(results, paper["dataset"]) == list(csv.DictReader(file))
    writing.plot(tmp_path / "drawn.png", results, "shapes, r18", paper)
    with Image.open(tmp_path / "drawn.png") as picture:
        assert min(picture.size) > 100
