"""Elementwise functions, by PyTorch's names and with PyTorch's arguments."""

import math
from typing import Literal

from torch import nn

from aezoo.specs.base import NonNegativeFloat, PositiveFloat
from aezoo.specs.components import ActivationSpec


class ReluSpec(ActivationSpec):
    """max(0, h)."""

    kind: Literal["relu"] = "relu"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.ReLU()

    def output_bounds(self) -> tuple[float, float]:
        """Bounds of what it can give."""
        return 0.0, math.inf


class LeakyReluSpec(ActivationSpec):
    """h where positive, `negative_slope` h elsewhere."""

    kind: Literal["leaky_relu"] = "leaky_relu"
    negative_slope: NonNegativeFloat = 0.01

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.LeakyReLU(self.negative_slope)

    def output_bounds(self) -> tuple[float, float]:
        """Bounds of what it can give."""
        return (0.0 if self.negative_slope == 0 else -math.inf), math.inf


class EluSpec(ActivationSpec):
    """h where positive, `alpha` (exp(h) - 1) elsewhere (arXiv:1511.07289)."""

    kind: Literal["elu"] = "elu"
    alpha: PositiveFloat = 1.0

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.ELU(self.alpha)

    def output_bounds(self) -> tuple[float, float]:
        """Bounds of what it can give."""
        return -self.alpha, math.inf


class GeluSpec(ActivationSpec):
    """h times the normal distribution function of h (arXiv:1606.08415)."""

    kind: Literal["gelu"] = "gelu"
    approximate: Literal["none", "tanh"] = "none"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.GELU(self.approximate)

    def output_bounds(self) -> tuple[float, float]:
        """Bounds of what it can give."""
        return -0.1701, math.inf


class SiluSpec(ActivationSpec):
    """h sigmoid(h), also called swish (arXiv:1606.08415)."""

    kind: Literal["silu"] = "silu"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.SiLU()

    def output_bounds(self) -> tuple[float, float]:
        """Bounds of what it can give."""
        return -0.2785, math.inf


class SoftplusSpec(ActivationSpec):
    """log(1 + exp(beta h)) / beta."""

    kind: Literal["softplus"] = "softplus"
    beta: PositiveFloat = 1.0

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.Softplus(self.beta)

    def output_bounds(self) -> tuple[float, float]:
        """Bounds of what it can give."""
        return 0.0, math.inf


class SigmoidSpec(ActivationSpec):
    """1 / (1 + exp(-h)), in (0, 1)."""

    kind: Literal["sigmoid"] = "sigmoid"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.Sigmoid()

    def output_bounds(self) -> tuple[float, float]:
        """Bounds of what it can give."""
        return 0.0, 1.0


class TanhSpec(ActivationSpec):
    """The hyperbolic tangent, in (-1, 1)."""

    kind: Literal["tanh"] = "tanh"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.Tanh()

    def output_bounds(self) -> tuple[float, float]:
        """Bounds of what it can give."""
        return -1.0, 1.0
