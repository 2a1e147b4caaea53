#!/usr/bin/env python3
"""Draw predictions and features of models side by side (the paper's Fig. 4 and 5).

    python projects/IFA/draw_comparison.py predictions --output fig4.png \\
        bilinear=output/shapes/bilinear IFA=output/shapes/ifa
    python projects/IFA/draw_comparison.py features --output fig5.png IFA=output/shapes/ifa

predictions draws the picture, each model's prediction and the ground truth, and frames the largest
differences between the first two models. Without --pictures it takes the pictures with the largest
framed parts, whichever model is right there.
features draws maps averaged over channels: the backbone's first and last stage, and the aligned
field, the output of the MLP's last hidden layer (--layer) at the queries.

RUN is the output folder of a training, or a config file with weights in train.init_checkpoint,
which count where its own output folder has no checkpoint.
"""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data import Metadata, MetadataCatalog
from regions import Box, differing_regions, draw_frames, draw_map, enlarge
from torch import Tensor, nn

from ifa_d2.arguments import add_drawing_arguments, command_parser
from ifa_d2.data import read_picture
from ifa_d2.engine import build
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config
from ifa_d2.errors import errors_in_one_line
from ifa_d2.layers import concatenate_levels
from ifa_d2.layers.levels import materialize
from ifa_d2.modeling import SegmentationField, compute_fields
from ifa_d2.modeling.picture_fields import padded_images
from ifa_d2.visualization import (
    add_legend,
    check_image_path,
    contact_sheet,
    draw_segmentation,
    enlargement,
    image_and_panels,
    letter_size,
    save_image,
)

_ALPHA = 0.75  # of the classes' colours


@dataclass(frozen=True)
class Run:
    """A named trained model."""

    name: str
    model: nn.Module
    cfg: Any


def load_run(text: str) -> Run:
    """Load the model of "[NAME=]RUN", see this module's docstring.

    Raises:
        ValueError: no such folder, or one that has no config or no checkpoint.
        FileNotFoundError: a file that is named does not exist.
    """
    name, _, place = text.rpartition("=")
    path = Path(place)
    if not path.is_dir():
        if path.suffix not in (".py", ".yaml", ".yml"):
            raise ValueError(
                f"RUN must be the output folder of a training or a config file, got {place!r}: "
                "there is no such folder"
            )
        cfg = load_config(place)
        return Run(name or path.stem, load_model(cfg, None), cfg)
    config, last = path / "config.yaml", path / "last_checkpoint"
    for file in (config, last):
        if not file.is_file():
            raise ValueError(f"{path} is no output folder of a training: it has no {file.name}")
    cfg = load_config(str(config))
    return Run(name or path.name, load_model(cfg, str(path / last.read_text().strip())), cfg)


def _run_files(texts: Sequence[str]) -> Iterator[Path]:
    for path in (Path(text.rpartition("=")[2]) for text in texts):
        yield from path.iterdir() if path.is_dir() else [path]


def decode(run: Run, inputs: Mapping[str, Any], field: SegmentationField, stride: int) -> Tensor:
    """Decode (H, W) labels of a picture, at one sample for ``stride`` pixels a side."""
    logits = field.logits(grid_size(inputs, stride))[None]
    if tuple(logits.shape[2:]) != field.image_size:
        logits = F.interpolate(logits, field.image_size, mode="bilinear", align_corners=False)
    return logits[0].argmax(0).cpu()


def grid_size(inputs: Mapping[str, Any], stride: int) -> tuple[int, int]:
    """Grid (height, width) of a model's input at a stride, in samples."""
    return tuple(math.ceil(n / stride) for n in inputs["image"].shape[-2:])


