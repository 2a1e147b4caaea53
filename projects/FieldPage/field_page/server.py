"""Runs the page: its socket, and what is done with large pictures."""

import asyncio
import ipaddress
import socket
from types import FrameType

import numpy as np
import uvicorn
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform, Transform
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_LAST_SECONDS = 2.0  # for answers that are in work when the server is told to end


class ShrinkLongSide(T.Augmentation):
    """Resizes an image whose longer side is longer than ``max_size`` pixels to that length.

    Smaller ones stay as they are, which ``ResizeShortestEdge`` would enlarge.

    Raises:
        ValueError: ``max_size`` below 1.
    """

    def __init__(self, max_size: int) -> None:
        super().__init__()
        if max_size < 1:
            raise ValueError(f"max_size must be at least 1, got {max_size}")
        self.max_size = max_size

    def get_transform(self, image: np.ndarray) -> Transform:
        """The resize of an image (H, W, 3)."""
        height, width = image.shape[:2]
        scale = self.max_size / max(height, width)
        if scale >= 1:
            return NoOpTransform()
        new = (max(1, round(height * scale)), max(1, round(width * scale)))
        return T.ResizeTransform(height, width, *new)


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port that is taken is known before the model is used.

    Args:
        host: a name or address; 127.0.0.1 is this machine alone.
        port: 0 is any that is free.

    Raises:
        ValueError: the address is not this machine's, or the port is taken.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be 0 to 65535, got {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"cannot listen on host {host} port {port}: {error}") from error


def allowed_hosts(host: str, listening: socket.socket) -> list[str] | None:
    """Names that requests to a server may come under; None is any.

    Args:
        host: what the server was asked to listen on; it may be a name.
        listening: the server's socket. One of this machine alone is asked for by its own address,
            and one at 127.0.0.1 or ::1 also by the other and as localhost.
    """
    address = listening.getsockname()[0]
    parsed = ipaddress.ip_address(address)
    if not (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback:
        return None
    usual = ["127.0.0.1", "localhost", "::1"]
    names = [host, address, *(usual if address in usual else [])]
    return sorted({_bracketed(name) for name in names})


def page_url(host: str, listening: socket.socket) -> str:
    """The address to type into a browser; arguments as of :func:`allowed_hosts`."""
    return f"http://{_bracketed(host)}:{listening.getsockname()[1]}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def serve(app: ASGIApp, listening: socket.socket, *, seconds: float = 30.0) -> None:
    """Answer requests until SIGINT (Ctrl-C) or SIGTERM, and return within a few seconds then.

    Answers that are not finished by then are dropped with their clients. A thread that computes
    the features of a picture may go on: it cannot be stopped, and Python waits for it at its exit.

    Args:
        app: as of :func:`build_app`.
        listening: the socket, which is closed in the end.
        seconds: as of :class:`Limits`; here for heads of requests, and answers.
    """
    config = uvicorn.Config(
        app, http=_Protocol, timeout_keep_alive=seconds, log_level="warning", ws="none"
    )
    _Server(config).run(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn, which ends as soon as it is told to."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; uvicorn's own would also raise the signal anew in the end."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, and after a moment for answers that are nearly there, drop who still waits.

        uvicorn's ``timeout_graceful_shutdown`` cancels requests too, with a traceback of each, and
        goes on waiting for clients that do not read.
        """
        asyncio.get_running_loop().call_later(_LAST_SECONDS, self._drop)
        await super().shutdown(sockets)

    def _drop(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        # When each knows that its client is gone: else uvicorn logs an answer that never began.
        asyncio.get_running_loop().call_soon(self._cancel)

    def _cancel(self) -> None:
        for task in list(self.server_state.tasks):
            task.cancel()


class _Protocol(H11Protocol):
    """Drops clients that keep it waiting: for a request's head, or to read an answer.

    uvicorn gives up connections after an answer alone, and only those that send nothing: here its
    ``timeout_keep_alive`` goes on until the whole head of a request is there.
    """

    _waiting: asyncio.TimerHandle | None = None

    def _watch(self) -> None:
        working = self.cycle is not None and not self.cycle.response_complete
        waits = not working or self.flow.write_paused
        if waits and self._waiting is None:
            drop = self.transport.abort
            self._waiting = self.loop.call_later(self.timeout_keep_alive, drop)
        elif not waits and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._waiting is not None:
            self._waiting.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()
