"""Activation functions, with PyTorch's names, arguments and defaults.

ELU: Clevert et al., arXiv:1511.07289. GELU and SiLU: Hendrycks and Gimpel, arXiv:1606.08415.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from aezoo.specs.base import NonNegativeFloat, PositiveFloat
from aezoo.specs.components import ActivationSpec, Bounds


def is_half(x: Tensor) -> bool:
    """Whether a tensor is in float16 or bfloat16."""
    return x.dtype in (torch.float16, torch.bfloat16)


class _ModuleSpec(ActivationSpec):
    """An activation whose fields are the arguments of a PyTorch module."""

    module: ClassVar[type[nn.Module]]
    bounds: ClassVar[Bounds]

    @override
    def build(self) -> nn.Module:
        return self.module(**{name: value for name, value in self if name != "kind"})

    @override
    def output_bounds(self) -> Bounds:
        return self.bounds


class ReluSpec(_ModuleSpec):
    """max(0, h)."""

    kind: Literal["relu"] = "relu"
    module = nn.ReLU
    bounds = (0.0, math.inf)


class LeakyReluSpec(_ModuleSpec):
    """h if h is positive, else `negative_slope` h."""

    kind: Literal["leaky_relu"] = "leaky_relu"
    examples = ({"negative_slope": 0.1},)
    negative_slope: NonNegativeFloat = 0.01
    """Slope for negative inputs."""
    module = nn.LeakyReLU

    @override
    def output_bounds(self) -> Bounds:
        return (0.0 if self.negative_slope == 0 else -math.inf), math.inf


class EluSpec(_ModuleSpec):
    """h if h is positive, else `alpha` (exp(h) - 1) (arXiv:1511.07289)."""

    kind: Literal["elu"] = "elu"
    examples = ({"alpha": 0.5},)
    alpha: PositiveFloat = 1.0
    """Negative limit of the output, as a positive number."""
    module = nn.ELU

    @override
    def output_bounds(self) -> Bounds:
        return -self.alpha, math.inf


class GeluSpec(_ModuleSpec):
    """h times the cumulative distribution function of the standard normal at h (arXiv:1606.08415)."""

    kind: Literal["gelu"] = "gelu"
    examples = ({"approximate": "tanh"},)
    approximate: Literal["none", "tanh"] = "none"
    """`tanh` uses the approximation of that name."""
    module = nn.GELU
    bounds = (-0.1701, math.inf)


class SiluSpec(_ModuleSpec):
    """h sigmoid(h), also called swish (arXiv:1606.08415)."""

    kind: Literal["silu"] = "silu"
    module = nn.SiLU
    bounds = (-0.2785, math.inf)


class SoftplusSpec(_ModuleSpec):
    """log(1 + exp(beta h)) / beta."""

    kind: Literal["softplus"] = "softplus"
    examples = ({"beta": 2.0},)
    beta: PositiveFloat = 1.0
    """Steepness at 0."""
    module = nn.Softplus
    bounds = (0.0, math.inf)


class Sigmoid(nn.Sigmoid):
    """PyTorch's `nn.Sigmoid`, which gives float32 under autocast.

    In bfloat16 every value above 0.998 is rounded to 1, where the binary cross-entropy has no gradient.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        # The meta device has no autocast.
        in_autocast = not input.is_meta and torch.is_autocast_enabled(input.device.type)
        return super().forward(input.float() if in_autocast and is_half(input) else input)


class SigmoidSpec(_ModuleSpec):
    """1 / (1 + exp(-h)), in (0, 1)."""

    kind: Literal["sigmoid"] = "sigmoid"
    module = Sigmoid
    bounds = (0.0, 1.0)


class TanhSpec(_ModuleSpec):
    """The hyperbolic tangent, in (-1, 1)."""

    kind: Literal["tanh"] = "tanh"
    module = nn.Tanh
    bounds = (-1.0, 1.0)


ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Sigmoid, Sigmoid, nn.Tanh,
)  # fmt: skip
"""Activations that act on each value alone."""
