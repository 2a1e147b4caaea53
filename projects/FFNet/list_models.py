"""Print the published models with their parameters and multiply-adds, counted here.

    python projects/FFNet/list_models.py
    python projects/FFNet/list_models.py 86_ABB 78S_dBBB_mobile

A table in Markdown: name, size of the picture that the network is shown, parameters in millions and
multiply-adds of convolutions in billions (beside them those of projects/FFNet/published_models.csv,
which were counted from the published definitions), and the published mIoU on the validation
pictures of Cityscapes.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from ffnet_family import ffnet_model
from omegaconf import OmegaConf
from tabulate import tabulate

from ifa_d2.analysis.cost import build_on_meta, count_model, count_params
from ifa_d2.arguments import command_parser
from ifa_d2.errors import errors_in_one_line

_FILE = Path(__file__).with_name("published_models.csv")
_CLASSES = 19  # of Cityscapes
_HEADERS = ("model", "picture", "parameters, M", "multiply-adds, G", "mIoU, published")


@dataclass(frozen=True)
class PublishedModel:
    """A row of the published family.

    Attributes:
        name: see :func:`ffnet_family.parse_name`.
        size: (height, width) of the picture that the network is shown.
        params_m: parameters, in millions.
        macs_g: multiply-adds of convolutions, in billions.
        miou: in percent, on the validation pictures of Cityscapes.
    """

    name: str
    size: tuple[int, int]
    params_m: float
    macs_g: float
    miou: float


def read_published() -> dict[str, PublishedModel]:
    """The published family, by names."""
    with _FILE.open(newline="") as file:
        rows = [
            PublishedModel(
                row["name"],
                (int(row["height"]), int(row["width"])),
                *(float(row[key]) for key in ("params_m", "macs_g", "miou")),
            )
            for row in csv.DictReader(file)
        ]
    return {row.name: row for row in rows}


def count(name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Count parameters and multiply-adds of a model for one picture of ``size`` (y, x) pixels."""
    model = ffnet_model(name)
    model.sem_seg_head.num_classes = _CLASSES
    built = build_on_meta(OmegaConf.create({"model": model}, flags={"allow_objects": True}))
    with torch.no_grad():
        macs = count_model(built, size, round_up=False, textbook=False)
    return sum(count_params(built).values()), sum(macs.values())


def main(args: list[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="some of the models; else all")
    options = parser.parse_args(args)
    with errors_in_one_line():
        published = read_published()
        for name in options.names:
            if name not in published:
                raise ValueError(f"NAME must be one of {', '.join(published)}, got {name!r}")
        rows = []
        for name in options.names or published:
            row = published[name]
            params, macs = count(name, row.size)
            rows.append(
                (
                    name,
                    "x".join(map(str, row.size)),
                    f"{params / 1e6:.3f} ({row.params_m:.2f})",
                    f"{macs / 1e9:.2f} ({row.macs_g:.1f})",
                    f"{row.miou:.1f}",
                )
            )
        print(tabulate(rows, headers=_HEADERS, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
