"""Contract checks of a loss in use: what it leaves alone, and batches, epochs and precisions of any kind."""

from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from aezoo.errors import AezooError
from aezoo.model.output import Output, StepContext
from aezoo.testing.contract import CheckList
from aezoo.testing.determinism import copy_state, equal, seeded
from aezoo.testing.loss_fixture import LossFixture, Term, set_state
from aezoo.testing.observation import ModuleSnapshot, another_day

EPOCHS = (0.0, 0.25, 0.5, 1.0, 7.25, 1000.0)
MANY = 257
TOLERANCE = 2e-3
USE_CHECKS: CheckList[LossFixture] = CheckList()


def _finite_gradient(value: Tensor, tensors: list[Tensor]) -> bool:
    if not value.requires_grad:
        return True
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    return all(g is None or bool(torch.isfinite(g).all()) for g in cast(tuple[Tensor | None, ...], gradients))


def _leaves(output: Output) -> Output:
    """The output as tensors of its own, which record gradients."""
    return output._replace(
        x_hat=output.x_hat.detach().clone().requires_grad_(),
        latents=output.latents.detach().clone().requires_grad_(),
    )


@USE_CHECKS.add("network-intact", "a network that is left as it is: modes, parameters, gradients and hooks")
def network_intact(loss: LossFixture) -> str | None:
    """The network is trained by the optimizer alone, in the mode that the trainer has set.

    Failure: `encoder.1.linear switched to evaluation mode`
    Fix: call neither `ae.eval()`, nor `backward()`, nor `requires_grad_()` in a loss; restore what a forward
        pass of its own needs.
    """
    for training in (True, False):
        ae, term, context = loss.ae().train(training), loss.term(training), loss.context()
        # Buffers such as running means change in a forward pass of the loss's own, as they do in training.
        snapshot = ModuleSnapshot(ae, values=not training)
        own = ModuleSnapshot(term, values=False) if isinstance(term, nn.Module) else None
        with seeded(3):
            output = ae(context.input)
            if training:
                snapshot = ModuleSnapshot(ae, values=False)
            for p in ae.parameters():
                p.grad = torch.ones_like(p)  # of a term before
            snapshot.gradients = {name: p.grad for name, p in ae.named_parameters()}
            term(output, context, ae)
        if any(p.grad is None or not bool((p.grad == 1).all()) for p in ae.parameters()):
            return "gradients at parameters"
        if changed := snapshot.change() or (own and own.change()):
            return changed
    return None


@USE_CHECKS.add("epochs", "a finite value and gradient at every epoch, from the first step on")
def epochs(loss: LossFixture) -> str | None:
    """Training starts at epoch 0 and step 0, and stages may be short.

    Failure: `ZeroDivisionError: float division by zero`
    Fix: guard divisions by `context.epoch` and `context.step`.
    """
    for epoch in EPOCHS:
        ae, term = loss.ae(), loss.term(training=True)
        context = loss.context()._replace(epoch=epoch, step=int(epoch * 20))
        value = term(ae(context.input), context, ae)
        trained: list[Tensor] = [p for p in ae.parameters() if p.requires_grad]
        if not torch.isfinite(value) or not _finite_gradient(value, trained):
            return f"NaN or infinity at epoch {epoch:g}"
    return None


@USE_CHECKS.add("labels-optional", "a value without labels, or an AezooError that says they are needed")
def labels_optional(loss: LossFixture) -> str | None:
    """Most datasets have no labels; the user is told in one line that a loss needs them.

    Failure: `TypeError: 'NoneType' object is not subscriptable`
    Fix: raise `aezoo.DataError("... needs labels")` if `context.labels` is None.
    """
    context = loss.context()._replace(labels=None)
    try:
        value = loss.value(loss.term(training=True), context)
    except AezooError:
        return None
    return None if torch.isfinite(value) else f"the value {float(value.detach())}"


@USE_CHECKS.add("rows-reordered", "the same value when the rows are reordered, also of many rows")
def rows_reordered(loss: LossFixture) -> str | None:
    """Batches are shuffled, and every row of a batch counts.

    Failure: `0.0851 and, in another order, 0.0846`
    Fix: use all rows, however many there are, and give each the same weight.
    """
    tolerance = 0.1 if loss.is_random() else TOLERANCE
    for rows in (2, 65, MANY):
        context = loss.context(rows=rows)
        order = (
            torch.randperm(rows, generator=Generator().manual_seed(5)) if rows > 2 else torch.tensor([1, 0])
        )
        first, second = loss.mean_value(context), loss.mean_value(context.rows(order))
        if abs(first - second) > tolerance * max(abs(first), 1e-3):
            return f"{first:.6g} and, in another order, {second:.6g} for {rows} rows"
    return None


