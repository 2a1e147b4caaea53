"""The work of ``tools/browse_dataset.py``."""

import argparse
import logging
from collections.abc import Callable

import numpy as np
from detectron2.data import Metadata, MetadataCatalog
from detectron2.utils.env import seed_all_rng
from tqdm import tqdm

from ..engine.inputs import build_mapper, choose_records, dataset_names
from ..engine.outputs import check_command_outputs
from ..engine.run import load_config
from ..visualization import check_image_path, contact_sheet, sample_row, save_image, to_rgb

_logger = logging.getLogger("browse_dataset")


def draw_sample(sample: dict, metadata: Metadata, image_format: str, **options: bool) -> np.ndarray:
    """A row of what the mapper gave, an RGB image; ``options`` are those of ``sample_row``."""
    image = to_rgb(sample["image"].permute(1, 2, 0).numpy())
    if image_format == "BGR":
        image = image[:, :, ::-1]
    points = sample.get("sem_seg_points")
    labels = sample.get("sem_seg_point_labels")
    return sample_row(
        np.ascontiguousarray(image),
        sample["sem_seg"].numpy(),
        metadata,
        None if points is None else points.numpy(),
        None if labels is None else labels.numpy(),
        **options,
    )


def draw_all(
    mapper: Callable[[dict], dict],
    records: list[dict],
    repeats: int,
    metadata: Metadata,
    **options: bool,
) -> list[np.ndarray]:
    """One row for each draw of each record; ``options`` are those of ``sample_row``.

    Raises:
        ValueError: `repeats` is below 1, or a record has no label.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    image_format = getattr(mapper, "image_format", "RGB")
    rows = []
    for record in tqdm(records, desc="drawing", unit="image"):
        for _ in range(repeats):
            sample = mapper(record)
            if "sem_seg" not in sample:
                raise ValueError(f"{record['file_name']!r} comes without a label")
            rows.append(draw_sample(sample, metadata, image_format, **options))
    return rows


def run(args: argparse.Namespace) -> None:
    """Draw what the command line asks for, and say where it is."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    check_image_path(args.output)
    cfg = load_config(args.config_file, args.opts)
    configured = dataset_names(cfg, is_train=not args.test)
    names = [args.dataset] if args.dataset else configured
    if not names:
        raise ValueError(f"{args.config_file} names no data set; give --dataset")
    records = choose_records(names[0], args.num)
    check_command_outputs([args.output], config_file=args.config_file, datasets=names[:1])
    # Its records say how their own labels are read, so that they are drawn right all the same.
    if configured and names[0] not in configured:
        _logger.warning(
            f"the mapper is of {args.config_file}, which is for {', '.join(configured)}: "
            f"its scales and crops may not be meant for {names[0]}"
        )
    mapper = build_mapper(cfg, is_train=not args.test)
    seed_all_rng(args.seed)
    options = {"outlines": args.outlines, "legend": args.legend}
    rows = draw_all(mapper, records, args.repeats, MetadataCatalog.get(names[0]), **options)
    save_image(args.output, contact_sheet(rows, columns=args.columns))
    print(
        f"{len(records)} image{'s' * (len(records) > 1)} of {names[0]}, "
        f"{args.repeats} draw{'s' * (args.repeats > 1)} each, in {args.output}"
    )
