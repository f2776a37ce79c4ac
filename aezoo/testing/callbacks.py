"""Contract checks of callbacks, by small trainings."""

import io
import tempfile
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from aezoo.errors import DiagnosticWarning, TrainingInterrupted
from aezoo.model.autoencoder import Autoencoder
from aezoo.specs.components import CallbackSpec
from aezoo.specs.variant import VariantSpec
from aezoo.testing.determinism import at_another_time, random_states, same, seeded, whose_moved
from aezoo.testing.report import Checks, Examination, Report
from aezoo.testing.specs import check_spec
from aezoo.training.callbacks import Callback, TrainingState
from aezoo.training.train import train

EPOCHS = 8
CUTS = (3, 5)
"""Epochs after which a training is cut off: two, so that however many epochs a callback counts up to, a count
that began anew comes out differently."""
ROWS = 116
"""Of which 105 are trained on: 7 steps in an epoch, so that the same holds for a count of steps."""
HOOKS = ("on_fit_start", "before_step", "after_step", "on_epoch_end")


def check_callback(spec: CallbackSpec) -> Report:
    """Checks a callback against the contract; what it writes should go to relative paths or be harmless.

    Args:
        spec: the callback.

    Returns:
        What was checked.

    Raises:
        ContractError: something is not kept.
    """
    return ExaminedCallback(spec).report().settled()


class _Watch(Callback):
    """Ends a training as Ctrl-C does, or lets it go on; resuming asks for the same callbacks."""

    def __init__(self, cut: int | None) -> None:
        self.cut = cut

    def on_epoch_end(self, state: TrainingState) -> None:
        # What was kept before this epoch is gone on from.
        if self.cut is not None and len(state.history) == self.cut + 1:
            raise KeyboardInterrupt


class _Watched(Callback):
    """Passes every hook on, and notes whose random state it moved."""

    def __init__(self, inner: Callback) -> None:
        self.inner = inner
        self.moved: str | None = None

    def _call(self, hook: str, state: TrainingState) -> None:
        before = random_states()
        getattr(self.inner, hook)(state)
        if moved := whose_moved(before):
            self.moved = f"{moved} in {hook}"

    def on_fit_start(self, state: TrainingState) -> None:
        self._call("on_fit_start", state)

    def before_step(self, state: TrainingState) -> None:
        self._call("before_step", state)

    def after_step(self, state: TrainingState) -> None:
        self._call("after_step", state)

    def on_epoch_end(self, state: TrainingState) -> None:
        self._call("on_epoch_end", state)


class ExaminedCallback(Examination):
    """One callback under examination."""

    CHECKS = {
        "hooks": "a Callback from build()",
        "random-state": "hooks that leave global random states alone",
        "repeatable": "the same weights from the same training at another time",
        "state": "a state_dict that loads without unpickling code",
        "resumes": "the same weights when a training is cut off and resumed",
    }  # fmt: skip

    def __init__(self, spec: CallbackSpec) -> None:
        self.spec = spec
        self.checks = Checks(f"callback {spec.kind_name}", type(spec).exempt)

    def report(self) -> Report:
        """Runs every check."""
        check_spec(self.checks, self.spec)
        return self.examine()

    def _recipe(self, with_callback: bool = True) -> VariantSpec:
        return VariantSpec.model_validate({
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
                "callbacks": [self.spec] if with_callback else [],
                "stages": [{"kind": "fit", "epochs": EPOCHS}],
            },
        })  # fmt: skip

    def _weights(
        self, own: Callback | None = None, *, cut: int | None = None, resume: Path | None = None
    ) -> dict[str, Tensor]:
        data = torch.rand((ROWS, 1, 6, 6), generator=torch.Generator().manual_seed(1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DiagnosticWarning)
            try:
                ae = train(
                    self._recipe(with_callback=own is None), data, callbacks=[own or _Watch(cut)],
                    device="cpu", progress=False, resume=resume,
                )  # fmt: skip
            except TrainingInterrupted as error:
                ae = cast(Autoencoder, error.ae)
        return {name: tensor.clone() for name, tensor in ae.state_dict().items()}

    def _hooks(self) -> str | None:
        built: object = self.spec.build()
        missing = [hook for hook in (*HOOKS, "state_dict", "load_state_dict") if not hasattr(built, hook)]
        return f"{type(built).__name__} without {', '.join(missing)}" if missing else None

    def _random_state(self) -> str | None:
        watched = _Watched(cast(Callback, self.spec.build()))
        self._weights(own=watched)
        return watched.moved

    def _repeatable(self) -> str | None:
        with seeded(1):
            first = self._weights()
        with seeded(1), at_another_time(type(self.spec.build()).__module__):
            second = self._weights()
        differ = [name for name in first if not same(first[name], second[name])]
        return f"another {differ[0]}" if differ else None

    def _state(self) -> str | None:
        kept: list[dict[str, Any]] = []
        callback = cast(Callback, self.spec.build())

        class Keep(_Watched):
            def on_epoch_end(self, state: TrainingState) -> None:
                super().on_epoch_end(state)
                kept.append(self.inner.state_dict())

        self._weights(own=Keep(callback))
        buffer = io.BytesIO()
        torch.save(kept[-1], buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
        return None

    def _resumes(self) -> str | None:
        whole = self._weights()
        for cut in CUTS:
            with tempfile.TemporaryDirectory() as name:
                place = Path(name) / "resume"
                self._weights(cut=cut, resume=place)
                resumed = self._weights(resume=place)
            differ = [key for key in whole if not same(whole[key], resumed[key])]
            if differ:
                return f"another {differ[0]} when it was cut off after {cut} epochs"
        return None
