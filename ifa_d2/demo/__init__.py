"""Parts of the demo command: sources, answers, drawings and films."""

from .. import compat  # noqa: F401 (before Detectron2)
from .answer_drawing import Drawing, find_metadata
from .answers import Answer, Segmenter, View, label_ids
from .sources import (
    SHEET_NAME,
    Picture,
    check_output_name,
    dataset_pictures,
    decode_ahead,
    find_pictures,
    is_image,
    is_video,
    label_pictures,
)
from .video import VideoFrames, VideoWriter, show_frame

__all__ = [
    "SHEET_NAME",
    "Answer",
    "Drawing",
    "Picture",
    "Segmenter",
    "VideoFrames",
    "VideoWriter",
    "View",
    "check_output_name",
    "dataset_pictures",
    "decode_ahead",
    "find_metadata",
    "find_pictures",
    "is_image",
    "is_video",
    "label_ids",
    "label_pictures",
    "show_frame",
]
