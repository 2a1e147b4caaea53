"""Test-time augmentation and sliding windows, from a config or from flags."""

import argparse
import inspect
from fractions import Fraction
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import PanopticFPN
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..modeling import MultiViewSegmentor
from ..modeling.views import BLENDS
from .build import is_panoptic, test_dataset_names
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
        ValueError: a value out of range, by name; views of a panoptic model, or of pictures whose
            panoptic quality is evaluated.
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


class Renamed(argparse.Action):
    """Refuse a flag's old name, and name the new one."""

    def __init__(self, option_strings: list[str], dest: str, *, const: str) -> None:
        super().__init__(option_strings, dest, nargs="*", const=const, help=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """End the command with the new name."""
        parser.error(f"{self.option_strings[0]} is now {self.const}")


def add_inference_arguments(parser: argparse.ArgumentParser, *, crop: bool = False) -> None:
    """Add --tta, --sliding-window, --stride and --blend.

    Args:
        parser: that takes them.
        crop: it also has --crop, which --window once meant.
    """
    group = parser.add_argument_group("inference", "what the config says, unless given here")
    group.add_argument(
        "--tta",
        action="store_true",
        help="average over the config's scales and mirror images (inference.scales and flip, or "
        "TEST.AUG)",
    )
    add_window_arguments(group)

    sliding = "--sliding-window H W"
    window = f"--crop Y0 X0 Y1 X1 (a part of the picture; {sliding} slides)" if crop else sliding
    parser.add_argument("--window", action=Renamed, const=window)
    parser.add_argument("--slide", action=Renamed, const=sliding)


def add_window_arguments(
    group: argparse._ActionsContainer, *, window: str = "", blend: str = BLENDS[0]
) -> None:
    """Add --sliding-window, --stride and --blend.

    Args:
        group: that takes them.
        window, blend: taken where neither the flag nor the config says one.
    """
    default = f" (default: {window})" if window else ""
    group.add_argument(
        "--sliding-window",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="predict in windows of this size in pixels and average where they overlap" + default,
    )
    group.add_argument(
        "--stride",
        nargs=2,
        type=_stride,
        metavar=("H", "W"),
        help="from one window to the next: pixels, or fractions of the window (default: 2/3 2/3)",
    )
    group.add_argument(
        "--blend",
        choices=BLENDS,
        help="what windows weigh where they overlap: alike, or by a Gaussian that falls to their "
        f"edges (default: {blend})",
    )


def _stride(text: str) -> int | float:
    try:
        return int(text) if text.isdigit() else float(Fraction(text))
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(
            f"must be pixels, or a fraction such as 2/3 or 0.5, got {text!r}"
        ) from error


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
