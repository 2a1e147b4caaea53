"""Rasters of labels: what they hold, where they lie, and that interruptions leave no trace."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from detectron2.data import transforms as T
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from ifa_d2.engine import Predictor
from ifa_d2.engine.output_dir import locked_output
from ifa_d2.modeling.picture_fields import compute_fields
from ifa_d2.rasters import plan, run, segment_raster
from ifa_d2.rasters.journal import journal_folder
from ifa_d2.rasters.labels import block_labels
from tests.rasters.made import UTM, K, make_pixels, make_predictor, read_labels, write_raster

COLORS = [(10 * i, 20, 255 - i) for i in range(K)]
WINDOWS = {"window": (64, 64), "stride": 0.5}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return make_predictor()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Several blocks in a small raster."""
    monkeypatch.setattr(plan, "_BLOCK_WINDOWS", 8)
    monkeypatch.setattr(plan, "_SUM_BYTES", 4 * K * 64 * 100)
    yield


def bgr(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)[:, :, ::-1])


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_labels_are_those_of_windows_of_the_whole(
    predictor: Predictor, tmp_path: Path, blend: str
) -> None:
    """Whose windows, too, begin at multiples of what is padded to."""
    pixels = make_pixels(192, 224)
    path = write_raster(tmp_path / "a.tif", pixels, **UTM)
    size = segment_raster(predictor, path, tmp_path / "b.tif", **WINDOWS, blend=blend)
    assert size == (192, 224)
    expected = predictor.averaged_labels(bgr(pixels), **WINDOWS, blend=blend).numpy()
    found = read_labels(tmp_path / "b.tif")
    assert len(np.unique(expected)) > 2
    assert (found == expected).mean() > 0.9999  # but for ties
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]


def test_a_raster_of_odd_sides_against_the_picture_as_a_whole(
    predictor: Predictor, tmp_path: Path
) -> None:
    """Where windows overlap by more than the features see."""
    pixels = make_pixels(331, 275)
    path = write_raster(tmp_path / "a.tif", pixels)
    whole = predictor(bgr(pixels)).labels().numpy()
    views = {"window": (192, 192), "stride": (96, 96)}
    segment_raster(predictor, path, tmp_path / "b.tif", **views)
    assert (read_labels(tmp_path / "b.tif") == whole).mean() >= 0.999


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_another_scale_asks_the_field(predictor: Predictor, tmp_path: Path, scale: float) -> None:
    """In one window, exactly; in several, but for where they blend."""
    pixels = make_pixels(101, 75)
    path = write_raster(tmp_path / "a.tif", pixels, **UTM)
    size = (int(101 * scale + 0.5), int(75 * scale + 0.5))
    whole = predictor(bgr(pixels)).labels(size=size).numpy()
    segment_raster(predictor, path, tmp_path / "b.tif", scale=scale, window=(128, 128))
    assert np.array_equal(read_labels(tmp_path / "b.tif"), whole)
    segment_raster(predictor, path, tmp_path / "c.tif", scale=scale, window=(72, 72), stride=0.5)
    assert (read_labels(tmp_path / "c.tif") == whole).mean() > 0.97
    with rasterio.open(tmp_path / "b.tif") as written, rasterio.open(path) as read:
        assert written.bounds == pytest.approx(read.bounds)
        assert written.crs == read.crs and written.shape == size


def test_ground_distance_is_in_metres(predictor: Predictor, tmp_path: Path) -> None:
    pixels = make_pixels(40, 60)
    feet = {"crs": "EPSG:2263", "transform": Affine(2.0, 0, 0, 0, -1.0, 0)}
    for name, place, distance, size in (
        ("metres", UTM, 0.25, (80, 120)),
        ("feet", feet, 1200 / 3937, (40, 120)),
    ):
        path = write_raster(tmp_path / f"{name}.tif", pixels, **place)
        output = tmp_path / f"{name}_labels.tif"
        found = segment_raster(predictor, path, output, ground_distance=distance)
        assert found == size
    degrees = {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 8, 0, -1e-5, 50)}
    for name, place, system in (("none", {}, "none"), ("degrees", degrees, "EPSG:4326")):
        path = write_raster(tmp_path / f"{name}.tif", pixels, **place)
        with pytest.raises(ValueError, match=f"coordinate system of .* is {system}: give scale"):
            segment_raster(predictor, path, tmp_path / "x.tif", ground_distance=1.0)


