"""ASPP on res5, as the paper's IFA* has it: ``model.sem_seg_head.levels.projections``."""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import ASPPProjection

projections = dict(
    res5=L(ASPPProjection)(
        in_channels="${...input_shape.res5.channels}",
        out_channels=256,
        dilations=[12, 24, 36],
        norm="${...norm}",
    )
)
