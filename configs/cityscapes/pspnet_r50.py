"""PSPNet on a ResNet-50, with IFA in place of its bilinear alignment (Table 2).

``use_alignment(model.sem_seg_head, "bilinear")`` makes it PSPNet. Data, schedule and weights are
those of ``ifa_r50.py``: the paper gives no others for its Table 2.
"""

from ..common.models.pspnet_r50 import model
from .ifa_r50 import dataloader, inference, lr_multiplier, optimizer, train

model.sem_seg_head.num_classes = 19
