"""Detectron2's Panoptic FPN on a ResNet-50, for COCO."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

model = model_zoo.get_config("common/models/panoptic_fpn.py").model
model.backbone.bottom_up.freeze_at = 2
# As calls, where Detectron2 has objects: those cannot be saved in a config file.
model.roi_heads.box_head.input_shape = L(ShapeSpec)(channels=256, height=7, width=7)
model.roi_heads.box_predictor.input_shape = L(ShapeSpec)(channels=1024)
model.roi_heads.mask_head.input_shape = L(ShapeSpec)(channels=256, width=14, height=14)
