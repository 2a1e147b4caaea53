"""One training step, in float32 or under autocast."""

import time
from typing import Any

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn
from torch.utils.data import DataLoader


class AutocastTrainer(AMPTrainer):
    """Detectron2's mixed precision step, on the CPU too.

    Gradients are scaled for float16 only: bfloat16 has float32's range.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: DataLoader,
        optimizer: torch.optim.Optimizer,
        *,
        device_type: str,
        dtype: torch.dtype,
    ) -> None:
        """
        Args:
            model: returns a dict of losses for a batch.
            data_loader: gives the batches, without end.
            optimizer: of the model's parameters.
            device_type: "cpu" or "cuda".
            dtype: of the computations that autocast lowers.
        """
        scaler = torch.amp.GradScaler(device_type, enabled=dtype == torch.float16)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler, precision=dtype)
        self._device_type = device_type

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, that of a training in float32 too, which has no scale of gradients."""
        scale = {"grad_scaler": self.grad_scaler.state_dict()}
        super().load_state_dict({**scale, **state_dict})

    def run_step(self) -> None:
        """Forward under autocast, backward and update outside of it."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(self._device_type, dtype=self.precision):
            loss_dict = self.model(data)
            losses = sum(loss_dict.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(losses).backward()
        self.after_backward()
        self._write_metrics(loss_dict, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()


def build_step_trainer(
    model: nn.Module,
    data_loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    *,
    device: str,
    amp_dtype: torch.dtype | None,
) -> SimpleTrainer:
    """Build the runner of one step: ``SimpleTrainer``, or the one above for mixed precision."""
    if amp_dtype is None:
        return SimpleTrainer(model, data_loader, optimizer)
    return AutocastTrainer(
        model,
        data_loader,
        optimizer,
        device_type=torch.device(device).type,
        dtype=amp_dtype,
    )
