"""Methods by name: their options through yacs, and what is refused."""

import pytest
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_sem_seg_head

from ifa_d2 import add_ifa_config
from ifa_d2.modeling.alignments import Carafe, Deconvolution, Upsampling
from tests.heads import make_head

SHAPES = {f"res{i + 2}": ShapeSpec(channels=4 + 2 * i, stride=4 << i) for i in range(3)}


def test_yacs_options() -> None:
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.MODEL.SEM_SEG_HEAD.NAME = "IFASemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = list(SHAPES)
    cfg.MODEL.SEM_SEG_HEAD.NORM = "BN"
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 8
    cfg.MODEL.IFA.ALIGNMENT = "carafe"
    cfg.MODEL.IFA.ALIGNMENT_OPTIONS.KERNEL_SIZE = 7
    cfg.MODEL.IFA.ALIGNMENT_OPTIONS.COMPRESSED_CHANNELS = 3
    head = build_sem_seg_head(cfg, SHAPES)
    assert isinstance(head.levels.dense_alignment, Carafe)
    assert head.levels.dense_alignment.layers[1].encode.weight.shape == (49 * 16, 3, 3, 3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"alignment": "cubic"}, "alignment must be one of.*'carafe'.*'cubic'"),
        (
            {"alignment": "ifa", "alignment_options": {"kernel_size": 3}},
            r"\{'alignment_options': \{'kernel_size': 3\}\} would be ignored.*'alignment': 'ifa'",
        ),
        (
            {"alignment": "upsampling", "alignment_options": {"norm": "GN"}},
            r"options of alignment 'upsampling' must be of \['kernel_size'\], got \['norm'\]",
        ),
        ({"alignment": "upsampling", "alignment_options": {"kernel_size": 2}}, "kernel_size.*2"),
        (
            {"alignment": "deconvolution", "alignment_options": {"kernel_size": [3]}},
            r"kernel_size.*2, got \[3\]",
        ),
        ({"alignment": "carafe", "alignment_options": {"kernel_size": 4}}, "kernel_size.*4"),
        (
            {"alignment": "carafe", "alignment_options": {"encoder_kernel_size": 0}},
            "encoder_kernel_size.*0",
        ),
        (
            {"alignment": "carafe", "alignment_options": {"compressed_channels": 0}},
            "compressed_channels.*0",
        ),
        ({"alignment": "sapa", "alignment_options": {"similarity": "cos"}}, "similarity.*'cos'"),
        (
            {"alignment": "sapa", "alignment_options": {"embedding_channels": 0}},
            "embedding_channels.*0",
        ),
        (
            {"alignment": "sapa", "projections": ("pointwise", "pointwise", "pyramid_pooling")},
            "a dense alignment needs one level of each of the features",
        ),
    ],
)
def test_mistakes_are_named(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_head(
            input_shape=SHAPES,
            num_classes=5,
            in_features=tuple(SHAPES),
            channels=8,
            aux_feature=None,
            **kwargs,
        )


def test_strides_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"strides must be multiples.*\(4, 6\)"):
        Upsampling(in_channels=(8, 8), strides=(4, 6), norm="")
    with pytest.raises(ValueError, match=r"in_channels must be 2 sizes.*\(8,\)"):
        Deconvolution(in_channels=(8,), strides=(4, 8), norm="")
    with pytest.raises(ValueError, match=r"in_channels must be positive.*\(8, 0\)"):
        Carafe(in_channels=(8, 0), strides=(4, 8), norm="")
