"""A model as a file that runs without this package: TorchScript, ONNX or ``torch.export``.

What is exported is a function of tensors: a picture in, logits out, at any size of either. A file
is run and compared with the model before it gets its name.

Shape legend: K classes, h x w pixels of the picture, H x W samples of the answer.
"""

import copy
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from detectron2.modeling.postprocessing import sem_seg_postprocess
from torch import Tensor, nn

from ..layers.traceable import Length, TraceableDecoder
from ..modeling import IFASemSegHead, compute_fields
from ..modeling.field import padded_images, padding_divisor

FORMATS = ("torchscript", "onnx", "torch.export")
DECODES = ("pixels", "grid")
# Smaller examples would have maps of one cell, which a recorder takes for a size that never varies.
MIN_EXAMPLE = 64

Program = Callable[..., Tensor]


class ExportCore(nn.Module):
    """A segmentation model as a function of tensors that can be recorded.

    Normalisation, padding, backbone, head and decoding at the output's size, without Detectron2's
    image lists and dictionaries.

    Args:
        model: with ``backbone``, a ``sem_seg_head`` that is an ``IFASemSegHead``, ``pixel_mean``
            and ``pixel_std``, as Detectron2's ``SemanticSegmentor``; in eval mode.
        decode: ``"pixels"`` asks the field at each sample of the output; ``"grid"`` asks it on the
            finest feature's grid and interpolates, as ``SemanticSegmentor`` does, for about a
            sixteenth of the decoder's time and memory.

    Raises:
        ValueError: another model, a model in training mode, or an unknown ``decode``.
    """

    def __init__(self, model: nn.Module, *, decode: str = "pixels") -> None:
        super().__init__()
        head = getattr(model, "sem_seg_head", None)
        if not isinstance(head, IFASemSegHead):
            raise ValueError(f"model.sem_seg_head must be an IFASemSegHead, got {type(head)}")
        if decode not in DECODES:
            raise ValueError(f"decode must be one of {DECODES}, got {decode!r}")
        if model.training:
            raise ValueError("model must be in eval mode, got one in training mode")
        self.decode = decode
        self.backbone = model.backbone
        self.decoder = TraceableDecoder(head.alignment)
        self.head = copy.deepcopy(head)
        self.head.alignment = self.head.aux_head = None  # the decoder's, and training's
        self.register_buffer("pixel_mean", model.pixel_mean.clone())
        self.register_buffer("pixel_std", model.pixel_std.clone())
        constraints = model.backbone.padding_constraints
        self.square_size = constraints.get("square_size", 0)
        self.divisor = constraints.get("size_divisibility", padding_divisor(model))

    def forward(self, image: Tensor, size: Tensor | None = None) -> Tensor:
        """Logits of a picture.

        Args:
            image: (1, 3, h, w) uint8 or floating point in 0..255, channels in the model's order.
            size: (2,) int64, the (height, width) of the output; None is the picture's.

        Returns:
            (1, K, H, W) float32.
        """
        inside = (image.shape[2], image.shape[3])
        extent = (self._padded(inside[0]), self._padded(inside[1]))
        output = inside if size is None else _lengths(size)
        x = (image - self.pixel_mean) / self.pixel_std
        x = F.pad(x, (0, extent[1] - inside[1], 0, extent[0] - inside[0]))
        levels = self.head.levels(self.backbone(x))
        if self.decode == "pixels":
            return self.decoder(levels, output, inside, extent)
        grid = (levels[0].shape[2], levels[0].shape[3])
        logits = self.decoder(levels, grid, extent, extent)
        stride = self.head.common_stride
        logits = _resize(logits, (grid[0] * stride, grid[1] * stride))
        for dim in (2, 3):
            # Not a slice, whose strides would tell pictures that need no padding apart.
            cells = torch.arange(inside[dim - 2], device=logits.device)
            logits = logits.index_select(dim, cells)
        return logits if size is None else _resize(logits, output)

    def _padded(self, length: Length) -> Length:
        length = self.square_size or length
        if self.divisor > 1:
            length = (length + self.divisor - 1) // self.divisor * self.divisor
        return length


def _lengths(size: Tensor) -> tuple[Length, Length]:
    if torch.jit.is_tracing():
        return size[0], size[1]
    height, width = size.tolist()
    for length in (height, width):
        torch._check(length > 0)
    return height, width


