"""Contract checks of layers."""

import copy
import pickle
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from aezoo.errors import AezooError, LayerError
from aezoo.model.sequential import Aux, Exact, LayerSequence, Mean, declared
from aezoo.specs.components import UNBOUNDED, LayerSpec, output_bounds
from aezoo.testing.determinism import changed, random_states, same, seeded, snapshot, whose_moved
from aezoo.testing.report import Checks, Examination, Report
from aezoo.testing.specs import check_spec, hostile_changes

ROWS = 6
SHAPES: tuple[tuple[int, ...], ...] = (
    (1,), (7,), (64,), (2, 3), (3, 16), (1, 1, 1), (2, 5, 5), (3, 8, 8), (1, 4, 4, 4), (2, 1, 3, 4),
)  # fmt: skip
WARM_UP = 200
"""Training batches after which a running estimate should have settled."""
MANY = 256
MANY_VALUES = 8
"""From so many on, different values of a parameter look drawn at random rather than set."""
TOLERANCE = 0.15
"""Relative distance that a measured mean number of latents may have from the declared one."""


def check_layer(spec: LayerSpec, in_shape: tuple[int, ...], *, before: Sequence[LayerSpec] = ()) -> Report:
    """Checks a layer against the contract.

    Args:
        spec: the layer.
        in_shape: shape of one sample that it takes (the first of `before`, where there are any).
        before: layers that emit what it needs, in order.

    Returns:
        What was checked, exemptions among it.

    Raises:
        ContractError: something is not kept; its text says what was expected, what was found, where to read.
    """
    return ExaminedLayer(spec, in_shape, tuple(before)).report().settled()


