import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from ifa_d2.demo import VideoFrames, VideoWriter, show_frame

# Halves of red and blue, brighter from frame to frame: what compression keeps.
FRAMES = np.zeros((6, 32, 48, 3), np.uint8)
FRAMES[:, :, :24, 0] = FRAMES[:, :, 24:, 2] = np.arange(60, 240, 30)[:, None, None]


def write(path: Path, frames: np.ndarray = FRAMES, fps: float = 12.0) -> Path:
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_films_that_browsers_play_are_vp9(tmp_path: Path, suffix: str) -> None:
    capture = cv2.VideoCapture(str(write(tmp_path / f"film{suffix}")))
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    capture.release()
    assert code.to_bytes(4, "little").lower() in (b"vp90", b"vp09")


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm", ".mkv"])
def test_frames_come_back(tmp_path: Path, suffix: str) -> None:
    source = VideoFrames(str(write(tmp_path / f"new/film{suffix}")))
    assert source.fps == pytest.approx(12.0, rel=0.01)
    frames = np.stack(list(source))
    assert frames.shape == FRAMES.shape and source.count == 6
    # Away from the edge, where colours of half the resolution run into each other.
    error = np.abs(frames.astype(int) - FRAMES)[:, :, [4, 12, 36, 44]]
    assert error.max() < 25
    assert sorted(os.listdir(tmp_path / "new")) == [f"film{suffix}"]


def test_limit(tmp_path: Path) -> None:
    path = str(write(tmp_path / "film.avi"))
    source = VideoFrames(path, limit=4)
    assert source.count == 4 and len(list(source)) == 4
    assert len(list(VideoFrames(path, limit=9))) == 6
    with pytest.raises(ValueError, match="limit must be 1 or more frames, got 0"):
        VideoFrames(path, limit=0)


def test_odd_sizes_lose_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mp4", FRAMES[:, :31, :47])
    assert next(iter(VideoFrames(str(path)))).shape == (30, 46, 3)


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = write(tmp_path / "film.avi")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"must all be \(48, 32\) \(width, height\), got "):
        with VideoWriter(path, 12.0) as writer:
            writer.write(FRAMES[0])
            writer.write(FRAMES[1, :, :24])
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["film.avi"]


def test_an_interrupted_film_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    with pytest.raises(KeyboardInterrupt):
        with VideoWriter(path, 12.0) as writer:
            writer.write(FRAMES[0])
            writer.write(FRAMES[1])
            raise KeyboardInterrupt
    assert len(list(VideoFrames(str(path)))) == 2


def test_what_is_no_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        VideoFrames(str(tmp_path / "away.mp4"))
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(ValueError, match=r"no frame can be read from .*text.mp4"):
        VideoFrames(str(tmp_path / "text.mp4"))
    with pytest.raises(ValueError, match="no frame can be read from camera 97"):
        VideoFrames(97)
    with pytest.raises(ValueError, match=r"a film must be one of .webm, .* got film.gif"):
        VideoWriter(tmp_path / "film.gif", 12.0)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ValueError, match="there is no screen"):
        show_frame(FRAMES[0])
