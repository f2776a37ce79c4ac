"""The loss that contract checks build and call."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from aezoo.model.autoencoder import Autoencoder
from aezoo.model.build import build
from aezoo.model.output import Output, StepContext
from aezoo.specs.components import LossSpec
from aezoo.specs.variant import AutoencoderSpec
from aezoo.testing.determinism import equal, seeded

BATCH_SIZE = 6
DRAWS = 300
"""Values that are averaged for a loss that draws random numbers."""
Term = Callable[[Output, StepContext, Autoencoder], Tensor]


class LossContext(StepContext):
    """A context whose rows can be repeated and reordered."""

    __slots__ = ()

    def rows(self, index: Tensor) -> "LossContext":
        """The context of these rows."""
        labels = None if self.labels is None else self.labels[index]
        return self._replace(input=self.input[index], target=self.target[index], labels=labels)

    def repeated(self, times: int) -> "LossContext":
        """The context with every row several times."""
        return self.rows(torch.arange(len(self.input)).repeat(times))


def example_network(*encoder: dict[str, Any]) -> AutoencoderSpec:
    """A network with these layers after `flatten`, for images of shape 1 x 6 x 6."""
    return AutoencoderSpec.model_validate({
        "input": {"shape": [1, 6, 6], "range": [0, 1]},
        "encoder": [{"kind": "flatten"}, *encoder],
        "decoder": [
            {"kind": "linear", "out_features": 36, "activation": "sigmoid"},
            {"kind": "unflatten", "shape": [1, 6, 6]},
        ],
    })  # fmt: skip


def example_networks() -> list[AutoencoderSpec]:
    """A plain, a variational and a sparse network."""
    return [
        example_network({"kind": "linear", "out_features": 8, "activation": "sigmoid"}),
        example_network({"kind": "linear", "out_features": 16}, {"kind": "gaussian_sample"}),
        example_network({"kind": "linear", "out_features": 12}, {"kind": "topk", "k": 3}),
    ]


class LossFixture:
    """The loss under test and a network that it supports.

    Attributes:
        spec: the loss.
        candidates: networks to try.
        network: the first of them that the loss supports, once the check `incompatibility` has run.
    """

    def __init__(self, spec: LossSpec, network: AutoencoderSpec | None) -> None:
        self.spec = spec
        if network is not None:
            self.candidates = [network]
        elif example := type(spec).example_encoder:
            self.candidates = [example_network(*example)]
        else:
            self.candidates = example_networks()
        self.network = self.candidates[0]

    def ae(self, seed: int = 0) -> Autoencoder:
        """The network in evaluation mode."""
        return build(self.network, seed=seed).eval()

    def context(self, seed: int = 1, rows: int = BATCH_SIZE, draws: int = 2) -> "LossContext":
        """A batch, with inputs in [0, 1] and three classes of labels."""
        generator = Generator().manual_seed(seed)
        x = torch.rand((rows, *self.network.input.shape), generator=generator)
        return LossContext(x, x.clone(), torch.arange(rows) % 3, 5.0, 100, Generator().manual_seed(draws))

    def term(self, training: bool = False, **changes: Any) -> Term:
        """A fresh term in evaluation or training mode."""
        # A copy, because a spec that is the function itself may have been changed by an earlier call.
        with seeded(0):
            return _in_mode(copy.deepcopy(self.spec).model_copy(update=changes).build(), training)

    def used_term(self, training: bool = False) -> Term:
        """A term after some training steps, in evaluation or training mode."""
        term, ae = self.term(training=True), self.ae().train()
        with seeded(3):
            for step in range(4):
                context = self.context(seed=10 + step)
                term(ae(context.input), context, ae)
        return _in_mode(term, training)

    def value(self, term: Term, context: StepContext | None = None) -> Tensor:
        """The term's value on one batch."""
        context, ae = context or self.context(), self.ae()
        return term(ae(context.input), context, ae)

    def is_random(self) -> bool:
        """Whether the value depends on the generator of the context."""
        first, *others = (self.value(self.term(), self.context(draws=draws)).detach() for draws in range(4))
        return any(not equal(first, other) for other in others)

    def mean_value(self, context: StepContext) -> float:
        """A fresh term's value on one batch; the mean over many draws if it draws random numbers."""
        ae = self.ae()
        with torch.no_grad():
            output = ae(context.input)

        def value(draws: int) -> float:
            given = context._replace(generator=Generator().manual_seed(draws))
            return float(self.term()(output, given, ae).detach())

        first, second = value(0), value(1)
        if first == second:
            return first
        return (first + second + sum(map(value, range(2, DRAWS)))) / DRAWS


def _in_mode(term: Term, training: bool) -> Term:
    if isinstance(term, nn.Module):
        term.train(training)
    return term


def set_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Gives a module the state of another one of its class."""
    # Not `load_state_dict`: a buffer may have another shape once the first batch has been seen.
    for name, tensor in state.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        is_parameter = last in dict(owner.named_parameters(recurse=False))
        setattr(owner, last, nn.Parameter(tensor) if is_parameter else tensor)
