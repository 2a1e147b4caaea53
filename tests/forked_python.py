"""An interpreter that has imported the package: doing so takes seconds each time.

``forked_python()`` is the path of a client, which is called as ``python`` is. It hands arguments,
folder, environment and streams to a server, a fork of which runs the script as ``python`` would, to
its exit status. What is no script or module, such as ``-c``, goes to the true interpreter. Signals
reach the client alone: what is interrupted, killed or watched is run by ``sys.executable``.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

_CLIENT = """#!{python} -IS
import json, os, socket, sys
if not sys.argv[1].endswith(".py") and sys.argv[1] != "-m":
    os.execv("{python}", ["{python}", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{socket}")
    socket.send_fds(server, [b"-"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(16) or 1))
"""


@functools.cache
def forked_python() -> str:
    """Start the interpreter of this process's tests, which ends with it; the path to call it by."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = served_python(folder, {**os.environ, "PYTHONPATH": str(ROOT)})
    atexit.register(server.__exit__, None, None, None)
    return server.__enter__()


@contextmanager
def served_python(folder: Path, environment: dict[str, str], prepare: str = "") -> Iterator[str]:
    """Serve it while the context lasts; yields the client's path.

    Args:
        folder: for its files, with a short path.
        environment: of the server. Commands have their client's.
        prepare: "module:function" that the server calls before the first command.
    """
    client, path = folder / "bin" / "python", str(folder / "socket")
    client.parent.mkdir()
    client.write_text(_CLIENT.format(python=sys.executable, socket=path))
    client.chmod(0o755)
    command = [sys.executable, "-W", "ignore", __file__, path, str(client), prepare]
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        while not os.path.exists(path):
            if server.poll() is not None:
                raise RuntimeError(f"the interpreter ended with status {server.returncode}")
            time.sleep(0.1)
        yield str(client)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # it leads its own group, of all its commands
        server.wait()


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


def _serve(path: str, python: str, prepare: str) -> None:
    """Answer clients at a socket until killed, or until who started it is no more."""
    import multiprocessing.spawn  # it keeps the true interpreter  # noqa: F401

    import ifa_d2.cli

    for module in pkgutil.iter_modules(ifa_d2.cli.__path__, "ifa_d2.cli."):
        importlib.import_module(module.name)
    if prepare:
        module, _, function = prepare.partition(":")
        getattr(importlib.import_module(module), function)()
    gc.freeze()
    sys.executable = python
    sys.path.remove(str(Path(__file__).parent))
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(5)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if os.getppid() != parent:
                    return
                continue
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.settimeout(None)
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


if __name__ == "__main__":
    _serve(*sys.argv[1:])