def draw_predictions(
    picture: np.ndarray,
    answers: Mapping[str, np.ndarray],
    truth: np.ndarray,
    boxes: Sequence[Box],
    metadata: Metadata,
    width: int,
    outlines: bool = False,
) -> np.ndarray:
    """Draw a row: picture, predictions and ground truth, framed.

    Args:
        picture: (H, W, 3) RGB.
        answers: class ids (H, W) by the model's name.
        truth: class ids, (H, W).
        boxes: to frame, in pixels.
        metadata: of the data set.
        width: of a panel, about.
        outlines: draw lines between regions.
    """
    scale = enlargement(picture, width)
    options = {"scale": scale, "alpha": _ALPHA, "names": False, "outlines": outlines}
    panels = {
        name: draw_segmentation(picture, labels, metadata, **options)
        for name, labels in {**answers, "ground truth": truth}.items()
    }
    framed = {name: draw_frames(panel, boxes, scale) for name, panel in panels.items()}
    return image_and_panels(draw_frames(enlarge(picture, scale), boxes, scale), framed)


@torch.no_grad()
def feature_maps(
    run: Run, inputs: Mapping[str, Any], stride: int, layer: int = -1
) -> dict[str, np.ndarray]:
    """Compute feature maps averaged over channels, without the picture's padding.

    Args:
        run: the model.
        inputs: a picture in Detectron2's format.
        stride: at which the field is asked, in pixels of the model's input.
        layer: see :func:`hidden_map`.

    Returns:
        (H, W) each at the pixels of the model's input: the backbone's first and last stage, by name
        and stride, in whole cells; and (h, w) at the samples that are asked, ``aligned``.

    Raises:
        ValueError: a layer that is not there.
    """
    model = run.model
    height, width = inputs["image"].shape[-2:]
    features = model.backbone(padded_images(model, [inputs]).tensor)
    strides = {name: shape.stride for name, shape in model.backbone.output_shape().items()}
    names = sorted(features, key=strides.__getitem__)
    maps = {}
    for name in (names[0], names[-1]):
        cells = features[name][0].mean(0).cpu().numpy()
        square = np.ones((strides[name], strides[name]), cells.dtype)
        maps[f"{name}, stride {strides[name]}"] = np.kron(cells, square)[:height, :width]
    field = compute_fields(model, [inputs])[0]
    hidden = hidden_map(field, grid_size(inputs, stride), layer)
    maps[f"aligned, stride {stride}"] = hidden.mean(0).cpu().numpy()
    return maps


def hidden_map(field: SegmentationField, size: tuple[int, int], layer: int = -1) -> Tensor:
    """Compute the output (C, H, W) of a hidden layer of the field's MLP, after norm and ReLU.

    Raises:
        ValueError: a layer that is not there.
    """
    layers = list(field.alignment.mlp.layers)
    if not -len(layers) <= layer < len(layers):
        raise ValueError(f"--layer must be from {-len(layers)} to {len(layers) - 1}, got {layer}")
    x = concatenate_levels(
        [materialize(level) for level in field.levels],
        field.query(size),
        field.alignment.encodings,
        unfold=field.alignment.unfold,
        local_ensemble=field.alignment.local_ensemble,
    )
    for one in layers[: layer % len(layers) + 1]:
        x = one(x)
    return x[0]


