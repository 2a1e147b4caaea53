"""Names in drawings: in any script, with any sign."""

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import Metadata
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager

from ifa_d2 import text
from ifa_d2.evaluation.report import write_confusion
from ifa_d2.text import class_captions, draw_as_is, drawable_text, text_style
from ifa_d2.visualization import draw_panoptic, draw_segmentation

NOBODYS = "\U000fff00"  # of a private plane, which no font is expected to fill
NAMES = ["road", "道路", "طريق", "Дорога", "ถนน", "cafe\u0301", r"$\frac$", "a $b$ c", "$", "👍"]


@pytest.fixture(autouse=True)
def untold() -> Iterator[None]:
    """Nothing is known of fonts, and nothing was warned of."""
    text._told.clear()
    text._find_fonts.cache_clear()
    yield
    text._find_fonts.cache_clear()


@pytest.fixture
def no_squares() -> Iterator[None]:
    """Matplotlib warns of a glyph that it draws as a square: that is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*[Gg]lyph.*")
        yield


def glyphs(families: list[str]) -> set[int]:
    found: set[int] = set()
    for family in families:
        path = fontManager.findfont(FontProperties(family=[family]), fallback_to_default=False)
        found |= font_manager.get_font(path).get_charmap().keys()
    return found


def test_every_character_that_is_drawn_has_a_glyph() -> None:
    for name, caption in zip(NAMES, class_captions(NAMES), strict=True):
        style = text_style(caption)
        assert {ord(character) for character in caption} <= glyphs(style["fontfamily"])
        assert not any("Last Resort" in family for family in style["fontfamily"])
        assert style["parse_math"] is False
        if name.isascii():
            assert caption == name


def test_what_no_font_has_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    names = ["road", f"a{NOBODYS}b", NOBODYS]
    with caplog.at_level(logging.WARNING):
        assert class_captions(names) == ["road", "1 a?b", "2 ?"]
        assert class_captions(names[1:]) == ["0 a?b", "1 ?"]
        assert drawable_text(NOBODYS) == "?"
    (record,) = caplog.records
    assert "U+FFF00" in record.getMessage() and "apt-get install fonts" in record.getMessage()


@pytest.mark.parametrize(
    ("written", "drawn"),
    [("a\nb\tc", "a b c"), ("a\u200db", "ab"), ("\udc80", "?"), ("e\u0301", "\u00e9"), ("", "")],
)
def test_what_is_no_letter(written: str, drawn: str) -> None:
    assert drawable_text(written) == drawn


def test_an_artist_is_drawn_as_it_is_written(no_squares: None) -> None:
    figure = Figure()
    artists = [figure.text(0.1, 0.1, name) for name in (r"$\frac$", f"{NOBODYS} $x$")]
    for artist in artists:
        draw_as_is(artist)
    figure.canvas.draw()
    assert [artist.get_text() for artist in artists] == [r"$\frac$", "? $x$"]


def test_the_confusion_matrix(no_squares: None, tmp_path: Path) -> None:
    names = [*NAMES, NOBODYS]
    write_confusion(tmp_path, np.eye(len(names), dtype=int), names, r"道路 $\frac$")
    assert json.loads((tmp_path / "confusion_matrix.json").read_text())["classes"] == names
    assert "道路" in (tmp_path / "confusion_matrix.csv").read_text("utf-8")


def test_drawings(no_squares: None) -> None:
    image = np.full((60, 240, 3), 90, np.uint8)
    names = [*NAMES, NOBODYS]
    colors = [[0, 0, 0]] * len(names)
    metadata = Metadata(name="named", stuff_classes=names, stuff_colors=colors, thing_classes=names)
    for index in range(len(names)):
        label = np.full((60, 240), index)
        drawn = draw_segmentation(image, label, metadata)
        assert (drawn != draw_segmentation(image, label, metadata, names=False)).any()
        segments = [
            {"id": 1, "category_id": index, "isthing": False, "area": 7200},
            {"id": 2, "category_id": index, "isthing": True, "area": 7200, "score": 0.5},
        ]
        ids = np.where(np.arange(240) < 120, 1, 2) * np.ones((60, 1), int)
        assert draw_panoptic(image, ids, segments, metadata).shape == image.shape
    assert metadata.stuff_classes == names


def write_font(path: Path, family: str, characters: str) -> None:
    """A font that has some characters, all as the same square of ink."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    glyph = pen.glyph()
    names = [".notdef", *(f"u{ord(character):04X}" for character in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap(dict(zip(map(ord, characters), names[1:], strict=True)))
    font.setupGlyf(dict.fromkeys(names, glyph))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2(usWeightClass=400)
    font.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    font.save(path)


FIND = """
import sys
from ifa_d2.text import class_captions, text_style
name = sys.argv[1]
print(ascii(class_captions(["road", name])), text_style(name)["fontfamily"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="fonts lie elsewhere")
def test_a_font_that_was_just_installed_is_used(tmp_path: Path) -> None:
    """Though Matplotlib's list of fonts, which it keeps in a file, does not have it yet."""
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    command = [sys.executable, "-c", FIND, NOBODYS]
    root = Path(__file__).parents[1]

    def find() -> str:
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    assert find() == "['road', '1 ?'] ['sans-serif']"
    write_font(tmp_path / "fonts" / "some.ttf", "Nobody Sans", NOBODYS)
    assert find() == rf"['road', {NOBODYS!a}] ['sans-serif', 'Nobody Sans']"
