"""Pictures of any number of bands: the same values in training, evaluation and prediction."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from field_page import build_app
from omegaconf import DictConfig
from PIL import Image

from ifa_d2 import Predictor, get_config
from ifa_d2.data import (
    SemSegMapper,
    build_sem_seg_augmentations,
    read_bands,
    register_sem_seg_folder,
)
from ifa_d2.data.check import check_dataset
from ifa_d2.data.labels import read_record_label
from ifa_d2.data.statistics import pixel_statistics
from ifa_d2.demo import Drawing, Segmenter, View
from ifa_d2.demo.sources import dataset_pictures
from ifa_d2.engine import Trainer
from ifa_d2.engine.build import build_model
from ifa_d2.engine.export import export_model
from ifa_d2.engine.inputs import build_mapper, check_scales
from ifa_d2.engine.run import load_config, setup_run
from ifa_d2.modeling import TimmBackbone
from ifa_d2.modeling.picture_fields import padded_images
from ifa_d2.visualization import to_rgb
from tests.data.readers import read_everywhere

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
DEEP = RNG.integers(1, 60000, (6, 9, 5)).astype(np.uint16)
SMALL = (DEEP % 251).astype(np.uint8)
REAL = RNG.normal(0, 3, (6, 9, 2)).astype(np.float32)
GDAL_NODATA = (42113, "s", 0, "7", True)


def tiff(pixels: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **{"photometric": "minisblack"} | options)


CHUNKY = {"planarconfig": "contig"}
FORMS: dict[str, tuple[Callable[[Path], None], np.ndarray]] = {
    "deep.tif": (tiff(DEEP, **CHUNKY), DEEP),
    "small.tiff": (tiff(SMALL, **CHUNKY, compression="zlib"), SMALL),
    "planes.tif": (tiff(DEEP.transpose(2, 0, 1).copy(), planarconfig="separate"), DEEP),
    "real.tif": (tiff(REAL, **CHUNKY), REAL),
    "grey.tif": (tiff(DEEP[:, :, 0].copy()), DEEP[:, :, :1]),
    "grey.png": (lambda path: cv2.imwrite(str(path), DEEP[:, :, 0]), DEEP[:, :, :1]),
    "deep.png": (lambda path: cv2.imwrite(str(path), DEEP[:, :, 2::-1].copy()), DEEP[:, :, :3]),
    "four.png": (lambda path: Image.fromarray(SMALL[:, :, :4].copy()).save(path), SMALL[:, :, :4]),
    "one.png": (lambda path: Image.fromarray(SMALL[:, :, 0]).save(path), SMALL[:, :, :1]),
}


@pytest.mark.parametrize("name", FORMS)
def test_values_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    write, expected = FORMS[name]
    write(tmp_path / name)
    bands = read_bands(tmp_path / name, expected.shape[2])
    assert bands.dtype == np.float32
    np.testing.assert_array_equal(bands, expected)


def test_pixels_without_data_are_so_in_all_bands(tmp_path: Path) -> None:
    pixels = DEEP.copy()
    pixels[1, 2, 3] = pixels[4, 5] = 7
    tiff(pixels, **CHUNKY, extratags=[GDAL_NODATA])(tmp_path / "a.tif")
    bands = read_bands(tmp_path / "a.tif")
    missing = np.isnan(bands).all(axis=2)
    assert np.argwhere(missing).tolist() == [[1, 2], [4, 5]]
    np.testing.assert_array_equal(bands[~missing], pixels[~missing])
    real = REAL.copy()
    real[0, 0, 1], real[5, 8, 0] = np.nan, -np.inf
    tiff(real, **CHUNKY)(tmp_path / "b.tif")
    missing = np.isnan(read_bands(tmp_path / "b.tif"))
    assert np.argwhere(missing.all(axis=2)).tolist() == [[0, 0], [5, 8]] and missing.sum() == 4


def test_a_value_without_a_tag_means_no_data(tmp_path: Path) -> None:
    pixels = DEEP.copy()
    pixels[1, 2, 3], pixels[4, 5] = 9, 7
    tiff(pixels, **CHUNKY)(tmp_path / "bare.tif")
    tiff(pixels, **CHUNKY, extratags=[GDAL_NODATA])(tmp_path / "tagged.tif")
    for name, nodata, missing in (
        ("bare", None, []),
        ("bare", 9, [[1, 2]]),
        ("bare", 7.0, [[4, 5]]),
        ("tagged", 9, [[1, 2], [4, 5]]),  # its own too
        ("tagged", -9999, [[4, 5]]),
    ):
        bands = read_bands(tmp_path / f"{name}.tif", 5, nodata)
        assert np.argwhere(np.isnan(bands).all(axis=2)).tolist() == missing
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, 2::-1].copy())
    assert np.argwhere(np.isnan(read_bands(tmp_path / "a.png", 3, 7))[:, :, 0]).tolist() == [[4, 5]]


def test_a_registered_value_is_no_data_everywhere(tmp_path: Path) -> None:
    """Files without a tag, registered with its value, are those with the tag."""
    folders = [tmp_path / name for name in ("tagged", "bare")]
    ways = []
    for folder, tag in zip(folders, (GDAL_NODATA, None), strict=True):
        folder.mkdir()
        (folder / "labels").mkdir()
        bands = np.random.default_rng(0).integers(10, 999, (48, 64, 5)).astype(np.uint16)
        bands[-8:, -16:, 2] = 7
        options = CHUNKY if tag is None else {**CHUNKY, "extratags": [tag]}
        (folder / "images").mkdir()
        tiff(bands, **options)(folder / "images" / "0.tif")
        Image.fromarray((bands[:, :, 0] % 2).astype(np.uint8)).save(folder / "labels" / "0.png")
        name, given = f"mine_{folder.name}", {} if tag else {"nodata": 7}
        paths = (folder / "images", folder / "labels")
        register_sem_seg_folder(name, *paths, ("soil", "crop"), bands=5, **given)
        register_sem_seg_folder(name, *paths, ("soil", "crop"), bands=5, **given)  # once more
        (record,) = DatasetCatalog.get(name)
        assert record.get("nodata") == (None if tag else 7.0)
        sample = SemSegMapper(is_train=True, image_format="bands")(record)
        cfg = field_config(tmp_path, name)
        torch.manual_seed(0)
        model = build_model(cfg, pretrained=False).eval()
        predictor = Predictor(model, image_format="bands", metadata=MetadataCatalog.get(name))
        drawing = Drawing(Segmenter(cfg, model, View()), MetadataCatalog.get(name))
        (picture,) = dataset_pictures(name, 1)
        found = pixel_statistics(name)
        ways.append(
            {
                "image": sample["image"].numpy(),
                "label": sample["sem_seg"].numpy(),
                "evaluated": read_record_label(record),
                "file": predictor._read(record["file_name"]),
                "drawn": drawing.read(picture)[0],
                "labels": predictor(record["file_name"]).labels().numpy(),
                "statistics": np.array([*found.mean, *found.std, found.without_data]),
            }
        )
        assert not check_dataset(name).faults
        if not tag:
            np.testing.assert_array_equal(predictor._read(bands), ways[-1]["file"])
    for way, values in ways[0].items():
        np.testing.assert_array_equal(values, ways[1][way], err_msg=way)
    assert ways[1]["statistics"][-1] == 8 * 16 and (ways[1]["label"] == 255).sum() == 8 * 16


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SMALL[:, :, :3].copy()).save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.tif", tiff(DEEP.astype(np.int16), **CHUNKY), "has pixels of int16: bands are read of"),
        ("a.tif", tiff(REAL.astype(np.float64), **CHUNKY), "has pixels of float64"),
        ("a.tif", tiff(DEEP.transpose(2, 0, 1).copy()), "holds 5 pages"),
        ("a.tif", tiff(DEEP, **CHUNKY, extratags=[(274, "H", 1, 6, True)]), "to be turned by"),
        ("a.tif", tiff(DEEP[:, :, :4].copy(), **CHUNKY), "has 4 bands of uint16, but 5 are exp"),
        ("a.tif", lambda path: path.write_bytes(b"no"), "cannot read the image"),
        ("a.png", lambda path: path.write_bytes(b"no"), "cannot read the image"),
        ("a.png", turned, "is to be turned by its tag"),
        ("a.jpg", lambda path: Image.fromarray(SMALL[:, :, :3].copy()).save(path), "is a JPEG"),
        (
            "a.tif",
            tiff(DEEP, **CHUNKY, extratags=[(42113, "s", 0, "none", True)]),
            "says that 'none' means no data, which is no number",
        ),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, name: str, write: Callable[[Path], None], said: str
) -> None:
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / name
    write(path)
    with pytest.raises(ValueError, match=rf"'{path}'.*{said}|{said}.*'{path}'"):
        read_bands(path, 5)
    register_sem_seg_folder("odd", path.parent, None, ["a", "b"], bands=5)
    (fault,) = check_dataset("odd").faults
    assert fault.file == str(path) and said.split(".*")[0][-12:] in fault.problem


def write_fields(root: Path, count: int = 3, size: tuple[int, int] = (48, 64)) -> Path:
    """Pictures of five bands in which one band shows the class, and a corner has no data."""
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for index in range(count):
        label = np.kron([[0, 1], [1, index % 2]], np.ones((size[0] // 2, size[1] // 2)))
        bands = RNG.normal(1000, 100, (*size, 5)) + 3000 * label[:, :, None] * [0, 0, 0, 0, 1]
        bands = bands.astype(np.uint16)
        bands[-8:, -16:] = 7
        tiff(bands, **CHUNKY, extratags=[GDAL_NODATA])(root / "images" / f"{index}.tif")
        Image.fromarray(label.astype(np.uint8)).save(root / "labels" / f"{index}.png")
    register_sem_seg_folder("mine", root / "images", root / "labels", ("soil", "crop"), bands=5)
    return root


def test_labels_of_pixels_without_data_are_ignored_everywhere(tmp_path: Path) -> None:
    write_fields(tmp_path, count=1, size=(16, 32))
    label = np.kron([[0, 1], [1, 0]], np.ones((8, 16), int))
    label[-8:, -16:] = 255
    read_everywhere(label.tolist(), image_format="bands")


def field_config(root: Path, name: str = "mine") -> DictConfig:
    """The Lite0 recipe for the fields, with the lines that the page says."""
    found = pixel_statistics(name)
    cfg = get_config("camvid/ifa_lite0.py")
    cfg.model.backbone.in_channels = 5
    cfg.model.pixel_mean, cfg.model.pixel_std = found.mean.tolist(), found.std.tolist()
    cfg.model.sem_seg_head.num_classes = 2
    cfg.model.sem_seg_head.levels.channels = [8, 8, 8, 8]
    cfg.model.sem_seg_head.alignment.hidden_dims = [16]
    cfg.model.sem_seg_head.aux_heads = []
    data = cfg.dataloader
    data.train.mapper.image_format = data.test.mapper.image_format = "bands"
    data.train.mapper.augmentations.update(
        color_jitter=False, pad_value=float("nan"), short_edge=48, crop_size=(64, 64)
    )
    data.train.mapper.num_points = 64
    data.train.dataset.names = data.test.dataset.names = name
    data.train.num_workers = data.test.num_workers = 0
    cfg.train.update(max_iter=2, batch_size=2, output_dir=str(root / "out"), device="cpu")
    return cfg


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    root = tmp_path_factory.mktemp("fields")
    write_fields(root)
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.remove("mine")
    return root


@pytest.fixture
def cfg(fields: Path) -> DictConfig:
    """The config over them, registered."""
    register_sem_seg_folder("mine", fields / "images", fields / "labels", ("soil", "crop"), bands=5)
    return field_config(fields)


def test_statistics_are_those_of_all_pixels_with_data(
    cfg: DictConfig, fields: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    values = np.concatenate(
        [read_bands(path).reshape(-1, 5) for path in (fields / "images").iterdir()]
    ).astype(np.float64)
    values = values[~np.isnan(values[:, 0])]
    found = pixel_statistics("mine", workers=2)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, values.std(axis=0), rtol=1e-9)
    assert (found.pixels, found.without_data) == (len(values), 3 * 8 * 16)
    monkeypatch.setattr(sys, "argv", ["", "--dataset", "mine", "--workers", "1"])
    runpy.run_path(str(ROOT / "tools" / "dataset_statistics.py"))["main"]()
    comment, mean, std = capsys.readouterr().out.splitlines()
    assert comment == f"# mine, bands: {len(values)} pixels; 4.17 % more have no data"
    numbers = [float(one) for one in re.findall(r"[\d.]+", mean.split("=")[1])]
    np.testing.assert_allclose(numbers, found.mean, rtol=1e-5)
    assert std.startswith("model.pixel_std = [") and len(std.split(",")) == 5
    value = float(values[0, 0])
    monkeypatch.setattr(
        sys, "argv", ["", "--dataset", "mine", "--workers", "1", "--nodata", f"{value}"]
    )
    runpy.run_path(str(ROOT / "tools" / "dataset_statistics.py"))["main"]()
    comment = capsys.readouterr().out.splitlines()[0]
    assert comment.startswith(f"# mine, bands: {(values != value).all(axis=1).sum()} pixels;")


def test_statistics_of_colours(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(2):
        Image.fromarray(SMALL[:, :, index : index + 3]).save(tmp_path / "images" / f"{index}.png")
    register_sem_seg_folder("mine", tmp_path / "images", None, ["a", "b"])
    both = np.concatenate([SMALL[:, :, :3], SMALL[:, :, 1:4]]).reshape(-1, 3)
    found = pixel_statistics("mine")
    np.testing.assert_allclose(found.mean, both.mean(axis=0))
    np.testing.assert_allclose(found.std, both.std(axis=0))
    with pytest.raises(ValueError, match=r"nodata 0\.0 is of bands, but 'mine' is registered with"):
        pixel_statistics("mine", nodata=0.0)


def test_every_way_reads_the_same_values(cfg: DictConfig, fields: Path) -> None:
    model = build_model(cfg, pretrained=False).eval()
    (record, *_) = DatasetCatalog.get("mine")
    path = record["file_name"]
    expected = read_bands(path)
    predictor = Predictor(model, image_format="bands")
    drawing = Drawing(Segmenter(cfg, model, View()), MetadataCatalog.get("mine"))
    (picture,) = dataset_pictures("mine", 1)
    image, truth = drawing.read(picture)
    raw = tifffile.imread(path).astype(np.float32)
    raw[np.isnan(expected[:, :, 0]), 2] = np.inf  # one band is enough
    ways = {
        "training": SemSegMapper(is_train=True, image_format="bands")(record)["image"],
        "evaluation": SemSegMapper(is_train=False, image_format="bands")(record)["image"],
        "file": predictor._inputs(predictor._read(path))["image"],
        "array": predictor._inputs(predictor._read(raw))["image"],
    }
    for way, tensor in ways.items():
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor.permute(1, 2, 0), expected, err_msg=way)
    np.testing.assert_array_equal(image, expected)
    assert (truth == 2).sum() == 8 * 16  # ignored
    drawn = drawing.draw(image, truth)
    assert drawn.dtype == np.uint8 and drawn.shape[0] > 48
    # What they answer is the same, then, and finite.
    labels = predictor(path).labels()
    assert torch.equal(labels, predictor(raw).labels()) and labels.shape == (48, 64)
    assert predictor(path).logits().isfinite().all()
    assert predictor.averaged_labels(path, scales=(0.5, 1.0), flip=True).shape == (48, 64)
    tiff(DEEP[:, :, :4].copy(), **CHUNKY)(fields / "four.tif")
    with pytest.raises(ValueError, match=r"four.tif' has 4 bands of uint16, but 5 are expected"):
        predictor(fields / "four.tif")


def test_no_data_is_the_pixel_mean(cfg: DictConfig) -> None:
    model = build_model(cfg, pretrained=False).eval()
    (record, *_) = DatasetCatalog.get("mine")
    sample = SemSegMapper(is_train=False, image_format="bands")(record)
    image = sample["image"]
    filled = torch.where(image.isnan(), model.pixel_mean.cpu(), image)
    results = [padded_images(model, [{"image": one}]).tensor for one in (image, filled)]
    torch.testing.assert_close(*results)
    assert image.isnan().sum() == 5 * 8 * 16
    with pytest.raises(ValueError, match=r"image must have 5 channels, .* got \(3, 48, 64\)"):
        padded_images(model, [{"image": image[:3]}])


def test_a_training_of_bands_ends_with_figures(cfg: DictConfig) -> None:
    assert check_scales(cfg) == []
    setup_run(cfg)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    figures = trainer.train()["sem_seg"]
    assert 0 <= figures["mIoU"] <= 100
    assert all(one.isfinite().all() for one in trainer.model.state_dict().values())


def yacs_config(root: Path, *more: str) -> DictConfig:
    """A small yacs recipe for the fields."""
    found = pixel_statistics("mine")
    options = [
        *("INPUT.FORMAT=bands", "INPUT.COLOR_JITTER=False", "MODEL.DEVICE=cpu"),
        f"MODEL.PIXEL_MEAN={found.mean.tolist()}",
        f"MODEL.PIXEL_STD={found.std.tolist()}",
        *("MODEL.SEM_SEG_HEAD.NUM_CLASSES=2", "MODEL.SEM_SEG_HEAD.CONVS_DIM=8"),
        *("DATASETS.TRAIN=('mine',)", "DATASETS.TEST=('mine',)", "DATALOADER.NUM_WORKERS=0"),
        *("INPUT.MIN_SIZE_TRAIN=(48,)", "INPUT.CROP.SIZE=[64,96]", "INPUT.POINTS.NUM_POINTS=64"),
        *("SOLVER.MAX_ITER=2", "SOLVER.IMS_PER_BATCH=2", "SOLVER.WARMUP_ITERS=0"),
        f"OUTPUT_DIR={root / 'yacs'}",
    ]
    return load_config("shapes/ifa_r18.yaml", [*options, *more])


def test_a_yacs_config_of_bands_is_trained_and_predicts(cfg: DictConfig, tmp_path: Path) -> None:
    cfg = yacs_config(tmp_path)
    setup_run(cfg)
    trainer = Trainer(cfg)
    assert trainer.model.backbone.stem.conv1.in_channels == 5
    batch = next(iter(trainer.data_loader))
    assert all(one["image"].shape == (5, 64, 96) for one in batch)
    # Of 48 rows at scale 1, some are padded: with no data in all bands.
    assert any(one["image"].isnan().any() for one in batch)
    trainer.resume_or_load(resume=False)
    assert 0 <= trainer.train()["sem_seg"]["mIoU"] <= 100
    predictor = Predictor.build(cfg)
    (record, *_) = DatasetCatalog.get("mine")
    assert predictor.image_format == "bands"
    assert predictor(record["file_name"]).labels().shape == (48, 64)


def test_what_a_yacs_config_of_bands_needs_is_said(cfg: DictConfig, tmp_path: Path) -> None:
    for change, said in (
        ("MODEL.META_ARCHITECTURE=SemanticSegmentor", "META_ARCHITECTURE must be FieldSegmentor"),
        ("INPUT.FORMAT=RGB", "PIXEL_MEAN must be 3, .* got 5: INPUT.FORMAT bands reads other"),
    ):
        with pytest.raises(ValueError, match=said):
            build_model(yacs_config(tmp_path, change), pretrained=False)
    with pytest.raises(ValueError, match=r"RandomBrightness, .* \(INPUT.COLOR_JITTER False in a"):
        build_mapper(yacs_config(tmp_path, "INPUT.COLOR_JITTER=True"), is_train=True)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_first_convolution_of_weights_is_spread_over_bands(channels: int) -> None:
    """As timm does: repeated, times 3 / channels; summed for one."""
    options = {"model_name": "tf_efficientnet_lite0", "pretrained": True}
    rgb = TimmBackbone(**options).net.conv_stem.weight
    weight = TimmBackbone(**options, in_channels=channels).net.conv_stem.weight
    if channels == 1:
        expected = rgb.sum(dim=1, keepdim=True)
    else:
        expected = rgb.repeat(1, 2, 1, 1)[:, :channels] * 3 / channels
    torch.testing.assert_close(weight, expected)


def test_what_does_not_go_with_bands(cfg: DictConfig, fields: Path, tmp_path: Path) -> None:
    (record, *_) = DatasetCatalog.get("mine")
    with pytest.raises(ValueError, match=r"is registered with bands=5, but .* image_format is 'RG"):
        SemSegMapper(is_train=True)(record)
    del record["bands"]
    with pytest.raises(ValueError, match=r"registered without bands, but .* image_format is 'band"):
        SemSegMapper(is_train=True, image_format="bands")(record)
    for options, said in (
        ({}, "augmentations have RandomBrightness, which is of colours: .* color_jitter=False"),
        ({"color_jitter": False}, r"pad images with 116.0: .* pad_value must be float\('nan'\)"),
    ):
        augmentations = build_sem_seg_augmentations(short_edge=8, crop_size=(8, 8), **options)
        with pytest.raises(ValueError, match=said):
            SemSegMapper(is_train=True, image_format="bands", augmentations=augmentations)
    with pytest.raises(ValueError, match="image_format must be 'RGB', 'BGR' or 'bands', got 'L'"):
        SemSegMapper(is_train=True, image_format="L")
    with pytest.raises(ValueError, match="bands must be None or a number of at least 1, got 0"):
        register_sem_seg_folder("none", fields / "images", None, ["a", "b"], bands=0)
    for options in ({"nodata": 0}, {"nodata": float("nan"), "bands": 5}):
        with pytest.raises(ValueError, match="nodata must be a finite number, of images of bands"):
            register_sem_seg_folder("none", fields / "images", None, ["a", "b"], **options)
    predictor = Predictor(build_model(cfg, pretrained=False), image_format="bands")
    for wrong, said in (
        (DEEP[:, :, :3], r"image must have 5 bands, got \(6, 9, 3\)"),
        (DEEP.astype(np.int32), r"\(H, W, 5\) array of uint8, uint16 or float32, got .*int32"),
    ):
        with pytest.raises(ValueError, match=said):
            predictor(wrong)
    predictor.augmentations.augs.append(T.ResizeShortestEdge(32, 99))
    with pytest.raises(ValueError, match="a program of bands holds no resize: leave it out"):
        export_model(predictor, tmp_path / "a.onnx", "onnx")
    with pytest.raises(ValueError, match="the page shows no bands"):
        build_app(predictor, MetadataCatalog.get("mine"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"backbone": {"in_channels": 3}},
            r"in_channels must be 5, as many bands as model.pixel_m",
        ),
        ({"backbone": {"frozen": True}}, "frozen must be False with in_channels 5"),
        ({"_target_": "detectron2.modeling.SemanticSegmentor"}, "model must be a FieldSegmentor"),
    ],
)
def test_models_that_do_not_go_with_bands(cfg: DictConfig, change: dict, said: str) -> None:
    cfg.model.merge_with(change)
    with pytest.raises(ValueError, match=said):
        build_model(cfg, pretrained=False)


def test_bands_to_look_at() -> None:
    assert to_rgb(SMALL[:, :, :3]).tolist() == SMALL[:, :, :3].tolist()
    ramp = np.linspace(-5, 5, 101, dtype=np.float32)[None, :, None]
    shown = to_rgb(np.concatenate([ramp, 9 * ramp], axis=2))
    assert shown.shape == (1, 101, 3) and shown[0, 50].tolist() == [128, 128, 128]
    assert (shown[0, :3] == 0).all() and (shown[0, -3:] == 255).all()
    ramp[0, 50] = np.nan
    assert to_rgb(ramp)[0, 50].tolist() == [0, 0, 0]
    assert not to_rgb(np.full((2, 2, 4), np.nan, np.float32)).any()


def test_resizing_spreads_no_data_and_keeps_values() -> None:
    bands = np.full((4, 4, 5), 1000, np.float32)
    bands[0, 0] = np.nan
    resized = T.ResizeTransform(4, 4, 8, 8).apply_image(bands)
    assert np.isnan(resized[:2, :2]).all() and (resized[4:, 4:] == 1000).all()