def iter_pictures(run: Run, indices: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
    """Iterate over inputs of the run's test data, all or some by index, in its order.

    Raises:
        ValueError: an index that is not there.
    """
    name = build.test_dataset_names(run.cfg)[0]
    loader = build.build_test_loader(run.cfg, name)
    count = len(loader.dataset)
    wrong = [index for index in indices or () if not 0 <= index < count]
    if wrong:
        raise ValueError(f"--pictures must be from 0 to {count - 1}, got {wrong}")
    if indices is None:
        for batch in loader:
            yield from batch
        return
    for index in indices:
        yield loader.dataset[index]


def draw_all_predictions(runs: Sequence[Run], args: argparse.Namespace) -> np.ndarray:
    """Draw the picture of ``predictions``."""
    if len(runs) < 2:
        raise ValueError(f"predictions needs two runs or more, got {len(runs)}")
    metadata = MetadataCatalog.get(build.test_dataset_names(runs[0].cfg)[0])
    ignore_value = runs[0].model.sem_seg_head.ignore_value
    found = []
    for index, inputs in enumerate(iter_pictures(runs[0], args.pictures)):
        truth = inputs["sem_seg"].numpy()
        answers = {}
        for run in runs:
            field = compute_fields(run.model, [inputs])[0]
            answers[run.name] = decode(run, inputs, field, args.stride).numpy()
        first, second = list(answers.values())[:2]
        boxes = differing_regions(first, second, truth, ignore_value=ignore_value)
        differ = (first != second) & (truth != ignore_value)
        framed = sum(int(differ[y0:y1, x0:x1].sum()) for y0, x0, y1, x1 in boxes)
        found.append((framed / differ.size, index, inputs["file_name"], answers, truth, boxes))
        if args.pictures is None:  # the largest so far; of two alike the earlier
            found = sorted(found, key=_rank)[: args.count]
    rows, segmentations, letters = [], [], 0.0
    for share, _, file_name, answers, truth, boxes in found:
        part = f"{100 * share:.1f} % of the picture"
        print(f"{file_name}: {len(boxes)} frames, in which {part} differs")
        picture = read_picture(file_name)
        segmentations += [*answers.values(), truth]
        scale = enlargement(picture, args.width)
        letters = max(letters, letter_size(*(scale * side for side in truth.shape)))
        shown = (picture, answers, truth, boxes, metadata, args.width, args.outlines)
        rows.append(draw_predictions(*shown))
    sheet = contact_sheet(rows)
    return add_legend(sheet, segmentations, metadata, letters) if args.legend else sheet


def _rank(entry: tuple[Any, ...]) -> tuple[float, int]:
    return -entry[0], entry[1]


def draw_all_features(runs: Sequence[Run], args: argparse.Namespace) -> np.ndarray:
    """Draw the picture of ``features``: a row for each picture and run."""
    rows = []
    pictures = iter_pictures(runs[0], args.pictures)
    for inputs in islice(pictures, args.count) if args.pictures is None else pictures:
        picture = read_picture(inputs["file_name"])
        picture = enlarge(picture, enlargement(picture, args.width))
        for run in runs:
            maps = feature_maps(run, inputs, args.stride, args.layer)
            size = picture.shape[:2]
            panels = {f"{run.name}: {k}": draw_map(v, size) for k, v in maps.items()}
            rows.append(image_and_panels(picture, panels))
    return contact_sheet(rows)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, draw, text in (
        ("predictions", draw_all_predictions, "a row for each picture: all models' answers"),
        ("features", draw_all_features, "a row for each picture and model: maps of its features"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="the baseline first")
        command.add_argument("--output", required=True, metavar="FILE.png", help="to draw")
        command.add_argument(
            "--pictures",
            type=int,
            nargs="+",
            metavar="I",
            help="of the test data, from 0; without them --count",
        )
        command.add_argument(
            "--count", type=int, default=3, metavar="N", help="pictures (default: 3)"
        )
        command.add_argument(
            "--stride",
            type=int,
            default=4,
            metavar="S",
            help="pixels from one sample of the field to the next (default: 4, as the paper)",
        )
        command.add_argument(
            "--width", type=int, default=384, metavar="W", help="of a panel, about (default: 384)"
        )
        command.set_defaults(draw=draw)
    add_drawing_arguments(commands.choices["predictions"])
    command.add_argument(
        "--layer",
        type=int,
        default=-1,
        metavar="L",
        help="hidden layer whose output is the aligned map: 0 is the one that brings the levels "
        "together, -1 (default) the last before the classes",
    )
    args = parser.parse_args(arguments)
    for option in ("count", "stride", "width"):
        if getattr(args, option) < 1:
            parser.error(f"--{option} must be 1 or more, got {getattr(args, option)}")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_args(arguments)
    with errors_in_one_line():
        check_image_path(args.output)
        runs = [load_run(text) for text in args.runs]
        names = [run.name for run in runs]
        if len(set(names)) < len(names):
            raise ValueError(f"runs must have different names, NAME=RUN, got {', '.join(names)}")
        check_command_outputs(
            [args.output],
            datasets=build.test_dataset_names(runs[0].cfg),
            others={"run's file": _run_files(args.runs)},
        )
        save_image(args.output, args.draw(runs, args))


if __name__ == "__main__":
    main()
