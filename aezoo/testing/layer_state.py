"""Contract checks of a layer's state, its random numbers and what must not depend on them."""

import copy
import pickle
from typing import cast

import torch
from torch import Tensor, nn

from aezoo.testing.contract import CheckList
from aezoo.testing.determinism import changed_rng, changed_tensors, copy_state, equal, rng_states, seeded
from aezoo.testing.layer_fixture import MODES, LayerFixture, build_sequence, call_after_step, forward

DISTINCT_VALUES = 8
"""A parameter with at least this many distinct values looks randomly initialized, not set to constants."""
STATE_CHECKS: CheckList[LayerFixture] = CheckList()


@STATE_CHECKS.add("eval-deterministic", "the same output for the same input in evaluation")
def eval_deterministic(layer: LayerFixture) -> str | None:
    """Published numbers must be the same whenever they are recomputed, in batches of any order.

    Failure: `a different output after another batch and another seed`
    Fix: draw nothing in evaluation and carry nothing over from the last batch.
    """
    layers = layer.trained()
    first = forward(layers, layer.x(), seed=4)
    forward(layers, layer.x(seed=8) * 3, seed=5)
    second = forward(layers, layer.x(), seed=6)
    return None if equal(first, second) else "a different output after another batch and another seed"


@STATE_CHECKS.add("eval-random-state", "evaluation to leave global random states unchanged")
def eval_random_state(layer: LayerFixture) -> str | None:
    """Measuring a network must not change the training around it.

    Failure: `PyTorch's global random state changed`
    Fix: draw random numbers only if `self.training`, and never call `manual_seed`.
    """
    layers = layer.build().eval()
    with seeded(6), torch.no_grad():
        before = rng_states()
        layers(layer.x(), {})
        return changed_rng(before)


@STATE_CHECKS.add("eval-keeps-state", "parameters and buffers to be unchanged by evaluation")
def eval_keeps_state(layer: LayerFixture) -> str | None:
    """A validation pass must not leak into the weights, and a loaded variant must stay what was published.

    Failure: `0.batches changed`
    Fix: update buffers only if `self.training`.
    """
    layers = layer.trained()
    before = copy_state(layers)
    forward(layers, layer.x(seed=9))
    changed = changed_tensors(before, layers.state_dict())
    return f"{', '.join(changed)} changed" if changed else None


@STATE_CHECKS.add("input-intact", "an input that is left unchanged")
def input_intact(layer: LayerFixture) -> str | None:
    """Other layers, losses and the caller may still use the tensor.

    Failure: `an input changed in training`
    Fix: replace in-place operations on the input (`h.sub_(...)`, `h += ...`).
    """
    layers = layer.trained()
    for mode, training in MODES.items():
        x = layer.x()
        forward(layers, x, training=training)
        if not equal(x, layer.x()):
            return f"an input changed in {mode}"
    return None


@STATE_CHECKS.add("rows", "rows that do not depend on one another in evaluation")
def rows(layer: LayerFixture) -> str | None:
    """A sample's latents must not depend on the batch that the sample is in.

    Failure: `a first row that changes with the others`
    Fix: in evaluation, use running statistics or a learned threshold in place of the batch's own.
    """
    layers, x = layer.trained(), layer.x()
    other = torch.cat([x[:1], layer.x(seed=12)[1:] * 2])
    close = torch.allclose(forward(layers, x)[0], forward(layers, other)[0], rtol=1e-4, atol=1e-5)
    return None if close else "a first row that changes with the others"


@STATE_CHECKS.add("train-repeatable", "training to draw from PyTorch's global random state alone")
def train_repeatable(layer: LayerFixture) -> str | None:
    """A recipe's seed reaches PyTorch's random state only; it is also what a resumed training restores.

    Failure: `NumPy's global random state changed`
    Fix: draw with `torch.rand` and the like; use neither NumPy, nor Python's `random`, nor `manual_seed`.
    """
    outputs: list[Tensor] = []
    ends: list[str] = []
    for seed in (13, 13, 14, 15):
        with seeded(seed), torch.no_grad():
            _, numpy = rng_states()
            outputs.append(layer.build().train()(layer.x(), {}))
            end, numpy_end = rng_states()
            if numpy_end != numpy:
                return "NumPy's global random state changed"
            ends.append(end)
    if ends[2] == ends[3]:
        return "a forward pass that sets PyTorch's global seed"
    return None if equal(outputs[0], outputs[1]) else "different outputs from the same seed"


