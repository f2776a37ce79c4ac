"""Contract checks of reconstruction terms and penalties."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from aezoo.model.autoencoder import Autoencoder, Output, StepContext
from aezoo.model.build import build, build_on_meta
from aezoo.specs.components import LossSpec
from aezoo.specs.variant import AutoencoderSpec
from aezoo.testing.determinism import changed, random_states, same, seeded, snapshot, whose_moved
from aezoo.testing.report import Checks, Examination, Report
from aezoo.testing.specs import check_spec

ROWS = 6
Term = Callable[[Output, StepContext, Autoencoder], Tensor]


def _network(*encoder: dict[str, Any]) -> AutoencoderSpec:
    return AutoencoderSpec.model_validate({
        "input": {"shape": [1, 6, 6], "range": [0, 1]},
        "encoder": [{"kind": "flatten"}, *encoder],
        "decoder": [
            {"kind": "linear", "out_features": 36, "activation": "sigmoid"},
            {"kind": "unflatten", "shape": [1, 6, 6]},
        ],
    })  # fmt: skip


def networks() -> list[AutoencoderSpec]:
    """Small autoencoders, of which a loss should go with one: plain, variational, sparse."""
    return [
        _network({"kind": "linear", "out_features": 8, "activation": "sigmoid"}),
        _network({"kind": "linear", "out_features": 16}, {"kind": "gaussian_sample"}),
        _network({"kind": "linear", "out_features": 12}, {"kind": "topk", "k": 3}),
    ]


def check_loss(spec: LossSpec, *, network: AutoencoderSpec | None = None) -> Report:
    """Checks a loss against the contract.

    Args:
        spec: the loss.
        network: an autoencoder that it goes with; by default the first of a few small ones to which it has no
            incompatibility.

    Returns:
        What was checked.

    Raises:
        ContractError: something is not kept.
    """
    return ExaminedLoss(spec, network).report().settled()


class ExaminedLoss(Examination):
    """One loss under examination, on one network."""

    CHECKS = {
        "incompatibility": "an incompatibility that is a reason or None",
        "scalar": "one finite number",
        "rows-averaged": "the same when the batch is repeated",
        "unweighted": "an unweighted term, which the trainer weighs",
        "batch-intact": "the output and the batch to be left as they were",
        "gradient-reaches": "a gradient for the network",
        "finite-when-perfect": "a finite value and gradient for a perfect reconstruction",
        "random-state": "draws from the batch's generator alone",
        "repeatable": "the same value for the same batch and state",
        "state-round-trip": "the state to hold all that decides a value",
    }  # fmt: skip
    FIRST = frozenset({"incompatibility"})

    def __init__(self, spec: LossSpec, network: AutoencoderSpec | None) -> None:
        self.spec = spec
        own = [_network(*type(spec).example_encoder)] if type(spec).example_encoder else networks()
        self.candidates = own if network is None else [network]
        self.checks = Checks(f"loss {spec.kind_name}", type(spec).exempt)
        self.network = self.candidates[0]

    def report(self) -> Report:
        """Runs every check."""
        check_spec(self.checks, self.spec)
        return self.examine()

    # -- making and running -----------------------------------------------------------------------

    def _ae(self) -> Autoencoder:
        return build(self.network, seed=0)

    def _batch(self, rows: int = ROWS, seed: int = 1) -> StepContext:
        x = torch.rand((rows, *self.network.input.shape), generator=Generator().manual_seed(seed))
        labels = torch.arange(rows) % 3
        return StepContext(x, x.clone(), labels, 5.0, 100, Generator().manual_seed(2))

    def _value(self, term: Term, ae: Autoencoder, batch: StepContext) -> Tensor:
        ae.eval()
        return term(ae(batch.input), batch, ae)

    def _terms(self) -> Iterator[Term]:
        """The term before and after it has been used in training."""
        term = _fresh(self.spec)
        yield term
        yield self._used()

    def _used(self) -> Term:
        term, ae = _fresh(self.spec), self._ae().train()
        if isinstance(term, nn.Module):
            term.train()
        with seeded(3):
            for step in range(4):
                batch = self._batch(seed=10 + step)
                term(ae(batch.input), batch, ae)
        return term

    # -- checks -----------------------------------------------------------------------------------

    def _incompatibility(self) -> str | None:
        reasons: list[str] = []
        for number, candidate in enumerate(self.candidates):
            found: Any = self.spec.incompatibility(build_on_meta(candidate))
            if found is None:
                self.network = self.candidates[number]
                return None
            if not isinstance(found, str):
                return f"{found!r}"
            reasons.append(found)
        return f"no network at hand goes with it ({reasons[0]}); give one by example_encoder or network="

    def _scalar(self) -> str | None:
        for term in self._terms():
            value = self._value(term, self._ae(), self._batch())
            if value.shape != ():
                return f"shape {tuple(value.shape)}"
            if not torch.isfinite(value):
                return f"{float(value.detach())}"
        return None

    def _rows_averaged(self) -> str | None:
        batch = self._batch()
        twice = batch._replace(**{
            name: torch.cat([part, part]) for name in ("input", "target", "labels")
            if (part := getattr(batch, name)) is not None
        })  # fmt: skip
        found: list[float] = []
        for one in (batch, twice):
            term = _fresh(self.spec)
            found.append(float(self._value(_evaluating(term), self._ae(), one).detach()))
        if abs(found[0] - found[1]) > 1e-4 * max(abs(found[0]), 1e-3):
            return f"{found[0]:.6g} once, {found[1]:.6g} twice"
        return None

    def _unweighted(self) -> str | None:
        values = [
            float(self._value(_evaluating(_fresh(spec)), self._ae(), self._batch()).detach())
            for spec in (
                self.spec.model_copy(update={"weight": 1.0}), self.spec.model_copy(update={"weight": 3.0}),
            )
        ]  # fmt: skip
        return None if values[0] == values[1] else f"{values[0]:.6g} at weight 1, {values[1]:.6g} at weight 3"

    def _batch_intact(self) -> str | None:
        ae, batch = self._ae(), self._batch()
        for term in self._terms():
            with torch.no_grad():
                output = ae(batch.input)
                parts = {"x_hat": output.x_hat, "latents": output.latents, "input": batch.input,
                         "target": batch.target, **output.aux}  # fmt: skip
                kept = {name: part.clone() for name, part in parts.items()}
                term(output, batch, ae)
            moved = [name for name, part in parts.items() if not same(part, kept[name])]
            if moved:
                return f"{', '.join(moved)} changed"
        return None

    def _gradient_reaches(self) -> str | None:
        ae = self._ae()
        value = self._value(self._used(), ae, self._batch())
        if not value.requires_grad:
            # A penalty that is 0 for want of anything to penalise has none.
            return None if float(value.detach()) == 0 and self.spec.role == "penalty" else "none"
        value.backward()
        gradients = [p.grad for p in ae.parameters() if p.grad is not None]
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            return "values that are not finite"
        if any(bool(gradient.abs().sum() > 0) for gradient in gradients):
            return None
        # A term may have a floor, as free bits are one; what has no gradient must not move either.
        other = self._value(self._used(), build(self.network, seed=1), self._batch())
        return None if same(value.detach(), other.detach()) else "zero at every parameter"

    def _finite_when_perfect(self) -> str | None:
        ae, batch = self._ae().eval(), self._batch()
        if self.network.output.shape != self.network.input.shape:
            return None
        output = ae(batch.input)
        x_hat = output.x_hat.detach().clone().requires_grad_()
        batch = batch._replace(target=x_hat.detach().clone())
        value = _evaluating(_fresh(self.spec))(output._replace(x_hat=x_hat), batch, ae)
        if not torch.isfinite(value):
            return f"the value {float(value.detach())}"
        if value.requires_grad:
            gradient = cast(tuple[Tensor | None], torch.autograd.grad(value, x_hat, allow_unused=True))[0]
            if gradient is not None and not torch.isfinite(gradient).all():
                return "a gradient that is not finite"
        return None

    def _random_state(self) -> str | None:
        ae = self._ae().eval()
        for training in (True, False):
            values: list[Tensor] = []
            for seed in (4, 5):
                term = _fresh(self.spec)
                if isinstance(term, nn.Module):
                    term.train(training)
                with seeded(seed):
                    output, before = ae(self._batch().input), random_states()
                    values.append(term(output, self._batch(), ae).detach())
                    if moved := whose_moved(before):
                        return moved
            if not same(*values):
                return "another value under another global seed"
        return None

    def _repeatable(self) -> str | None:
        term = _evaluating(self._used())
        before = self._value(term, self._ae(), self._batch())
        self._value(term, self._ae(), self._batch(seed=20))
        after = self._value(term, self._ae(), self._batch())
        return None if same(before.detach(), after.detach()) else "another one after another batch"

    def _state_round_trip(self) -> str | None:
        used = self._used()
        fresh = _fresh(self.spec)
        if isinstance(used, nn.Module):
            assert isinstance(fresh, nn.Module)
            # Buffers that grow with the first batch are taken over as they are.
            _put(fresh, snapshot(used))
            if changed(snapshot(used), snapshot(fresh)):
                return "a state_dict that does not load back"
        wanted = self._value(_evaluating(used), self._ae(), self._batch()).detach()
        found = self._value(_evaluating(fresh), self._ae(), self._batch()).detach()
        return None if same(wanted, found) else "another value from the same state"


def _fresh(spec: LossSpec) -> Term:
    # A spec that is the function itself may have been spoilt by an earlier call.
    return copy.deepcopy(spec).build()


def _evaluating(term: Term) -> Term:
    if isinstance(term, nn.Module):
        term.eval()
    return term


def _put(module: nn.Module, state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        where, _, last = name.rpartition(".")
        owner = module.get_submodule(where)
        if last in dict(owner.named_parameters(recurse=False)):
            setattr(owner, last, nn.Parameter(tensor))
        else:
            setattr(owner, last, tensor)
