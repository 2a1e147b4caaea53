"""Label files keep their ids."""

import numpy as np
import pytest
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, PadTransform, TransformList
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ifa_d2.data import read_label
from ifa_d2.data.labels import LabelAugInput, translate_label

IDS = np.array([[0, 1, 2], [200, 254, 255]], np.uint8)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_grey_and_palette_labels_keep_their_ids(tmp_path, mode):
    image = Image.fromarray(IDS, mode=mode)
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    image.save(tmp_path / "label.png")
    label = read_label(str(tmp_path / "label.png"))
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, IDS)


def test_16_bit_labels_keep_their_ids(tmp_path):
    ids = np.array([[0, 255, 256], [300, 40000, 65535]], np.uint16)
    Image.fromarray(ids).save(tmp_path / "deep.png")
    label = read_label(str(tmp_path / "deep.png"))
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, ids)


def test_bilevel_labels_are_zero_and_one(tmp_path):
    Image.fromarray(IDS > 1).save(tmp_path / "two.png")
    np.testing.assert_array_equal(read_label(str(tmp_path / "two.png")), IDS > 1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_refused(tmp_path, mode):
    path = tmp_path / "colours.png"
    Image.new(mode, (3, 2)).save(path)
    with pytest.raises(ValueError, match=rf"{path}.*mode {mode}"):
        read_label(str(path))


@pytest.mark.parametrize("keep", [0, 20, 60, -1])
def test_damaged_files_are_named(tmp_path, keep):
    path = tmp_path / "damaged.png"
    pixels = np.random.default_rng(0).integers(0, 9, (30, 30)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    if keep < 0:
        content[60] ^= 255
    path.write_bytes(content[:keep] if keep >= 0 else content)
    with pytest.raises(ValueError, match=f"cannot read the label '{path}'"):
        read_label(str(path))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        read_label(str(tmp_path / "nothing.png"))


def _translate(label: np.ndarray, **changes: int | None) -> np.ndarray:
    arguments = {"num_classes": 11, "ignore_label": 11, "ignore_value": 255} | changes
    return translate_label(label, "file.png", **arguments)


@pytest.mark.parametrize(("ignore_value", "dtype"), [(255, np.uint8), (-1, np.int32)])
def test_the_files_ignore_label_becomes_the_models(ignore_value, dtype):
    label = _translate(np.array([[0, 11], [10, 11]], np.uint8), ignore_value=ignore_value)
    assert label.dtype == dtype
    assert label.tolist() == [[0, ignore_value], [10, ignore_value]]


def test_deep_labels_become_shallow_where_they_fit():
    assert _translate(np.array([[3, 11]], np.int32)).dtype == np.uint8


def test_deep_labels_stay_deep_where_they_do_not_fit():
    deep = _translate(np.array([[3, 400, 65535]], np.int32), num_classes=500, ignore_label=65535,
                      ignore_value=-1)  # fmt: skip
    assert deep.tolist() == [[3, 400, -1]]


def test_values_that_are_no_class_are_named():
    with pytest.raises(ValueError, match=r"'file.png' holds 12, 255: .* 11 classes 0..10 and 11"):
        _translate(np.array([[0, 12], [255, 11]], np.uint8))


def test_values_are_not_checked_without_a_number_of_classes():
    assert _translate(np.array([[12]], np.uint8), num_classes=None).tolist() == [[12]]


def test_an_ignore_value_that_is_a_class_is_refused():
    with pytest.raises(ValueError, match="ignore_value 255 is one of the 300 classes"):
        _translate(np.zeros((1, 1), np.int32), num_classes=300, ignore_label=65535)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    new=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_deep_labels_are_resized_as_shallow_ones(size, new):
    shallow = np.random.default_rng(1).integers(0, 255, size).astype(np.uint8)
    image = np.zeros((*size, 3), np.uint8)
    resize = TransformList(
        [
            T.ResizeTransform(*size, *new),
            CropTransform(0, 0, max(1, new[1] - 1), new[0]),
            PadTransform(0, 0, 2, 1, seg_pad_value=255),
        ]
    )
    results = []
    for label in (shallow, shallow.astype(np.int32)):
        inputs = LabelAugInput(image, sem_seg=label)
        inputs.transform(resize)
        assert (
            inputs.image.shape[:2] == inputs.sem_seg.shape == (new[0] + 1, max(1, new[1] - 1) + 2)
        )
        results.append(inputs.sem_seg)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_enlarged_labels_stay_under_their_pixels(dtype):
    label = np.arange(6, dtype=dtype).reshape(2, 3)
    inputs = LabelAugInput(np.zeros((2, 3, 3), np.uint8), sem_seg=label)
    inputs.transform(T.ResizeTransform(2, 3, 6, 9))
    np.testing.assert_array_equal(inputs.sem_seg[1::3, 1::3], label)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize(
    "transform",
    [
        T.RotationTransform(20, 30, 30, expand=False),
        T.RotationTransform(20, 30, -70, expand=True),
        T.ExtentTransform((-7.0, -5.0, 33.0, 22.0), (54, 80)),
    ],
    ids=repr,
)
def test_what_lies_outside_the_picture_is_ignored(transform, dtype):
    """Where the picture is filled, and nowhere else; no label is blended of others."""
    label = (np.indices((20, 30)).sum(0) // 7 % 2 * 9 + 2).astype(dtype)  # of 2 and 11
    image = np.full((20, 30, 3), 200, np.uint8)
    inputs = LabelAugInput(image, sem_seg=label, ignore_value=77)
    inputs.transform(TransformList([transform]))
    assert inputs.sem_seg.dtype == dtype
    assert set(np.unique(inputs.sem_seg)) == {2, 11, 77}
    filled, ignored = inputs.image[..., 0] == 0, inputs.sem_seg == 77
    assert filled.sum() > 50 and not (filled & ~ignored).any()
    blended = (inputs.image[..., 0] > 0) & (inputs.image[..., 0] < 200)
    assert not (ignored & ~filled & ~blended).any()
