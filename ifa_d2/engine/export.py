"""A model as a file that runs without this package: TorchScript, ONNX or ``torch.export``.

What is exported is a function of tensors: pictures in, logits out, at any size of either. A file
is run and compared with a :class:`Predictor`'s logits before it gets its name.

Shape legend: B pictures, K classes, h x w pixels of a picture, H x W samples of the output.
"""

import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.modeling.postprocessing import sem_seg_postprocess
from torch import Tensor

from ..choices import EXPORT_FORMATS
from ..data.bands import BANDS
from ..data.shapes.street import make_scene
from ..extras import check_extra
from ..modeling.picture_fields import padded_images
from .export_core import ExportCore, ShortestEdge, checked_image, checked_size
from .export_metadata import archive_files, model_metadata, onnx_properties
from .inputs import picture_input
from .predictor import Predictor

__all__ = ["Check", "ExportMismatchError", "eager_logits", "export_model"]

# Smaller examples would have maps of one cell, which a recorder takes for a size that never varies.
MIN_EXAMPLE = 64

Program = Callable[..., Tensor]


@dataclass(frozen=True)
class Check:
    """How far a file's logits are from a predictor's.

    Attributes:
        image_size, output_size: (height, width) of picture and output.
        error: the largest difference, as a share of the largest logit.
        labels: the share of the most likely classes that are the same.
    """

    image_size: tuple[int, int]
    output_size: tuple[int, int]
    error: float
    labels: float


class ExportMismatchError(RuntimeError):
    """A file does not compute what the model does."""


def export_model(
    predictor: Predictor,
    path: str | Path,
    file_format: str,
    *,
    decode: str = "pixels",
    output_size_input: bool = False,
    test_resize: bool = True,
    semantic_only: bool = False,
    example_size: tuple[int, int] = (192, 256),
    pictures: Sequence[np.ndarray] = (),
    tolerance: float = 1e-4,
    metadata: Mapping[str, Any] | None = None,
) -> list[Check]:
    """Write a model to a file, which appears once it has agreed with the predictor.

    They are compared on drawn streets of three sizes, and on pictures that are given. A program of
    bands takes values as files have them, and no data as the predictor does.

    Args:
        predictor: of the model; its augmentations become part of the program.
        path: of the file.
        file_format: one of :data:`ifa_d2.choices.EXPORT_FORMATS`.
        decode, semantic_only: see :class:`ifa_d2.engine.export_core.ExportCore`.
        output_size_input: the program has a second input, see :meth:`ExportCore.forward`.
        test_resize: hold the predictor's resize; without it the program is for pictures that were
            resized before, and is compared with a predictor of none.
        example_size: (height, width) of the pictures that are recorded, and of the first that is
            checked. The program is not bound to it.
        pictures: (H, W, 3) uint8 RGB, or (H, W, C) bands, to compare on too.
        tolerance: the largest :attr:`Check.error` that passes, 0 or above.
        metadata: what the file says of the model, of JSON's types; None is
            :func:`ifa_d2.engine.export_metadata.model_metadata`.

    Returns:
        The checks.

    Raises:
        ValueError: an argument out of range, or a model or augmentations that no program holds.
        ExportMismatchError: the file gives other logits, or fails, where the model does not.
    """
    path = Path(path)
    if file_format not in EXPORT_FORMATS:
        raise ValueError(f"file_format must be one of {EXPORT_FORMATS}, got {file_format!r}")
    if min(example_size) < MIN_EXAMPLE:
        raise ValueError(f"example_size must be at least {MIN_EXAMPLE} a side, got {example_size}")
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance must be 0 or above, got {tolerance}")
    if file_format == "onnx":
        check_extra("export", "the format onnx")
    if path.is_dir():
        raise ValueError(f"path must name a file, got the directory {path}")
    augmentations = predictor.augmentations.augs if test_resize else ()
    reference = Predictor(
        predictor.model,
        augmentations=augmentations,
        image_format=predictor.image_format,
        metadata=predictor.metadata,
    )
    resize = ShortestEdge.of(augmentations)
    options = {"decode": decode, "resize": resize, "semantic_only": semantic_only}
    if predictor.image_format == BANDS:
        options |= {"bands": True, "nodata": predictor.nodata}
    core = ExportCore(predictor.model, **options).eval()
    described = model_metadata(predictor) if metadata is None else metadata
    texts = onnx_properties(described) if file_format == "onnx" else archive_files(described)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        file = Path(folder, path.name)
        example = _example(reference, _drawn(predictor, example_size), output_size_input, batch=2)
        _record(core, example, file, file_format, texts)
        program = load_exported(file, file_format)
        sizes = _check_sizes(example_size)
        images = [*(_drawn(predictor, size) for size in sizes), *pictures]
        checks = list(_checks(reference, program, images, decode, output_size_input))
        for check in checks:
            if not check.error <= tolerance:  # NaN does not pass
                raise ExportMismatchError(
                    f"the file's logits differ by {check.error:.1e} of the largest (tolerance "
                    f"{tolerance:.1e}) for a picture of {check.image_size} and an "
                    f"output of {check.output_size}"
                )
        os.replace(file, path)
    return checks


def load_exported(path: str | Path, file_format: str) -> Program:
    """A file's function: (image) or (image, size) to logits, as of :meth:`ExportCore.forward`.

    An ONNX file runs in onnxruntime on the CPU.
    """
    if file_format == "torchscript":
        return torch.jit.load(path)
    if file_format == "torch.export":
        with open(path, "rb") as file:
            return torch.export.load(file).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        arrays = (value.cpu().numpy() for value in inputs)
        return torch.from_numpy(session.run(None, dict(zip(names, arrays, strict=True)))[0])

    return run


