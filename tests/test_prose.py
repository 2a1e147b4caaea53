"""Summaries of public docstrings are one line that names a thing or says what is done."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("ifa_d2/**/*.py"))
WIDTH = 88
# Relative clauses that stand for a noun, and references to something said elsewhere.
CLAUSES = ("What", "Which", "Those", "Same", "As of", "That")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def public_docstrings(file: str) -> Iterator[tuple[str, str]]:
    """Dotted names within a file, and docstrings."""

    def visit(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            yield ".".join(names), text
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", "")
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not name.startswith("_"):
                yield from visit(child, (*names, name))

    yield from visit(ast.parse((ROOT / file).read_text()), ())


def faults(text: str) -> list[str]:
    """List the faults of a docstring's summary, its first paragraph."""
    summary = text.split("\n\n")[0]
    found = []
    if "\n" in summary:
        found.append("of several lines")
    elif len(summary) > WIDTH:
        found.append(f"of {len(summary)} characters")
    if not summary[0].isupper():
        found.append("without a capital letter")
    if not summary.endswith("."):
        found.append("without a period")
    if summary.startswith(tuple(f"{words} " for words in CLAUSES)):
        found.append("a relative clause")
    return found


@pytest.mark.parametrize("file", FILES)
def test_summaries(file: str) -> None:
    named = public_docstrings(file)
    wrong = [f"{name or file}: {each}" for name, text in named for each in faults(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Read a label.", []),
        ("Labels of a picture.\n\nAs they are.", []),
        ("Labels of a picture\nas they are.", ["of several lines"]),
        ("read a label", ["without a capital letter", "without a period"]),
        ("What a label holds.", ["a relative clause"]),
        ("L" * WIDTH + ".", ["of 89 characters"]),
    ],
)
def test_faults(text: str, expected: list[str]) -> None:
    assert faults(text) == expected
