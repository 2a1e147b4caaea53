"""Every way into the package reads a file's same RGB pixels, or refuses it with its reason."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from detectron2.data import Metadata
from field_page import UploadError, decode_upload
from field_page.uploads import FORMATS as PAGE_FORMATS
from page_limits import Limits
from PIL import Image, ImageOps

from ifa_d2 import Predictor
from ifa_d2.data import (
    PanopticMapper,
    SemSegMapper,
    picture_size,
    read_label,
    read_picture,
    register_sem_seg_folder,
)
from ifa_d2.data.check import check_dataset
from ifa_d2.demo import Drawing, Picture, Segmenter, View
from ifa_d2.engine.build import build_model
from tests.tiny import tiny_config

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 4000, (6, 9, 4)).astype(np.uint16)
Read = Callable[[Path], np.ndarray]


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    return exif


def _palette(path: Path) -> np.ndarray:
    indices = (COLOURS[:, :, 0] % 4).astype(np.uint8)
    colours = RNG.integers(0, 256, (4, 3)).astype(np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette(colours.tobytes())
    image.save(path, transparency=1)
    return colours[indices]


def _rgba(path: Path) -> np.ndarray:
    Image.fromarray(np.dstack([COLOURS, DEEP[:, :, 0] % 256]).astype(np.uint8)).save(path)
    return COLOURS


def _grey(path: Path) -> np.ndarray:
    Image.fromarray(COLOURS[:, :, 0]).save(path)
    return np.repeat(COLOURS[:, :, :1], 3, axis=2)


def _grey_alpha(path: Path) -> np.ndarray:
    Image.fromarray(COLOURS[:, :, :2].copy(), mode="LA").save(path)
    return np.repeat(COLOURS[:, :, :1], 3, axis=2)


def _orientation(path: Path) -> np.ndarray:
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(COLOURS).save(path, exif=_turned(), **lossless)
    return np.rot90(COLOURS, -1)


def _cmyk(path: Path) -> np.ndarray:
    image = Image.fromarray(COLOURS).convert("CMYK")
    image.save(path, **({"exif": _turned()} if path.suffix == ".jpg" else {}))
    with Image.open(path) as saved:
        return np.array(ImageOps.exif_transpose(saved).convert("RGB"))


def _with_preview(path: Path) -> np.ndarray:
    """A TIFF with a reduced copy of itself, as geographic ones have, is one picture."""
    with tifffile.TiffWriter(path) as file:
        file.write(COLOURS, photometric="rgb")
        file.write(COLOURS[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    return COLOURS


PICTURES = {
    "palette.png": _palette,
    "rgba.png": _rgba,
    "rgba.tif": _rgba,
    "grey.png": _grey,
    "grey.tif": _grey,
    "grey.pgm": _grey,
    "grey_alpha.png": _grey_alpha,
    "turned.png": _orientation,
    "turned.tif": _orientation,
    "turned.webp": _orientation,
    "cmyk.jpg": _cmyk,
    "cmyk.tif": _cmyk,
    "preview.tif": _with_preview,
}


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Read]:
    """All ways from a file to the RGB pixels that a model or a drawing is made of."""
    cfg = tiny_config(tmp_path_factory.mktemp("out"))
    model = build_model(cfg, pretrained=False)
    predictor = Predictor(model)
    drawing = Drawing(Segmenter(cfg, model, View()), Metadata())

    def mapped(mapper: Callable[[dict], dict], path: Path) -> np.ndarray:
        return _rgb(mapper({"file_name": str(path)})["image"], mapper.image_format)

    def trained(path: Path) -> np.ndarray:
        label = path.with_name("label.png")
        Image.fromarray(np.zeros(read_picture(path).shape[:2], np.uint8)).save(label)
        record = {"file_name": str(path), "sem_seg_file_name": str(label)}
        return _rgb(SemSegMapper(is_train=True)(record)["image"], "RGB")

    options = {"is_train": False, "augmentations": []}
    return {
        "read_picture": read_picture,
        "read_picture, BGR": lambda path: read_picture(path, "BGR")[:, :, ::-1],
        "training": trained,
        "evaluation": partial(mapped, SemSegMapper(is_train=False)),
        "evaluation, BGR": partial(mapped, SemSegMapper(is_train=False, image_format="BGR")),
        "panoptic": partial(mapped, PanopticMapper(**options, image_format="RGB")),
        "panoptic, BGR": partial(mapped, PanopticMapper(**options, image_format="BGR")),
        "Predictor": lambda path: _rgb(predictor._inputs(predictor._read(path))["image"], "RGB"),
        "demo": lambda path: drawing.read(Picture(str(path), "a"))[0],
        "page": lambda path: decode_upload(path.read_bytes(), Limits()),
    }


def _rgb(image: torch.Tensor, channel_order: str) -> np.ndarray:
    pixels = image.permute(1, 2, 0).numpy()
    return pixels[:, :, ::-1] if channel_order == "BGR" else pixels


@pytest.mark.parametrize("name", PICTURES)
def test_same_pixels_everywhere(tmp_path: Path, ways: dict[str, Read], name: str) -> None:
    path = tmp_path / name
    expected = PICTURES[name](path)
    with Image.open(path) as image:
        shown_by_browsers = image.format in PAGE_FORMATS
    for way, read in ways.items():
        if way != "page" or shown_by_browsers:
            np.testing.assert_array_equal(read(path), expected, err_msg=way)
    assert picture_size(path) == expected.shape[:2]


def _tiff(pixels: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def _opencv(pixels: np.ndarray) -> Callable[[Path], None]:
    return lambda path: cv2.imwrite(str(path), pixels)


def _pages(path: Path) -> None:
    first, second = (Image.fromarray(COLOURS[:, :, index]) for index in (0, 1))
    first.save(path, save_all=True, append_images=[second])


_GREY, _EIGHT = DEEP[:, :, 0].copy(), (DEEP // 16).astype(np.uint8)
# What would be cut off or left out, and the file's type and bands as the error gives them.
REFUSED = {
    "four16.tif": (_tiff(DEEP, photometric="rgb"), "4 bands of uint16"),
    "five8.tif": (_tiff(np.dstack([_EIGHT, _EIGHT[:, :, :1]]), photometric="rgb"), "5 bands"),
    "four8.tif": (
        _tiff(_EIGHT, photometric="rgb", extrasamples=["unspecified"]),
        "4 bands of uint8",
    ),
    "measured8.tif": (
        _tiff(_EIGHT, photometric="minisblack", planarconfig="contig"),
        "4 bands of uint8 .*MINISBLACK",
    ),
    "bands_as_pages.tif": (
        _tiff(_EIGHT.transpose(2, 0, 1).copy(), photometric="minisblack"),
        "holds 4 pictures",
    ),
    "signed8.tif": (_tiff(_GREY.astype(np.int8)), "1 band of int8"),
    "signed16.tif": (_tiff(_GREY.astype(np.int16)), "1 band of int16"),
    "float.tif": (_tiff(_GREY.astype(np.float32)), "1 band of float32"),
    "float_colours.tif": (
        _tiff(DEEP[:, :, :3].astype(np.float32), photometric="rgb"),
        "3 bands of float32",
    ),
    "grey16.tif": (_tiff(_GREY), r"1 band of uint16 \(mode I;16\)"),
    "grey16.png": (_opencv(_GREY), r"1 band of uint16 \(mode I;16\)"),
    "colours16.png": (_opencv(DEEP[:, :, :3].copy()), r"3 bands of uint16 \(mode RGB\)"),
    "alpha16.png": (_opencv(DEEP), "4 bands of uint16"),
    "grey16.pgm": (_opencv(_GREY), "1 band of uint16"),
    "colours16.ppm": (_opencv(DEEP[:, :, :3].copy()), "3 bands of uint16"),
    "animation.png": (_pages, "holds 2 pictures"),
    "animation.gif": (_pages, "holds 2 pictures"),
    "colours.sgi": (lambda path: Image.fromarray(COLOURS).save(path), "the format SGI"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_read_wrongly_is_refused_everywhere(
    tmp_path: Path, ways: dict[str, Read], name: str
) -> None:
    write, reason = REFUSED[name]
    path = tmp_path / "images" / name
    path.parent.mkdir()
    write(path)
    for way, read in ways.items():
        if way == "page":
            with pytest.raises(UploadError, match=f"{reason}|must be a picture"):
                read(path)
        else:
            with pytest.raises(ValueError, match=rf"image '{path}' .*{reason}.*allowed are 8-bit"):
                read(path)
    with pytest.raises(ValueError, match=reason):
        picture_size(path)
    register_sem_seg_folder("odd", path.parent, None, ["a", "b"], image_suffixes=path.suffix)
    (fault,) = check_dataset("odd").faults
    assert fault.file == str(path) and "allowed are 8-bit" in fault.problem


@pytest.mark.parametrize("maximum", [1, 3, 100, 255, 256, 4000, 65535])
def test_pgm_labels_of_any_maximum_keep_their_ids(tmp_path: Path, maximum: int) -> None:
    """Pillow spreads the values of such a file over 0 to 255 or 65535."""
    ids = np.unique(RNG.integers(0, maximum + 1, 50))[None]
    path = tmp_path / "label.pgm"
    data = ids.astype(np.uint8 if maximum < 256 else ">u2").tobytes()
    path.write_bytes(f"P5 {ids.size} 1 {maximum}\n".encode() + data)
    np.testing.assert_array_equal(read_label(path), ids)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (_tiff(_GREY.astype(np.int8)), "pixels of int8, not class ids"),
        (_tiff(_GREY.astype(np.float32)), "pixels of float32, not class ids"),
        (_pages, "holds 2 pictures"),
    ],
)
def test_labels_that_would_be_read_wrongly(
    tmp_path: Path, write: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "label.tif"
    write(path)
    with pytest.raises(ValueError, match=rf"label '{path}' .*{reason}"):
        read_label(path)


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_panoptic_models_semantic_labels_keep_their_ids(tmp_path: Path, mode: str) -> None:
    image, label = tmp_path / "image.png", tmp_path / "label.png"
    Image.new("RGB", (3, 2)).save(image)
    ids = np.array([[0, 1, 2], [7, 54, 300 if mode == "I;16" else 255]])
    picture = Image.fromarray(ids.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        picture = Image.fromarray(ids.astype(np.uint8), mode="P")
        picture.putpalette(RNG.integers(0, 256, 768).astype(np.uint8).tobytes())
    picture.save(label)
    mapper = PanopticMapper(is_train=True, augmentations=[], image_format="RGB")
    record = {"file_name": str(image), "sem_seg_file_name": str(label), "annotations": []}
    assert mapper(record)["sem_seg"].tolist() == ids.tolist()
    Image.new("L", (2, 3)).save(label)
    with pytest.raises(ValueError, match=rf"label '{label}' has .*\(3, 2\).*{image}"):
        mapper(record)
    with pytest.raises(ValueError, match="image_format must be 'RGB' or 'BGR', got 'L'"):
        PanopticMapper(is_train=True, augmentations=[], image_format="L")
