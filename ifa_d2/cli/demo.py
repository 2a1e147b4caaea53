"""The work of ``tools/demo.py``."""

import argparse
import os
import sys
from contextlib import ExitStack

from omegaconf import DictConfig
from tqdm import tqdm

from ..demo import (
    SHEET_NAME,
    Drawing,
    Picture,
    Segmenter,
    VideoFrames,
    VideoWriter,
    View,
    check_output_name,
    dataset_pictures,
    decode_ahead,
    find_metadata,
    find_pictures,
    is_image,
    is_video,
    label_ids,
    label_pictures,
    show_frame,
)
from ..engine.inference import (
    apply_inference_arguments,
    build_inference_model,
)
from ..engine.outputs import check_command_outputs
from ..engine.predictor import load_model
from ..engine.run import load_config
from ..evaluation.prediction_writer import check_unused
from ..visualization import contact_sheet, save_image, save_png

SHEET = f"{SHEET_NAME}.png"


def list_pictures(args: argparse.Namespace) -> list[Picture]:
    """Pictures to draw, by --dataset or --input."""
    if args.dataset:
        pictures = dataset_pictures(args.dataset, args.num)
    else:
        pictures = find_pictures(args.input)
    if args.ground_truth:
        pictures = label_pictures(pictures, args.ground_truth)
    if args.output is None:
        return pictures
    if is_video(args.output) or (is_image(args.output) and (args.dataset or len(pictures) > 1)):
        raise ValueError(f"{len(pictures)} pictures need a folder for output, got {args.output}")
    return pictures


def drawing_path(args: argparse.Namespace, picture: Picture) -> str:
    """Where a picture's drawing goes."""
    if is_image(args.output):
        return args.output
    return os.path.join(args.output, f"{picture.name}.png")


def check_output(args: argparse.Namespace, cfg: DictConfig, pictures: list[Picture] | None) -> None:
    """Raise a ValueError for outputs that cannot be written, or would replace other files.

    Args:
        args: the command line.
        cfg: the model's config.
        pictures: that are drawn; None for a film or camera.
    """
    if args.save_labels is not None:
        if pictures is None:
            raise ValueError("save_labels is of pictures: a film or camera has --output alone")
        check_unused(args.save_labels, [""])
    others = {"film": args.input or []}
    outputs = [args.output]
    if pictures is not None:
        others = {
            "picture": [picture.path for picture in pictures],
            "label": [one.label["sem_seg_file_name"] for one in pictures if one.label],
        }
        if args.output is not None:
            outputs += [drawing_path(args, picture) for picture in pictures]
            outputs.append(os.path.join(args.output, SHEET))
    check_command_outputs(
        outputs,
        config_file=args.config_file,
        model=(cfg, args.weights, args.opts),
        datasets=[args.dataset] if args.dataset else (),
        others=others,
    )


def draw_pictures(args: argparse.Namespace, drawing: Drawing, pictures: list[Picture]) -> int:
    """Draw pictures into files, and a data set's on a sheet as well; gives the exit status."""
    drawn, broken = [], 0
    ahead = decode_ahead(pictures, drawing.read, workers=args.workers)
    for picture, content in tqdm(ahead, desc="drawing", unit="picture", total=len(pictures)):
        if isinstance(content, Exception):
            tqdm.write(f"skipped: {content}", file=sys.stderr)
            broken += 1
            continue
        answer = drawing.ask(content[0])
        if args.save_labels is not None:
            ids = label_ids(answer, len(drawing.metadata.stuff_classes))
            save_png(os.path.join(args.save_labels, f"{picture.name}.png"), ids)
        if args.output is None:
            continue
        image = drawing.draw(*content, answer=answer)
        save_image(drawing_path(args, picture), image)
        if args.dataset:
            drawn.append(image)
    share = f"{len(pictures) - broken} of {len(pictures)}"
    if args.output is not None:
        print(f"{share} pictures in {args.output}")
    if args.save_labels is not None:
        print(f"class ids of {share} pictures in {args.save_labels}")
    if drawn:
        sheet = os.path.join(args.output, SHEET)
        save_image(sheet, contact_sheet(drawn, columns=2 if len(drawn) > 4 else 1))
        print(f"all of them in {sheet}")
    return 1 if broken else 0


def draw_video(args: argparse.Namespace, drawing: Drawing, frames: VideoFrames) -> int:
    """Draw frames into a film or a folder, or on the screen; gives the exit status."""
    count = 0
    with ExitStack() as stack:
        writer = None
        if args.output and is_video(args.output):
            writer = stack.enter_context(VideoWriter(args.output, frames.fps))
        for frame in tqdm(frames, desc="drawing", unit="frame", total=frames.count):
            image, count = drawing.draw(frame), count + 1
            if writer:
                writer.write(image)
            elif args.output:
                save_image(os.path.join(args.output, f"{count:06d}.png"), image)
            elif not show_frame(image):
                break
    print(f"{count} frames in {args.output}" if args.output else f"{count} frames shown")
    return 0


def run(args: argparse.Namespace) -> int:
    """Draw what the command line asks for, and say where it is."""
    view = View(
        tuple(args.crop) if args.crop else None,
        tuple(args.size) if args.size else None,
        args.zoom,
        args.confidence,
    )
    # The config first: it may register the data set.
    cfg = load_config(args.config_file, args.opts)
    apply_inference_arguments(cfg, args)
    if args.output is not None:
        check_output_name(args.output)
    frames = pictures = None
    if args.webcam is not None:
        frames = VideoFrames(args.webcam, limit=args.frames)
    elif args.input and len(args.input) == 1 and is_video(args.input[0]):
        frames = VideoFrames(args.input[0], limit=args.frames)
    else:
        pictures = list_pictures(args)
    check_output(args, cfg, pictures)
    metadata = find_metadata(cfg, args.dataset)
    model = build_inference_model(cfg, load_model(cfg, args.weights, args.opts))
    drawing = Drawing(
        Segmenter(cfg, model, view, entropy=args.entropy),
        metadata,
        layout=args.layout or ("row" if frames is None or args.entropy else "overlay"),
        alpha=args.opacity,
        names=not args.no_names,
        outlines=args.outlines,
        legend=args.legend,
    )
    if args.save_labels is not None and drawing.segmenter.panoptic:
        raise ValueError("save_labels needs a semantic model: a panoptic one predicts segments")
    if frames is not None:
        return draw_video(args, drawing, frames)
    return draw_pictures(args, drawing, pictures)