@USE_CHECKS.add("every-row", "a value that depends on every row that it can depend on")
def every_row(loss: LossFixture) -> str | None:
    """Rows that a loss leaves out are never learned.

    Failure: `no gradient for rows 64 to 256`
    Fix: use all rows of the batch.
    """
    context, ae = loss.context(rows=MANY), loss.ae()
    output = _leaves(ae(context.input))
    value = loss.term(training=True)(output, context, ae)
    if not value.requires_grad:
        return None
    found = torch.autograd.grad(value, [output.x_hat, output.latents], allow_unused=True)
    for gradient in cast(tuple[Tensor | None, ...], found):
        if gradient is None or not gradient.abs().sum() > 0:
            continue
        without = (gradient.flatten(1).abs().sum(1) == 0).nonzero().flatten()
        # A few rows may be at a minimum, or not be drawn.
        if len(without) > MANY // 2 and bool(
            (without == torch.arange(int(without[0]), MANY)[: len(without)]).all()
        ):
            return f"no gradient for rows {int(without[0])} to {int(without[-1])}"
    return None


@USE_CHECKS.add("one-row", "a finite value and gradient for one row and for many")
def one_row(loss: LossFixture) -> str | None:
    """The last batch of an epoch may hold a single sample.

    Failure: `the value nan for 1 row`
    Fix: guard statistics over the batch, such as a standard deviation, for a single row.
    """
    for rows in (1, 2, 3, 65, MANY):
        context, ae = loss.context(rows=rows), loss.ae()
        output = _leaves(ae(context.input))
        value = loss.term(training=True)(output, context, ae)
        what = f"{rows} row" if rows == 1 else f"{rows} rows"
        if value.shape != () or not torch.isfinite(value):
            return f"the value {value.detach().tolist()} for {what}"
        if not _finite_gradient(value, [output.x_hat, output.latents]):
            return f"a gradient with NaN or infinity for {what}"
    return None


@USE_CHECKS.add("odd-rows", "a finite value and gradient with blank, saturated and perfect rows")
def odd_rows(loss: LossFixture) -> str | None:
    """One blank image in a batch is ordinary, and one NaN spoils a whole training.

    Failure: `a gradient with NaN or infinity for a row of zeros`
    Fix: add a small constant in divisions, roots and logarithms, inside the root rather than outside.
    """
    for name, fill in (("zeros", 0.0), ("ones", 1.0), ("equal values", 0.5)):
        context, ae = loss.context(), loss.ae()
        context.input[1], context.target[1] = fill, fill
        output = _leaves(ae(context.input))
        for what, changed in (
            (f"a row of {name}", output),
            (f"a row of {name} that is reconstructed perfectly", _with_row(output, "x_hat", fill)),
            (f"a row of {name} whose latents are zero", _with_row(output, "latents", 0.0)),
        ):
            value = loss.term(training=True)(changed, context, ae)
            if not torch.isfinite(value):
                return f"the value {float(value.detach())} for {what}"
            if not _finite_gradient(value, [changed.x_hat, changed.latents]):
                return f"a gradient with NaN or infinity for {what}"
    return None


def _with_row(output: Output, name: str, fill: float) -> Output:
    tensor: Tensor = getattr(output, name).detach().clone()
    tensor[1] = fill
    return output._replace(**{name: tensor.requires_grad_()})


@USE_CHECKS.add("gradient-modes", "the same value with and without gradients")
def gradient_modes(loss: LossFixture) -> str | None:
    """Validation runs under `no_grad`, and its values are compared with those of the training.

    Failure: `RuntimeError: element 0 of tensors does not require grad`
    Fix: use `torch.enable_grad()` around derivatives that the value needs.
    """
    first = loss.value(loss.term()).detach()
    with torch.no_grad():
        second = loss.value(loss.term())
    close = torch.allclose(first.double(), second.detach().double(), rtol=1e-4, atol=1e-7)
    return None if close else f"{float(first):.6g} with gradients, {float(second):.6g} without"


@USE_CHECKS.add("precision", "the same value in double precision and for an output in bfloat16")
def precision(loss: LossFixture) -> str | None:
    """Networks may be trained in double precision, or compute in bfloat16.

    Failure: `RuntimeError: expected m1 and m2 to have the same dtype`
    Fix: create tensors with the dtype of the output, and convert the target to it.
    """
    context, single = loss.context(), loss.ae()
    double = loss.ae().double()
    given = context._replace(input=context.input.double(), target=context.target.double())
    expected = float(loss.term()(single(context.input), context, single).detach())
    term = loss.term()
    term = term.double() if isinstance(term, nn.Module) else term
    found = float(term(double(given.input), given, double).detach())
    random = loss.is_random()
    if abs(found - expected) > (0.3 if random else 1e-2) * max(abs(expected), 1e-3):
        return f"{found:.6g} in double precision, {expected:.6g} in single precision"
    with torch.autocast("cpu", torch.bfloat16):
        output = loss.ae()(context.input)
    # As the trainer converts them.
    aux = {n: t.float() if t.is_floating_point() else t for n, t in output.aux.items()}
    output = output._replace(x_hat=output.x_hat.float(), latents=output.latents.float(), aux=aux)
    found = float(loss.term()(output, context, single).detach())
    close = abs(found - expected) <= (0.5 if random else 0.2) * max(abs(expected), 0.1)
    return None if close else f"{found:.6g} under bfloat16 autocast, {expected:.6g} in single precision"


