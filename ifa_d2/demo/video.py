"""Films and cameras by OpenCV. Frames are (H, W, 3) uint8 RGB arrays."""

import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

# Codecs that OpenCV's own build writes, by the container that takes them.
_CODECS = {".webm": "VP90", ".mp4": "vp09", ".mkv": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}
_FRAMES_A_SECOND = 25.0  # of a camera that reports none


class VideoFrames:
    """Iterator of the frames of a film or camera, once.

    Args:
        source: a file, or the number of a camera.
        limit: end after this many frames.

    Attributes:
        fps: frames a second.
        count: number of frames by the file's header; None for a camera.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no film that can be read, no such camera, or a limit below 1.
    """

    def __init__(self, source: str | int, *, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be 1 or more frames, got {limit}")
        if isinstance(source, str) and not os.path.isfile(source):
            raise FileNotFoundError(f"there is no file {source}")
        self._name = source if isinstance(source, str) else f"camera {source}"
        self._limit = limit
        self._capture = cv2.VideoCapture(source)
        opened, self._first = self._capture.read()
        if not opened:
            self._capture.release()
            raise ValueError(f"no frame can be read from {self._name}")
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or _FRAMES_A_SECOND
        said = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = limit
        if said > 0:
            self.count = min(said, limit) if limit else said

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            yield from islice(self._frames(), self._limit)
        finally:
            self._capture.release()

    def _frames(self) -> Iterator[np.ndarray]:
        there, frame = True, self._first
        while there:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            there, frame = self._capture.read()


class VideoWriter:
    """Writer of a film of frames of one size, which gets its name when it is complete.

    A context manager: an error inside it leaves the old file. The suffix selects the container:
    .webm and .mp4 (VP9, which browsers play), .mov and .mkv (MPEG-4), .avi (motion JPEG).

    Args:
        path: path of the film; parent folders are made.
        fps: frames a second.

    Raises:
        ValueError: another suffix; in :meth:`write`, a frame of another size than the first.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in _CODECS:
            raise ValueError(f"a film must be one of {', '.join(_CODECS)}, got {self.path.name}")
        self.fps = fps
        self.frames = 0
        self._writer: cv2.VideoWriter | None = None
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> "VideoWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # OpenCV takes the container from the suffix, so it is kept, in a folder beside the film.
        self._folder = tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".film-")
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, without its last row or column where their number is odd."""
        height, width = (side - side % 2 or side for side in frame.shape[:2])
        if self._writer is None:
            code = cv2.VideoWriter_fourcc(*_CODECS[self.path.suffix.lower()])
            self._size = (width, height)
            self._writer = cv2.VideoWriter(str(self._temporary), code, self.fps, self._size)
            if not self._writer.isOpened():
                raise ValueError(f"OpenCV cannot write {self.path} of {height} x {width} pixels")
        if (width, height) != self._size:
            raise ValueError(
                f"frames must all be {self._size} (width, height), got {width, height}"
            )
        even = np.ascontiguousarray(frame[:height, :width])
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()
        # What a camera gave until it was interrupted is a film.
        if self.frames and (kind is None or issubclass(kind, KeyboardInterrupt)):
            os.replace(self._temporary, self.path)
        self._folder.cleanup()

    @property
    def _temporary(self) -> Path:
        return Path(self._folder.name) / self.path.name


def show_frame(frame: np.ndarray, title: str = "ifa_d2") -> bool:
    """Show a frame in a window on the screen; False once Escape or q was pressed.

    Raises:
        ValueError: there is no screen.
    """
    # Without one, OpenCV's Qt would end the process.
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not screen:
        raise ValueError("there is no screen to show frames on: output must be given")
    cv2.imshow(title, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return cv2.waitKey(1) & 0xFF not in (27, ord("q"))
