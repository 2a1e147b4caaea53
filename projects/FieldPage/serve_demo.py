#!/usr/bin/env python
"""A page on this machine: drop a picture, drag a window, see it decoded finer from the same field.

    python projects/FieldPage/serve_demo.py --config-file shapes/ifa_r18.py --weights m.pth

Ctrl-C or SIGTERM end it within a few seconds, with status 0. Uploads stay in memory; nothing is
written to disk. It needs Starlette and uvicorn.
"""

# The page is its own few files over an HTTP interface by Starlette, which uvicorn serves: two
# small, well-kept libraries. Ready-made components (Gradio's, for one) have no window that is
# dragged over a picture and moved, and no class names under the pointer; they would bring some
# thirty packages.

import argparse
import os
import signal
from pathlib import Path

from page_limits import Limits

from ifa_d2.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
)
from ifa_d2.errors import errors_in_one_line

LIMITS = {
    "megabytes": "largest file, in MiB",
    "megapixels": "largest picture, in 2^20 pixels",
    "samples": "largest output, in 2^20 samples",
    "pictures": "most pictures that are held at once",
    "uploads": "most files that are received and looked at, at a time",
    "requests": "most requests that are served at a time",
    "seconds": "longest time for a client to send a file, or to read a response",
}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    limits = Limits()
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument(
        "--dataset", metavar="NAME", help="whose class names and colours; default: the config's"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="that the page opens at first (default: none)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; the default is this machine alone. There is no password: "
        "whoever reaches another address can use the page",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 is any that is free (default: 8000)"
    )
    for name, what in LIMITS.items():
        default = getattr(limits, name)
        parser.add_argument(
            f"--max-{name}",
            type=type(default),
            default=default,
            metavar="N",
            help=f"{what} (default: {default})",
        )
    parser.add_argument(
        "--max-side",
        type=int,
        default=2048,
        metavar="PIXELS",
        help="a longer side is shrunk to this for the model; windows are of the picture's own "
        "pixels all the same (default: 2048)",
    )
    add_overrides_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Serve until interrupted."""
    args = parse_arguments()
    # Only now: --help waits for no library.
    from field_page import (
        ShrinkLongSide,
        allowed_hosts,
        build_app,
        check_picture,
        open_socket,
        page_url,
        serve,
    )

    from ifa_d2 import Predictor
    from ifa_d2.demo import find_metadata
    from ifa_d2.engine.run import load_config

    limits = Limits(**{name: getattr(args, f"max_{name}") for name in LIMITS})
    if args.picture is not None:
        check_picture(args.picture, limits)
    shrink = ShrinkLongSide(args.max_side)
    # The config first: it may register the data set.
    cfg = load_config(args.config_file, args.opts)
    metadata = find_metadata(cfg, args.dataset)
    with open_socket(args.host, args.port) as listening:
        predictor = Predictor.build(cfg, args.weights, args.opts)
        predictor.augmentations.augs.append(shrink)
        app = build_app(
            predictor,
            metadata,
            limits=limits,
            title=args.config_file,
            first=args.picture,
            hosts=allowed_hosts(args.host, listening),
        )
        print(f"{page_url(args.host, listening)} (Ctrl-C ends)", flush=True)
        serve(app, listening, seconds=limits.seconds)


if __name__ == "__main__":
    # Ctrl-C and SIGTERM end the page alike, also while the model is loaded.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with errors_in_one_line():
        try:
            main()
        except KeyboardInterrupt:
            pass
        print("ended", flush=True)
    # Not by sys.exit, which waits for a thread that computes a picture's features.
    os._exit(0)
