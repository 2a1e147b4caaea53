"""The commands and the Python code of the pages, as they are written, on small files.

A page's are run in its order in a folder of their own, as by a reader who follows it; what makes
them small is in tests/small_python.py, what they find there in tests/document_folder.py.
"""

import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.document_folder import DATASETS, make_folder, write_checkpoints, write_downloads
from tests.documents import PAGES, Piece, read_pieces, read_trees
from tests.small_python import PARSE_ONLY, small_python

# What is not run, and why.
NOT_RUN = {
    "python docs/generate_config.py": "writes a page, which has a test of its own",
    "make setup": "makes the environment that this runs in",
    "make lint": "a check of its own",
    "make test": "is what runs this",
    "make smoke": "makes an environment of its own",
    "make demo": "trains for minutes, by commands that are run here",
    "apt-get install chromium": "downloads",
    "git clone REPOSITORY ifa && cd ifa": "downloads, of a place that the reader knows",
    "source .venv/bin/activate": "the environment need not lie there",
    "python -m pip install 'git+https://github.com/facebookresearch/detectron2.git'": "downloads",
    "python -m pip install .": "changes the environment that this runs in",
    "ifa-d2 --help": "is run by tests/test_commands.py, wherever the program lies",
    "python tools/train_net.py --config-file configs/camvid/ifa_r50.py --num-gpus 4 "
    "model.backbone.norm=SyncBN": "needs four GPUs",
    "python tools/train_net.py "
    "--config-file projects/PISR/configs/cityscapes/panoptic_deeplab_r50.py --num-gpus 8": (
        "needs eight GPUs, and is run on the CPU by tests/projects/PISR/test_recipes.py"
    ),
    "python tools/train_net.py --config-file projects/PISR/configs/cityscapes/pisr_r50.py "
    "--num-gpus 8": "needs eight GPUs, as its base",
    "python tools/train_net.py --config-file projects/XDistill/configs/kitti/monodepth_lite0.py": (
        "needs KITTI, and is run in small by tests/projects/XDistill/test_recipes.py"
    ),
    "python tools/train_net.py --config-file projects/XDistill/configs/kitti/xdistill_lite0.py": (
        "needs KITTI, as its base"
    ),
    "python projects/IFA/measure_raster.py --config-file tests/tiny_recipe.py --random-weights "
    "--side 6000 --folder output/raster --crop 2048 --margin 256": "reads a recipe of the tests, "
    "which the reader's folder here lacks",
    "python projects/IFA/measure_raster.py --config-file tests/tiny_bands_recipe.py "
    "--random-weights --bands 4 --side 20000 --folder output/raster --crop 4096 --margin 256": (
        "reads a recipe of the tests, as the former"
    ),
    "pip install torchgeo==0.8.1": "downloads, and changes the environment that this runs in",
    "python projects/IFA/compare_raster_tools.py --config-file camvid/ifa_lite0_frozen.py "
    "--weights ifa_d2://camvid/ifa_lite0_frozen --side 1792 --repeats 2 "
    "--folder output/raster_tools": (
        "needs TorchGeo, and is run where that is by tests/projects/test_compare_raster_tools.py"
    ),
    "torchrun --nproc-per-node 4 tools/train_net.py --config-file configs/camvid/ifa_r18.py": (
        "needs four GPUs, and is run on the CPU by tests/tools/test_train_net.py"
    ),
    "srun --nodes 2 --ntasks-per-node 1 torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d "
    "--rdzv-endpoint HOST:29500 tools/train_net.py --config-file configs/camvid/ifa_r18.py": (
        "needs two machines"
    ),
    "wandb sync --sync-tensorboard output/camvid/ifa_r18": "uploads, to the reader's account",
    "python projects/FFNet/convert_ffnet_weights.py ffnet86_ABB_cityscapes_state_dict_quarts.pth "
    "ffnet86_abb.pth 86_ABB": "needs a published file, which the reader downloads",
    "python projects/InverseForm/pretrain_inverse_net.py --output output/inverse_net.pth "
    "--test-dataset shapes_val camvid_val": "needs pictures of a tile's size, which CamVid's here "
    "are not",
    "pip install -e '.[page]'": "changes the environment that this runs in",
    "python projects/FieldPage/serve_demo.py --config-file camvid/ifa_lite0_stride2.py "
    "--weights ifa_d2://camvid/ifa_lite0_stride2 --picture zoo/camvid/street2.jpg": (
        "serves until interrupted"
    ),
}
# Recipes that are no segmentor's, by their files' names.
DEPTH_RECIPES = ("monodepth_lite0.py", "xdistill_lite0.py")
# Words that stand for one of several.
PLACEHOLDERS = {"run_table.py TABLE": "run_table.py 1"}
# Data sets that lie prepared, because the page does not say how.
PREPARED = {
    "docs/DATA.md": [name for name in DATASETS if name != "cityscapes"],
    "projects/IFA/DATASETS.md": [],
}
_WRITTEN = ("--output", "--json", "--plot", "--save-predictions", "--save-labels")