def test_the_file_lies_where_the_raster_does(predictor: Predictor, tmp_path: Path) -> None:
    pixels = make_pixels(70, 90)
    turned = {"crs": "EPSG:32632", "transform": Affine(0.5, 0.1, 4e5, 0.1, -0.5, 5.5e6)}
    path = write_raster(tmp_path / "a.tif", pixels, **turned)
    segment_raster(predictor, path, tmp_path / "b.tif", scale=2, colors=COLORS)
    with rasterio.open(tmp_path / "b.tif") as written:
        expected = [0.25, 0.05, 4e5, 0.05, -0.25, 5.5e6]
        assert list(written.transform)[:6] == pytest.approx(expected)
        assert written.crs == turned["crs"] and written.nodata == 255
        assert [written.colormap(1)[i][:3] for i in range(K)] == COLORS
        assert written.profile["tiled"] and written.profile["compress"] == "deflate"
        assert written.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    points = [GroundControlPoint(0, 0, 8.0, 50.0), GroundControlPoint(70, 90, 8.1, 49.9)]
    points.append(GroundControlPoint(70, 0, 8.0, 49.9))
    path = write_raster(tmp_path / "c.tif", pixels)
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, "EPSG:4326")
    segment_raster(predictor, path, tmp_path / "d.tif", scale=2)
    with rasterio.open(tmp_path / "d.tif") as written:
        found, crs = written.gcps
        assert crs == "EPSG:4326"
        assert [(p.row, p.col, p.x, p.y) for p in found] == [
            (2 * p.row, 2 * p.col, p.x, p.y) for p in points
        ]


def test_where_there_are_no_data(predictor: Predictor, tmp_path: Path) -> None:
    """The largest value is there; elsewhere labels are those of a picture filled with the mean."""
    pixels = make_pixels(160, 200).clip(1)
    pixels[:, :90, :110] = 0  # whole windows and blocks
    pixels[:, 130:140, 150:170] = 0
    empty = (pixels == 0).all(0)
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0, **UTM)
    segment_raster(predictor, path, tmp_path / "b.tif", **WINDOWS)
    found = read_labels(tmp_path / "b.tif")
    assert np.array_equal(found == 255, empty)
    filled = write_raster(tmp_path / "c.tif", np.where(empty, 120, pixels).astype(np.uint8))
    segment_raster(predictor, filled, tmp_path / "d.tif", **WINDOWS)
    # A window of nothing but the mean is not shown.
    near = np.zeros_like(empty)
    near[:160, :180] = True
    expected = read_labels(tmp_path / "d.tif")
    assert (found == expected)[~empty & ~near].mean() > 0.999
    segment_raster(predictor, path, tmp_path / "e.tif", scale=0.5, **WINDOWS)
    assert np.array_equal(read_labels(tmp_path / "e.tif") == 255, empty[1::2, 1::2])


