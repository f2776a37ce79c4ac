"""Contract checks of callbacks, by small trainings."""

import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Generator, Tensor
from typing_extensions import override

from aezoo.errors import DiagnosticWarning, TrainingInterrupted
from aezoo.model.autoencoder import Autoencoder
from aezoo.specs.components import CallbackSpec
from aezoo.specs.variant import VariantSpec
from aezoo.testing.contract import CheckList, Report
from aezoo.testing.determinism import changed_rng, changed_tensors, half_a_day_away, rng_states, seeded
from aezoo.testing.observation import ModuleSnapshot, another_day
from aezoo.testing.specs import run_checks
from aezoo.training.callbacks import Callback, TrainingState
from aezoo.training.train import train

EPOCHS = 8
INTERRUPTED_AFTER = (3, 5)
"""Epochs after which a training is interrupted. Two numbers, because a counter that restarts at 0 after a
multiple of its period goes unnoticed."""
REFIT_EPOCHS = 7
"""Epochs before a refit: no multiple of a small period, so that a counter that goes on is noticed."""
SAMPLES = 116
"""Of these, 105 are for training: 7 steps an epoch, so that the same holds for counters of steps."""
CALLBACK_CHECKS: CheckList[CallbackSpec] = CheckList()


def check_callback(spec: CallbackSpec) -> Report:
    """Checks a callback against the contract, by training a small network several times.

    The callback should write nothing, or to relative paths only.

    Args:
        spec: the callback.

    Returns:
        The results, exemptions included.

    Raises:
        ContractError: a check failed; the message says for each what was expected and found.
    """
    return run_checks(spec, f"callback {spec.kind_name}", CALLBACK_CHECKS, spec)


class _Interrupt(Callback):
    """Ends a training like Ctrl-C, or never (None): a resumed training needs the same callbacks."""

    def __init__(self, after: int | None) -> None:
        self.after = after

    @override
    def on_epoch_end(self, state: TrainingState) -> None:
        # The resume file is written after the callbacks: it holds the epoch before this one.
        if self.after is not None and len(state.history) == self.after + 1:
            raise KeyboardInterrupt


class _Recorder(Callback):
    """Calls another callback; records its last state and what it changes besides weights.

    Args:
        inner: the callback.
        again: makes the callback that takes its place when the training starts over, as a refit does.
    """

    def __init__(self, inner: Callback, again: Callable[[], Callback] | None = None) -> None:
        self.inner = inner
        self.again = again
        self.started = False
        self.state: dict[str, Any] = {}
        self.changed: str | None = None
        self.altered: str | None = None

    def _call(self, hook: str, state: TrainingState) -> None:
        if hook == "on_fit_start" and state.step == 0:
            if self.started and self.again is not None:
                self.inner = self.again()
            self.started = True
        before, network = rng_states(), ModuleSnapshot(state.ae, values=False)
        tensors = _tensors(state)
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        epoch, step, records = state.epoch, state.step, list(state.history)
        getattr(self.inner, hook)(state)
        if changed := changed_rng(before):
            self.changed = f"{changed} in {hook}"
        altered = network.change()
        if altered is None and (state.epoch, state.step) != (epoch, step):
            altered = "another epoch or step in the state"
        if len(state.history) != len(records) or any(
            a is not b for a, b in zip(state.history, records, strict=True)
        ):
            altered = "other records in the history"
        if names := changed_tensors(copies, tensors):
            altered = f"{names[0]} changed"
        # A callback may unfreeze layers.
        if altered is not None and "requires_grad" not in altered:
            self.altered = self.altered or f"{altered} in {hook}"

    @override
    def on_fit_start(self, state: TrainingState) -> None:
        self._call("on_fit_start", state)

    @override
    def on_epoch_start(self, state: TrainingState) -> None:
        self._call("on_epoch_start", state)

    @override
    def before_step(self, state: TrainingState) -> None:
        self._call("before_step", state)

    @override
    def after_step(self, state: TrainingState) -> None:
        self._call("after_step", state)

    @override
    def on_epoch_end(self, state: TrainingState) -> None:
        self._call("on_epoch_end", state)
        self.state = self.inner.state_dict()


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    """The data that a callback sees."""
    batch = {} if state.context is None else {"input": state.context.input, "target": state.context.target}
    return {
        **{f"{name} of the batch": tensor for name, tensor in batch.items()},
        "the data": state.samples.inputs,
    }


def _train(
    callbacks: list[CallbackSpec], extra: Callback, resume: Path | None = None, *, refit: bool = False
) -> dict[str, Tensor]:
    """The weights of a small network after a training, or after as much of it as was not interrupted."""
    spec = VariantSpec.model_validate({
        "name": "small", "summary": "A small network for a check.",
        "input": {"shape": [1, 6, 6], "range": [0, 1]},
        "encoder": [
            {"kind": "flatten"},
            {"kind": "linear", "out_features": 8, "activation": "leaky_relu", "dropout": 0.1},
            {"kind": "topk", "k": 3},
        ],
        "decoder": [
            {"kind": "linear", "out_features": 36, "activation": "sigmoid"},
            {"kind": "unflatten", "shape": [1, 6, 6]},
        ],
        "recipe": {
            "reconstruction": {"kind": "mse"}, "batch_size": 16, "threads": torch.get_num_threads(),
            "callbacks": callbacks, "refit": refit,
            "stages": [{"kind": "fit", "epochs": REFIT_EPOCHS if refit else EPOCHS}],
        },
    })  # fmt: skip
    data = torch.rand((SAMPLES, 1, 6, 6), generator=Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DiagnosticWarning)
        try:
            ae = train(spec, data, callbacks=[extra], device="cpu", progress=False, resume=resume)
        except TrainingInterrupted as error:
            ae = cast(Autoencoder, error.ae)
    return {name: tensor.clone() for name, tensor in ae.state_dict().items()}


