"""Text in drawings and plots, in fonts that have its characters."""

import logging
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.text import Text

from .listing import join_some

_logger = logging.getLogger(__name__)
_BASE = "sans-serif"  # the family that Detectron2 and Matplotlib write in
_BOXES = "Last Resort"  # Matplotlib's own family that draws a box for any character
_NAMED = 8  # how many characters a warning lists
_told: set[str] = set()  # characters that a warning has named


def class_captions(names: Sequence[str]) -> list[str]:
    """Convert class names to texts that can be drawn.

    A name with characters that no installed font has is the class's id and the name with "?" in
    their place; a warning names them, once.
    """
    _, missing = _fonts("".join(names))
    return [
        drawable_text(name) if missing.isdisjoint(_clean(name)) else f"{i} {drawable_text(name)}"
        for i, name in enumerate(names)
    ]


def drawable_text(text: str) -> str:
    """Convert a text to one line, with "?" for characters that no installed font has."""
    text = _clean(text)
    _, missing = _fonts(text)
    return "".join("?" if character in missing else character for character in text)


def text_style(*texts: str) -> dict[str, Any]:
    """Matplotlib options to draw texts literally, in fonts that have their characters."""
    families, _ = _fonts("".join(texts))
    return {"parse_math": False, "fontfamily": families}


def draw_as_is(artist: Text) -> None:
    """Replace a Matplotlib text by its :func:`drawable_text`, in a style that has a font."""
    artist.update(text_style(artist.get_text()))
    artist.set_text(drawable_text(artist.get_text()))


def _clean(text: str) -> str:
    """Compose letters and accents (NFC), and drop characters without a glyph."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


def _fonts(text: str) -> tuple[list[str], frozenset[str]]:
    """Font families to draw a text with, the usual one first; and the characters none has."""
    families, missing = _find_fonts(frozenset(_clean(text)))
    new = sorted(missing - _told)
    if new:
        _told.update(new)
        names = [f"{c * c.isprintable()} U+{ord(c):04X}".strip() for c in new]
        _logger.warning(
            f"no installed font has {join_some(names, _NAMED)}: drawn as '?'; install one that "
            "has, such as by apt-get install fonts-noto-cjk (Chinese, Japanese, Korean) or "
            "fonts-noto-core"
        )
    return list(families), missing


@lru_cache(maxsize=1024)
def _find_fonts(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    missing = characters - _covered(_BASE, characters)
    if not missing:
        return (_BASE,), missing
    _add_new_fonts()
    regular = (one for one in fontManager.ttflist if (one.style, one.weight) == ("normal", 400))
    names = sorted({entry.name for entry in regular if _BOXES not in entry.name})
    covered = {name: _covered(name, missing) for name in names}
    families = [_BASE]
    while missing:
        best = max(names, key=lambda name: len(covered[name] & missing), default=None)
        if best is None or not covered[best] & missing:
            break
        families.append(best)
        missing -= covered[best]
    return tuple(families), missing


def _covered(family: str, characters: frozenset[str]) -> frozenset[str]:
    """Subset of characters that a family's font has glyphs for."""
    try:
        path = fontManager.findfont(FontProperties(family=[family]), fallback_to_default=False)
        glyphs = font_manager.get_font(path).get_charmap()
    except (OSError, RuntimeError, ValueError):  # a damaged font, or one of another kind
        return frozenset()
    return frozenset(character for character in characters if ord(character) in glyphs)


def _add_new_fonts() -> None:
    """Add fonts that were installed after Matplotlib cached its list."""
    known = {str(entry.fname) for entry in fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            try:
                fontManager.addfont(path)
            except (OSError, RuntimeError, ValueError):
                _logger.debug(f"{path} is no font that can be drawn with", exc_info=True)
