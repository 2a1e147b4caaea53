"""A CUDA device that is not there: what is computed, copied and waited for, without a GPU.

Its tensors hold their values on the CPU but say ``cuda:0``, as far as any code can tell. An
operator that is given tensors of both devices raises, as on a GPU; copies between the two and reads
that make the CPU wait for the device are recorded. It has no backward: autograd has no threads for
a device that is not there.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
_aten = torch.ops.aten
# Their result is a number, or has a size that is counted on the device.
_READS = {
    _aten._local_scalar_dense.default,
    _aten.equal.default,
    _aten.masked_select.default,
    _aten.nonzero.default,
    _aten._unique2.default,
}
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default}


class DeviceTensor(Tensor):
    """A tensor of the device. Attributes: ``values``, its values on the CPU."""

    @staticmethod
    def __new__(cls, values: Tensor) -> "DeviceTensor":
        out = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=CUDA,
        )
        out.values = values
        return out

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"a device tensor was given to {func} outside of its FakeDevice")

    def __repr__(self, **kwargs: Any) -> str:
        return f"DeviceTensor({self.values!r})"

    def data_ptr(self) -> int:
        return self.values.data_ptr()


@dataclass(frozen=True)
class Copy:
    """A copy between the devices.

    Attributes:
        place: file and line of the package that asked for it.
        num_bytes: as many as are moved: types are converted on the CPU by a copy that is waited
            for, and by the device otherwise.
        to_device: or from it.
        waited: for what the device had still to compute.
    """

    place: str
    num_bytes: int
    to_device: bool
    waited: bool


class FakeDevice(TorchDispatchMode):
    """The device, while it is entered.

    Attributes:
        copies: between it and the CPU, in their order.
        reads: how often a place read a number or a size from it.
    """

    def __init__(self) -> None:
        super().__init__()
        # Of the modes, this one alone is asked for a device before its driver is looked for.
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE
        self._frontend = _Frontend()
        self.forget()

    def move(self, module: nn.Module) -> nn.Module:
        """A module's parameters and buffers, in place; it is not recorded."""
        replace = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        copies, self.copies = self.copies, []
        try:
            return module.to(CUDA)
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(replace)
            self.copies = copies

    def forget(self) -> None:
        """Empty the record."""
        self.copies: list[Copy] = []
        self.reads: Counter[str] = Counter()

    def sent(self) -> int:
        """Bytes that came from the CPU."""
        return sum(copy.num_bytes for copy in self.copies if copy.to_device)

    def fetched(self) -> int:
        """Bytes that went to the CPU, without numbers that were read one at a time."""
        return sum(copy.num_bytes for copy in self.copies if not copy.to_device)

    def waits(self) -> Counter[str]:
        """How often a place waited for the device."""
        return self.reads + Counter(copy.place for copy in self.copies if copy.waited)

    def __enter__(self) -> "FakeDevice":
        torch._C._ensureCUDADeviceGuardSet()
        self._cudnn = torch.backends.cudnn.flags(enabled=False)
        self._cudnn.__enter__()
        self._frontend.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._frontend.__exit__(*error)
        self._cudnn.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        mine = {id(x.values): x for x in tensors if isinstance(x, DeviceTensor)}
        on_device = bool(mine)
        if kwargs.get("device") is not None:
            on_device = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = "cpu"
        if func is _aten.copy_.default:
            self._record(args[1], isinstance(args[0], DeviceTensor), args[0].dtype, *args[2:])
        elif func is _aten._to_copy.default:
            waits = not kwargs.get("non_blocking", False)
            self._record(args[0], on_device, kwargs.get("dtype"), not waits)
        elif mine:
            self._check(func, args, tensors)
        out = func(*tree_map(_values, args), **tree_map(_values, kwargs))
        if mine and torch.Tag.inplace_view in func.tags:  # as unsqueeze_: the outer shape as well
            with no_dispatch():
                func(*args, **kwargs)

        def wrap(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            return mine[id(x)] if id(x) in mine else DeviceTensor(x)

        return tree_map(wrap, out) if on_device else out

    def _record(
        self, source: Tensor, to_device: bool, dtype: torch.dtype | None, non_blocking: bool = False
    ) -> None:
        if isinstance(source, DeviceTensor) == to_device or source.numel() == 0:
            return
        # A copy that waits converts on the CPU, one that does not on the device.
        converted = to_device != non_blocking and dtype is not None
        size = dtype.itemsize if converted else source.element_size()
        self.copies.append(Copy(_place(), source.numel() * size, to_device, not non_blocking))

    def _check(self, func: Any, args: Any, tensors: list[Tensor]) -> None:
        """Raise a RuntimeError where CPU tensors other than numbers are mixed in."""
        others = [x for x in tensors if not isinstance(x, DeviceTensor) and x.dim() > 0]
        if func in _INDEXED and isinstance(args[0], DeviceTensor):
            indices = [x for x in args[1] if x is not None]
            for index in indices:
                self._record(index, True, None)
            others = [x for x in others if all(x is not index for index in indices)]
            if any(index.dtype == torch.bool for index in indices):
                self.reads[_place()] += 1
        if others:
            shapes = [tuple(x.shape) for x in others]
            raise RuntimeError(f"{func} at {_place()}: CPU tensors {shapes} among the device's")
        if func in _READS:
            self.reads[_place()] += 1


class _Frontend(TorchFunctionMode):
    """Python calls that look for the driver themselves, in terms of those that do not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor:
            device = kwargs.pop("device", None)
            return func(*args, **kwargs).to(device or "cpu")
        if args and isinstance(args[0], DeviceTensor):
            if func is Tensor.new_tensor:
                kwargs.setdefault("dtype", args[0].dtype)
                return torch.tensor(*args[1:], **kwargs).to(CUDA)
            if func is Tensor.tolist:
                return args[0].cpu().tolist()
            if func in (Tensor.__getitem__, Tensor.__setitem__):
                index = args[1] if isinstance(args[1], tuple) else (args[1],)
                index = tuple(torch.tensor(i) if isinstance(i, list) else i for i in index)
                return func(args[0], index, *args[2:])
        return func(*args, **kwargs)


def _values(x: Any) -> Any:
    return x.values if isinstance(x, DeviceTensor) else x


def _place() -> str:
    """File and line of the innermost code of the package."""
    frame = sys._getframe()
    while frame is not None:
        _, package, name = frame.f_code.co_filename.rpartition("/ifa_d2/")
        if package:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
