"""Models of the FFNet family by their published names."""

import re
from dataclasses import dataclass

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import SemanticSegmentor
from ffnet_backbone import VARIANTS, build_ffnet_backbone, feature_shapes
from ffnet_head import SEGMENTATION_HEADS, UP_HEADS, Adapter, UpHead
from omegaconf import MISSING, DictConfig

from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import FeatureLevels, GridTargets, IFASemSegHead, OhemCrossEntropy

_NAME = re.compile(
    r"(?:segmentation_ffnet)?(?P<variant>\d+[NS]*)_(?P<first>d?)(?P<letters>[ABC]{3})"
    r"(?P<mobile>_mobile)?(?P<half>_pre_down)?"
)
_FORM = (
    "name must be a backbone, the letters of stem, up-head and segmentation head, and what follows "
    "them, such as 86_ABB, 78S_dBBB_mobile or 46NS_CCC_mobile_pre_down"
)


@dataclass(frozen=True)
class FFNetName:
    """A model's name, taken apart.

    Attributes:
        variant: the backbone, of :data:`ffnet_backbone.VARIANTS`.
        stride2_first: the "d" before the letters, for heads at half the resolution.
        up_head: "A", "B" or "C".
        segmentation_head: "A", "B" or "C".
        mobile: levels are upsampled by their nearest cells.
        pre_down: the network is shown the picture at half its size.
    """

    variant: str
    stride2_first: bool
    up_head: str
    segmentation_head: str
    mobile: bool
    pre_down: bool


def parse_name(name: str) -> FFNetName:
    """Take a model's name apart.

    Args:
        name: such as ``"86_ABB"`` or ``"segmentation_ffnet78S_dBBB_mobile"``.

    Raises:
        ValueError: a name of another form, an unknown backbone, or another stem than it has.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{_FORM}, got {name!r}")
    variant, (stem, up_head, segmentation_head) = match["variant"], match["letters"]
    if variant not in VARIANTS:
        raise ValueError(f"{_FORM}; backbones are {', '.join(VARIANTS)}, got {name!r}")
    if stem != (own := VARIANTS[variant].stem):
        raise ValueError(f"name must have {own}, the stem of {variant}, as first letter: {name!r}")
    flags = [bool(match[part]) for part in ("first", "mobile", "half")]
    return FFNetName(variant, flags[0], up_head, segmentation_head, *flags[1:])


def ffnet_model(name: str, *, norm: str = "BN") -> DictConfig:
    """Make the LazyConfig of a model, as ``model`` of a recipe.

    Args:
        name: see :func:`parse_name`.
        norm: name of all norms, see Detectron2's ``get_norm``.

    Returns:
        A ``SemanticSegmentor`` with an ``IFASemSegHead``. A recipe sets its
        ``sem_seg_head.num_classes``.

    Raises:
        ValueError: as :func:`parse_name`, or a "d" with stem C.
    """
    parts = parse_name(name)
    options = {"stride2_first": parts.stride2_first, "pre_down": parts.pre_down}
    shapes = feature_shapes(parts.variant, **options)
    return L(SemanticSegmentor)(
        backbone=L(build_ffnet_backbone)(variant=parts.variant, norm=norm, **options),
        sem_seg_head=_head(parts, shapes),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )


def _head(name: FFNetName, shapes: dict[str, ShapeSpec]) -> DictConfig:
    widths, out_channels = UP_HEADS[name.up_head]
    hidden, side = SEGMENTATION_HEADS[name.segmentation_head]
    return L(IFASemSegHead)(
        num_classes=MISSING,
        levels=L(FeatureLevels)(
            input_shape={
                level: L(ShapeSpec)(channels=shape.channels, stride=shape.stride)
                for level, shape in shapes.items()
            },
            norm="${...backbone.norm}",
            projections={
                level: L(Adapter)(
                    in_channels=f"${{...input_shape.{level}.channels}}",
                    out_channels=width,
                    norm="${...norm}",
                )
                for level, width in zip(shapes, widths, strict=True)
            },
            dense_alignment=L(UpHead)(
                in_channels=list(widths),
                strides=[shape.stride for shape in shapes.values()],
                norm="${..norm}",
                out_channels=list(out_channels),
                hidden_channels=hidden,
                interpolation="nearest" if name.mobile else "bilinear",
            ),
        ),
        alignment=L(ImplicitAlignment)(
            in_channels=["${...levels.dense_alignment.hidden_channels}"],
            num_classes="${..num_classes}",
            hidden_dims=[],
            encoding="none",
            unfold=side == 3,
            local_ensemble=True,
        ),
        targets=L(GridTargets)(),
        criterion=L(OhemCrossEntropy)(threshold=0.7, min_kept=100_000, ignore_value=255),
        aux_heads=[],
        loss_weight=1.0,
    )


def put_head(model: DictConfig, head: DictConfig) -> None:
    """Put an IFA head in the place of a model's up-head and segmentation head.

    Args:
        model: as of :func:`ffnet_model`; changed in place.
        head: LazyConfig of an ``IFASemSegHead`` over res2 to res5, such as a recipe's. It loses its
            auxiliary heads, which the published models have not.
    """
    head.levels.input_shape = model.sem_seg_head.levels.input_shape
    head.aux_heads = []
    model.sem_seg_head = head