@dataclass(frozen=True)
class Around:
    """What a block of Python takes for granted, what then shows that it did its work; its file."""

    before: str = ""
    after: str = ""
    name: str = "block.py"


# By a part of the block that no other has.
AROUND = {
    "def _add_backbone_keys(": Around("from detectron2.config import CfgNode\n"),
    'model_name="convnext_tiny"': Around(
        "from ifa_d2 import get_config\nmodel = get_config('camvid/ifa_r18.py').model\n",
        "from detectron2.config import instantiate\n"
        "model.backbone.pretrained = False\ninstantiate(model)\n",
    ),
    "criteria=[L(OhemCrossEntropy)()": Around(
        "from ifa_d2 import get_config\nmodel = get_config('camvid/ifa_r18.py').model\n",
        "from detectron2.config import instantiate\ninstantiate(model)\n",
    ),
    "before_crop = [": Around(
        "from ifa_d2 import get_config\ndataloader = get_config('camvid/ifa_r18.py').dataloader\n",
        "from detectron2.config import instantiate\n"
        "assert len(instantiate(dataloader.train.mapper).augmentations.augs) == 9\n",
    ),
    "segmentor = MultiViewSegmentor(": Around(
        "import ifa_d2\nmodel = ifa_d2.Predictor.from_zoo('camvid/ifa_lite0_frozen').model\n"
    ),
    "session.run(": Around(
        "import cv2\nrgb = cv2.imread('street.png')\n", "assert labels.shape == (72, 96)\n"
    ),
    "panoptic_fpn_R_50_1x.yaml": Around(
        after="from ifa_d2.engine import Trainer\nTrainer.build_model(cfg)\n"
    ),
    "_recipe = get_config(": Around(name="leaves.py"),
    "cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ": Around("from leaves import CLASSES\n"),
    "write_label_tiff(": Around(
        after="import ifa_d2.data\nsize = ifa_d2.data.picture_size('street.png')\n"
        "assert field.labels().shape == size\n"
    ),
    'predictor = ifa_d2.Predictor.from_zoo("camvid/ifa_lite0_stride2")\n': Around(
        "import ifa_d2\n"
    ),
}
# Sizes of answers that would take minutes.
SMALLER = {"(20000, 20000)": "(2000, 200)", "(2160, 3840)": "(216, 384)", "[720, 960]": "[72, 96]"}


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """In which `python` is the small one."""
    folder = Path(tempfile.mkdtemp(prefix="ifa"))  # of a short name, as a socket's has to be
    try:
        write_downloads(folder / "cache")
        with small_python(folder) as variables:
            yield variables
    finally:
        shutil.rmtree(folder)


def _around(block: str) -> Around:
    found = [around for part, around in AROUND.items() if part in f"{block}\n"]
    return found[0] if found else Around()


