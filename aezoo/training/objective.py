"""The training objective: the weighted sum of a recipe's loss terms."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from aezoo.errors import warn_diagnostic
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.output import Output, StepContext
from aezoo.specs.recipe import RecipeSpec
from aezoo.training.allocator import keep_freed_memory


class Objective(nn.Module):
    """The weighted sum of a recipe's data term and penalties, for `train` and for your own training loops.

        objective = aezoo.Objective(spec.recipe)
        loss, terms = objective(ae, aezoo.StepContext(x, x, None, epoch, step, generator))

    As a module it holds the parameters and buffers of the losses, so create one objective and use it for the
    whole training.

    Args:
        recipe: its `reconstruction`, `penalties` and `autocast` are used.
    """

    def __init__(self, recipe: RecipeSpec) -> None:
        super().__init__()
        # Steps of a training allocate the same memory again and again, in a loop of your own as well.
        keep_freed_memory()
        self.recipe = recipe
        self.losses = (recipe.reconstruction, *recipe.penalties)
        self.terms = [loss.build() for loss in self.losses]
        self.stateful_terms = nn.ModuleList(term for term in self.terms if isinstance(term, nn.Module))

    @property
    def data_term(self) -> str:
        """Name of the data term in the history."""
        return _term_name(self.recipe.reconstruction.kind_name, {})

    def forward(
        self,
        ae: Autoencoder,
        context: StepContext,
        forward: Callable[[Tensor], Output] | None = None,
        *,
        warmup: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Runs the autoencoder on `context.input` and computes every term.

        Args:
            ae: in training or evaluation mode.
            context: on the autoencoder's device.
            forward: runs the network on a batch; by default `ae`.
            warmup: whether the weights follow their warm-up. Without it every term has its full weight, so
                that the losses of different epochs can be compared.

        Returns:
            The weighted sum (), to be differentiated, and each term () by its kind, unweighted and detached.
        """
        output = self._output(forward or ae, context.input)
        if self.recipe.noises and context.target is context.input:
            warn_diagnostic(
                "noisy-target", "the batch's target is its noisy input; give the clean samples as target"
            )
        values: dict[str, Tensor] = {}
        total: Tensor | None = None
        for loss, term in zip(self.losses, self.terms, strict=True):
            value = term(output, context, ae)
            values[_term_name(loss.kind_name, values)] = value.detach()
            weight = loss.weight_at(context.epoch) if warmup else loss.weight
            weighted = value if weight == 1 else value * weight
            total = weighted if total is None else total + weighted
        assert total is not None
        return total, values

    def _output(self, forward: Callable[[Tensor], Output], x: Tensor) -> Output:
        if self.recipe.autocast is None:
            return forward(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            output = forward(x)
        # Losses sum many small numbers, for which bfloat16 has too few bits of mantissa.
        aux = {name: t.float() if t.is_floating_point() else t for name, t in output.aux.items()}
        return output._replace(x_hat=output.x_hat.float(), latents=output.latents.float(), aux=aux)


def _term_name(kind: str | None, earlier: dict[str, Tensor]) -> str:
    # "loss" is the name of the sum in the history.
    return f"{kind}.{len(earlier)}" if kind in (*earlier, "loss") else str(kind)
