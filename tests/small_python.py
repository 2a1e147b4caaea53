"""An interpreter for documented commands: what they import is there, what takes hours is small.

Each `python` of a command line is a client that hands its arguments, folder, environment and
streams to a process which has imported the package, as takes ten seconds otherwise. There a fork
runs the script as `python` would. The command line stays as it is written; afterwards these are
made small:

- a config that was read, its overrides applied, or given to a Trainer: two iterations of two small
  crops, few points;
- the numbers of pictures that data sets were published with, and that `shapes` is drawn with;
- the sizes and repeats of benchmarks, and how many targets are compared (`ARGUMENTS`).

With PARSE_ONLY in the environment a command ends with status 0 when it has read its arguments.
"""

import argparse
import atexit
import gc
import itertools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COUNTS = {"train": 4, "val": 2}
CRACKFOREST_COUNTS = {"train": 6, "val": 2}
CROP = [64, 96]  # (height, width) in pixels
MAX_POINTS = 2000
_SOCKET, PARSE_ONLY = "SMALL_PYTHON", "PARSE_ONLY"

# Values of a command's arguments, by its file's name, in place of those that were parsed.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "benchmark.py": {
        **{"input_size": CROP, "repeats": 1, "points": [50]},
        **{"megapixels": [0.01, 0.02], "class_megapixels": 0.01, "parts": ["branch"]},
    },
    "measure_refinement.py": {"input_size": CROP, "repeats": 1},
    "measure_raster.py": {"side": 200, "kills": 0, "crop": 200, "sliding_window": [128, 128]},
    "run_table.py": {"tables": ["6"], "rows": ["ifa"], "seeds": 1, "repeats": 1},
    "list_models.py": {"names": ["40S_dBBB_mobile"]},
    "pretrain_inverse_net.py": {"iterations": 2, "batch_size": 16},
    "compare_targets.py": {"targets": ["grid"], "local_ensemble": "no", "repeats": 1},
}

_CLIENT = """#!{python} -IS
import json, os, socket, sys
if not sys.argv[1].endswith(".py") and sys.argv[1] != "-m":
    os.execv("{python}", ["{python}", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["SMALL_PYTHON"])
    socket.send_fds(server, [b"-"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(16) or 1))
"""


def make_small(cfg: Any) -> None:
    """Change a config of either kind in place."""
    if "SOLVER" in cfg:
        cfg.SOLVER.MAX_ITER = cfg.SOLVER.IMS_PER_BATCH = 2
        cfg.SOLVER.WARMUP_ITERS = 0
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP.SIZE = (CROP[0],), CROP
        return
    cfg.train.update(max_iter=2, batch_size=2)
    if "yacs" in cfg:
        cfg.yacs.INPUT.MIN_SIZE_TRAIN, cfg.yacs.INPUT.CROP.SIZE = CROP[:1], CROP
    cfg.lr_multiplier.update({"warmup_iters": 0} if "warmup_iters" in cfg.lr_multiplier else {})
    mapper = cfg.dataloader.train.mapper
    if mapper.get("num_points"):
        mapper.num_points = min(mapper.num_points, MAX_POINTS)
    if "yacs" in cfg:
        return
    if isinstance(mapper.augmentations, Mapping):
        mapper.augmentations.update(crop_size=CROP, short_edge=CROP[0])
    else:  # of a panoptic recipe, whose test pictures are resized too
        sizes = {"short_edge_length": CROP[:1], "max_size": 2 * CROP[1]}
        mapper.augmentations[0].update(sizes)
        sizes["short_edge_length"] = CROP[0]
        cfg.dataloader.test.mapper.augmentations[0].update(sizes)


def _make_package_small() -> None:
    """Import what all commands import, and change it as this module's docstring says."""
    from ifa_d2.analysis.benchmarks import parser
    from ifa_d2.data.preparation import PREPARATIONS
    from ifa_d2.data.shapes.prepare import SHAPES_COUNTS
    from ifa_d2.engine import Trainer, run

    SHAPES_COUNTS.update(COUNTS)
    for preparation in itertools.chain(*PREPARATIONS.values()):
        counts = CRACKFOREST_COUNTS if preparation.name == "crackforest" else COUNTS
        object.__setattr__(preparation, "counts", counts)
    parser.FULL_MEGAPIXELS = 0.03
    apply_overrides, build_trainer = run.apply_overrides, Trainer.__init__
    parse = argparse.ArgumentParser.parse_args

    def apply_and_shrink(cfg: Any, overrides: Any) -> None:
        apply_overrides(cfg, overrides)
        make_small(cfg)

    def build_small_trainer(self: Any, cfg: Any, **options: Any) -> None:
        cfg = cfg.clone() if hasattr(cfg, "clone") else cfg.copy()
        getattr(cfg, "defrost", dict)()
        make_small(cfg)
        build_trainer(self, cfg, **options)

    def parse_small(self: Any, *args: Any, **kwargs: Any) -> argparse.Namespace:
        options = parse(self, *args, **kwargs)
        if PARSE_ONLY in os.environ:
            sys.exit(0)
        values = ARGUMENTS.get(os.path.basename(sys.argv[0]), {})
        vars(options).update({key: values[key] for key in values.keys() & vars(options).keys()})
        return options

    run.apply_overrides, Trainer.__init__ = apply_and_shrink, build_small_trainer
    argparse.ArgumentParser.parse_args = parse_small


def _attend(connection: socket.socket) -> Callable[[], None]:
    """Run one command in a fork and answer with its status; in the fork, return what to do."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as file:
        arguments, folder, environment = json.load(file)
    pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall(str(status if status >= 0 else 128 - status).encode())
        os._exit(0)
    connection.close()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    # Those of before know of their files what is not true of these.
    sys.stdout, sys.stderr = (open(fd, "w", closefd=False) for fd in (1, 2))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, folder)
        return lambda: runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    sys.argv = arguments
    sys.path.insert(0, os.path.dirname(os.path.realpath(arguments[0])))
    return lambda: runpy.run_path(arguments[0], run_name="__main__")


def _serve(path: str, python: str) -> None:
    """Answer clients at a socket until killed."""
    import multiprocessing.spawn  # it keeps the true interpreter  # noqa: F401

    _make_package_small()
    gc.freeze()
    sys.executable = python
    sys.path.remove(str(Path(__file__).parent))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _end(_attend(connection))


def _end(run: Callable[[], Any]) -> None:
    """Run a command and end this process as Python would, without the seconds of taking apart what
    is imported."""
    status = 0
    try:
        run()
    except SystemExit as stop:
        status = stop.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def small_python(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; yields the environment in which `python` is it.

    Args:
        folder: for its files, with a short path. DETECTRON2_DATASETS is ROOT, relative.
    """
    client, path = folder / "bin" / "python", str(folder / "socket")
    client.parent.mkdir()
    client.write_text(_CLIENT.format(python=sys.executable))
    client.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{client.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DETECTRON2_DATASETS": "ROOT",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "FVCORE_CACHE": str(folder / "cache"),
        _SOCKET: path,
    }
    command = [sys.executable, "-W", "ignore", __file__, path, str(client)]
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        while not os.path.exists(path):
            if server.poll() is not None:
                raise RuntimeError(f"the interpreter ended with status {server.returncode}")
            time.sleep(0.1)
        yield environment
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # it leads its own group, of all its commands
        server.wait()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