def _line_of(piece: Piece, folder: Path) -> str:
    """What bash is to run; a block of Python is written to its file."""
    if not piece.is_python:
        text = piece.text
        for word, one in PLACEHOLDERS.items():
            text = text.replace(word, one)
        return text
    around, text = _around(piece.text), piece.text
    for size, smaller in SMALLER.items():
        text = text.replace(size, smaller)
    (folder / around.name).write_text(f"{around.before}{text}\n{around.after}")
    return f"python {around.name}"


def _missing(piece: Piece, folder: Path, start: float) -> list[str]:
    """Files that a command says it writes, and which are not there or older."""
    words = [] if piece.is_python else shlex.split(piece.command)
    paths = [words[words.index(flag) + 1] for flag in _WRITTEN if flag in words]
    if "tools/train_net.py" in words:
        recipe = Path(words[words.index("--config-file") + 1])
        named = [word for word in words if word.startswith("train.output_dir=")]
        default = Path("output", *recipe.with_suffix("").parts[1:] or [recipe.stem])
        output = Path(named[0].partition("=")[2]) if named else default
        names = ["metrics.json", "model_final.pth", "config.yaml"]
        if "--eval-only" in words:  # the last, which takes the next number
            made = (folder / output).glob("inference*")
            output = max(made, key=lambda path: path.stat().st_mtime, default=output / "inference")
            names = ["log.txt"]
            if "--save-predictions" not in words:
                is_depth = recipe.name in DEPTH_RECIPES
                segmented = ["sem_seg_evaluation.json", "confusion_matrix.png"]
                names += ["depth_evaluation.json"] if is_depth else segmented
        paths += [str(folder / output / name) for name in names]
    if "convert" in piece.command:
        paths.append(words[-1])
    return [
        path
        for path in paths
        if not (folder / path).exists() or (folder / path).stat().st_mtime < start
    ]


def _fault(piece: Piece, folder: Path, environment: dict[str, str]) -> str | None:
    """Run a piece; what is wrong, if anything."""
    parse_only = piece.command in NOT_RUN
    start = time.time() - 1  # files' times may be of a coarser clock
    done = subprocess.run(
        ["bash", "-c", _line_of(piece, folder)],
        cwd=folder,
        env={**environment, **({PARSE_ONLY: "1"} if parse_only else {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stderr.strip()[-1500:]
    title = f"{piece.place}: {'a block' if piece.is_python else piece.command}"
    if done.returncode:
        return f"{title}\nended with status {done.returncode}: {said}"
    missing = [] if parse_only else _missing(piece, folder, start)
    return f"{title}\nhas not written {', '.join(missing)}: {said}" if missing else None


def _is_ours(piece: Piece) -> bool:
    return re.match(r"python (tools|projects)/", piece.command) is not None


def _runs(page: str) -> list[Piece]:
    """What is run of a page, and commands of our own that only read their arguments; at last its
    trees are looked at."""
    pieces = [p for p in read_pieces(page) if p.command not in NOT_RUN or _is_ours(p)]
    return pieces + read_trees(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if _runs(page)])
def test_page_does_what_it_says(page: str, tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "reader"
    pieces = _runs(page)
    make_folder(folder, PREPARED.get(page, DATASETS))
    try:
        if any("ifa_r50.pth" in piece.text for piece in pieces):
            write_checkpoints(folder)
        faults = [_fault(piece, folder, environment) for piece in pieces]
    finally:
        shutil.rmtree(folder)  # gigabytes, if it failed too
    assert not any(faults), "\n\n".join(filter(None, faults))


def test_what_is_not_run_is_on_the_pages() -> None:
    commands = {piece.command for page in PAGES for piece in read_pieces(page)}
    assert NOT_RUN.keys() <= commands


def test_what_blocks_take_for_granted_is_of_one_block_each() -> None:
    blocks = [p.text for page in PAGES for p in read_pieces(page) if p.is_python]
    for part in AROUND:
        assert sum(part in f"{block}\n" for block in blocks) == 1, part
    for size in SMALLER:
        assert any(size in block for block in blocks), size