@STATE_CHECKS.add("init", "initial weights that follow PyTorch's seed")
def init(layer: LayerFixture) -> str | None:
    """The same spec and seed give the same weights bit for bit, and another seed gives others.

    Failure: `0.weight looks random but is the same for another seed`
    Fix: initialize with `torch.nn.init` or `torch.rand`; use neither NumPy nor a generator of its own.
    """
    states: list[str] = []
    for seed in (20, 21):
        with seeded(seed):
            build_sequence(layer.layers, layer.in_shape)
            states.append(rng_states()[0])
    if states[0] == states[1]:
        return "a build that sets the global seed"
    first, second = (copy_state(layer.build(seed=22)) for _ in range(2))
    if changed_tensors(first, second):
        return "different weights from the same seed"
    for name, parameter in layer.build(seed=23).named_parameters():
        distinct = cast(Tensor, parameter.detach().unique()).numel()
        looks_random = distinct >= max(DISTINCT_VALUES, parameter.numel() / 2)
        if looks_random and equal(parameter.detach(), first[name]):
            return f"{name} looks random but is the same for another seed"
    return None


@STATE_CHECKS.add("state-round-trip", "state_dict() to hold everything that outputs depend on")
def state_round_trip(layer: LayerFixture) -> str | None:
    """Only the state is saved; anything else is lost when the variant is loaded.

    Failure: `a different output from a copy with the same state`
    Fix: keep training state in registered buffers, not in attributes, lists or plain numbers.
    """
    layers = layer.trained()
    with torch.device("meta"):
        fresh = build_sequence(layer.layers, layer.in_shape)
    fresh.load_state_dict(copy_state(layers), strict=True, assign=True)
    same = equal(forward(layers, layer.x()), forward(fresh, layer.x()))
    return None if same else "a different output from a copy with the same state"


@STATE_CHECKS.add("own-memory", "tensors that share no memory")
def own_memory(layer: LayerFixture) -> str | None:
    """Safetensors refuses to save tensors that share memory.

    Failure: `the same memory for 0.weight and 0.again`
    Fix: register each tensor once, and clone views. Weight tying belongs in the recipe.
    """
    seen: dict[int, str] = {}
    for name, tensor in layer.build().state_dict().items():
        address = tensor.untyped_storage().data_ptr()
        if tensor.numel() and address in seen:
            return f"the same memory for {seen[address]} and {name}"
        seen[address] = name
    return None


@STATE_CHECKS.add("copying", "a module that can be copied and pickled")
def copying(layer: LayerFixture) -> str | None:
    """Users copy networks, and processes exchange them by pickle.

    Failure: `TypeError: cannot pickle '_thread.lock' object`
    Fix: keep no lambdas, locks, open files or generators on the module.
    """
    layers = layer.trained()
    if not equal(forward(layers, layer.x()), forward(copy.deepcopy(layers), layer.x())):
        return "a different output from a deep copy"
    last: object = pickle.loads(pickle.dumps(layers[len(layers) - 1]))  # noqa: S301 - our own bytes
    return None if isinstance(last, nn.Module) else f"{type(last).__name__} instead of a module"


@STATE_CHECKS.add("after-step", "after_step() to restore an invariant, so that a second call changes nothing")
def after_step(layer: LayerFixture) -> str | None:
    """It runs after every optimizer step, however small the step was.

    Failure: `0.weight changed by a second call`
    Fix: project the weights (for example to unit norm) instead of scaling or counting.
    """
    layers = layer.trained()
    call_after_step(layers)
    before = copy_state(layers)
    call_after_step(layers)
    changed = [
        name for name, tensor in layers.state_dict().items()
        if tensor.is_floating_point() and not torch.allclose(tensor, before[name], atol=1e-5)
    ]  # fmt: skip
    return f"{', '.join(changed)} changed by a second call" if changed else None
