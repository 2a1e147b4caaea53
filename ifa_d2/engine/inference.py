"""Test-time augmentation and sliding windows, from a config or from flags."""

import argparse
import inspect
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import PanopticFPN
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..choices import BLENDS
from ..modeling import MultiViewSegmentor
from .build import evaluator_metric, is_panoptic, test_dataset_names
from .yacs_config import to_lazy_config

# Of recipes that do not say: the paper's, where it is evaluated at several scales.
_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
# Keys of "inference" of a LazyConfig: arguments of the segmentor that are not the run's to give.
INFERENCE_KEYS = (
    "tta",
    *(
        name
        for name in inspect.signature(MultiViewSegmentor.__init__).parameters
        if name not in ("self", "model", "fields")
    ),
)


def build_inference_model(cfg: CfgNode | DictConfig, model: nn.Module) -> nn.Module:
    """A model as its config wants it evaluated.

    The config says so in ``inference``: ``tta``, and arguments of
    :class:`ifa_d2.modeling.MultiViewSegmentor`. A yacs config has ``TEST.AUG`` and
    ``TEST.SLIDING_WINDOW``.

    Returns:
        ``model`` itself where every picture is predicted once, whole and in its own size.

    Raises:
        ValueError: a value out of range, by name; views of a panoptic model, of pictures whose
            panoptic quality is evaluated, or of a model of another task.
    """
    wrapped = MultiViewSegmentor(model=model, **_options(to_lazy_config(cfg)))
    if wrapped.transparent:
        return model
    panoptic = any(map(is_panoptic, test_dataset_names(cfg)))
    if isinstance(wrapped.model, PanopticFPN) or panoptic:
        raise ValueError(
            "inference must not have tta or a window for a panoptic model: "
            "views are averaged of semantic segmentation alone"
        )
    if figure := evaluator_metric(cfg):
        raise ValueError(
            f"inference must not have tta or a window for a model that is judged by {figure}: "
            "views are averaged of semantic segmentation alone"
        )
    return wrapped


def describe_views(model: nn.Module) -> dict[str, Any]:
    """Describe the inference settings of a model, in plain types.

    Returns:
        ``tta``: sizes and mirror images that are averaged, or None; ``sliding_window``: ``window``
        and ``stride`` in pixels (height, width), and ``blend``, or None.
    """
    tta = window = None
    if isinstance(model, MultiViewSegmentor):
        views = model.views
        if views.flip or views.short_edges is not None or (views.scales or (1,)) != (1,):
            names = ("scales", "short_edges", "max_size", "flip")
            tta = {name: getattr(views, name) for name in names}
        if views.window is not None:
            window = {
                "window": views.window,
                "stride": views.strides(),
                "blend": views.blend or BLENDS[0],
            }
    return {"tta": tta, "sliding_window": window}


def check_inference(cfg: CfgNode | DictConfig) -> None:
    """Raise a ValueError where :func:`build_inference_model` would, before there is a model."""
    build_inference_model(cfg, nn.Identity())


def _options(cfg: DictConfig) -> dict[str, Any]:
    """Arguments of the segmentor, those that are left out at their defaults."""
    options = OmegaConf.to_container(cfg.get("inference") or OmegaConf.create({}), resolve=True)
    for name in options:
        if name not in INFERENCE_KEYS:
            raise ValueError(f"inference must have keys of {INFERENCE_KEYS}, got {name!r}")
    if not options.pop("tta", False):
        for name in ("scales", "short_edges", "max_size", "flip"):
            options.pop(name, None)
        return options
    options.setdefault("flip", True)
    if options.get("short_edges") is None:
        options.setdefault("scales", _SCALES)
    return options


def apply_inference_arguments(cfg: DictConfig, args: argparse.Namespace) -> None:
    """Write what the flags of :func:`add_inference_arguments` say into a config.

    Raises:
        ValueError: a value out of range, by name, or a stride or blend of no windows.
    """
    if args.tta:
        OmegaConf.update(cfg, "inference.tta", True, force_add=True)
    apply_window_arguments(cfg, args)
    check_inference(cfg)


def apply_window_arguments(
    cfg: DictConfig, args: argparse.Namespace, window: tuple[int, int] | None = None
) -> None:
    """Write what the flags of :func:`add_window_arguments` say into a config.

    Args:
        cfg: that is changed.
        args: with the flags.
        window: where neither says one; None is no windows.

    Raises:
        ValueError: a stride or blend of no windows.
    """
    flags = {"window": args.sliding_window, "stride": args.stride, "blend": args.blend}
    flags = {name: value for name, value in flags.items() if value is not None}
    if window is not None and not OmegaConf.select(cfg, "inference.window"):
        flags.setdefault("window", list(window))
    if flags:
        OmegaConf.update(cfg, "inference", flags, force_add=True)
    for name in ("stride", "blend"):
        if name in flags and not OmegaConf.select(cfg, "inference.window"):
            raise ValueError(f"{name} {flags[name]} is of windows: give their size as well")