@torch.no_grad()
def _record(
    core: ExportCore,
    example: tuple[Tensor, ...],
    file: Path,
    file_format: str,
    texts: dict[str, str],
) -> None:
    names = ["image", "size"][: len(example)]
    dynamic = ({0: "batch", 2: "height", 3: "width"}, None)[: len(example)]
    # torch's writers end the process where a disk is full; Python's raise an error with its name.
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a recorder doubts is what is checked
        if file_format == "torchscript":
            core.check_image = torch.jit.script(checked_image)
            core.check_size = torch.jit.script(checked_size)
            traced = torch.jit.trace(core, example, check_trace=False)
            torch.jit.save(traced, content, _extra_files=texts)
            file.write_bytes(content.getbuffer())
            return
        core.check_size = _unchecked  # these formats hold conditions of shapes alone
        if file_format == "onnx":
            program = torch.onnx.export(
                core,
                example,
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=names,
                output_names=["logits"],
                verbose=False,
            )
            program.model.metadata_props.update(texts)
            program.save(file, external_data=False)
        else:
            free = torch.export.Dim.DYNAMIC
            dims = tuple(dim and dict.fromkeys(dim, free) for dim in dynamic)
            program = torch.export.export(core, example, dynamic_shapes=dims)
            torch.export.save(program, content, extra_files=texts)
            file.write_bytes(content.getbuffer())


def _unchecked(size: Tensor) -> Tensor:
    return size


def _check_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """The example's size, one lower and wider of odd numbers, one higher and narrower."""
    height, width = size
    return [
        size,
        (height * 3 // 4 | 1, width * 5 // 4 | 1),
        (height * 5 // 4 | 1, width * 3 // 4 | 1),
    ]


def _drawn(predictor: Predictor, size: tuple[int, int]) -> np.ndarray:
    """A street (H, W, 3) uint8 RGB; or of bands such shades (H, W, C), with a corner of no data.

    It is the same for a size every time.
    """
    street = make_scene(*size).image(*size)
    if predictor.image_format != BANDS:
        return street
    mean, std = (getattr(predictor.model, name).flatten() for name in ("pixel_mean", "pixel_std"))
    shades = street[:, :, np.arange(len(mean)) % 3] / 64.0 - 2
    bands = (mean.cpu().numpy() + std.cpu().numpy() * shades).astype(np.float32)
    bands[: size[0] // 8, : size[1] // 8] = np.nan
    return bands


def _example(
    predictor: Predictor, picture: np.ndarray, output_size_input: bool, batch: int = 1
) -> tuple[Tensor, ...]:
    """A program's input: mirrored pictures and at last the picture, and the size of an output that
    is not its own."""
    image = picture_input(picture, T.AugmentationList([]), predictor.image_format)["image"]
    height, width = picture.shape[:2]
    size = torch.tensor([max(1, height * 2 // 3), width * 4 // 3])
    inputs = (torch.stack([image.flip(2)] * (batch - 1) + [image]), size)
    device = predictor.model.pixel_mean.device
    return tuple(one.to(device) for one in inputs[: 1 + output_size_input])


def _checks(
    predictor: Predictor,
    program: Program,
    pictures: Sequence[np.ndarray],
    decode: str,
    output_size_input: bool,
) -> Iterator[Check]:
    for index, picture in enumerate(pictures):
        size = picture.shape[:2]
        # The first is asked as one of two.
        inputs = _example(predictor, picture, output_size_input, batch=1 + (index == 0))
        output_size = tuple(inputs[1].tolist()) if output_size_input else size
        expected = eager_logits(predictor, picture, output_size, decode)
        try:
            with torch.no_grad():
                logits = program(*inputs)[-1].to(expected.device)
        except Exception as error:  # of whichever runtime
            raise ExportMismatchError(f"the file fails for a picture of {size}: {error}") from error
        if logits.shape != expected.shape:
            raise ExportMismatchError(
                f"the file's logits have shape {tuple(logits.shape)} for a picture of {size} "
                f"and an output of {output_size}, the model's {tuple(expected.shape)}"
            )
        error = (logits - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
        same = (logits.argmax(dim=0) == expected.argmax(dim=0)).double().mean()
        yield Check(size, output_size, float(error), float(same))


@torch.no_grad()
def eager_logits(
    predictor: Predictor, picture: np.ndarray, size: tuple[int, int], decode: str = "pixels"
) -> Tensor:
    """Compute the logits (K, H, W) that an exported program must give, as the predictor does.

    Args:
        predictor: see :func:`export_model`.
        picture: (h, w, 3) uint8 RGB, or (h, w, C) bands.
        size: (height, width) of the output.
        decode: see :class:`ifa_d2.engine.export_core.ExportCore`.
    """
    if decode == "pixels":
        reordered = picture if predictor.image_format == BANDS else picture[:, :, ::-1]
        return predictor(reordered).logits(size)
    model = predictor.model
    inputs = picture_input(picture, predictor.augmentations, predictor.image_format)
    images = padded_images(model, [inputs])
    logits, _ = model.sem_seg_head(model.backbone(images.tensor))
    return sem_seg_postprocess(logits[0], images.image_sizes[0], *size)
