import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import ifa_d2
from ifa_d2 import compat
from ifa_d2.extras import EXTRAS, check_extra
from tests.tiny import write_tiny_data

ROOT = Path(__file__).parents[1]
# The order of CONTRIBUTING.md.
PARTS = (
    *(
        "choices",
        "commands",
        "arguments",
        "errors",
        "compat",
        "extras",
        "files",
        "listing",
        "text",
        "config",
        "data",
        "layers",
        "fields",
        "modeling",
        "checkpoints",
        "metrics",
        "evaluation",
        "visualization",
        "engine",
    ),
    *("analysis", "demo", "rasters", "cli"),
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, built from a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    for name in ("ifa_d2", "configs", "zoo", "tools", "projects/FieldPage"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "-q", *build], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def _run(code: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


def _relative(folder: Path, pattern: str) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}
    return {name for name in found if "__pycache__" not in name}


def test_wheel_holds_the_package_and_its_recipes(installed: Path) -> None:
    recipes = _relative(ROOT / "configs", "*.py") | _relative(ROOT / "configs", "*.yaml")
    assert "cityscapes/ifa_r50.py" in recipes
    modules = _relative(ROOT / "ifa_d2", "*.py")
    zoo = {f"zoo/{name}" for name in _relative(ROOT / "zoo", "*.*") if not name.endswith(".jpg")}
    assert "zoo/camvid/ifa_lite0_frozen.pth" in zoo
    configs = {f"configs/{recipe}" for recipe in recipes}
    tools = {f"tools/{name}" for name in _relative(ROOT / "tools", "*.py")}
    page_files = _relative(ROOT / "projects" / "FieldPage", "*.*")
    page = {f"page/{name}" for name in page_files if not name.endswith((".png", ".md"))}
    assert _relative(installed / "ifa_d2", "*.*") == modules | configs | zoo | tools | page
    top = {path.name for path in installed.iterdir()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"ifa_d2"}


def test_wheel_finds_its_own_recipes(installed: Path, tmp_path: Path) -> None:
    code = (
        "import ifa_d2\n"
        "cfg = ifa_d2.get_config('cityscapes/ifa_r50.py')\n"
        "print(ifa_d2.__file__, cfg.model.sem_seg_head.num_classes, cfg.model.backbone.depth)"
    )
    result = _run(code, tmp_path, installed)
    assert result.returncode == 0, result.stderr
    expected = f"{installed / 'ifa_d2' / '__init__.py'} 19 50"
    assert result.stdout.splitlines()[-1] == expected


def test_wheel_trains_in_two_processes_by_its_command(installed: Path, tmp_path: Path) -> None:
    """Processes find the functions of a command's script, wherever that lies."""
    data = write_tiny_data(tmp_path)
    recipe, output = ROOT / "tests" / "tiny_recipe.py", tmp_path / "out"
    command = ["-m", "ifa_d2", "train", "--config-file", str(recipe), "--num-processes", "2"]
    command += [f"train.output_dir={output}", "train.max_iter=1", "train.batch_size=2"]
    variables = {"PYTHONPATH": str(installed), "TINY_DATA": str(data), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (output / "model_final.pth").is_file()
    assert "    ifa-d2 demo --config-file" in result.stdout + result.stderr


def test_checkout_finds_its_own_recipes(tmp_path: Path) -> None:
    result = _run(
        "import ifa_d2; print(ifa_d2.config.get_config_file('camvid/ifa_r18.py'))", tmp_path, ROOT
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(ROOT / "configs" / "camvid" / "ifa_r18.py")


def test_without_detectron2_one_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['detectron2'] = None; from ifa_d2 import Predictor"
    result = _run(code, tmp_path, ROOT)
    assert result.returncode == 1
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: ifa_d2 needs Detectron2")
    assert "make setup" in message
    assert "git+https://github.com/facebookresearch/detectron2.git" in message


def test_without_pkg_resources_the_model_zoo_is_found(tmp_path: Path) -> None:
    """As with setuptools 82, or without any."""
    code = (
        "import importlib.abc, sys\n"
        "class Gone(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'pkg_resources':\n"
        "            raise ModuleNotFoundError(name)\n"
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name[:4] == 'pkg_' else find(name, *rest)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "import ifa_d2\n"
        "assert 'pkg_resources' not in sys.modules\n"
        "name = 'COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml'\n"
        "print(ifa_d2.config.get_config_file(name).is_file())"
    )
    result = _run(code, tmp_path, ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "True"


def test_a_stand_in_is_there_in_its_block_alone() -> None:
    for name in ("no_such_package.part", "json.tool"):
        before = sys.modules.get(name)
        with pytest.raises(ZeroDivisionError), compat.stand_in(name, answer=42):
            assert importlib.import_module(name).answer == 42 / 0
        assert sys.modules.get(name) is before
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_package.part")


def _imports(path: Path) -> set[str]:
    """The modules that a file of the package imports, by their whole names."""
    parent = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parent[: len(parent) + 1 - node.level]) if node.level else ""
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {f"{base}.{module}".strip(".") for module in modules}
    return found


def test_nothing_imports_backwards() -> None:
    seen = set()
    for path in (ROOT / "ifa_d2").rglob("*.py"):
        part = path.relative_to(ROOT / "ifa_d2").parts[0].removesuffix(".py")
        if part in ("__init__", "__main__"):
            continue
        imported = _imports(path)
        own = {name.split(".")[1] for name in imported if name.startswith("ifa_d2.")}
        backwards = [name for name in own if PARTS.index(name) > PARTS.index(part)]
        assert not backwards, f"{path.relative_to(ROOT)} imports {backwards}"
        if part in ("layers", "fields", "metrics"):
            assert not [name for name in imported if name.startswith("detectron2")], path
        seen |= {(part, name) for name in own}
    assert {("modeling", "layers"), ("engine", "modeling"), ("demo", "engine")} <= seen


def test_what_detectron2_deprecates_is_hidden_by_each_part_that_needs_it() -> None:
    for part in (path for path in (ROOT / "ifa_d2").iterdir() if (path / "__init__.py").is_file()):
        imported = set().union(*map(_imports, part.rglob("*.py")))
        needs = any(name.split(".")[0] == "detectron2" for name in imported)
        lines = (part / "__init__.py").read_text().splitlines()
        own = [line for line in lines if line.startswith("from .")]
        assert needs == bool(own and own[0].startswith("from .. import compat")), part


def test_the_package_alone_imports_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import ifa_d2\n"
        "assert not {'torch', 'numpy', 'detectron2'} & set(sys.modules)\n"
        "assert {'Predictor', 'get_config', 'layers', 'fields', 'metrics'} <= set(dir(ifa_d2))\n"
        "try:\n"
        "    ifa_d2.Predictors\n"
        "except AttributeError as error:\n"
        "    print(error)\n"
    )
    result = _run(code, tmp_path, ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "module 'ifa_d2' has no attribute 'Predictors'"


def test_names_of_the_package_register_data_and_models(tmp_path: Path) -> None:
    code = (
        "from ifa_d2 import add_ifa_config\n"
        "from detectron2.data import DatasetCatalog\n"
        "from detectron2.modeling import META_ARCH_REGISTRY\n"
        "assert 'shapes_train' in DatasetCatalog and 'FieldSegmentor' in META_ARCH_REGISTRY\n"
    )
    result = _run(code, tmp_path, ROOT)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_field_needs_no_detectron2(tmp_path: Path) -> None:
    """Features of any network are decoded, refined and windowed without it."""
    code = (
        "import sys\n"
        "sys.modules['detectron2'] = None\n"
        "import torch\n"
        "from ifa_d2.fields import Refinement, SegmentationField\n"
        "from ifa_d2.layers import ImplicitAlignment\n"
        "torch.manual_seed(0)\n"
        "options = {'in_channels': [8, 4], 'hidden_dims': [16], 'num_classes': 5}\n"
        "alignment = ImplicitAlignment(**options).eval()\n"
        "levels = [torch.randn(1, 8, 6, 9), torch.randn(1, 4, 3, 5)]\n"
        "field = SegmentationField(alignment, levels, (24, 36))\n"
        "labels = field.labels((48, 72))\n"
        "assert torch.equal(labels, field.logits((48, 72)).argmax(0).to(labels.dtype))\n"
        "assert field.refined_labels((48, 72), refinement=Refinement()).shape == (48, 72)\n"
        "assert 'detectron2' not in {n for n, m in sys.modules.items() if m is not None}\n"
    )
    result = _run(code, tmp_path, ROOT)
    assert result.returncode == 0, result.stderr


def test_what_setup_does_not_name_is_not_imported(tmp_path: Path) -> None:
    """Not by the package, its public names, and all modules but those of an extra of their own."""
    code = (
        "import sys, pkgutil, importlib\n"
        "sys.modules.update(dict.fromkeys(['panopticapi', 'panopticapi.utils', 'starlette',"
        "'uvicorn', 'anyio', 'rasterio', 'onnx', 'onnxruntime', 'tensorboard', 'cityscapesscripts',"
        "'onnxscript']))\n"
        "import ifa_d2\n"
        "for public in (ifa_d2, ifa_d2.data, ifa_d2.modeling, ifa_d2.engine):\n"
        "    assert all(getattr(public, name) is not None for name in public.__all__)\n"
        "for module in pkgutil.walk_packages(ifa_d2.__path__, 'ifa_d2.'):\n"
        "    if not module.name.startswith('ifa_d2.rasters'):\n"
        "        importlib.import_module(module.name)\n"
    )
    result = _run(code, tmp_path, ROOT)
    assert result.returncode == 0, result.stderr


def test_versions_agree() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", ifa_d2.__version__)
    assert f'version="{ifa_d2.__version__}"' in (ROOT / "setup.py").read_text()
    assert version("ifa_d2") == ifa_d2.__version__


def test_requirements_are_exact() -> None:
    for path in ROOT.glob("requirements*.txt"):
        lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
        for line in filter(None, lines):
            assert re.fullmatch(r"[\w.-]+==[\w.]+( --hash=sha256:[0-9a-f]{64})?", line), line


def test_extras_are_those_of_setup() -> None:
    """Of both, and what is not installed is said with the command that installs it."""
    calls = ast.walk(ast.parse((ROOT / "setup.py").read_text()))
    keywords = {word.arg: word.value for node in calls for word in getattr(node, "keywords", ())}
    named = ast.literal_eval(keywords["extras_require"])
    assert {extra: sorted(packages.values()) for extra, packages in EXTRAS.items()} == {
        extra: sorted(packages) for extra, packages in named.items()
    }


def test_a_missing_extra_is_said_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    check_extra("geo", "reading rasters")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ImportError, match=r"rasters needs rasterio, .*pip install rasterio"):
        check_extra("geo", "reading rasters")
