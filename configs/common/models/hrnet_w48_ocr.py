"""HRNet-W48 with object-contextual representations, and IFA in place of its bilinear alignment.

``model.sem_seg_head.alignment=bilinear`` is HRNet-OCR as it was published.
"""

from .hrnet_w18 import model

WIDTH = 48

model.backbone.model_name = "hrnet_w48"
for index, level in enumerate(("res2", "res3", "res4", "res5")):
    model.sem_seg_head.input_shape[level].channels = WIDTH * 2**index
model.sem_seg_head.update(decoder="ocr", hidden_dims=(512,))
