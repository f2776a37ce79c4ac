"""Warnings about what is valid but likely to give poor results, before and during training.

Each is a `DiagnosticWarning`, whose text begins with a code that does not change between versions.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from aezoo.errors import warn_diagnostic
from aezoo.model.sequential import LayerShape
from aezoo.specs.components import ActivationSpec, LayerSpec, output_bounds
from aezoo.specs.variant import AutoencoderSpec, VariantSpec

MAX_DEAD_SHARE = 0.2
"""Largest share of dead latents without a warning."""
FIRST_EPOCHS = 3
"""Epochs after which the data term should be lower than after the first."""


@dataclass(frozen=True)
class Diagnostic:
    """A warning about a spec: a code such as `identity-risk`, a dotted path in the spec, and one line."""

    code: str
    path: str
    message: str

    def warn(self) -> None:
        """Issues the warning."""
        warn_diagnostic(self.code, f"{self.path}: {self.message}")


def lint_spec(spec: AutoencoderSpec, shapes: Mapping[str, LayerShape]) -> list[Diagnostic]:
    """Returns the diagnostics of a spec, given the shapes of every layer (`Autoencoder.shapes`)."""
    return [*_identity_risk(spec, shapes), *_output_range(spec)]


def _identity_risk(spec: AutoencoderSpec, shapes: Mapping[str, LayerShape]) -> Iterator[Diagnostic]:
    values = math.prod(spec.input.shape)
    narrowest = min(math.prod(shape.output) for shape in shapes.values())
    if spec.output.shape != spec.input.shape or narrowest < values:
        return
    if isinstance(spec, VariantSpec) and (spec.recipe.noises or spec.recipe.penalties):
        return
    if any(layer.limits_information or getattr(layer, "dropout", 0) for layer in _all_layers(spec.encoder)):
        return
    latents = math.prod(shapes[f"encoder.{len(spec.resolved().encoder) - 1}"].output)
    yield Diagnostic(
        "identity-risk",
        "encoder",
        f"{latents:,} latents for {values:,} input values and nothing that constrains them, so copying the "
        "input is a solution; use fewer latents, or add sparsity, noise or a penalty",
    )


def _all_layers(layers: tuple[LayerSpec, ...]) -> Iterator[LayerSpec]:
    for layer in layers:
        yield layer
        for name in type(layer).model_fields:
            value: object = getattr(layer, name)
            if isinstance(value, tuple):
                items = cast(tuple[object, ...], value)
                yield from _all_layers(tuple(item for item in items if isinstance(item, LayerSpec)))


def _output_range(spec: AutoencoderSpec) -> Iterator[Diagnostic]:
    low, high = output_bounds(spec.decoder)
    expected = spec.output.range or (-math.inf, math.inf)
    if low <= expected[0] and expected[1] <= high:
        return
    activations = [
        (f"decoder.{index}.activation", activation)
        for index, layer in enumerate(spec.decoder)
        if isinstance(activation := getattr(layer, "activation", None), ActivationSpec)
    ]
    path, what = (activations[-1][0], activations[-1][1].kind_name) if activations else ("decoder", "it")
    data = "unbounded values" if spec.output.range is None else f"values in {list(expected)}"
    yield Diagnostic(
        "output-range",
        path,
        f"{what} gives {low:g} to {high:g} and cannot reach the data's {data}; "
        "declare the range of the data, or end in another activation or in none",
    )


# -- during training ----------------------------------------------------------------------------------


def warn_dead_latents(dead: float | None, latents: int) -> None:
    """Warns if `dead` of `latents` are too many; None means that dead latents were not counted."""
    if many_dead_latents(dead, latents):
        warn_diagnostic(
            "dead-latents",
            f"{dead:.0f} of {latents} latents are zero for every training sample; a first stage with "
            "`tie: true`, a lower learning rate or a larger k usually helps",
        )


def many_dead_latents(dead: float | None, latents: int) -> bool:
    """Returns whether the share of dead latents is above `MAX_DEAD_SHARE`."""
    return dead is not None and dead > MAX_DEAD_SHARE * latents


def warn_loss_rising(history: list[dict[str, Any]], term: str) -> None:
    """Warns if the data term, called `term`, rose over the first epochs of the stage in progress."""
    last = history[-1]
    if last["epoch"] != FIRST_EPOCHS:
        return
    losses = [record["train"][term] for record in history[-FIRST_EPOCHS:]]
    if losses[-1] > losses[0]:
        values = " -> ".join(f"{loss:.3g}" for loss in losses)
        text = f"stage {last['stage']}: {term} rose over the first {FIRST_EPOCHS} epochs ({values})"
        warn_diagnostic("loss-rising", f"{text}; lower the learning rate")


def warn_identical_targets(inputs: Tensor, targets: Tensor | None, noises: bool) -> None:
    """Warns if targets were given that equal the inputs, and the recipe has no `noises`."""
    if noises or targets is None or targets.shape != inputs.shape or targets.dtype != inputs.dtype:
        return
    if torch.equal(inputs, targets):
        warn_diagnostic(
            "noisy-target",
            "every target is equal to its input; if the inputs are corrupted, give the clean samples as "
            "targets, otherwise leave the targets out",
        )
