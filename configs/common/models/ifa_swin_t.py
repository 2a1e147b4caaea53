"""IFA on a Swin-T of timm, whose features have the shapes of a ConvNeXt-T's."""

from .ifa_convnext_t import model

model.backbone.model_name = "swin_tiny_patch4_window7_224"
