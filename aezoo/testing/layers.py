"""Contract checks of layers: build, outputs and gradients. See also `layer_state` and `layer_use`."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Generator, Tensor
from torch.autograd.gradcheck import GradcheckError

from aezoo.errors import AezooError, LayerError
from aezoo.model.sequential import Aux, Exact, LayerSequence, Mean
from aezoo.specs.components import UNBOUNDED, LayerSpec
from aezoo.testing.contract import CheckList, Report
from aezoo.testing.determinism import equal, seeded
from aezoo.testing.layer_fixture import BATCH_SIZE, MODES, LayerFixture, build_sequence, forward
from aezoo.testing.layer_state import STATE_CHECKS
from aezoo.testing.layer_use import USE_CHECKS
from aezoo.testing.specs import hostile_changes, run_checks

SHAPES: tuple[tuple[int, ...], ...] = (
    (1,), (7,), (64,), (2, 3), (3, 16), (1, 1, 1), (2, 5, 5), (3, 8, 8), (1, 4, 4, 4), (2, 1, 3, 4),
)  # fmt: skip
SETTLING_STEPS = 200
"""Training batches after which a running estimate should have settled."""
SETTLING_BATCH = 256
TOLERANCE = 0.15
"""Relative error allowed between a measured and a declared mean number of latents."""
LAYER_CHECKS: CheckList[LayerFixture] = CheckList()


def check_layer(
    spec: LayerSpec, in_shape: tuple[int, ...], *, before: Sequence[LayerSpec] | None = None
) -> Report:
    """Checks a layer against the contract.

    Args:
        spec: the layer.
        in_shape: shape of one sample, without the batch axis, at the input of the first layer.
        before: layers that emit what this one needs, in order. By default those of `example_before`.

    Returns:
        The results, exemptions included.

    Raises:
        ContractError: a check failed; the message says for each what was expected and found.
    """
    if before is None:
        before = [LayerSpec.model_validate(layer) for layer in type(spec).example_before]
    fixture = LayerFixture(spec, in_shape, tuple(before))
    return run_checks(spec, f"layer {spec.kind_name} on {in_shape}", LAYER_CHECKS, fixture)


# -- the build ----------------------------------------------------------------------------------------


@LAYER_CHECKS.add("bounds", "bounds on its numbers that reject every value that cannot be built")
def bounds(layer: LayerFixture) -> str | None:
    """A mistyped number must be reported with its path in the file, not as an exception from inside PyTorch.

    Failure: `size=-1 is accepted, but build raises RuntimeError: ... negative dimension -1`
    Fix: annotate each number, as in `Annotated[int, Field(ge=1)]`. For limits that depend on the input shape,
        raise LayerError in `build`.
    """
    own_shape = build_sequence(layer.before, layer.in_shape).out_shape
    assert own_shape is not None
    for name, value, spec in hostile_changes(layer.spec):
        try:
            with torch.device("meta"), seeded(0):
                spec.build(own_shape)
        except LayerError:
            continue
        except Exception as error:
            return f"{name}={value!r} is accepted, but build raises {type(error).__name__}: {error}"
    return None


@LAYER_CHECKS.add("build", "a module that is built and runs", required=True)
def build(layer: LayerFixture) -> str | None:
    """Without a module that runs in training and in evaluation, nothing else can be checked.

    Failure: `SpecError: encoder.0: Centre.mean is a plain tensor; make it a parameter or a persistent buffer`
    Fix: correct the error in the message. Keep tensors in parameters and persistent buffers only.
    """
    for training in MODES.values():
        forward(layer.build(), layer.x(), training=training)
    return None


@LAYER_CHECKS.add("no-meta-left", "every tensor to have values after a build", required=True)
def no_meta_left(layer: LayerFixture) -> str | None:
    """Layers are built on the meta device first, where tensors have no values, to find their shapes.

    Failure: `0.later on the meta device`
    Fix: do not name a device when tensors are created; the builder sets the default device.
    """
    left = [name for name, tensor in layer.build().state_dict().items() if tensor.is_meta]
    return f"{', '.join(left)} on the meta device" if left else None


@LAYER_CHECKS.add("meta-shape", "the same output shape on the meta device as on a real one")
def meta_shape(layer: LayerFixture) -> str | None:
    """The shapes of all later layers and of the latents are derived from one run on the meta device.

    Failure: `(8,) for (3,)`
    Fix: let no shape depend on values, on the device or on the mode.
    """
    layers = layer.build()
    for training in MODES.values():
        found = tuple(forward(layers, layer.x(), training=training).shape)
        if found != (BATCH_SIZE, *(layers.out_shape or ())):
            return f"{found[1:]} for {layers.out_shape}"
    return None


@LAYER_CHECKS.add("hostile-shapes", "LayerError from build() for unsupported input shapes")
def hostile_shapes(layer: LayerFixture) -> str | None:
    """A spec with a wrong shape must be rejected when it is validated, not in a forward pass later on.

    Failure: `(2, 3) is accepted, but forward raises RuntimeError: mat1 and mat2 shapes cannot be multiplied`
    Fix: raise LayerError in `build(in_shape)` for shapes that the layer does not take.
    """
    for shape in () if layer.before else SHAPES:
        try:
            with seeded(23):
                layers = build_sequence((layer.spec,), shape)
        except AezooError:
            continue
        x = torch.randn((2, *shape), generator=Generator().manual_seed(24))
        try:
            found = tuple(forward(layers, x).shape[1:])
        except Exception as error:
            return f"{shape} is accepted, but forward raises {type(error).__name__}: {error}"
        if found != layers.out_shape:
            return f"{found} for {shape}, but {layers.out_shape} on the meta device"
    return None


# -- outputs ------------------------------------------------------------------------------------------


@LAYER_CHECKS.add("finite", "finite outputs for normal inputs, zeros and a single row")
def finite(layer: LayerFixture) -> str | None:
    """Blank images and batches of one are ordinary inputs, and one NaN spoils a whole training.

    Failure: `NaN or infinity for zeros`
    Fix: guard divisions, roots and logarithms with a small constant.
    """
    layers = layer.build()
    zeros = torch.zeros(2, *layer.in_shape)
    for name, x in (("normal inputs", layer.x()), ("zeros", zeros), ("a single row", layer.x(1))):
        if not torch.isfinite(forward(layers, x)).all():
            return f"NaN or infinity for {name}"
    return None


@LAYER_CHECKS.add("precision", "an output of the input's dtype")
def precision(layer: LayerFixture) -> str | None:
    """Networks may be built and run in double precision.

    Failure: `torch.float32 for torch.float64`
    Fix: create tensors with `torch.zeros_like(h)`, `h.new_zeros(...)` or `.to(h.dtype)`, never a fixed dtype.
    """
    out = forward(layer.build(dtype=torch.float64), layer.x(dtype=torch.float64))
    return None if out.dtype == torch.float64 else f"{out.dtype} for torch.float64"


@LAYER_CHECKS.add("aux", "exactly the names in `emits` to be written to aux")
def aux_names(layer: LayerFixture) -> str | None:
    """Builds compare `emits` with what later layers need; an undeclared name could overwrite another layer's.

    Failure: `['mean', 'most'] where ['mean'] is declared`
    Fix: list in `emits` every name that `forward(h, aux)` writes.
    """
    layers = layer.build()
    aux: Aux = {}
    forward(layers, layer.x(), aux=aux)
    declared = sorted(set(layers.emits))
    return None if sorted(aux) == declared else f"{sorted(aux)} where {declared} is declared"


@LAYER_CHECKS.add("output-bounds", "values within the bounds that output_bounds() returns")
def output_bounds(layer: LayerFixture) -> str | None:
    """Losses such as `bce` are accepted or rejected by the bounds that the decoder states.

    Failure: `0 to 1.6 for inputs in [0, 1], where 0 to 1 is stated`
    Fix: widen `output_bounds`; by default it is unbounded.
    """
    layers = layer.trained()
    for name, x, stated in (
        ("inputs in [0, 1]", layer.x().sigmoid(), (0.0, 1.0)),
        ("unbounded inputs", layer.x() * 20, UNBOUNDED),
    ):
        for spec in layer.layers:
            stated = spec.output_bounds(stated)
        out = forward(layers, x)
        least, most = float(out.min()), float(out.max())
        if least < stated[0] - 1e-4 or most > stated[1] + 1e-4:
            return f"{least:.4g} to {most:.4g} for {name}, where {stated[0]:g} to {stated[1]:g} is stated"
    return None


@LAYER_CHECKS.add("sparsity", "as many non-zero latents as sparsity() says")
def sparsity(layer: LayerFixture) -> str | None:
    """Model cards and users rely on the promise, in training and in evaluation.

    Failure: `4 in training, where 3 are declared`
    Fix: return `Exact(k)` if each row has k non-zero latents, `Mean(k)` if k is their mean, otherwise None.
    """
    promise_of = getattr(layer.build()[len(layer.before)], "sparsity", None)
    promise = None if promise_of is None else promise_of()
    if isinstance(promise, Exact):
        return _exact_sparsity(layer, promise)
    return _mean_sparsity(layer, promise) if isinstance(promise, Mean) else None


def _exact_sparsity(layer: LayerFixture, promise: Exact) -> str | None:
    layers, x = layer.trained(), layer.x(rows=32)
    for mode, training in MODES.items():
        before = LayerSequence(list(layers)[: len(layer.before)])
        given = forward(before, x, training=training, seed=18).flatten(1)
        out = forward(layers, x, training=training, seed=18).flatten(1)
        counts = (out != 0).sum(1)
        if not bool((counts == promise.k).all()):
            least, most = int(counts.min()), int(counts.max())
            found = str(least) if least == most else f"{least} to {most}"
            return f"{found} in {mode}, where {promise.k} are declared"
        if promise.by is None:
            continue
        ranked = given.abs() if promise.by == "magnitude" else given
        largest = ranked.topk(promise.k, dim=1).indices
        chosen = torch.zeros_like(given, dtype=torch.bool).scatter(1, largest, True)
        if not bool(((out != 0) == chosen).all()):
            return f"others than the {promise.k} largest by {promise.by}, in {mode}"
        if not equal(out[chosen], given[chosen].to(out.dtype)):
            return f"latents that are not passed on unchanged, in {mode}"
    return None


def _mean_sparsity(layer: LayerFixture, promise: Mean) -> str | None:
    layers = layer.trained(SETTLING_STEPS, SETTLING_BATCH)
    for mode, training in MODES.items():
        out = forward(layers, layer.x(rows=16 * SETTLING_BATCH, seed=30), training=training).flatten(1)
        found = float((out != 0).sum(1).double().mean())
        if abs(found - promise.k) > TOLERANCE * promise.k:
            return f"{found:.4g} on average in {mode}, where {promise.k:g} are declared"
    return None


# -- gradients ----------------------------------------------------------------------------------------


@LAYER_CHECKS.add("gradient-reaches", "a gradient for the input and for every parameter")
def gradient_reaches(layer: LayerFixture) -> str | None:
    """Without one, earlier layers or some of the layer's own parameters never learn.

    Failure: `none at 0.spare`
    Fix: remove `detach` and unused parameters. Write a parameter that a loss trains, such as a learned prior,
        to `aux`; set `requires_grad` of one that is never trained to False.
    """
    layers = layer.build().train()
    aux: Aux = {}
    x = layer.x(rows=32).requires_grad_()
    with seeded(16):
        out: Tensor = layers(x, aux)
    if not out.requires_grad:
        return "an output without a gradient"
    # Random weights, because the plain sum of a normalized output is constant.
    generator = Generator().manual_seed(17)
    results = [out, *(value for value in aux.values() if value.requires_grad)]
    torch.autograd.backward([(r * torch.randn(r.shape, generator=generator)).sum() for r in results])
    trained = {name: p for name, p in layers.named_parameters() if p.requires_grad}
    parts = {"the input": x, **trained}
    gradients = {name: torch.zeros(()) if part.grad is None else part.grad for name, part in parts.items()}
    without = [name for name, gradient in gradients.items() if not bool(gradient.abs().sum() > 0)]
    return f"none at {', '.join(without)}" if without else None


@LAYER_CHECKS.add("gradient-correct", "the derivative as the gradient, in double precision")
def gradient_correct(layer: LayerFixture) -> str | None:
    """A network with a wrong backward pass still trains, to a worse result.

    Failure: `Jacobian mismatch for output 0 with respect to input 0`
    Fix: correct the backward pass. If it is deliberately not the derivative, as in a straight-through
        estimator, set `surrogate_gradient = True`.
    """
    if type(layer.spec).surrogate_gradient:
        return None
    layers = layer.build(dtype=torch.float64).eval()
    names = [name for name, p in layers.named_parameters() if p.requires_grad]
    values = [p.detach().clone().requires_grad_() for p in layers.parameters() if p.requires_grad]
    x = layer.x(rows=2, dtype=torch.float64).requires_grad_()

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        return cast(Tensor, torch.func.functional_call(layers, state, (x, {})))

    try:
        correct = cast(Any, torch.autograd.gradcheck)(function, (x, *values), atol=1e-4, fast_mode=True)
    except GradcheckError as error:
        return str(error).strip().splitlines()[0]
    return None if correct else "a different one"


LAYER_CHECKS.extend([*STATE_CHECKS, *USE_CHECKS])
