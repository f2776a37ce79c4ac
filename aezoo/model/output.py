"""What an autoencoder returns, and what a loss is given beside it."""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from typing_extensions import override

from aezoo.model.sequential import Aux
from aezoo.model.sparse import SparseCode


class Output(NamedTuple):
    """The result of `Autoencoder.forward`.

    Attributes:
        x_hat: the reconstruction, (batch, *target shape).
        latents: the code, floating point, (batch, *latent shape).
        aux: tensors that layers emitted in addition to their output, by name.
    """

    x_hat: Tensor
    latents: Tensor
    aux: Aux

    @override
    def __repr__(self) -> str:
        aux = ", ".join(f"{name!r}: {describe_tensor(value)}" for name, value in self.aux.items())
        values = f"x_hat={describe_tensor(self.x_hat)}, latents={describe_tensor(self.latents)}"
        return f"Output({values}, aux={{{aux}}})"

    @property
    def code(self) -> SparseCode | None:
        """The latents as kept entries, if they were computed as such."""
        return None


class SparseOutput(Output):
    """An output whose latents are a dense tensor only from when they are first read."""

    _code: SparseCode
    _dense: Tensor | None

    def __new__(cls, x_hat: Tensor, latents: Tensor, aux: Aux) -> Output:  # pyright: ignore
        """A plain output, for code that makes a tuple again, such as `torch.utils._pytree`."""
        return Output(x_hat, latents, aux)

    @classmethod
    def of(cls, x_hat: Tensor, code: SparseCode, aux: Aux, dense: Tensor | None = None) -> "SparseOutput":
        """The output with these latents, which may be given as a dense tensor as well."""
        # The tuple itself never holds the latents; every way to read it is overridden.
        output = cls._make((x_hat, x_hat, aux))
        output._code, output._dense = code, dense
        return output

    @property
    @override
    def code(self) -> SparseCode:
        return self._code

    @property
    @override
    def latents(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self._dense is None:
            # With its gradient, whatever the mode in which it is first read.
            with torch.inference_mode(False), torch.set_grad_enabled(self._code.values.requires_grad):
                self._dense = self._code.dense()
        return self._dense

    @override
    def __iter__(self) -> Iterator[Any]:
        return iter((self.x_hat, self.latents, self.aux))

    @override
    def __getitem__(self, index: Any) -> Any:
        return cast(Any, (self.x_hat, self.latents, self.aux))[index]

    @override
    def _replace(self, **changes: Any) -> Output:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Output(*self)._replace(**changes)

    @override
    def _asdict(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Output(*self)._asdict()

    @override
    def __eq__(self, other: object) -> bool:
        return tuple(self) == other

    @override
    def __ne__(self, other: object) -> bool:
        return tuple(self) != other

    @override
    def __add__(self, other: Any) -> Any:
        return tuple(self) + other

    def __radd__(self, other: Any) -> Any:
        return other + tuple(self)

    @override
    def __mul__(self, value: Any) -> Any:
        return tuple(self) * value

    __rmul__ = __mul__
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    @override
    def __reduce__(self) -> Any:
        return Output, tuple(self)


class StepContext(NamedTuple):
    """What a loss receives in addition to the output.

    Attributes:
        input: what the network received, noise included, (batch, *input shape).
        target: what the network should return, without noise, (batch, *target shape).
        labels: (batch,) or None. No built-in loss reads them.
        epoch: epochs completed so far, fractional within an epoch; of all stages, or of this layer pair in a
            greedy stage.
        step: optimizer steps of this training completed so far.
        generator: source of all random numbers that a loss draws.
    """

    input: Tensor
    target: Tensor
    labels: Tensor | None
    epoch: float
    step: int
    generator: torch.Generator


def describe_tensor(x: object) -> str:
    """Type and shape of a tensor in one word, such as `float32(2, 64)`."""
    return f"{str(x.dtype).removeprefix('torch.')}{tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)
