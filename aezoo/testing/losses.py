"""Contract checks of reconstruction terms and penalties."""

import contextlib
from typing import Any, cast

import torch
from torch import Tensor, nn

from aezoo.errors import AezooError
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.build import build_on_meta
from aezoo.model.output import Output, StepContext
from aezoo.specs.components import LossSpec
from aezoo.specs.variant import AutoencoderSpec
from aezoo.testing.contract import CheckList, Report
from aezoo.testing.determinism import changed_rng, changed_tensors, copy_state, equal, rng_states, seeded
from aezoo.testing.loss_fixture import LossFixture, Term, set_state
from aezoo.testing.loss_use import USE_CHECKS
from aezoo.testing.specs import run_checks

REPEATED = 60
"""Rows of the batch that is repeated: so many that an unbiased variance hardly changes."""
TOLERANCE = 0.03
LOSS_CHECKS: CheckList[LossFixture] = CheckList()


def check_loss(spec: LossSpec, *, network: AutoencoderSpec | None = None) -> Report:
    """Checks a loss against the contract.

    Args:
        spec: the loss.
        network: an autoencoder that the loss supports. By default one with the layers of `example_encoder`,
            or the first of a plain, a variational and a sparse one that it supports.

    Returns:
        The results, exemptions included.

    Raises:
        ContractError: a check failed; the message says for each what was expected and found.
    """
    return run_checks(spec, f"loss {spec.kind_name}", LOSS_CHECKS, LossFixture(spec, network))


@LOSS_CHECKS.add("incompatibility", "None or a reason from incompatibility()", required=True)
def incompatibility(loss: LossFixture) -> str | None:
    """A recipe with a loss that its network cannot use is rejected before any training, with this reason.

    Failure: `ValueError: it does not support this network`
    Fix: return the reason instead of raising it; set `example_encoder` to layers that the loss supports.
    """
    reasons: list[str] = []
    for candidate in loss.candidates:
        found: Any = loss.spec.incompatibility(build_on_meta(candidate))
        if found is None:
            loss.network = candidate
            return None
        if not isinstance(found, str):
            return f"{found!r}"
        reasons.append(found)
    return f"no network that it supports ({reasons[0]}); set example_encoder or pass network="


@LOSS_CHECKS.add("scalar", "one finite number")
def scalar(loss: LossFixture) -> str | None:
    """The trainer adds the terms up and calls `backward()` on the sum.

    Failure: `shape (6,)`
    Fix: average over rows; guard divisions, roots and logarithms.
    """
    for term in (loss.term(training=True), loss.used_term(training=True)):
        value = loss.value(term)
        if value.shape != ():
            return f"shape {tuple(value.shape)}"
        if not torch.isfinite(value):
            return f"{float(value.detach())}"
    return None


@LOSS_CHECKS.add("rows-averaged", "the same value when every row of the batch is repeated")
def rows_averaged(loss: LossFixture) -> str | None:
    """Otherwise the term's weight against the others changes with the batch size.

    Failure: `20.6519 once, 41.3038 twice`
    Fix: average over rows with `mean(0)`; sum over latents only.
    """
    tolerance = 0.1 if loss.is_random() else TOLERANCE
    for rows, times in ((REPEATED, 2), (REPEATED, 5)):
        first, second = (loss.mean_value(loss.context(rows=rows).repeated(n)) for n in (1, times))
        if abs(first - second) > tolerance * max(abs(first), 1e-3):
            return f"{first:.6g} once, {second:.6g} {'twice' if times == 2 else f'{times} times'}"
    return None


@LOSS_CHECKS.add("unweighted", "a value that does not depend on `weight`")
def unweighted(loss: LossFixture) -> str | None:
    """The trainer multiplies by `weight` and the warm-up; a term that does so too is weighted twice.

    Failure: `0.095 at weight 1, 0.286 at weight 3`
    Fix: do not use `self.weight` in the loss.
    """
    first, third = (float(loss.value(loss.term(weight=weight)).detach()) for weight in (1.0, 3.0))
    return None if first == third else f"{first:.6g} at weight 1, {third:.6g} at weight 3"


@LOSS_CHECKS.add("batch-intact", "an output and a context that are left unchanged")
def batch_intact(loss: LossFixture) -> str | None:
    """Other terms and callbacks read the same tensors.

    Failure: `target changed`
    Fix: replace in-place operations (`sub_`, `clamp_`, `+=`) on the arguments.
    """
    ae, context = loss.ae(), loss.context()
    for term in (loss.term(training=True), loss.used_term(training=True)):
        with torch.no_grad():
            output = ae(context.input)
            if changed := _changed_by(term, output, context, ae):
                return changed
            # What cuts off negative latents changes none of a network whose latents are all positive.
            signs = torch.where(torch.arange(output.latents.numel()) % 2 == 0, 1.0, -1.0)
            signed = output._replace(latents=output.latents * signs.view_as(output.latents))
            # A loss may refuse them.
            with contextlib.suppress(AezooError):
                if changed := _changed_by(term, signed, context, ae):
                    return changed
    return None