class ExaminedLayer(Examination):
    """One layer under examination, as the last of a stack."""

    CHECKS = {
        "bounds": "bounds that refuse what cannot be built",
        "build": "a module that is built and runs",
        "no-meta-left": "every tensor to have values after a build",
        "meta-shape": "the shape on the meta device to be the real one",
        "finite": "finite values for ordinary inputs, zeros and a single row",
        "precision": "the precision that came in",
        "aux": "exactly the declared names in aux",
        "eval-deterministic": "evaluation to give the same again",
        "eval-random-state": "evaluation to leave global random states alone",
        "eval-keeps-state": "no state to change in evaluation",
        "input-intact": "the input to be left as it was",
        "rows": "rows that do not depend on one another in evaluation",
        "train-repeatable": "training to draw from PyTorch's seeded state alone",
        "init": "initial weights that follow PyTorch's seed",
        "state-round-trip": "the state to hold all that decides an output",
        "own-memory": "tensors that share no memory",
        "copying": "a module that can be copied and pickled",
        "after-step": "after_step to be an invariant, restored once",
        "gradient-reaches": "a gradient for the input and for every parameter",
        "gradient-correct": "the derivative, in double precision",
        "sparsity": "as many non-zero latents as sparsity() says",
        "reach": "values within the bounds that output_bounds() gives",
        "hostile-shapes": "documented errors alone, or a layer that works",
    }  # fmt: skip
    FIRST = frozenset({"build", "no-meta-left"})

    def __init__(self, spec: LayerSpec, in_shape: tuple[int, ...], before: tuple[LayerSpec, ...]) -> None:
        self.spec, self.in_shape, self.before = spec, in_shape, before
        self.checks = Checks(f"layer {spec.kind_name} on {in_shape}", type(spec).exempt)

    def report(self) -> Report:
        """Runs every check."""
        check_spec(self.checks, self.spec)
        return self.examine()

    # -- making and running -----------------------------------------------------------------------

    def _stack(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> LayerSequence:
        with seeded(seed):
            return LayerSequence.build((*self.before, self.spec), self.in_shape, "encoder").to(dtype)

    def _x(self, rows: int = ROWS, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn((rows, *self.in_shape), generator=generator, dtype=dtype)

    @staticmethod
    def _run(stack: LayerSequence, x: Tensor, aux: Aux | None = None) -> Tensor:
        return stack(x, {} if aux is None else aux)

    def _trained(self, steps: int = 3, rows: int = ROWS) -> LayerSequence:
        """The stack after some steps, so that buffers and counters are not what they began with."""
        stack = self._stack().train()
        parameters = list(stack.parameters())
        with seeded(2):
            for step in range(steps):
                out = self._run(stack, self._x(rows, seed=10 + step))
                if parameters and out.requires_grad:
                    gradients = torch.autograd.grad(out.square().mean(), parameters, allow_unused=True)
                    with torch.no_grad():
                        for parameter, gradient in zip(parameters, cast(Any, gradients), strict=True):
                            if gradient is not None:
                                parameter -= 1e-2 * gradient
                _after_step(stack)
        return stack

    # -- checks -----------------------------------------------------------------------------------

    def _bounds(self) -> str | None:
        for name, value, spec in hostile_changes(self.spec):
            try:
                with torch.device("meta"), seeded(0):
                    cast(LayerSpec, spec).build(self._own_shape())
            except LayerError:
                continue
            except Exception as error:
                return f"{name}={value!r} is taken and then raises {type(error).__name__}: {error}"
        return None

    def _own_shape(self) -> tuple[int, ...]:
        """The shape that the layer itself is given."""
        if not self.before:
            return self.in_shape
        stack = LayerSequence.build(self.before, self.in_shape, "encoder")
        assert stack.out_shape is not None
        return stack.out_shape

    def _build(self) -> str | None:
        for training in (True, False):
            with seeded(3), torch.no_grad():
                self._run(self._stack().train(training), self._x())
        return None

    def _meta_shape(self) -> str | None:
        stack = self._stack()
        for training in (True, False):
            with seeded(3), torch.no_grad():
                found = tuple(self._run(stack.train(training), self._x()).shape)
            if found != (ROWS, *(stack.out_shape or ())):
                return f"{found[1:]} for {stack.out_shape}"
        return None

    def _no_meta_left(self) -> str | None:
        left = [name for name, tensor in self._stack().state_dict().items() if tensor.is_meta]
        return f"{', '.join(left)} on the meta device" if left else None

    def _finite(self) -> str | None:
        stack = self._stack().eval()
        inputs = {"ordinary inputs": self._x(), "zeros": torch.zeros(2, *self.in_shape), "a row": self._x(1)}
        with torch.no_grad():
            for what, x in inputs.items():
                if not torch.isfinite(self._run(stack, x)).all():
                    return f"values that are not finite for {what}"
        return None

    def _precision(self) -> str | None:
        with torch.no_grad():
            out = self._run(self._stack(dtype=torch.float64).eval(), self._x(dtype=torch.float64))
        return None if out.dtype == torch.float64 else f"{out.dtype} for torch.float64"

    def _aux(self) -> str | None:
        stack = self._stack().eval()
        aux: Aux = {}
        with torch.no_grad():
            self._run(stack, self._x(), aux)
        wanted = {name for layer in stack for name in declared(layer)[0]}
        if set(aux) != wanted:
            return f"{sorted(aux)} where {sorted(wanted)} are declared"
        return None

    def _eval_deterministic(self) -> str | None:
        stack = self._trained().eval()
        x = self._x()
        with torch.no_grad():
            with seeded(4):
                first = self._run(stack, x)
            with seeded(5):
                self._run(stack, self._x(seed=8) * 3)
                second = self._run(stack, x)
        return None if same(first, second) else "other values after another batch and another seed"

    def _eval_random_state(self) -> str | None:
        stack = self._stack().eval()
        with seeded(6), torch.no_grad():
            before = random_states()
            self._run(stack, self._x())
            return whose_moved(before)

    def _eval_keeps_state(self) -> str | None:
        stack = self._trained().eval()
        before = snapshot(stack)
        with torch.no_grad():
            self._run(stack, self._x(seed=9))
        moved = changed(before, stack.state_dict())
        return f"{', '.join(moved)} changed" if moved else None

    def _input_intact(self) -> str | None:
        for training in (False, True):
            x = self._x()
            kept = x.clone()
            with seeded(7), torch.no_grad():
                self._run(self._trained().train(training), x)
            if not same(x, kept):
                return f"it changed in {'training' if training else 'evaluation'}"
        return None

    def _rows(self) -> str | None:
        stack = self._trained().eval()
        x = self._x()
        other = torch.cat([x[:1], self._x(seed=12)[1:] * 2])
        with torch.no_grad():
            alone, among = self._run(stack, x)[0], self._run(stack, other)[0]
        if torch.allclose(alone, among, rtol=1e-4, atol=1e-5):
            return None
        return "the first row differs when the others do"

    def _train_repeatable(self) -> str | None:
        outputs: list[Tensor] = []
        for _ in range(2):
            with seeded(13), torch.no_grad():
                before = random_states()
                outputs.append(self._run(self._stack().train(), self._x()))
                after = random_states()
                if before[1:] != after[1:]:
                    return "NumPy's global random state moved"
        ends: list[str] = []
        for seed in (14, 15):
            with seeded(seed), torch.no_grad():
                self._run(self._stack().train(), self._x())
                ends.append(random_states()[0])
        if ends[0] == ends[1]:
            return "PyTorch's global seed is set"
        return None if same(*outputs) else "two runs from one seed differ"

    def _init(self) -> str | None:
        states: list[str] = []
        for seed in (20, 21):
            with seeded(seed):
                LayerSequence.build((*self.before, self.spec), self.in_shape, "encoder")
                states.append(random_states()[0])
        if states[0] == states[1]:
            return "the global seed is set while it is built"
        first, second = (snapshot(self._stack(seed=22)) for _ in range(2))
        if changed(first, second):
            return "two builds from one seed differ"
        for name, parameter in self._stack(seed=23).named_parameters():
            if _looks_drawn(parameter) and same(parameter.detach(), first[name]):
                return f"{name} looks drawn at random and is the same from another seed"
        return None

    def _state_round_trip(self) -> str | None:
        stack = self._trained().eval()
        with torch.device("meta"):
            fresh = LayerSequence.build((*self.before, self.spec), self.in_shape, "encoder").eval()
        fresh.load_state_dict(snapshot(stack), strict=True, assign=True)
        with torch.no_grad():
            wanted, found = self._run(stack, self._x()), self._run(fresh, self._x())
        return None if same(wanted, found) else "a copy with the same state gives other values"

    def _own_memory(self) -> str | None:
        seen: dict[int, str] = {}
        for name, tensor in self._stack().state_dict().items():
            place = tensor.untyped_storage().data_ptr()
            if tensor.numel() and place in seen:
                return f"{seen[place]} and {name} share it"
            seen[place] = name
        return None

    def _copying(self) -> str | None:
        stack = self._trained().eval()
        with torch.no_grad():
            wanted = self._run(stack, self._x())
            if not same(wanted, self._run(copy.deepcopy(stack), self._x())):
                return "a deep copy gives other values"
            again = pickle.loads(pickle.dumps(stack[len(stack) - 1]))  # noqa: S301 - our own bytes
        return None if isinstance(again, nn.Module) else "no module"

    def _after_step(self) -> str | None:
        stack = self._trained()
        _after_step(stack)
        before = snapshot(stack)
        _after_step(stack)
        moved = [
            name for name, tensor in stack.state_dict().items()
            if tensor.is_floating_point() and not torch.allclose(tensor, before[name], atol=1e-5)
        ]  # fmt: skip
        return f"{', '.join(moved)} changed when it was called again" if moved else None

    def _gradient_reaches(self) -> str | None:
        stack = self._stack().train()
        x = self._x(rows=32).requires_grad_()
        with seeded(16):
            out = self._run(stack, x)
        if not out.requires_grad:
            return "an output without a gradient"
        # Weighed at random, so that normalisations do not sum it to nothing.
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(17))
        (out * weights).sum().backward()
        if x.grad is None or not bool(x.grad.abs().sum() > 0):
            return "none at the input"
        silent = [
            name for name, p in stack.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)
        ]
        return f"none at {', '.join(silent)}" if silent else None

    def _gradient_correct(self) -> str | None:
        if type(self.spec).surrogate_gradient:
            return None
        stack = self._stack(dtype=torch.float64).eval()
        names = [name for name, _ in stack.named_parameters()]
        values = [p.detach().clone().requires_grad_() for p in stack.parameters()]
        x = self._x(rows=2, dtype=torch.float64).requires_grad_()

        def function(x: Tensor, *parameters: Tensor) -> Tensor:
            state = dict(zip(names, parameters, strict=True))
            return cast(Tensor, torch.func.functional_call(stack, state, (x, {})))

        try:
            right = cast(Any, torch.autograd.gradcheck)(function, (x, *values), atol=1e-4, fast_mode=True)
        except GradcheckError as error:
            return str(error).strip().splitlines()[0]
        return None if right else "something else"

    def _sparsity(self) -> str | None:
        promise_of = getattr(self._stack()[len(self.before)], "sparsity", None)
        promise = None if promise_of is None else promise_of()
        if isinstance(promise, Exact):
            return self._exact(promise)
        return self._mean(promise) if isinstance(promise, Mean) else None

    def _exact(self, promise: Exact) -> str | None:
        stack = self._trained()
        for training in (True, False):
            stack.train(training)
            with seeded(18), torch.no_grad():
                aux: Aux = {}
                given = LayerSequence(list(stack)[: len(self.before)])(self._x(rows=32), aux).flatten(1)
                out = self._run(stack, self._x(rows=32)).flatten(1)
            mode = "training" if training else "evaluation"
            counts = (out != 0).sum(1)
            if not bool((counts == promise.k).all()):
                least, most = int(counts.min()), int(counts.max())
                found = str(least) if least == most else f"{least} to {most}"
                return f"{found} in {mode}, where {promise.k} are declared"
            if promise.by is not None and (found := _selected(given, out, promise)):
                return f"{found}, in {mode}"
        return None

    def _mean(self, promise: Mean) -> str | None:
        stack = self._trained(WARM_UP, MANY)
        for training in (True, False):
            with seeded(19), torch.no_grad():
                out = self._run(stack.train(training), self._x(rows=16 * MANY, seed=30)).flatten(1)
            found = float((out != 0).sum(1).double().mean())
            if abs(found - promise.k) > TOLERANCE * promise.k:
                mode = "training" if training else "evaluation"
                return f"{found:.4g} on average in {mode}, where {promise.k:g} are declared"
        return None

    def _reach(self) -> str | None:
        layers = (*self.before, self.spec)
        for what, x, given in (
            ("inputs in [0, 1]", self._x().sigmoid(), (0.0, 1.0)),
            ("any input", self._x() * 20, UNBOUNDED),
        ):
            low, high = output_bounds(layers) if given is UNBOUNDED else self._bounds_for(layers, given)
            with torch.no_grad():
                out = self._run(self._trained().eval(), x)
            least, most = float(out.min()), float(out.max())
            if least < low - 1e-4 or most > high + 1e-4:
                return f"{least:.4g} to {most:.4g} for {what}, where {low:g} to {high:g} is stated"
        return None

    @staticmethod
    def _bounds_for(layers: tuple[LayerSpec, ...], given: tuple[float, float]) -> tuple[float, float]:
        for layer in layers:
            given = layer.output_bounds(given)
        return given

    def _hostile_shapes(self) -> str | None:
        if self.before:
            return None
        for shape in SHAPES:
            try:
                with seeded(23):
                    stack = LayerSequence.build((self.spec,), shape, "encoder").eval()
            except AezooError:
                continue
            x = torch.randn((2, *shape), generator=torch.Generator().manual_seed(24))
            try:
                with torch.no_grad():
                    out = stack(x, {})
            except Exception as error:
                return f"{shape} is taken and then raises {type(error).__name__}: {error}"
            if tuple(out.shape[1:]) != stack.out_shape:
                return f"{shape} gives {tuple(out.shape[1:])}, {stack.out_shape} on the meta device"
        return None


def _after_step(stack: LayerSequence) -> None:
    for module in stack.modules():
        restore = getattr(module, "after_step", None)
        if callable(restore):
            restore()


def _looks_drawn(parameter: Tensor) -> bool:
    """Whether most values differ from one another, as those of constants, masks and unit matrices do not."""
    values = cast(Tensor, parameter.detach().unique())
    return values.numel() >= max(MANY_VALUES, parameter.numel() / 2)


def _selected(given: Tensor, out: Tensor, promise: Exact) -> str | None:
    """Whether what is left are the largest values that came in, unchanged."""
    ranked = given.abs() if promise.by == "magnitude" else given
    kept = torch.zeros_like(given, dtype=torch.bool).scatter(1, ranked.topk(promise.k, dim=1).indices, True)
    if not bool(((out != 0) == kept).all()):
        return f"others are kept than the {promise.k} largest by {promise.by}"
    if not same(out[kept], given[kept].to(out.dtype)):
        return "kept latents are not what came in"
    return None
