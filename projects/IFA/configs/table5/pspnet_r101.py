"""PSPNet on a dilated ResNet-101 (Tables 5 and 7)."""

from ..table2.pspnet import model

model.backbone.depth = 101
model.backbone.output_stride = 8
model.backbone.res5_multi_grid = None
for level, stride in (("res4", 8), ("res5", 8)):
    model.sem_seg_head.input_shape[level].stride = stride