def test_bands_of_sixteen_bits(tmp_path: Path) -> None:
    predictor = make_predictor(4)
    pixels = make_pixels(90, 70, 4, "uint16")
    path = write_raster(tmp_path / "a.tif", pixels, **UTM)
    segment_raster(predictor, path, tmp_path / "b.tif", **WINDOWS)
    image = torch.from_numpy(pixels.astype(np.float32))
    whole = compute_fields(predictor.model, [{"image": image}])[0].labels().numpy()
    assert (read_labels(tmp_path / "b.tif") == whole).mean() > 0.95


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_pictures_without_georeference(predictor: Predictor, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(make_pixels(60, 50).transpose(1, 2, 0)).save(path)
    segment_raster(predictor, path, tmp_path / "b.tif")
    with rasterio.open(path) as dataset:
        expected = predictor(bgr(dataset.read())).labels().numpy()
    assert np.array_equal(read_labels(tmp_path / "b.tif"), expected)
    with rasterio.open(tmp_path / "b.tif") as written:
        assert written.crs is None and written.transform.is_identity


@pytest.fixture(scope="module")
def large(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A raster of many blocks, and the bytes of its labels."""
    folder = tmp_path_factory.mktemp("large")
    path = write_raster(folder / "a.tif", make_pixels(260, 230), **UTM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_BLOCK_WINDOWS", 8)
        patch.setattr(plan, "_SUM_BYTES", 4 * K * 64 * 100)
        segment_raster(predictor, path, folder / "b.tif", **WINDOWS, colors=COLORS)
    return path, (folder / "b.tif").read_bytes()


def test_processes_write_the_same_bytes(
    predictor: Predictor, large: tuple[Path, bytes], tmp_path: Path
) -> None:
    path, expected = large
    output = tmp_path / "b.tif"
    segment_raster(predictor, path, output, **WINDOWS, colors=COLORS, num_processes=3)
    assert output.read_bytes() == expected
    assert [one.name for one in tmp_path.iterdir()] == ["b.tif"]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_killed_three_times(
    predictor: Predictor,
    large: tuple[Path, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_processes: int,
) -> None:
    """Each time in the midst of a block, after one that is finished."""
    monkeypatch.setattr(run, "block_labels", _stall_in_the_second)
    path, expected = large
    output = tmp_path / "b.tif"
    folder = journal_folder(output)
    options = {**WINDOWS, "colors": COLORS, "num_processes": num_processes}
    counts = [0]
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(
            target=segment_raster,
            args=(predictor, path, output),
            kwargs={**options, "resume": counts[-1] > 0},
        )
        process.start()
        while len(list(folder.glob("block_*.tif"))) <= counts[-1]:
            assert process.is_alive()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        _wait_until_free(folder)
        counts.append(len(list(folder.glob("block_*.tif"))))
        assert not output.exists()
    assert counts == sorted(set(counts))
    monkeypatch.setattr(run, "block_labels", block_labels)
    with pytest.raises(ValueError, match=rf"holds {counts[-1]} blocks of a run .* --resume"):
        segment_raster(predictor, path, output, **options)
    for name, value, key in (
        ("blend", "constant", "blend was gaussian, and is constant now"),
        ("stride", 0.75, r"stride was \[32, 32\], and is \[48, 48\] now"),
        ("scale", 2.0, "output_size was"),
        ("batch_size", 2, "batch_size was 1"),
    ):
        with pytest.raises(ValueError, match=f"of another run, whose {key}"):
            segment_raster(predictor, path, output, **{**options, name: value}, resume=True)
    with pytest.raises(ValueError, match="of another run, whose model was"):
        segment_raster(make_predictor(seed=1), path, output, **options, resume=True)
    segment_raster(predictor, path, output, **options, resume=True)
    assert output.read_bytes() == expected
    assert [one.name for one in tmp_path.iterdir()] == ["b.tif"]


def _stall_in_the_second(*arguments: Any) -> np.ndarray:
    """Labels of a block, the second of a process never to the end."""
    _started.append(arguments)

    def progress(windows: int) -> None:
        arguments[-1](windows)
        if len(_started) > 1:
            time.sleep(600)

    return block_labels(*arguments[:-1], progress)


_started: list[Any] = []  # of a process of its own


def _wait_until_free(folder: Path) -> None:
    """Processes of one that was killed end by themselves, and hold the folder until then."""
    for _ in range(1000):
        try:
            with locked_output(folder):
                return
        except ValueError:
            time.sleep(0.05)
    raise AssertionError


def test_an_error_in_a_process_is_one_sentence(large: tuple[Path, bytes], tmp_path: Path) -> None:
    predictor = make_predictor()
    predictor.model.sem_seg_head.alignment.predictor.bias.data[1] = float("nan")
    with pytest.raises(ValueError, match=r"^logits must be finite to be labelled"):
        segment_raster(predictor, large[0], tmp_path / "b.tif", **WINDOWS, num_processes=2)
    assert not (tmp_path / "b.tif").exists()


def test_what_is_refused_before_anything_begins(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "block_labels", None)
    path = write_raster(tmp_path / "a.tif", make_pixels(40, 40), **UTM)
    output = tmp_path / "b.tif"
    (tmp_path / "there.tif").write_text("kept")
    for words, arguments, kwargs in (
        ("scale and ground_distance must not both", (path, output), {"scale": 1, **UTM_METRE}),
        ("scale must be a number above 0, got 0", (path, output), {"scale": 0}),
        ("ground_distance must be a number above 0, got -1", (path, output), BELOW),
        ("samples: ask for less", (path, output), {"scale": 1e9}),
        ("num_processes must be at least 1, got 0", (path, output), {"num_processes": 0}),
        ("batch_size must be at least 1, got 0", (path, output), {"batch_size": 0}),
        ("window must be at least 8 pixels", (path, output), {"window": (4, 64)}),
        ("colors must be of 4 classes, got 1", (path, output), {"colors": [(0, 0, 0)]}),
        ("output must end in .tif or .tiff, got b.png", (path, "b.png"), {}),
        ("is there already: remove it, or name another", (path, tmp_path / "there.tif"), {}),
        ("is there already", (path, path), {}),
    ):
        with pytest.raises(ValueError, match=words):
            segment_raster(predictor, *arguments, **kwargs)
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["a.tif", "there.tif"]
    resized = make_predictor(augmentations=[T.ResizeShortestEdge(20)])
    with pytest.raises(ValueError, match=r"augmentations .* are of whole pictures"):
        segment_raster(resized, path, output)


UTM_METRE = {"ground_distance": 1.0}
BELOW = {"ground_distance": -1}
