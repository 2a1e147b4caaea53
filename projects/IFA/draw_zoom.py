#!/usr/bin/env python3
"""Draw one field at three sizes: the picture at 1x and at 4x, and a window at 16x.

    python projects/IFA/draw_zoom.py --config-file shapes/ifa_r18.py --input picture.png \\
        --crop 0 100 32 148 --output zoom.png
"""

import cv2
import numpy as np
from detectron2.data import Metadata

from ifa_d2 import Predictor
from ifa_d2.arguments import (
    Renamed,
    add_config_argument,
    add_drawing_arguments,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
)
from ifa_d2.data import read_picture
from ifa_d2.demo import find_metadata
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.run import load_config
from ifa_d2.errors import errors_in_one_line
from ifa_d2.modeling import SegmentationField
from ifa_d2.visualization import (
    add_legend,
    check_image_path,
    contact_sheet,
    draw_segmentation,
    letter_size,
    save_image,
)


def panel(
    image: np.ndarray,
    field: SegmentationField,
    metadata: Metadata,
    window: tuple[int, int, int, int],
    zoom: int,
    width: int,
    outlines: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the labels of a window at ``zoom`` samples a pixel over the enlarged image.

    Returns:
        The drawing, ``width`` pixels wide, and the labels.
    """
    y0, x0, y1, x1 = window
    size = ((y1 - y0) * zoom, (x1 - x0) * zoom)
    labels = field.labels(size, window).numpy()
    enlarged = cv2.resize(image[y0:y1, x0:x1], size[::-1], interpolation=cv2.INTER_CUBIC)
    # Drawn as large as it is shown, so that lines are as wide in every panel.
    scale = width / size[1]
    drawn = draw_segmentation(
        enlarged, labels, metadata, scale=scale, names=False, outlines=outlines
    )
    return drawn, labels


def main() -> None:
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument("--input", required=True, metavar="FILE", help="a picture")
    parser.add_argument(
        "--crop",
        type=int,
        nargs=4,
        required=True,
        metavar=("Y0", "X0", "Y1", "X1"),
        help="what to zoom into, in pixels",
    )
    parser.add_argument("--window", action=Renamed, const="--crop Y0 X0 Y1 X1")
    parser.add_argument("--output", required=True, metavar="FILE.png", help="to draw")
    add_drawing_arguments(parser)
    add_overrides_argument(parser)
    args = parser.parse_args()
    with errors_in_one_line():
        check_image_path(args.output)
        cfg = load_config(args.config_file, args.opts)
        check_command_outputs(
            [args.output],
            config_file=args.config_file,
            model=(cfg, args.weights, args.opts),
            others={"picture": [args.input]},
        )
        metadata = find_metadata(cfg)
        predictor = Predictor.build(cfg, args.weights, args.opts)
        rgb = read_picture(args.input)
        field = predictor(args.input)
        whole, width = (0, 0, *rgb.shape[:2]), 4 * rgb.shape[1]
        zooms = [(whole, 1), (whole, 4), (tuple(args.crop), 1), (tuple(args.crop), 16)]
        drawn = [
            panel(rgb, field, metadata, window, zoom, width, args.outlines)
            for window, zoom in zooms
        ]
        panels, segmentations = zip(*drawn, strict=True)
        sheet = contact_sheet(panels, columns=2)
        if args.legend:
            size = letter_size(*panels[0].shape[:2])
            sheet = add_legend(sheet, segmentations, metadata, size)
        save_image(args.output, sheet)
    print(
        f"{args.output}: top, the picture asked at 1 and 4 samples a pixel; below, "
        f"the window {args.crop} at 1 and 16"
    )


if __name__ == "__main__":
    main()
