#!/usr/bin/env python
"""Segment pictures and draw them: image, prediction and ground truth side by side.

python tools/demo.py --config-file shapes/ifa_r18.py --input street.jpg --output drawn
python tools/demo.py --config-file shapes/ifa_r18.py --dataset shapes_val --num 8 --output drawn
"""

import argparse
import os
import sys
from collections.abc import Iterator

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data.detection_utils import read_image
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

from ifa_d2.data import read_label
from ifa_d2.data.labels import translate_label
from ifa_d2.engine.build import build_test_mapper, test_dataset_names
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config
from ifa_d2.visualization import contact_sheet, save_png, side_by_side


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config-file",
        required=True,
        metavar="FILE",
        help="a .py or .yaml file, or the name of a recipe such as shapes/ifa_r18.py",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a checkpoint; without it the config's, or the last of its output directory",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", metavar="FILE", help="pictures to segment")
    source.add_argument("--dataset", metavar="NAME", help="draw pictures of this data set")
    parser.add_argument(
        "--ground-truth",
        nargs="+",
        metavar="FILE",
        help="label files of the pictures, in their order",
    )
    parser.add_argument(
        "--num", type=int, default=12, metavar="N", help="how many of the data set, evenly spread"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where the PNGs go")
    parser.add_argument(
        "opts", nargs="*", metavar="key=value", help="change the config, after a lone --"
    )
    return parser.parse_args()


def list_records(args: argparse.Namespace) -> list[dict]:
    """The pictures to draw, in Detectron2's data set format.

    Raises:
        FileNotFoundError: a picture or a label does not exist.
        ValueError: no such data set, or not as many labels as pictures.
    """
    if args.dataset:
        if args.dataset not in DatasetCatalog:
            known = sorted(DatasetCatalog)
            raise ValueError(f"no data set {args.dataset!r}, only {', '.join(known)}")
        if args.num < 1:
            raise ValueError(f"num must be 1 or more, got {args.num}")
        records = DatasetCatalog.get(args.dataset)
        count = min(args.num, len(records))
        return [records[index * len(records) // count] for index in range(count)]
    labels = args.ground_truth or [None] * len(args.input)
    if len(labels) != len(args.input):
        raise ValueError(f"{len(args.input)} pictures, but {len(labels)} labels")
    for path in [*args.input, *(args.ground_truth or [])]:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path} does not exist")
    return [
        {"file_name": image, **({"sem_seg_file_name": label} if label else {})}
        for image, label in zip(args.input, labels, strict=True)
    ]


def draw(
    cfg: CfgNode | DictConfig, model: nn.Module, records: list[dict], metadata: Metadata
) -> Iterator[tuple[str, np.ndarray]]:
    """Segment and draw one picture after the other; gives each with its name."""
    mapper = build_test_mapper(cfg)
    num_classes = len(metadata.stuff_classes)
    for record in tqdm(records, desc="drawing", unit="picture"):
        label_file = record.get("sem_seg_file_name")
        # The label is read below, at the picture's own size.
        without_label = {key: record[key] for key in record if key != "sem_seg_file_name"}
        sample = mapper(without_label)
        with torch.no_grad():
            answer = model([sample])[0]["sem_seg"]  # (K, H, W) logits or (H, W) labels
        if answer.dim() == 3 and answer.shape[0] != num_classes:
            raise ValueError(
                f"the model predicts {answer.shape[0]} classes, but the data set has {num_classes}"
            )
        prediction = (answer.argmax(dim=0) if answer.dim() == 3 else answer).cpu().numpy()
        truth = None
        if label_file:
            truth = translate_label(
                read_label(label_file),
                label_file,
                num_classes=num_classes,
                ignore_label=metadata.ignore_label,
                ignore_value=255,
            )
        image = read_image(record["file_name"], format="RGB")
        name = os.path.splitext(os.path.basename(record["file_name"]))[0]
        yield name, side_by_side(image, prediction, metadata, truth)


def main() -> None:
    """Draw what the command line asks for, and say where it is."""
    args = parse_arguments()
    # The config first: it may register the data set.
    cfg = load_config(args.config_file, args.opts)
    records = list_records(args)
    dataset = args.dataset or (test_dataset_names(cfg) or [None])[0]
    if dataset is None:
        raise ValueError("the config names no data set to take class names and colours from")
    model = load_model(cfg, args.weights)
    os.makedirs(args.output, exist_ok=True)
    pictures = []
    for name, picture in draw(cfg, model, records, MetadataCatalog.get(dataset)):
        save_png(os.path.join(args.output, f"{name}.png"), picture)
        pictures.append(picture)
    print(f"{len(pictures)} pictures in {args.output}")
    if args.dataset:
        sheet = os.path.join(args.output, "sheet.png")
        save_png(sheet, contact_sheet(pictures, columns=2 if len(pictures) > 4 else 1))
        print(f"all of them in {sheet}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")
