"""Labels of a field in a tiled TIFF."""

import numpy as np
import pytest
import tifffile
import torch

from ifa_d2.evaluation import write_label_tiff
from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import SegmentationField


def make_field(num_classes: int = 7) -> SegmentationField:
    torch.manual_seed(0)
    alignment = ImplicitAlignment(in_channels=(4, 4), num_classes=num_classes, hidden_dims=(8,))
    torch.nn.init.normal_(alignment.predictor.weight)
    levels = [torch.randn(1, 4, 12, 16), torch.randn(1, 4, 6, 8)]
    return SegmentationField(alignment.eval(), levels, (48, 64))


@pytest.mark.parametrize("size", [(48, 64), (33, 100), (1, 1), (16, 32)])
@pytest.mark.parametrize("tile", [16, 48])
def test_it_holds_the_labels(tmp_path, size, tile):
    field = make_field()
    write_label_tiff(field, tmp_path / "labels.tif", size, tile=tile)
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        page = file.pages[0]
        assert (page.is_tiled, page.tile) == (True, (tile, tile))
        assert page.dtype == np.uint8
        assert np.array_equal(page.asarray(), field.labels(size).numpy())
    assert [p.name for p in tmp_path.iterdir()] == ["labels.tif"]


def test_a_window_of_many_classes(tmp_path):
    field, window = make_field(300), (3, 5, 20, 41)
    write_label_tiff(field, tmp_path / "a.tif", (40, 50), window, tile=16)
    value = tifffile.imread(tmp_path / "a.tif")
    assert value.dtype == np.int16
    assert np.array_equal(value, field.labels((40, 50), window).numpy())


def test_colours(tmp_path):
    field = make_field()
    colors = np.arange(21).reshape(7, 3)
    write_label_tiff(field, tmp_path / "b.tif", tile=16, colors=colors)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert np.array_equal(file.pages[0].colormap[:, :7], colors.T * 257)
        assert np.array_equal(file.asarray(), field.labels().numpy())


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"tile": 0}, "tile"),
        ({"tile": 100}, "tile"),
        ({"size": (0, 4)}, "size"),
        ({"window": (4, 4, 2, 8)}, "window"),
        ({"colors": [(0, 0, 0)]}, "colors"),
    ],
)
def test_bad_arguments_leave_no_file(tmp_path, kwargs, words):
    with pytest.raises(ValueError, match=words):
        write_label_tiff(make_field(), tmp_path / "labels.tif", **kwargs)
    assert not list(tmp_path.iterdir())


def test_a_failure_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "labels.tif"
    field = make_field()
    write_label_tiff(field, path, tile=16)
    before = path.read_bytes()
    bands = field.iter_bands((64, 64), height=16)

    def broken(*args, **kwargs):
        yield next(bands)
        raise RuntimeError("no more")

    monkeypatch.setattr(field, "iter_bands", broken)
    with pytest.raises(RuntimeError, match="no more"):
        write_label_tiff(field, path, (64, 64), tile=16)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["labels.tif"]
