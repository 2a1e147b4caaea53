"""The commands and Python code of the pages, as they are written, with page and line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "projects/*.md", "projects/*/*.md", "zoo/**/*.md")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "CHANGELOG.md"
)
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_PROGRAM = (
    r"(?:python|pip|ifa-d2|make|git|apt-get|source|export|torchrun|srun|wandb"
    r"|(?:tools|projects)/\S+\.py)"
)
# A program with arguments, behind variables that are set for it.
_COMMAND = re.compile(rf"(?:\w+=\S+ )*{_PROGRAM} \S")


@dataclass(frozen=True)
class Piece:
    """A command line, or a block of Python.

    Attributes:
        page: path below the repository.
        line: where it begins, from 1.
        text: as it is written, without the indentation of its block.
        is_python: a block of Python.
    """

    page: str
    line: int
    text: str
    is_python: bool = False

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def command(self) -> str:
        """The text on one line, without comment."""
        joined = " ".join(part.rstrip("\\").strip() for part in self.text.splitlines())
        return re.sub(r" +# .*", "", joined)


def read_pieces(page: str) -> list[Piece]:
    """All of a page, in its order.

    Raises:
        ValueError: a line of a block without a language is neither a command nor part of a tree or
            a citation.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    pieces = [*_fenced(page, text), *_inline(page, text)]
    return sorted(pieces, key=lambda piece: piece.line)


def read_trees(page: str) -> list[Piece]:
    """A command for each line of the trees of ROOT, which fails unless such a path is there."""
    pieces, parents = [], {}
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), start=1):
        name = re.sub(r"aachen(_\d+_\d+)?|NNN", "*", line.split("  <-")[0].strip().split("  ")[0])
        depth = len(line) - len(line.lstrip())
        if depth == 0 and re.fullmatch(r"ROOT/\S+/", name):
            parents = {0: name}
        elif depth and parents:
            parents = {key: value for key, value in parents.items() if key < depth}
            parents[depth] = parents[max(parents)].rstrip("/") + "/" + name
        else:
            parents = {}
            continue
        pieces.append(Piece(page, number, f"ls -d {parents[depth]}"))
    return pieces


def _fenced(page: str, text: str) -> Iterator[Piece]:
    for match in _FENCE.finditer(text):
        indent, language, content = match.groups()
        first = text.count("\n", 0, match.start()) + 2
        lines = [line.removeprefix(indent) for line in content.splitlines()]
        if language == "python":
            yield Piece(page, first, "\n".join(lines), is_python=True)
            continue
        place = f"{page}:{first}"
        if language:
            raise ValueError(f"{place}: a block is Python or has no language, got {language!r}")
        if not lines[0].startswith(("ROOT/", "@")):
            yield from _command_lines(page, first, lines)


def _command_lines(page: str, first: int, lines: list[str]) -> Iterator[Piece]:
    held: list[str] = []
    for number, line in enumerate(lines, start=first):
        held.append(line)
        if line.endswith("\\"):
            continue
        text = "\n".join(held)
        start, held = number + 1 - len(held), []
        if not _COMMAND.match(text):
            raise ValueError(f"{page}:{start}: no command is {text!r}")
        yield Piece(page, start, text)
    if held:
        raise ValueError(f"{page}:{first}: the block ends with a backslash")


def _inline(page: str, text: str) -> Iterator[Piece]:
    outside = _FENCE.sub(lambda match: re.sub(r"[^\n]", "", match[0]), text)
    for match in _INLINE.finditer(outside):
        joined = " ".join(match[1].split())
        if _COMMAND.match(joined):
            yield Piece(page, outside.count("\n", 0, match.start()) + 1, joined)
