"""No command writes over what it reads."""

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import RECIPE

ROOT = Path(__file__).parents[2]
WINDOW = ["--crop", "4", "8", "14", "20"]
LINK = ["--weights", "link.pth"]
# Names of drawings, of files that are read.
PICTURE_LINKS = {
    "metrics.png": "out/metrics.json",
    "weights.png": "out/model_final.pth",
    "config.png": "out/config.yaml",
}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, trained: Path) -> Callable[..., None]:
    """Run a command in this process, in the folder of the pictures."""
    monkeypatch.chdir(trained)

    def run(script: str, *arguments: str) -> None:
        monkeypatch.syspath_prepend(str((ROOT / script).parent))
        monkeypatch.setattr("sys.argv", [script, *arguments])
        runpy.run_path(str(ROOT / script), run_name="__main__")

    return run


@pytest.mark.parametrize(
    ("script", "arguments", "output"),
    [
        ("tools/browse_dataset.py", ["--config-file", "recipe.py", "--output"], "images/2.png"),
        ("tools/browse_dataset.py", ["--config-file", "recipe.py", "--output"], "labels/2.png"),
        ("tools/check_dataset.py", ["--config-file", "recipe.py", "--json"], "recipe.py"),
        ("tools/check_dataset.py", ["--config-file", "recipe.py", "--json"], "labels/2.png"),
        (
            "tools/analyze_model.py",
            ["--config-file", "recipe.py", "--input-size", "64", "64", "--json"],
            "recipe.py",
        ),
        ("tools/plot_metrics.py", ["a=out", "--output"], "metrics.png"),
        ("tools/convert_imagenet_checkpoint.py", ["out/model_final.pth"], "out/model_final.pth"),
        ("tools/convert_reference_checkpoint.py", ["link.pth"], "out/model_final.pth"),
        (
            "projects/IFA/draw_zoom.py",
            ["--config-file", "recipe.py", "--input", "images/2.png", *WINDOW, "--output"],
            "images/2.png",
        ),
        (
            "projects/IFA/draw_zoom.py",
            ["--config-file", "recipe.py", *LINK, "--input", "images/2.png", *WINDOW, "--output"],
            "weights.png",
        ),
        (
            "projects/IFA/draw_comparison.py",
            ["features", "out", "--output"],
            "labels/2.png",
        ),
        ("projects/IFA/draw_comparison.py", ["features", "out", "--output"], "config.png"),
        (
            "projects/IFA/measure_refinement.py",
            ["--config-file", "recipe.py", *LINK, "--input", "images/2.png", "--json"],
            "images/2.png",
        ),
        (
            "tools/segment_raster.py",
            ["--config-file", "recipe.py", *LINK, "--input", "images/2.png", "--output"],
            "images/2.png",
        ),
        (
            "tools/export_model.py",
            ["--config-file", "recipe.py", *LINK, "--format", "onnx", "--output"],
            "out/model_final.pth",
        ),
    ],
)
def test_inputs_stay(
    call: Callable[..., None], trained: Path, script: str, arguments: list[str], output: str
) -> None:
    shutil.copy(RECIPE, trained / "recipe.py")
    if not (trained / "link.pth").exists():
        (trained / "link.pth").symlink_to("out/model_final.pth")
    for link, file in PICTURE_LINKS.items():
        if not (trained / link).exists():
            (trained / link).symlink_to(file)
    before = (trained / output).read_bytes()
    with pytest.raises(SystemExit, match=f"output {output} would replace the "):
        call(script, *arguments, output)
    assert (trained / output).read_bytes() == before


@pytest.mark.parametrize(
    ("script", "arguments", "output"),
    [
        ("tools/plot_metrics.py", ["a=out", "--output"], "out/metrics.json"),
        (
            "projects/IFA/draw_zoom.py",
            ["--config-file", "recipe.py", "--input", "images/2.png", *WINDOW, "--output"],
            "out/model_final.pth",
        ),
        ("projects/IFA/draw_comparison.py", ["features", "out", "--output"], "out/config.yaml"),
    ],
)
def test_what_is_no_drawing_by_name_stays(
    call: Callable[..., None], trained: Path, script: str, arguments: list[str], output: str
) -> None:
    shutil.copy(RECIPE, trained / "recipe.py")
    before = (trained / output).read_bytes()
    with pytest.raises(SystemExit, match=rf"must end in .*, got '{output}'"):
        call(script, *arguments, output)
    assert (trained / output).read_bytes() == before
