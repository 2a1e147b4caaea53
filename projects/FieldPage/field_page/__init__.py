# ruff: noqa: E402 (what it needs is looked for first)
"""A page on which pictures are segmented, and their fields asked for windows."""

from ifa_d2.extras import check_extra

check_extra("page", "the page")

from .app import build_app
from .server import ShrinkLongSide, allowed_hosts, open_socket, page_url, serve
from .uploads import PictureStore, UploadError, check_picture, decode_upload

__all__ = [
    "PictureStore",
    "ShrinkLongSide",
    "UploadError",
    "allowed_hosts",
    "build_app",
    "check_picture",
    "decode_upload",
    "open_socket",
    "page_url",
    "serve",
]
