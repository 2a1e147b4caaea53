"""One reader of pictures: the same pixels of every format that holds them, and refusals."""

import os

import numpy as np
import pytest
from PIL import Image

from ifa_d2.data import picture_size, read_label, read_picture

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = RNG.integers(0, 256, (6, 9)).astype(np.uint8)


def save(path, image: Image.Image, **options) -> str:
    image.save(path, **options)
    return str(path)


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_colours_of_every_form_are_the_same(tmp_path):
    picture = Image.fromarray(COLOURS)
    rgba = picture.copy()
    rgba.putalpha(128)
    paths = [
        save(tmp_path / "rgb.png", picture),
        save(tmp_path / "rgba.png", rgba),
        save(tmp_path / "rgb.bmp", picture),
        save(tmp_path / "rgb.tif", picture),
        save(tmp_path / "rgba.tif", rgba),
        save(tmp_path / "rgb.webp", picture, lossless=True),
    ]
    for path in paths:
        np.testing.assert_array_equal(read_picture(path), COLOURS, err_msg=path)
        np.testing.assert_array_equal(read_picture(path, "BGR"), COLOURS[:, :, ::-1])
        assert read_picture(path, "BGR").flags.c_contiguous
        assert picture_size(path) == (6, 9)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_the_whole_range(tmp_path, bits):
    """A grey or palette picture of few bits shows what any viewer shows."""
    values = (GREY % 2**bits).astype(np.uint8)
    palette = RNG.integers(0, 256, (2**bits, 3)).astype(np.uint8)
    indexed = Image.fromarray(values, mode="P")
    indexed.putpalette(palette.tobytes())
    path = save(tmp_path / "palette.png", indexed, bits=bits)
    np.testing.assert_array_equal(read_picture(path), palette[values])
    if bits == 1:
        path = save(tmp_path / "bilevel.png", Image.fromarray(values * 255).convert("1"))
        np.testing.assert_array_equal(read_picture(path), np.repeat(values[..., None] * 255, 3, 2))


def test_cmyk_and_jpeg_come_close(tmp_path):
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    picture = Image.fromarray(smooth)
    for path in (
        save(tmp_path / "rgb.jpg", picture, quality=95),
        save(tmp_path / "cmyk.jpg", picture.convert("CMYK"), quality=95),
        save(tmp_path / "cmyk.tif", picture.convert("CMYK")),
    ):
        assert np.abs(read_picture(path).astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_followed_once_by_every_format(tmp_path, suffix, orientation):
    smooth = np.zeros((8, 16, 3), np.uint8)
    smooth[:, :8], smooth[:4] = (250, 0, 0), smooth[:4] + np.uint8(5)
    options = {"lossless": True} if suffix == "webp" else {}
    options |= {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    path = tmp_path / f"turned.{suffix}"
    path = save(path, Image.fromarray(smooth), exif=with_orientation(orientation), **options)
    turn = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: lambda x: np.rot90(x),
    }[orientation]
    expected = turn(smooth)
    picture = read_picture(path)
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).max() <= (60 if suffix == "jpg" else 0)
    assert picture_size(path) == expected.shape[:2]


@pytest.mark.parametrize("orientation", [3, 6])
def test_labels_turn_with_their_pictures(tmp_path, orientation):
    ids = (GREY % 5).astype(np.uint8)
    exif = with_orientation(orientation)
    label = read_label(save(tmp_path / "label.png", Image.fromarray(ids), exif=exif))
    colours = np.repeat(ids[..., None], 3, 2)
    picture = read_picture(save(tmp_path / "image.png", Image.fromarray(colours), exif=exif))
    np.testing.assert_array_equal(label, picture[:, :, 0])


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_labels_of_few_bits_keep_their_ids(tmp_path, bits):
    ids = (GREY % 2**bits).astype(np.uint8)
    path = tmp_path / "label.png"
    write_grey_png(path, ids, bits)
    np.testing.assert_array_equal(read_label(str(path)), ids)


def write_grey_png(path, ids: np.ndarray, bits: int) -> None:
    """Pillow writes no grey PNG of 2 or 4 bits."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b""
    for row in ids:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_a_flipped_bit_of_a_png_is_told(tmp_path):
    path = tmp_path / "image.png"
    noise = RNG.integers(0, 256, (40, 48, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    told = strictly = 0
    places = range(60, len(content) - 20, 97)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        for strict in (False, True):
            try:
                read_picture(str(path), strict=strict)
            except ValueError as error:
                assert f"cannot read the image '{path}'" in str(error)
                told, strictly = told + (not strict), strictly + strict
    assert strictly == len(places)  # its checksums tell of every one
    assert told > 0.9 * len(places)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_file_that_is_cut_off_is_told(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (40, 48, 3)).astype(np.uint8)).save(path)
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 100):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"cannot read the image '{path}'"):
            read_picture(str(path))


def test_too_many_pixels_say_what_to_do(tmp_path, monkeypatch):
    path = save(tmp_path / "large.png", Image.new("1", (300, 200)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for read in (read_picture, picture_size, read_label):
        with pytest.raises(ValueError, match=rf"{path}.*cut it into tiles first"):
            read(path)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    for read in (read_picture, picture_size, read_label):
        with pytest.raises(ValueError, match=rf"{path}.*no regular file"):
            read(str(path))


def test_labels_of_a_lossy_format_are_refused(tmp_path):
    path = save(tmp_path / "label.jpg", Image.fromarray(GREY))
    with pytest.raises(ValueError, match=rf"{path}.*is a JPEG.*must be a PNG"):
        read_label(path)


def test_a_missing_file_is_missing(tmp_path):
    for read in (read_picture, picture_size):
        with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
            read(str(tmp_path / "nothing.png"))
