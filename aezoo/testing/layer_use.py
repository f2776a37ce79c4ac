"""Contract checks of a layer in use: batches of any size and layout, precisions, modes, resumed training."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from aezoo.model.sequential import Aux, LayerSequence, run_layer
from aezoo.model.sparse import SparseCode, SparsePattern
from aezoo.testing.contract import CheckList
from aezoo.testing.determinism import changed_tensors, copy_state, equal, seeded
from aezoo.testing.layer_fixture import BATCH_SIZE, MODES, LayerFixture, call_after_step, forward
from aezoo.testing.observation import ModuleSnapshot, another_day, rows_differ

USE_CHECKS: CheckList[LayerFixture] = CheckList()
STEPS = 8
"""Steps of a resumed training, so that what happens at a small count happens in it."""
SIZES = (1, 2, 3, 65, 257)
"""Numbers of rows: one, few, and more than a power of two, where a kernel or a buffer of fixed size ends."""


def _outputs(layers: LayerSequence, x: Tensor, *, training: bool = False) -> dict[str, Tensor]:
    """The output and everything in `aux`, by name."""
    aux: Aux = {}
    out = forward(layers, x, training=training, aux=aux)
    return {"the output": out, **{f"aux[{name!r}]": value for name, value in aux.items()}}


def _odd_rows(layer: LayerFixture) -> Iterator[tuple[str, Tensor]]:
    """Batches in which one row is unusual, and the index of that row is 1."""
    ramp = torch.linspace(-1, 1, layer.x()[0].numel()).reshape(layer.in_shape)
    rows = {"zeros": 0.0, "ones": 1.0, "large values": 50.0, "tiny values": 1e-30, "negative values": -1.0}
    for name, value in rows.items():
        x = layer.x()
        x[1] = value * ramp.sign() if name == "large values" else value
        yield f"a row of {name}", x
    yield "equal rows", layer.x(1).expand(BATCH_SIZE, *layer.in_shape).clone()


@USE_CHECKS.add("module-intact", "modes, parameters and hooks that a call leaves as they are")
def module_intact(layer: LayerFixture) -> str | None:
    """The optimizer holds the parameters that it was given; it does not see one that replaces them.

    Failure: `another parameter object at 0.weight after after_step`
    Fix: change values in place under `torch.no_grad()`, and leave modes, `requires_grad` and hooks alone.
    """
    for mode, training in MODES.items():
        types = {name: buffer.dtype for name, buffer in layer.build().named_buffers()}
        layers = layer.trained().train(training)
        snapshot = ModuleSnapshot(layers, values=False)
        weights = {name: parameter.detach().clone() for name, parameter in layers.named_parameters()}
        with seeded(4):
            layers(layer.x().requires_grad_(), {})
        changed = snapshot.change() or _kept_tensors(layers, types)
        if changed is None and (names := changed_tensors(weights, dict(layers.named_parameters()))):
            changed = f"{names[0]} changed"
        if changed:
            return f"{changed} after a call in {mode}"
        call_after_step(layers)
        if changed := snapshot.change():
            return f"{changed} after after_step"
    return None


def _kept_tensors(layers: nn.Module, types: Mapping[str, torch.dtype]) -> str | None:
    """What a call has left in a module: a graph or another dtype in a buffer, or a stray tensor."""
    for name, buffer in layers.named_buffers():
        if buffer.grad_fn is not None:
            return f"{name} holds the graph of the batch"
        if buffer.dtype != types.get(name, buffer.dtype):
            return f"{name} has another dtype"
    for module in layers.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                return f"{type(module).__name__}.{name} holds a tensor that is neither parameter nor buffer"
    return None


@USE_CHECKS.add("batch-sizes", "the same results for a row in batches of any size, in evaluation")
def batch_sizes(layer: LayerFixture) -> str | None:
    """Evaluation uses other batch sizes than training, and a user passes single rows.

    Failure: `another output for row 64 of 257`
    Fix: allocate nothing for a fixed number of rows, and take the number of rows from the input.
    """
    layers = layer.trained()
    x = layer.x(max(SIZES))
    whole = _outputs(layers, x)
    for size in SIZES:
        with seeded(4), torch.no_grad():
            out = cast(Tensor, layer.build().train()(x[:size] if size > 1 else x[:2], {}))
            if out.shape[0] != max(size, 2):
                return f"{out.shape[0]} rows for {size} in training"
    for rows in (slice(0, 1), slice(1, 3), slice(3, 6), slice(64, 65), slice(200, 257)):
        part = _outputs(layers, x[rows])
        same_rows = {n: t[rows] for n, t in whole.items() if t.ndim and t.shape[0] == len(x)}
        if name := rows_differ(same_rows, part):
            return (
                f"another value of {name} for rows {rows.start} to {rows.stop - 1} alone than among {len(x)}"
            )
    return None


@USE_CHECKS.add("rows-aux", "values in aux that belong to rows and do not depend on other rows in evaluation")
def rows_aux(layer: LayerFixture) -> str | None:
    """Losses, metrics and decoders read them row by row.

    Failure: `another aux['mean'] for a row when the rows are reversed`
    Fix: compute each row's values from that row alone.
    """
    layers, x = layer.trained(), layer.x(32)
    flipped = _outputs(layers, x.flip(0))
    rows = {n: t for n, t in _outputs(layers, x).items() if t.ndim and t.shape[0] == len(x)}
    name = rows_differ(rows, {n: flipped[n].flip(0) for n in rows if n in flipped})
    return f"another value of {name} for a row when the rows are reversed" if name else None


@USE_CHECKS.add("odd-rows", "finite outputs and gradients for rows of zeros, constants and large values")
def odd_rows(layer: LayerFixture) -> str | None:
    """Blank and saturated samples are ordinary inputs, and one NaN spoils a whole training.

    Failure: `a gradient with NaN or infinity for a row of zeros, in training`
    Fix: add a small constant in divisions, roots and logarithms, inside the root rather than outside.
    """
    for mode, training in MODES.items():
        for name, x in _odd_rows(layer):
            layers = layer.build().train(training)
            given = x.requires_grad_()
            with seeded(4):
                out: Tensor = layers(given, {})
            if not torch.isfinite(out).all():
                return f"an output with NaN or infinity for {name}, in {mode}"
            if not out.requires_grad:
                continue
            out.sum().backward()
            gradients = [p.grad for p in (given, *layers.parameters()) if p.grad is not None]
            if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
                return f"a gradient with NaN or infinity for {name}, in {mode}"
    return None


@USE_CHECKS.add("nan-stays", "a row of NaN that leaves the other rows as they are, in evaluation")
def nan_stays(layer: LayerFixture) -> str | None:
    """A broken sample must not change the results of the samples that happen to share its batch.

    Failure: `other rows changed by a row of NaN`
    Fix: compute nothing over the batch in evaluation.
    """
    layers, x = layer.trained(), layer.x()
    broken = x.clone()
    broken[1] = float("nan")
    try:
        out = forward(layers, broken)
    except Exception:
        # Refusing NaN with an error is fine.
        return None
    keep = [0, 2, 3, 4, 5]
    same = rows_differ({"rows": forward(layers, x)[keep]}, {"rows": out[keep]}) is None
    return None if same else "other rows changed by a row of NaN"


@USE_CHECKS.add("layout", "the same output for an input whose memory is not contiguous")
def layout(layer: LayerFixture) -> str | None:
    """Transposed, sliced and expanded tensors are ordinary inputs.

    Failure: `RuntimeError: view size is not compatible with input tensor's size and stride`
    Fix: use `reshape` or `flatten` instead of `view`.
    """
    layers, x = layer.trained(), layer.x()
    turned = x.movedim(0, -1).contiguous().movedim(-1, 0)
    if name := rows_differ(_outputs(layers, x), _outputs(layers, turned)):
        return f"another value of {name}"
    return None


@USE_CHECKS.add("autocast", "a forward and a backward pass under bfloat16 autocast")
def autocast(layer: LayerFixture) -> str | None:
    """Recipes with `autocast: bfloat16` run every layer so; its input may be of either dtype.

    Failure: `RuntimeError: Index put requires the source and destination dtypes match`
    Fix: convert with `.to(h.dtype)` where tensors of two dtypes meet, and `.float()` before `.numpy()`.
    """
    for dtype in (torch.float32, torch.bfloat16):
        for mode, training in MODES.items():
            layers = layer.trained().train(training)
            x = layer.x().to(dtype).requires_grad_()
            with seeded(4), torch.autocast("cpu", torch.bfloat16):
                out: Tensor = layers(x, {})
            if not out.is_floating_point() or not torch.isfinite(out).all():
                return f"an output with NaN or infinity for {dtype} in {mode}"
            if out.requires_grad:
                out.float().sum().backward()
    return None


@USE_CHECKS.add("precision-training", "training and evaluation in double precision, with the same values")
def precision_training(layer: LayerFixture) -> str | None:
    """Networks may be trained in double precision, and the precision must not change what is computed.

    Failure: `another output in double precision`
    Fix: create tensors with the dtype of the input, and choose no branch by dtype.
    """
    single, double = layer.build(), layer.build(dtype=torch.float64)
    x = layer.x()
    out = forward(layer.build(dtype=torch.float64), x.double(), training=True)
    if out.dtype != torch.float64:
        return f"{out.dtype} in training"
    found, expected = forward(single, x), forward(double, x.double())
    # A few latents on the border of a selection may differ.
    far = ((found.double() - expected).abs() > 1e-3 * (1 + expected.abs())).double().mean()
    return None if float(far) < 0.1 else "another output in double precision"


@USE_CHECKS.add("gradient-modes", "the same output with and without gradients, in evaluation")
def gradient_modes(layer: LayerFixture) -> str | None:
    """Validation runs without gradients, and its numbers are compared with those of the training.

    Failure: `another output with gradients`
    Fix: do not depend on `torch.is_grad_enabled()`, and do not enable gradients in `forward`.
    """
    layers, x = layer.trained(), layer.x()
    without = forward(layers, x)
    with seeded(4):
        recorded: Tensor = layers.eval()(x, {})
        with torch.inference_mode():
            inferred: Tensor = layers(x.clone(), {})
    if without.requires_grad:
        return "an output with a gradient under no_grad"
    if not equal(without, recorded.detach()):
        return "another output with gradients"
    return None if equal(without, inferred.clone()) else "another output in inference mode"


@USE_CHECKS.add("aux-gradient", "a gradient through every differentiable value in aux")
def aux_gradient(layer: LayerFixture) -> str | None:
    """A loss on a value without a gradient trains nothing.

    Failure: `no gradient through aux['mean']`
    Fix: remove `detach` and `no_grad`. A layer whose gradient is a surrogate is not checked.
    """
    if type(layer.spec).surrogate_gradient or not layer.build().emits:
        return None
    layers = layer.trained().train()
    values: list[Aux] = []
    for seed in (1, 2):
        aux: Aux = {}
        with seeded(4):
            layers(layer.x(seed=seed).requires_grad_(), aux)
        values.append(aux)
    for name in getattr(layer.build()[len(layer.before)], "emits", ()):
        first, second = (aux.get(name) for aux in values)
        if first is None or second is None or not first.is_floating_point() or not first.numel():
            continue
        if not first.requires_grad and not equal(first.detach(), second.detach()):
            return f"no gradient through aux[{name!r}]"
    return None


@USE_CHECKS.add("aux-intact", "values of earlier layers in aux that are left unchanged")
def aux_intact(layer: LayerFixture) -> str | None:
    """Losses and later layers read the same tensors.

    Failure: `aux['mean'] changed`
    Fix: replace in-place operations on values in `aux`, and do not assign names of other layers.
    """
    layers = layer.trained()
    before = LayerSequence(list(layers)[: len(layer.before)])
    for mode, training in MODES.items():
        aux: Aux = {}
        with seeded(4), torch.no_grad():
            h: Tensor = before.train(training)(layer.x(), aux)
            kept, copies = dict(aux), {name: value.clone() for name, value in aux.items()}
            last: Any = layers.train(training)[len(layer.before)]
            LayerSequence([last])(h, aux)
        for name, value in kept.items():
            if aux.get(name) is not value or not equal(value, copies[name]):
                return f"aux[{name!r}] changed in {mode}"
    return None


@USE_CHECKS.add("aux-modes", "the same names and shapes in aux in training as in evaluation")
def aux_modes(layer: LayerFixture) -> str | None:
    """Losses read `aux` in training, metrics in evaluation.

    Failure: `['mean'] in training, ['log_var', 'mean'] in evaluation`
    Fix: write every name of `emits` in both modes.
    """
    layers = layer.trained()
    found = {mode: sorted(_outputs(layers, layer.x(), training=t)) for mode, t in MODES.items()}
    if found["training"] != found["evaluation"]:
        return f"{found['training']} in training, {found['evaluation']} in evaluation"
    return None


@USE_CHECKS.add("row-draws", "random numbers of its own for every row, in training")
def row_draws(layer: LayerFixture) -> str | None:
    """One draw for a whole batch makes its rows depend on one another, and the noise on the batch size.

    Failure: `the same random numbers for every row`
    Fix: draw with the shape of the input, batch axis included.
    """
    x = layer.x(1).expand(16, *layer.in_shape).clone()
    outputs = [forward(layer.trained(), x, training=True, seed=seed) for seed in (4, 5, 6)]
    random = any(not equal(outputs[0], other) for other in outputs[1:])
    same = all(rows_differ({"rows": out}, {"rows": out[:1].expand_as(out)}) is None for out in outputs)
    return "the same random numbers for every row" if random and same else None


@USE_CHECKS.add("training-resumes", "the same training after its state is loaded, and after an evaluation")
def training_resumes(layer: LayerFixture) -> str | None:
    """A resumed training gives the weights of an uninterrupted one, however often it is validated.

    Failure: `another training after its state is loaded into a new layer`
    Fix: keep everything that training depends on in registered buffers, and change none in evaluation.
    """

    def go_on(layers: LayerSequence) -> tuple[Tensor, dict[str, Tensor]]:
        outputs: list[Tensor] = []
        with seeded(7):
            for step in range(STEPS):
                with torch.no_grad():
                    outputs.append(layers.train()(layer.x(seed=40 + step), {}))
                call_after_step(layers)
        return torch.stack(outputs), copy_state(layers)

    fresh, evaluated = layer.build(seed=3), layer.trained()
    fresh.load_state_dict(copy_state(layer.trained()))
    forward(evaluated, layer.x(seed=50))
    out, state = go_on(layer.trained())
    for name, other in (("its state is loaded into a new layer", fresh), ("an evaluation", evaluated)):
        other_out, other_state = go_on(other)
        if not equal(out, other_out) or changed_tensors(state, other_state):
            return f"another training after {name}"
    return None


@USE_CHECKS.add("independent", "layers that do not affect one another")
def independent(layer: LayerFixture) -> str | None:
    """Several networks live in one process, and a copy must not change its original.

    Failure: `a layer that changed when its deep copy was trained`
    Fix: keep nothing on the class, in the module's globals, or in objects that copies share.
    """
    untouched = forward(layer.build(), layer.x())
    original = layer.trained()
    kept, before = copy_state(original), forward(original, layer.x())
    other = copy.deepcopy(original).train()
    with seeded(5), torch.no_grad():
        for step in range(3):
            other(layer.x(seed=60 + step) * 3, {})
            for parameter in other.parameters():
                parameter += 0.5
            call_after_step(other)
    if changed_tensors(kept, copy_state(original)) or not equal(before, forward(original, layer.x())):
        return "a layer that changed when its deep copy was trained"
    same = equal(untouched, forward(layer.build(), layer.x()))
    return None if same else "a new layer that differs after another one was trained"


@USE_CHECKS.add("clock", "outputs that do not depend on the clock")
def clock(layer: LayerFixture) -> str | None:
    """The same spec, seed and input give the same output on every day and at every hour.

    Failure: `another output on another day`
    Fix: depend on neither `time` nor `datetime`.
    """
    outputs = {mode: forward(layer.build(), layer.x(), training=t) for mode, t in MODES.items()}
    with another_day(type(layer.spec)):
        moved = {mode: forward(layer.build(), layer.x(), training=t) for mode, t in MODES.items()}
    name = next((mode for mode in MODES if not equal(outputs[mode], moved[mode])), None)
    return f"another output in {name} on another day" if name else None


@USE_CHECKS.add(
    "sparse-pattern", "pattern(h) to name the entries that forward(h) keeps, and to track the same state"
)
def sparse_pattern(layer: LayerFixture) -> str | None:
    """With many latents, aezoo computes the entries of `pattern(h)` instead of calling the layer.

    Failure: `other values than the output in training`
    Fix: select by the same rule in both methods, or remove `pattern`.
    """
    if not hasattr(layer.build()[-1], "pattern") or len(layer.in_shape) != 1:
        return None
    for mode, training in MODES.items():
        called, asked = (layer.trained().train(training) for _ in range(2))
        with torch.no_grad():
            h, aux = layer.x(), Aux()
            for module in [*asked][:-1]:
                h = run_layer(module, h, aux)
            pattern: SparsePattern = cast(Any, asked[-1]).pattern(h)
            found = SparseCode(h[pattern.rows, pattern.columns], pattern).dense()
        if not equal(found, forward(called, layer.x(), training=training)):
            return f"other values than the output in {mode}"
        if names := changed_tensors(copy_state(called), asked.state_dict()):
            return f"another {names[0]} in {mode}"
    return None
