"""Multi-layer perceptron applied at each query alone, and its folding for inference."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from .recomputation import recomputed

NormFactory = Callable[[int], nn.Module | None]
# Of layers: the norm of what comes in, unless it is folded into the layer before, then weight
# (out, in, 1, 1) and bias (out,).
Tail = Sequence[tuple[nn.Module | None, Tensor, Tensor]]


class PointwiseLayer(nn.Conv2d):
    """Convolution of 1x1 with bias, norm and ReLU.

    GroupNorm is taken over the channels of each query alone: over the whole map, the value at a
    point would depend on which other points are asked.

    Args:
        in_channels, out_channels: sizes.
        norm: called with ``out_channels`` to make the norm; None (or a result of None) for none.

    Raises:
        ValueError: a GroupNorm whose groups would be of one channel, whatever its value then a
            constant, or do not divide the channels.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: NormFactory | None) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.bias)
        self.norm = _make_norm(norm, out_channels) if norm is not None else None

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.product(x))

    def product(self, x: Tensor) -> Tensor:
        """Pre-activations of the layer."""
        return super().forward(x)

    def activate(self, x: Tensor) -> Tensor:
        """Norm and ReLU of pre-activations (B, C, H, W), which may be overwritten."""
        return activate(x, self.norm)

    @property
    def pointwise(self) -> bool:
        """Whether the output at a query depends on that query alone, in the present mode."""
        if isinstance(self.norm, nn.GroupNorm):
            return True
        # Each library has its own class for a layer norm over the channels.
        return is_foldable(self.norm) or hasattr(self.norm, "normalized_shape")

    def folded(self) -> tuple[Tensor, Tensor, nn.Module | None]:
        """Fold the norm into weight (out, in, 1, 1) and bias (out,).

        Returns:
            Weight, bias, and the norm if it cannot be folded, else None.
        """
        if is_foldable(self.norm):
            return *fold_norm(self.weight, self.bias, self.norm), None
        return self.weight, self.bias, self.norm


def _make_norm(norm: NormFactory, channels: int) -> nn.Module | None:
    try:
        made = norm(channels)
    except ValueError as error:  # torch's, of channels that groups do not divide
        raise ValueError(f"a layer of {channels} channels cannot have the norm: {error}") from error
    if isinstance(made, nn.GroupNorm) and made.num_channels == made.num_groups:
        raise ValueError(
            f"a layer of {channels} channels is too narrow for a GroupNorm of {made.num_groups} "
            "groups, which would make each channel a constant: it needs a multiple of "
            f"{made.num_groups} from {2 * made.num_groups} on, or another norm"
        )
    return made


def activate(x: Tensor, norm: nn.Module | None) -> Tensor:
    """Norm and ReLU of pre-activations (B, C, H, W), which may be overwritten."""
    if isinstance(norm, nn.GroupNorm):
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        b, c, h, w = x.shape
        x = norm(rows).view(b, h, w, c).permute(0, 3, 1, 2)
    elif norm is not None:
        x = norm(x)
    return F.relu_(x)


def is_foldable(norm: nn.Module | None) -> bool:
    """Return whether a norm is absent, or a fixed scale and shift of each channel."""
    if norm is None:
        return True
    frozen = not isinstance(norm, nn.modules.batchnorm._NormBase) or not norm.training
    return frozen and getattr(norm, "running_mean", None) is not None


def fold_norm(
    weight: Tensor, bias: Tensor | None, norm: nn.Module | None
) -> tuple[Tensor, Tensor | None]:
    """Fold a norm into a convolution's weight (out, in, kh, kw) and bias (out,)."""
    if norm is None:
        return weight, bias
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean if bias is None else bias - norm.running_mean
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    return weight * scale[:, None, None, None], shift


class PointwiseMLP(nn.Module):
    """Sequence of hidden layers.

    Args:
        in_channels: size of the input.
        hidden_dims: sizes of the layers; none passes the input on.
        norm: see :class:`PointwiseLayer`.

    Raises:
        ValueError: a layer without channels.
    """

    def __init__(
        self, in_channels: int, hidden_dims: Sequence[int], norm: NormFactory | None = None
    ) -> None:
        super().__init__()
        if any(size < 1 for size in hidden_dims):
            raise ValueError(f"hidden_dims must be positive sizes, got {tuple(hidden_dims)}")
        sizes = [in_channels, *hidden_dims]
        self.layers = nn.ModuleList(
            PointwiseLayer(a, b, norm) for a, b in itertools.pairwise(sizes)
        )

    @property
    def pointwise(self) -> bool:
        """Whether every layer is pointwise."""
        return all(layer.pointwise for layer in self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, hidden_dims[-1], H, W)."""
        for layer in self.layers:
            x = layer(x)
        return x

    def forward_tail(self, x: Tensor, predictor: nn.Module) -> Tensor:
        """Map pre-activations of the first layer, which may be overwritten, to logits.

        Activations behind norms are not kept for the backward pass: a norm keeps what comes in, and
        norm and ReLU cost little beside the products.

        Args:
            x: (B, hidden_dims[0], H, W).
            predictor: the layer after the last.
        """
        following = [layer.product for layer in self.layers[1:]] + [predictor]
        for layer, product in zip(self.layers, following, strict=True):
            step = partial(_activate_and_multiply, layer, product)
            # Without a norm the activations overwrite what comes in, and are all that is kept.
            x = step(x) if layer.norm is None else recomputed(step, x, norms_of=layer, draws=False)
        return x


def _activate_and_multiply(
    layer: PointwiseLayer, product: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    return product(layer.activate(x))


def apply_tail(x: Tensor, tail: Tail) -> Tensor:
    """Apply the layers after the first to its pre-activations, which are overwritten."""
    for norm, weight, bias in tail:
        x = F.conv2d(activate(x, norm), weight, bias)
    return x