def _recorded(spec: CallbackSpec) -> _Recorder:
    recorder = _Recorder(cast(Callback, spec.build()))
    _train([], recorder)
    return recorder


@CALLBACK_CHECKS.add("network-intact", "modes, parameter objects, hooks and data that are left as they are")
def network_intact(spec: CallbackSpec) -> str | None:
    """The trainer sets the modes, and the optimizer holds the parameters that it was given.

    Failure: `encoder.1 switched to evaluation mode in on_epoch_start`
    Fix: use `aezoo.model.autoencoder.eval_mode` around an evaluation, and change weights in place under
        `torch.no_grad()`.
    """
    return _recorded(spec).altered


@CALLBACK_CHECKS.add("finite", "weights that stay finite")
def finite(spec: CallbackSpec) -> str | None:
    """One NaN spoils the whole network.

    Failure: `NaN or infinity in encoder.1.linear.weight`
    Fix: guard divisions, by counters that may be 0 and by norms.
    """
    weights = _train([spec], _Interrupt(None))
    broken = [n for n, t in weights.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    return f"NaN or infinity in {broken[0]}" if broken else None


@CALLBACK_CHECKS.add("refit", "a refit that starts like a new training")
def refit(spec: CallbackSpec) -> str | None:
    """A refit repeats the training on all data, so that counters start at 0 again.

    Failure: `a different encoder.1.linear.weight than with a new callback for the refit`
    Fix: reset counters in `on_fit_start` if `state.step == 0`.
    """
    built = cast(Callable[[], Callback], spec.build)
    kept = _train([], _Recorder(built()), refit=True)
    changed = changed_tensors(kept, _train([], _Recorder(built(), built), refit=True))
    return f"a different {changed[0]} than with a new callback for the refit" if changed else None


@CALLBACK_CHECKS.add("independent", "callbacks that do not affect one another")
def independent(spec: CallbackSpec) -> str | None:
    """Several trainings run in one process, one after another.

    Failure: `a different encoder.1.linear.weight in a second training`
    Fix: keep nothing on the class or in the module's globals; make a new callback in `build`.
    """
    with seeded(1):
        first = _train([spec], _Interrupt(None))
    with seeded(1):
        changed = changed_tensors(first, _train([spec], _Interrupt(None)))
    return f"a different {changed[0]} in a second training" if changed else None


@CALLBACK_CHECKS.add("hooks", "a Callback from build()")
def hooks(spec: CallbackSpec) -> str | None:
    """The trainer calls every hook of every callback.

    Failure: `Counter without before_step, state_dict`
    Fix: derive the class that `build` returns from `aezoo.Callback`.
    """
    built: object = spec.build()
    names = ("on_fit_start", "before_step", "after_step", "on_epoch_end", "state_dict", "load_state_dict")
    missing = [name for name in names if not hasattr(built, name)]
    return f"{type(built).__name__} without {', '.join(missing)}" if missing else None


@CALLBACK_CHECKS.add("random-state", "hooks that leave global random states unchanged")
def random_state(spec: CallbackSpec) -> str | None:
    """Adding a callback must not change the dropout and the noise of the rest of the training.

    Failure: `PyTorch's global random state changed in before_step`
    Fix: draw from a `torch.Generator` of the callback, and keep its state in `state_dict`.
    """
    return _recorded(spec).changed


@CALLBACK_CHECKS.add("repeatable", "the same weights from the same training at another time of day")
def repeatable(spec: CallbackSpec) -> str | None:
    """The same spec, data and versions give the same weights bit for bit on a CPU.

    Failure: `a different encoder.1.linear.weight`
    Fix: depend on epochs and steps instead of clocks, and on a seeded generator instead of Python's `random`.
    """
    with seeded(1):
        first = _train([spec], _Interrupt(None))
    for moved in (half_a_day_away(), another_day(type(spec))):
        with seeded(1), moved:
            second = _train([spec], _Interrupt(None))
        if changed := changed_tensors(first, second):
            return f"a different {changed[0]}"
    return None


@CALLBACK_CHECKS.add("state", "a state_dict() that loads without unpickling code")
def state(spec: CallbackSpec) -> str | None:
    """Resume files are read with `weights_only=True`, because unpickling can run anything.

    Failure: `UnpicklingError: Weights only load failed`
    Fix: return tensors, numbers, strings, lists and dicts only.
    """
    buffer = io.BytesIO()
    torch.save(_recorded(spec).state, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=True)
    return None


@CALLBACK_CHECKS.add("resumes", "the same weights after an interrupted and resumed training")
def resumes(spec: CallbackSpec) -> str | None:
    """A training that is resumed gives the weights of an uninterrupted one.

    Failure: `a different encoder.1.linear.weight after an interruption at 3 epochs`
    Fix: return every counter and running value from `state_dict`, and restore it in `load_state_dict`.
    """
    whole = _train([spec], _Interrupt(None))
    for epochs in INTERRUPTED_AFTER:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "resume"
            _train([spec], _Interrupt(epochs), file)
            changed = changed_tensors(whole, _train([spec], _Interrupt(None), file))
        if changed:
            return f"a different {changed[0]} after an interruption at {epochs} epochs"
    return None
