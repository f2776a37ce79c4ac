"""Elementwise functions, by PyTorch's names and with PyTorch's arguments."""

from typing import Literal

from torch import nn

from aezoo.families import NonNegativeFloat, PositiveFloat
from aezoo.specs import ActivationSpec


class ReluSpec(ActivationSpec):
    """max(0, h)."""

    kind: Literal["relu"] = "relu"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.ReLU()


class LeakyReluSpec(ActivationSpec):
    """h where positive, `negative_slope` h elsewhere."""

    kind: Literal["leaky_relu"] = "leaky_relu"
    negative_slope: NonNegativeFloat = 0.01

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.LeakyReLU(self.negative_slope)


class EluSpec(ActivationSpec):
    """h where positive, `alpha` (exp(h) - 1) elsewhere (arXiv:1511.07289)."""

    kind: Literal["elu"] = "elu"
    alpha: PositiveFloat = 1.0

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.ELU(self.alpha)


class GeluSpec(ActivationSpec):
    """h times the normal distribution function of h (arXiv:1606.08415)."""

    kind: Literal["gelu"] = "gelu"
    approximate: Literal["none", "tanh"] = "none"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.GELU(self.approximate)


class SiluSpec(ActivationSpec):
    """h sigmoid(h), also called swish (arXiv:1606.08415)."""

    kind: Literal["silu"] = "silu"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.SiLU()


class SoftplusSpec(ActivationSpec):
    """log(1 + exp(beta h)) / beta."""

    kind: Literal["softplus"] = "softplus"
    beta: PositiveFloat = 1.0

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.Softplus(self.beta)


class SigmoidSpec(ActivationSpec):
    """1 / (1 + exp(-h)), in (0, 1)."""

    kind: Literal["sigmoid"] = "sigmoid"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.Sigmoid()


class TanhSpec(ActivationSpec):
    """The hyperbolic tangent, in (-1, 1)."""

    kind: Literal["tanh"] = "tanh"

    def build(self) -> nn.Module:
        """Makes the module."""
        return nn.Tanh()
