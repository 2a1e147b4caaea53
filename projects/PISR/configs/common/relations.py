"""Panoptic relational attention for the model of panoptic_deeplab.py; numbers are our choice."""

import sys
from pathlib import Path

from detectron2.config import LazyCall as L

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

from panoptic_relations import PanopticRelations  # noqa: E402

_shape = "${..sem_seg_head.levels.input_shape."
relations = L(PanopticRelations)(
    feature="res5",
    in_channels=_shape + "res5.channels}",
    semantic_channels=_shape + "res2.channels}",
    instance_channels="${..ins_embed_head.decoder_channels[0]}",
    channels=256,
    key_channels=128,
    num_heads=4,
    norm="${..backbone.norm}",
    max_instances=50,
    center_threshold=0.1,
    nms_kernel=3,
)