@USE_CHECKS.add("reads-target", "a reconstruction term that compares with the target, not with the input")
def reads_target(loss: LossFixture) -> str | None:
    """A denoising network is given a corrupted input and must return the clean target.

    Failure: `the same value for another target`
    Fix: compare `output.x_hat` with `context.target`.
    """
    if loss.spec.role != "reconstruction" or loss.network.output.shape != loss.network.input.shape:
        return None
    context, ae = loss.context(), loss.ae()
    output = ae(context.input)
    first = loss.term()(output, context, ae).detach()
    other = context._replace(target=context.target.flip(0))
    return (
        "the same value for another target" if equal(first, loss.term()(output, other, ae).detach()) else None
    )


@USE_CHECKS.add("generator-advances", "a generator that is never reseeded")
def generator_advances(loss: LossFixture) -> str | None:
    """A generator that is set to a seed gives every step of the training the same random numbers.

    Failure: `a generator whose seed was set`
    Fix: do not call `context.generator.manual_seed`.
    """
    states: list[Tensor] = []
    for draws in (5, 6):
        context = loss.context(draws=draws)
        loss.value(loss.term(training=True), context)
        states.append(context.generator.get_state())
    return "a generator whose seed was set" if torch.equal(*states) else None


@USE_CHECKS.add("own-gradient", "a gradient for every parameter of the loss")
def own_gradient(loss: LossFixture) -> str | None:
    """A parameter without one is never trained.

    Failure: `none at scale`
    Fix: remove unused parameters, or set `requires_grad` of those that are not trained to False.
    """
    term = loss.used_term(training=True)
    if not isinstance(term, nn.Module):
        return None
    value = loss.value(cast(Term, term), loss.context(rows=65))
    trained = {name: p for name, p in term.named_parameters() if p.requires_grad}
    if not trained:
        return None
    gradients: Any = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    without = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]
    return f"none at {', '.join(without)}" if without else None


@USE_CHECKS.add("training-resumes", "the same training after its state is loaded, and after a validation")
def training_resumes(loss: LossFixture) -> str | None:
    """A resumed training gives the weights of an uninterrupted one, however often it is validated.

    Failure: `another value after its state is loaded into a new loss`
    Fix: keep running values in buffers, and update them in training mode only.
    """

    def go_on(term: Term) -> list[Tensor]:
        ae = loss.ae().train()
        if isinstance(term, nn.Module):
            term.train()
        values: list[Tensor] = []
        for step in range(3):
            context: StepContext = loss.context(seed=30 + step)
            with seeded(6):
                values.append(term(ae(context.input), context, ae).detach())
        return [*values, *(copy_state(term).values() if isinstance(term, nn.Module) else ())]

    used, fresh, validated = loss.used_term(), loss.term(), loss.used_term()
    if isinstance(used, nn.Module):
        set_state(cast(nn.Module, fresh), copy_state(used))
    with torch.no_grad():
        loss.value(validated, loss.context(seed=50))
    expected = go_on(used)
    for name, other in (("its state is loaded into a new loss", fresh), ("a validation", validated)):
        if not all(equal(a, b) for a, b in zip(expected, go_on(other), strict=True)):
            return f"another value after {name}"
    return None


@USE_CHECKS.add("independent", "losses that do not affect one another")
def independent(loss: LossFixture) -> str | None:
    """Several trainings run in one process, and a refit starts with a new loss.

    Failure: `another value of a new loss after another one was used`
    Fix: keep nothing on the class or in the module's globals; make a new module in `build`.
    """
    first = loss.value(loss.term()).detach()
    loss.used_term(training=True)
    if not equal(first, loss.value(loss.term()).detach()):
        return "another value of a new loss after another one was used"
    one, other = (loss.spec.build() for _ in range(2))
    shared = isinstance(one, nn.Module) and one is other
    return "the same module from two calls of build()" if shared else None


@USE_CHECKS.add("clock", "a value that does not depend on the clock")
def clock(loss: LossFixture) -> str | None:
    """The same spec, seed and batch give the same value on every day and at every hour.

    Failure: `another value on another day`
    Fix: depend on neither `time` nor `datetime`.
    """
    first = loss.value(loss.term(training=True)).detach()
    with another_day(type(loss.spec)):
        second = loss.value(loss.term(training=True)).detach()
    return None if equal(first, second) else "another value on another day"
