"""How far a newcomer walks through one call: files, classes, functions and changes of file.

    python -m tests.walk

prints a table of tiny calls. What is counted is this package's own code, as Python enters it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tabulate import tabulate

from ifa_d2 import get_config
from ifa_d2.engine import Predictor
from ifa_d2.engine.build import build_model
from ifa_d2.layers import GridQuery, ImplicitAlignment

_PACKAGE = str(Path(__file__).parents[1] / "ifa_d2")


@dataclass
class Walk:
    """What one call enters.

    Attributes:
        files, classes, functions: by name; a class is that of a method's first argument.
        switches: entries of a function in another file than the one before.
    """

    files: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    switches: int = 0
    _last: str = ""

    def enter(self, frame: FrameType, event: str, _: Any) -> None:
        """Take note of a call of the package's own code; a profiler of ``sys.setprofile``."""
        file = frame.f_code.co_filename
        name = frame.f_code.co_qualname
        if event != "call" or not file.startswith(_PACKAGE) or name.endswith(">"):
            return  # another's, or a comprehension or lambda within one
        self.files.add(file)
        self.functions.add(f"{file}:{name}")
        if "." in name and "<locals>" not in name:
            self.classes.add(f"{file}:{name.rpartition('.')[0]}")
        self.switches += file != self._last
        self._last = file


def walk(call: Callable[[], Any]) -> Walk:
    """Trace one call in this thread."""
    seen = Walk()
    sys.setprofile(seen.enter)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


def walks() -> dict[str, Walk]:
    """The calls whose walks are compared, by what they do."""
    model = build_model(get_config("shapes/ifa_r18.py")).eval()
    picture = torch.randint(256, (3, 32, 48), dtype=torch.uint8)
    layer = ImplicitAlignment(in_channels=[4, 8], num_classes=3, hidden_dims=[8, 8]).eval()
    levels = [torch.randn(1, 4, 8, 12), torch.randn(1, 8, 4, 6)]
    with torch.no_grad():
        image = picture.permute(1, 2, 0).numpy()
        return {
            "FieldSegmentor answers one picture": walk(lambda: model([{"image": picture}])),
            "the layer alone, inference on a grid": walk(
                lambda: layer(levels, GridQuery.regular(16, 24))
            ),
            "field.refined_labels()": walk(Predictor(model)(image).refined_labels),
        }


if __name__ == "__main__":
    rows = [
        [name, len(one.files), len(one.classes), len(one.functions), one.switches]
        for name, one in walks().items()
    ]
    print(tabulate(rows, ["one call", "files", "classes", "functions", "file switches"]))
