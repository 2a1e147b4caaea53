"""A segmentor that adapts to a film while it plays (AuxAdapt, Zhang et al., WACV 2022).

A main model, which stays as it is, and a small auxiliary one see every frame. The classes of the
sum of their logits are the answer, and at once the labels of one step of the auxiliary model.

Shape legend: H x W pixels of a frame, K classes.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

_logger = logging.getLogger(__name__)
LOSSES = ("sum", "aux")
_BINS = 8  # of each channel, of the histograms by which cuts are found


class AuxAdaptSegmentor(nn.Module):
    """Main and auxiliary model, of which the latter takes a step of SGD at every frame.

    It is called in eval mode, with one frame after the other, and answers with the sum of the
    logits before the step. The step descends the cross entropy of the sum with its own classes, the
    main model's logits held fixed. Running statistics of norms stay as they are. A step whose loss
    or gradient is not finite is left out, with a warning.

    At a cut the auxiliary model returns to the weights that were loaded: where :meth:`reset` is
    called, or the colours of a frame differ from those of the frame before.

    Args:
        main: called with ``[{"image": (3, H, W), "height", "width"}]``, answers with ``{"sem_seg":
            (K, height, width)}`` logits.
        auxiliary: as ``main``, with gradients: Detectron2's ``SemanticSegmentor`` has them.
        learning_rate: of the steps; 0 is the sum without adaptation.
        momentum: of the steps.
        max_gradient_norm: to which a step's gradient is shortened.
        loss_on: the logits that are compared with the classes of the sum, "sum" or those of "aux"
            alone.
        scale: size of the frames that the auxiliary model sees, as a share of the main model's.
        cut_distance: Bhattacharyya distance from 0 to 1 of two frames' colour histograms, above
            which there is a cut between them; None looks for none.

    Attributes:
        cuts: how many were found since :meth:`reset` was called last.
        skipped: how many steps were left out, likewise.

    Raises:
        ValueError: an argument out of range; when called, a model in training mode, answers that do
            not fit, or a frame of another size than the one before.
    """

    def __init__(
        self,
        main: nn.Module,
        auxiliary: nn.Module,
        *,
        learning_rate: float = 1e-4,
        momentum: float = 0.9,
        max_gradient_norm: float = 1.0,
        loss_on: str = "sum",
        scale: float = 0.5,
        cut_distance: float | None = 0.25,
    ) -> None:
        super().__init__()
        _check("learning_rate", learning_rate, "0 or above", 0 <= learning_rate < math.inf)
        _check("momentum", momentum, "in [0, 1)", 0 <= momentum < 1)
        _check("max_gradient_norm", max_gradient_norm, "above 0", max_gradient_norm > 0)
        _check("loss_on", loss_on, f"one of {LOSSES}", loss_on in LOSSES)
        _check("scale", scale, "in (0, 1]", 0 < scale <= 1)
        in_range = cut_distance is None or 0 < cut_distance <= 1
        _check("cut_distance", cut_distance, "in (0, 1], or None", in_range)
        self.main = main.requires_grad_(False)
        self.auxiliary = auxiliary
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.max_gradient_norm = max_gradient_norm
        self.loss_on = loss_on
        self.scale = scale
        self.cut_distance = cut_distance
        self._start: dict[str, Tensor] | None = None  # the auxiliary model's, while it adapts
        self.register_load_state_dict_post_hook(AuxAdaptSegmentor._begin)
        self._begin()

    def _begin(self, *_: object) -> None:
        """Take the present weights for the starting ones, and the next frame for a first one."""
        self._start = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._size: tuple[int, int] | None = None
        self._colors: np.ndarray | None = None
        self.cuts = self.skipped = 0

    def reset(self) -> None:
        """Return the auxiliary model to the weights that were loaded, for another film."""
        self._restore()
        self._begin()

    def _restore(self) -> None:
        if self._start is not None:
            for name, value in self.auxiliary.state_dict().items():
                value.copy_(self._start[name])
        self._optimizer = None  # with its momentum

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Segment frames in their order: ``{"sem_seg": (K, height, width)}`` logits each.

        Args:
            batched_inputs: Detectron2's, ``image`` (3, H, W) and maybe ``height`` and ``width``.
        """
        if self.training or self.main.training or self.auxiliary.training:
            raise ValueError(
                "main and auxiliary must be in eval mode, as it adapts while it predicts: train "
                "each by a recipe of its own"
            )
        return [{"sem_seg": self._segment(one)} for one in batched_inputs]

    def _segment(self, one: dict[str, Any]) -> Tensor:
        """Logits (K, height, width) of a frame, after which the auxiliary model adapts."""
        self._look_for_cut(one["image"])
        adapts = self.learning_rate > 0
        with torch.no_grad():
            logits = self.main([one])[0]["sem_seg"]
        with torch.set_grad_enabled(adapts):
            addend = self.auxiliary([self._shrunk(one)])[0]["sem_seg"]
            _check_answers(logits, addend)
            if adapts and not addend.requires_grad:
                raise ValueError(
                    "auxiliary must answer with gradients to adapt, as SemanticSegmentor does, got "
                    f"{type(self.auxiliary).__name__}"
                )
            total = logits.to(addend.device) + addend
            if adapts:
                self._adapt(total if self.loss_on == "sum" else addend, total.detach().argmax(0))
        return total.detach()

    def _shrunk(self, one: dict[str, Any]) -> dict[str, Any]:
        """The auxiliary model's input for an answer of the main model's size."""
        image = one["image"]
        height, width = image.shape[-2:]
        size = [max(1, round(self.scale * side)) for side in (height, width)]
        shrunk = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
        return {
            "image": shrunk,
            "height": one.get("height", height),
            "width": one.get("width", width),
        }

    def _adapt(self, logits: Tensor, classes: Tensor) -> None:
        """Take one step towards classes (H, W), unless it is not finite."""
        parameters = [each for each in self.auxiliary.parameters() if each.requires_grad]
        if self._start is None:
            state = self.auxiliary.state_dict()
            self._start = {name: value.clone() for name, value in state.items()}
        if self._optimizer is None:
            self._optimizer = torch.optim.SGD(
                parameters, lr=self.learning_rate, momentum=self.momentum
            )
        loss = F.cross_entropy(logits[None].float(), classes[None])
        loss.backward()
        norm = clip_grad_norm_(parameters, self.max_gradient_norm)
        if torch.isfinite(loss) and torch.isfinite(norm):
            self._optimizer.step()
        else:
            self.skipped += 1
            _logger.warning(
                f"a step was left out, as it is not finite: loss {float(loss.detach()):g}, "
                f"gradient {float(norm):g} ({self.skipped} so far)"
            )
        self._optimizer.zero_grad(set_to_none=True)

    def _look_for_cut(self, image: Tensor) -> None:
        size = tuple(image.shape[-2:])
        if self._size not in (None, size):
            raise ValueError(
                f"frames of a film must have one size, but after {self._size} came {size}: call "
                "reset() before another film; views of one picture (tta, windows) are no frames"
            )
        self._size = size
        if self.cut_distance is None:
            return
        last, self._colors = self._colors, _color_histogram(image)
        if last is None:
            return
        distance = cv2.compareHist(last, self._colors, cv2.HISTCMP_BHATTACHARYYA)
        if distance > self.cut_distance:
            self.cuts += 1
            _logger.info(f"a cut: colours of frames are {distance:.2f} apart ({self.cuts} so far)")
            self._restore()


def _check(name: str, value: object, allowed: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def _check_answers(logits: Tensor, addend: Tensor) -> None:
    if logits.dim() != 3 or addend.shape != logits.shape:
        raise ValueError(
            "main and auxiliary must answer with logits (classes, height, width) of one shape, got "
            f"{tuple(logits.shape)} and {tuple(addend.shape)}; a FieldSegmentor gives logits with "
            "return_logits=True"
        )


def _color_histogram(image: Tensor) -> np.ndarray:
    """Histogram of the colours of a frame (3, H, W), float32, which sums to 1."""
    pixels = image.permute(1, 2, 0).clamp(0, 255).to(torch.uint8).cpu().numpy()
    channels = np.ascontiguousarray(pixels)
    counts = cv2.calcHist([channels], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3)
    return counts / np.float32(counts.sum())
