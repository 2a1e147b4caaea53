"""Convert a published FFNet checkpoint to one that a model of this project loads.

    python projects/FFNet/convert_ffnet_weights.py IN.pth OUT.pth NAME

IN.pth is a file of Qualcomm-AI-research/FFNet, of Cityscapes or of ImageNet, whose backbone alone
is taken. NAME is the model that it is for, as published: 86_ABB, 78S_dBBB_mobile,
46NS_CCC_mobile_pre_down. The command prints how to load the result.
"""

from pathlib import Path

import torch
from ffnet_family import ffnet_model, parse_name
from ffnet_weights import convert_ffnet_state_dict, count_classes

from ifa_d2.arguments import command_parser
from ifa_d2.checkpoints.foreign_weights import read_weights_file
from ifa_d2.errors import errors_in_one_line
from ifa_d2.files import atomic_path, check_outputs

_INTERPOLATION = "model.sem_seg_head.levels.dense_alignment.interpolation"


def usage(name: str, output: Path, classes: int | None) -> str:
    """How to load a converted checkpoint.

    Args:
        name: of the model.
        output: the checkpoint.
        classes: of its segmentation head; None of a backbone alone.
    """
    if classes is None:
        return (
            f"train a recipe of ffnet_model({name!r}) with train.init_checkpoint={output}; "
            "its head starts anew"
        )
    keys = [f"train.init_checkpoint={output}", f"model.sem_seg_head.num_classes={classes}"]
    if not parse_name(name).mobile:
        keys.append(f"{_INTERPOLATION}=corner_aligned")
    return f"load it in a recipe of ffnet_model({name!r}) with {' '.join(keys)}"


def main(args: list[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("input", type=Path, metavar="IN.pth", help="published checkpoint")
    parser.add_argument("output", type=Path, metavar="OUT.pth", help="checkpoint to write")
    parser.add_argument("name", metavar="NAME", help="the model, such as 78S_dBBB_mobile")
    options = parser.parse_args(args)
    with errors_in_one_line():
        ffnet_model(options.name)  # refuses another name
        if options.output.suffix != ".pth":  # Detectron2 takes others for other formats
            raise ValueError(f"OUT.pth must end in .pth, got {options.output}")
        if not options.input.is_file():
            raise FileNotFoundError(f"{options.input} does not exist: name a published checkpoint")
        check_outputs([options.output], {"weights": [options.input]})
        source = read_weights_file(str(options.input))["model"]
        state = convert_ffnet_state_dict(source, options.name)
        with atomic_path(options.output) as temporary:
            torch.save({"model": state, "__author__": f"FFNet {options.name}"}, temporary)
    print(f"wrote {len(state)} tensors to {options.output}")
    print(usage(options.name, options.output, count_classes(state)))


if __name__ == "__main__":
    main()