def _changed_by(term: Term, output: Output, context: StepContext, ae: Autoencoder) -> str | None:
    """What a call of a term changes, or what is wrong with its dtype."""
    parts = {
        "x_hat": output.x_hat, "latents": output.latents, "input": context.input,
        "target": context.target, **output.aux,
    }  # fmt: skip
    before = {name: part.clone() for name, part in parts.items()}
    names = list(output.aux)
    value = term(output, context, ae)
    if list(output.aux) != names:
        return "other names in aux"
    if value.dtype != output.x_hat.dtype:
        return f"a value of {value.dtype} for a network of {output.x_hat.dtype}"
    if changed := changed_tensors(before, parts):
        return f"{', '.join(changed)} changed"
    return None


@LOSS_CHECKS.add("gradient-reaches", "a finite gradient for the network")
def gradient_reaches(loss: LossFixture) -> str | None:
    """A term without one has no effect on training.

    Failure: `zero at every parameter`
    Fix: remove `detach` and `no_grad` on the path from the network's output to the value.
    """
    term, ae, context = loss.used_term(training=True), loss.ae(), loss.context()
    value = term(ae(context.input), context, ae)
    if not value.requires_grad:
        # A penalty that finds nothing to penalize may be a constant 0.
        return None if float(value.detach()) == 0 and loss.spec.role == "penalty" else "none"
    value.backward()
    gradients = [p.grad for p in ae.parameters() if p.grad is not None]
    if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
        return "NaN or infinity"
    if any(bool(gradient.abs().sum() > 0) for gradient in gradients):
        return None
    # A term may be flat below a floor, such as free bits; then other weights give the same value.
    other = loss.ae(seed=1)
    again = loss.used_term(training=True)(other(context.input), context, other)
    return None if equal(value.detach(), again.detach()) else "zero at every parameter"


@LOSS_CHECKS.add("finite-when-perfect", "a finite value and gradient for a perfect reconstruction")
def finite_when_perfect(loss: LossFixture) -> str | None:
    """Blank regions are soon reconstructed exactly, where square roots and logarithms have infinite slopes.

    Failure: `a gradient with NaN or infinity`
    Fix: add a small constant inside the root or logarithm, or clamp its argument.
    """
    if loss.network.output.shape != loss.network.input.shape:
        return None
    ae, context = loss.ae(), loss.context()
    output = ae(context.input)
    x_hat = output.x_hat.detach().clone().requires_grad_()
    context = context._replace(target=x_hat.detach().clone())
    value = loss.term()(output._replace(x_hat=x_hat), context, ae)
    if not torch.isfinite(value):
        return f"the value {float(value.detach())}"
    if value.requires_grad:
        gradient = cast(tuple[Tensor | None], torch.autograd.grad(value, x_hat, allow_unused=True))[0]
        if gradient is not None and not torch.isfinite(gradient).all():
            return "a gradient with NaN or infinity"
    return None


@LOSS_CHECKS.add("random-state", "random numbers from `context.generator` alone")
def random_state(loss: LossFixture) -> str | None:
    """Seeding, resuming and adding a term must not change the random numbers of the rest of the training.

    Failure: `PyTorch's global random state changed`
    Fix: pass `generator=context.generator` to the functions that draw.
    """
    ae = loss.ae()
    for training in (True, False):
        values: list[Tensor] = []
        for seed in (4, 5):
            term = loss.term(training)
            with seeded(seed):
                output, before = ae(loss.context().input), rng_states()
                values.append(term(output, loss.context(), ae).detach())
                if changed := changed_rng(before):
                    return changed
        if not equal(*values):
            return "a different value under another global seed"
    return None


@LOSS_CHECKS.add("repeatable", "the same value for the same batch and state")
def repeatable(loss: LossFixture) -> str | None:
    """Validation losses are compared with one another, to stop early and to choose the best epoch.

    Failure: `a different value after another batch`
    Fix: update running values in training mode only, and keep them in buffers.
    """
    term = loss.used_term()
    before = loss.value(term).detach()
    loss.value(term, loss.context(seed=20))
    return None if equal(before, loss.value(term).detach()) else "a different value after another batch"


@LOSS_CHECKS.add("state-round-trip", "state_dict() to hold everything that the value depends on")
def state_round_trip(loss: LossFixture) -> str | None:
    """A resumed training restores the loss from its state alone.

    Failure: `a different value from the same state`
    Fix: return an `nn.Module` from `build` and keep running values in registered buffers.
    """
    used, fresh = loss.used_term(), loss.term()
    if isinstance(used, nn.Module):
        assert isinstance(fresh, nn.Module)
        state = copy_state(used)
        set_state(fresh, state)
        if changed_tensors(state, copy_state(fresh)):
            return "a state that does not load back"
    same = equal(loss.value(used).detach(), loss.value(fresh).detach())
    return None if same else "a different value from the same state"


LOSS_CHECKS.extend(USE_CHECKS)