def _resize(logits: Tensor, size: tuple[Length, Length]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Check:
    """How far a file's logits are from the model's.

    Attributes:
        image_size, output_size: (height, width) of picture and answer.
        error: the largest difference, as a share of the largest logit.
    """

    image_size: tuple[int, int]
    output_size: tuple[int, int]
    error: float


class ExportMismatchError(RuntimeError):
    """A file does not compute what the model does."""


def export_model(
    model: nn.Module,
    path: str | Path,
    file_format: str,
    *,
    decode: str = "pixels",
    output_size_input: bool = False,
    example_size: tuple[int, int] = (192, 256),
    tolerance: float = 1e-4,
) -> list[Check]:
    """Write a model to a file, which appears once it has agreed with the model at three sizes.

    Args:
        model, decode: see :class:`ExportCore`.
        path: of the file.
        file_format: one of :data:`FORMATS`.
        output_size_input: the program has a second input, see :meth:`ExportCore.forward`.
        example_size: (height, width) of the picture that is recorded, and of the first that is
            checked. The program is not bound to it.
        tolerance: the largest :attr:`Check.error` that passes.

    Returns:
        The checks.

    Raises:
        ValueError: an argument out of range.
        ExportMismatchError: the file gives other logits, or fails, where the model does not.
    """
    path = Path(path)
    if file_format not in FORMATS:
        raise ValueError(f"file_format must be one of {FORMATS}, got {file_format!r}")
    if min(example_size) < MIN_EXAMPLE:
        raise ValueError(f"example_size must be at least {MIN_EXAMPLE} a side, got {example_size}")
    if path.is_dir():
        raise ValueError(f"path must name a file, got the directory {path}")
    core = ExportCore(model, decode=decode).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        file = Path(folder, path.name)
        _record(core, _example(model, example_size, output_size_input), file, file_format)
        program = load_exported(file, file_format)
        checks = list(_checks(model, program, decode, example_size, output_size_input))
        for check in checks:
            if not check.error <= tolerance:  # NaN does not pass
                raise ExportMismatchError(
                    f"the file's logits differ by {check.error:.1e} of the largest (tolerance "
                    f"{tolerance:.1e}) for a picture of {check.image_size} answered at "
                    f"{check.output_size}"
                )
        os.replace(file, path)
    return checks


def load_exported(path: str | Path, file_format: str) -> Program:
    """What a file computes: (image) or (image, size) to logits, as of :meth:`ExportCore.forward`.

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
def _record(core: ExportCore, example: tuple[Tensor, ...], file: Path, file_format: str) -> None:
    names = ["image", "size"][: len(example)]
    dynamic = ({2: "height", 3: "width"}, None)[: len(example)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a recorder doubts is what is checked
        if file_format == "torchscript":
            torch.jit.trace(core, example, check_trace=False).save(file)
        elif file_format == "onnx":
            program = torch.onnx.export(
                core,
                example,
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=names,
                output_names=["logits"],
                verbose=False,
            )
            program.save(file, external_data=False)
        else:
            free = torch.export.Dim.DYNAMIC
            dims = tuple(dim and dict.fromkeys(dim, free) for dim in dynamic)
            program = torch.export.export(core, example, dynamic_shapes=dims)
            with open(file, "wb") as handle:
                torch.export.save(program, handle)


def _example(
    model: nn.Module, size: tuple[int, int], output_size_input: bool
) -> tuple[Tensor, ...]:
    """A random picture, and the size of an answer that is not the picture's."""
    generator = torch.Generator().manual_seed(size[0] * 65537 + size[1])
    image = torch.randint(0, 256, (1, 3, *size), generator=generator, dtype=torch.uint8)
    inputs = (image, torch.tensor([size[0] * 2 // 3, size[1] * 4 // 3]))
    return tuple(one.to(model.pixel_mean.device) for one in inputs[: 1 + output_size_input])


def _checks(
    model: nn.Module,
    program: Program,
    decode: str,
    example_size: tuple[int, int],
    output_size_input: bool,
) -> Iterator[Check]:
    """The example's size, one lower and wider of odd numbers, one higher and narrower."""
    height, width = example_size
    sizes = (
        example_size,
        (height * 3 // 4 | 1, width * 5 // 4 | 1),
        (height * 5 // 4 | 1, width * 3 // 4 | 1),
    )
    for size in sizes:
        inputs = _example(model, size, output_size_input)
        output_size = tuple(inputs[1].tolist()) if output_size_input else size
        expected = eager_logits(model, inputs[0][0], output_size, decode)
        try:
            with torch.no_grad():
                logits = program(*inputs)[0].to(expected.device)
        except Exception as error:  # of whichever runtime
            raise ExportMismatchError(f"the file fails for a picture of {size}: {error}") from error
        if logits.shape != expected.shape:
            raise ExportMismatchError(
                f"the file's logits have shape {tuple(logits.shape)} for a picture of {size} "
                f"answered at {output_size}, the model's {tuple(expected.shape)}"
            )
        error = (logits - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
        yield Check(size, output_size, float(error))


@torch.no_grad()
def eager_logits(
    model: nn.Module, image: Tensor, size: tuple[int, int], decode: str = "pixels"
) -> Tensor:
    """What an exported program must give: (K, H, W) logits by the model's own ways.

    Args:
        model, decode: see :class:`ExportCore`.
        image: (3, h, w).
        size: (height, width) of the answer.
    """
    if decode == "pixels":
        return compute_fields(model, [{"image": image}])[0].logits(size)
    images = padded_images(model, [{"image": image}])
    logits, _ = model.sem_seg_head(model.backbone(images.tensor))
    return sem_seg_postprocess(logits[0], images.image_sizes[0], *size)
