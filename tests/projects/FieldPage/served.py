"""The page's command in a process of its own, on the tiny model."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ifa_d2.engine import Predictor
from ifa_d2.engine.predictor import load_model
from ifa_d2.modeling import SegmentationField
from tests.tiny import RECIPE, tiny_config

ROOT = Path(__file__).parents[3]


@dataclass
class Page:
    """The running command: its address, a picture to show it, and the model that it has."""

    url: str
    picture: Path
    predictor: Predictor
    folders: tuple[Path, ...]  # which it works in, and which is its temporary one
    log: Path  # what it writes to stderr
    process: subprocess.Popen

    def field(self, path: Path | None = None) -> SegmentationField:
        rgb = np.asarray(Image.open(path or self.picture))
        return self.predictor(np.ascontiguousarray(rgb[:, :, ::-1]))

    def request(
        self, path: str, data: bytes | None = None, kind: str = "", **options: Any
    ) -> tuple[int, Any, bytes]:
        """Status, headers and body of an answer."""
        headers = {"Content-Type": kind, **options.pop("headers", {})}
        asked = urllib.request.Request(self.url + path, data=data, headers=headers, **options)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def upload(self, path: Path | None = None) -> dict[str, Any]:
        """The server's answer to a PNG."""
        status, _, body = self.request(
            "/api/pictures", (path or self.picture).read_bytes(), "image/png"
        )
        assert status == 201, body
        return json.loads(body)


@contextmanager
def served(trained: Path, work: Path, *options: Any) -> Iterator[Page]:
    """The page of the model in a folder; it is ended in the end.

    Args:
        trained: as the fixture of that name.
        work: an empty folder.
        options: of the command.
    """
    model = load_model(tiny_config(trained / "out"), str(trained / "out" / "model_final.pth"))
    # Two iterations teach little: other weights of the classes let the answers vary.
    predictor = model.sem_seg_head.alignment.predictor
    predictor.weight.data = torch.randn(predictor.weight.shape, generator=torch.manual_seed(3))
    torch.save({"model": model.state_dict()}, trained / "weights.pth")
    # Larger than the others, for windows that are worth dragging.
    picture = Image.open(trained / "images" / "1.png").resize((96, 80), Image.Resampling.BICUBIC)
    picture.save(trained / "large.png")
    folders = (work / "cwd", work / "temporary")
    for folder in folders:
        folder.mkdir()
    command = [
        *(
            sys.executable,
            ROOT / "projects" / "FieldPage" / "serve_demo.py",
            "--config-file",
            RECIPE,
        ),
        *("--weights", trained / "weights.pth", "--dataset", "tiny", "--port", 0, *options),
    ]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folders[1])}
    log = work / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **environment},
            cwd=folders[0],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    try:
        address = process.stdout.readline().split(" ")[0].strip()
        assert address.startswith("http://"), log.read_text()
        yield Page(address, trained / "large.png", Predictor(model), folders, log, process)
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()
