"""One training step, in float32 or under autocast, of a batch as a whole or in parts."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.engine import AMPTrainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ..errors import plain_worker_errors


class StepTrainer(AMPTrainer):
    """Detectron2's mixed precision step, on the CPU too, and in float32.

    Gradients are scaled for float16 only: bfloat16 has float32's range.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: DataLoader,
        optimizer: torch.optim.Optimizer,
        *,
        device: str,
        amp_dtype: torch.dtype | None = None,
        parts: int = 1,
    ) -> None:
        """
        Args:
            model: returns a dict of losses for a batch.
            data_loader: gives the batches, lists of pictures, without end.
            optimizer: of the model's parameters.
            device: "cpu" or "cuda", with a number or without.
            amp_dtype: of the computations that autocast lowers; None is no autocast.
            parts: of equal size, in which a batch passes the model, one after the other. The
                gradient is the mean of theirs.
        """
        kind = torch.device(device).type
        scaler = torch.amp.GradScaler(kind, enabled=amp_dtype == torch.float16)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler, precision=amp_dtype)
        self._device_type = kind
        self._parts = parts

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, that of a training in float32 too, which has no scale of gradients."""
        scale = state_dict.get("grad_scaler") or self.grad_scaler.state_dict()
        super().load_state_dict({**state_dict, "grad_scaler": scale})

    def run_step(self) -> None:
        """Forward under autocast, backward and update outside of it.

        Raises:
            ValueError: a batch norm saw one value a channel, of which there are no statistics.
        """
        start = time.perf_counter()
        with plain_worker_errors():
            data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        size = len(data) // self._parts
        try:
            losses = self._add_gradients(
                [data[begin : begin + size] for begin in range(0, len(data), size)]
            )
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"a batch norm has one value a channel to learn from, with {size} picture(s) at "
                "once and features of one cell: raise train.batch_size (SOLVER.IMS_PER_BATCH) or "
                "the crop, or choose another norm, such as FrozenBN or GN"
            ) from error
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _add_gradients(self, batches: Sequence[list[dict[str, Any]]]) -> dict[str, Tensor]:
        """Add up the gradients of parts of a batch; the means of their losses."""
        several = isinstance(self.model, DistributedDataParallel)
        found: list[dict[str, Tensor]] = []
        for index, batch in enumerate(batches):
            # Processes exchange the sum of all parts, with the last.
            last = index == len(batches) - 1
            with self.model.no_sync() if several and not last else nullcontext():
                with torch.autocast(
                    self._device_type, dtype=self.precision, enabled=self.precision is not None
                ):
                    losses = self.model(batch)
                    total = sum(losses.values()) / len(batches)
                self.grad_scaler.scale(total).backward()
            found.append({name: loss.detach() for name, loss in losses.items()})
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]}
