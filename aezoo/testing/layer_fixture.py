"""The layer that contract checks build and run."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator, Tensor

from aezoo.model.sequential import Aux, LayerSequence
from aezoo.specs.components import LayerSpec
from aezoo.testing.determinism import seeded

BATCH_SIZE = 6
MODES = {"training": True, "evaluation": False}


@dataclass(frozen=True)
class LayerFixture:
    """The layer under test, as the last of a sequence of layers.

    Attributes:
        spec: the layer.
        in_shape: shape of one sample before the first layer of the sequence.
        before: the layers before it.
    """

    spec: LayerSpec
    in_shape: tuple[int, ...]
    before: tuple[LayerSpec, ...]

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """All layers of the sequence."""
        return (*self.before, self.spec)

    def build(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> LayerSequence:
        """The sequence with fresh weights."""
        with seeded(seed):
            return build_sequence(self.layers, self.in_shape).to(dtype)

    def x(self, rows: int = BATCH_SIZE, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        """A batch of standard normal inputs, (rows, *in_shape)."""
        return torch.randn((rows, *self.in_shape), generator=Generator().manual_seed(seed), dtype=dtype)

    def trained(self, steps: int = 3, rows: int = BATCH_SIZE) -> LayerSequence:
        """The sequence after some training steps, so that buffers no longer have their initial values."""
        layers = self.build().train()
        parameters = [p for p in layers.parameters() if p.requires_grad]
        with seeded(2):
            for step in range(steps):
                out: Tensor = layers(self.x(rows, seed=10 + step), {})
                if parameters and out.requires_grad:
                    gradients = torch.autograd.grad(out.square().mean(), parameters, allow_unused=True)
                    with torch.no_grad():
                        for parameter, gradient in zip(parameters, cast(Any, gradients), strict=True):
                            if gradient is not None:
                                parameter -= 1e-2 * gradient
                call_after_step(layers)
        return layers


def build_sequence(layers: tuple[LayerSpec, ...], in_shape: tuple[int, ...]) -> LayerSequence:
    """Layers as an encoder builds them."""
    return LayerSequence.build(layers, in_shape, "encoder")


def forward(
    layers: LayerSequence, x: Tensor, *, training: bool = False, seed: int = 4, aux: Aux | None = None
) -> Tensor:
    """Runs layers in one mode, seeded and without gradients."""
    with seeded(seed), torch.no_grad():
        return layers.train(training)(x, {} if aux is None else aux)


def call_after_step(layers: LayerSequence) -> None:
    """Calls every `after_step`, as training does after a step of the optimizer."""
    for module in layers.modules():
        restore = getattr(module, "after_step", None)
        if callable(restore):
            restore()
