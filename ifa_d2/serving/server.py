"""Runs the page: its socket, and what is done with large pictures."""

import ipaddress
import socket

import numpy as np
import uvicorn
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform, Transform
from starlette.types import ASGIApp


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


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answer requests until the process is interrupted."""
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
