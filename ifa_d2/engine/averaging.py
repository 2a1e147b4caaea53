"""Averages of weights over iterations, to evaluate and save."""

from typing import Any

import torch
from detectron2.engine import HookBase
from timm.utils import ModelEmaV3
from torch import nn

from ..modeling.packaged_weights import without_frozen_backbone


class WeightAverage(HookBase):
    """Exponential moving average of a model's weights, by timm's ``ModelEmaV3``.

    After step t, from 0, weights and statistics are d times the average plus 1 - d times the
    model's, with d = ``1 - (1 + t) ** (-2 / 3)``, ``decay`` at most, so that a short training
    forgets the weights that it began with too. The checkpoints of a run hold the average as their
    model, and the weights that are being trained in this hook's state.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """
        Args:
            model: that is trained, not wrapped for several processes.
            decay: of the average, below 1.
        """
        self._model = model
        self._average = ModelEmaV3(model, decay=decay, use_warmup=True)

    @property
    def model(self) -> nn.Module:
        """The averaged model."""
        return self._average.module

    def after_step(self) -> None:
        self._average.update(self._model, step=self.trainer.iter + 1)

    def spread(self) -> None:
        """Let training go on from the averaged weights, those of a checkpoint it starts from."""
        self._model.load_state_dict(self.model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """The weights that are being trained, but those that a checkpoint leaves out."""
        return without_frozen_backbone(self._model)["model"]

    def load_state_dict(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` gave; a frozen backbone is that of the average."""
        self._model.load_state_dict({**self.model.state_dict(), **state_dict})
