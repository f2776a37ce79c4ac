"""Callbacks that log to experiment trackers: TensorBoard, Trackio, Weights & Biases, MLflow.

All log the same values at the same steps: the terms of each split's loss as `ROUND/SPLIT/TERM` and the
learning rate as `ROUND/lr`, after every epoch, at the number of optimizer steps. The round is `choose` or
`refit`. One training is one run; a resumed training continues its run. Only the main process logs.
"""

import contextlib
import sys
from abc import abstractmethod
from collections.abc import Generator
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from aezoo.errors import optional
from aezoo.plugins.builtin import register_defined
from aezoo.plugins.hookspecs import Register, hookimpl
from aezoo.specs.components import CallbackSpec
from aezoo.training.callbacks import Callback, TrainingState

Text = Annotated[str, Field(min_length=1, max_length=200)]


class _Tracker(Callback):
    """Base class: opens a run before the first epoch, logs each epoch, and closes the run at the end."""

    COUNTS_ON = True
    """Whether a refit counts its steps on from those of the first round: some take increasing steps only."""

    def __init__(self) -> None:
        self.run: Any = None
        self.run_id: str | None = None
        self.offset, self.last, self.round = 0, 0, ""

    @abstractmethod
    def open(self, name: str, config: dict[str, Any]) -> Any:
        """Opens a run, or the run `run_id` again; sets `run_id`.

        Args:
            name: of the variant.
            config: the spec as plain data.
        """

    @abstractmethod
    def log(self, values: dict[str, float], step: int) -> None:
        """Logs values at a step."""

    @abstractmethod
    def finish(self, failed: bool) -> None:
        """Closes the run."""

    @override
    def on_epoch_start(self, state: TrainingState) -> None:
        # The state of an interrupted training, with the run to continue, is restored after `on_fit_start`.
        if state.is_main and self.run is None:
            spec = state.ae.spec.resolved()
            with _quiet():
                self.run = self.open(
                    str(getattr(spec, "name", "autoencoder")), spec.model_dump(mode="json", fallback=repr)
                )

    @override
    def on_epoch_end(self, state: TrainingState) -> None:
        record = state.history[-1]
        round_ = str(record["round"])
        if round_ != self.round and self.COUNTS_ON:
            # The steps of a refit begin at 0 again.
            self.offset = self.last
        self.round = round_
        self.last = self.offset + state.step
        if self.run is not None:
            with _quiet():
                self.log(values_of(record), self.last)

    @override
    def on_train_end(self, error: BaseException | None) -> None:
        if self.run is not None:
            with _quiet():
                self.finish(error is not None)
            self.run = None

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "offset": self.offset, "last": self.last, "round": self.round}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.run_id, self.round = state["run_id"], state["round"]
        self.offset, self.last = state["offset"], state["last"]


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Context manager that sends standard output, which may be the JSON of a command, to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def values_of(record: dict[str, Any]) -> dict[str, float]:
    """The values of an epoch's record by the names under which trackers show them."""
    round_ = record["round"]
    values = {
        f"{round_}/{split}/{name}": float(value)
        for split in ("train", "validation")
        for name, value in record.get(split, {}).items()
        if isinstance(value, int | float)
    }
    return values | {f"{round_}/lr": float(record["lr"])}


class _TensorBoard(_Tracker):
    COUNTS_ON = False

    def __init__(self, folder: str) -> None:
        super().__init__()
        # PyTorch's writer needs the tensorboard package.
        optional("tensorboard", "tensorboard", "tensorboard")
        self.module = optional("torch.utils.tensorboard", "tensorboard", "tensorboard")
        self.folder = folder

    @override
    def open(self, name: str, config: dict[str, Any]) -> Any:
        return self.module.SummaryWriter(self.folder)

    @override
    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.run.add_scalar(name, value, step)
        self.run.flush()

    @override
    def finish(self, failed: bool) -> None:
        self.run.close()


class TensorBoardSpec(CallbackSpec):
    """Logs loss terms and the learning rate to TensorBoard; needs `aezoo[tensorboard]`."""

    kind: Literal["tensorboard"] = "tensorboard"
    examples = ({"folder": "runs"},)
    folder: Annotated[str, Field(min_length=1)]
    """Folder of the event files."""

    @override
    def build(self) -> Callback:
        return _TensorBoard(self.folder)


class _Trackio(_Tracker):
    def __init__(self, project: str) -> None:
        super().__init__()
        self.module = optional("trackio", "Trackio", "trackio")
        self.project = project

    @override
    def open(self, name: str, config: dict[str, Any]) -> Any:
        # A run that is continued is found by its name.
        again = {"name": self.run_id, "resume": "must"} if self.run_id else {}
        run = self.module.init(project=self.project, config=config, **again)
        self.run_id = str(run.name)
        return run

    @override
    def log(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step=step)

    @override
    def finish(self, failed: bool) -> None:
        self.run.finish()


class TrackioSpec(CallbackSpec):
    """Logs loss terms and the learning rate to Trackio, on this machine; needs `aezoo[trackio]`.

    `trackio show --project PROJECT` shows the runs. They are stored in the folder `TRACKIO_DIR`.
    """

    kind: Literal["trackio"] = "trackio"
    examples = ({"project": "digits"},)
    project: Text = "aezoo"
    """Name of the project."""

    @override
    def build(self) -> Callback:
        return _Trackio(self.project)


class _Wandb(_Tracker):
    def __init__(self, project: str) -> None:
        super().__init__()
        self.module = optional("wandb", "Weights & Biases", "wandb")
        self.project = project

    @override
    def open(self, name: str, config: dict[str, Any]) -> Any:
        # Another run of the process, such as the user's own, is left as it is.
        run = self.module.init(
            project=self.project, name=name, config=config, id=self.run_id, resume="allow",
            reinit="create_new", settings=self.module.Settings(console="off", silent=True),
        )  # fmt: skip
        self.run_id = str(run.id)
        return run

    @override
    def log(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step=step)

    @override
    def finish(self, failed: bool) -> None:
        self.run.finish(exit_code=1 if failed else 0)


class WandbSpec(CallbackSpec):
    """Logs loss terms and the learning rate to Weights & Biases; needs `aezoo[wandb]`.

    Account, server and offline mode are those of its own settings, such as the variables `WANDB_MODE` and
    `WANDB_DIR`.
    """

    kind: Literal["wandb"] = "wandb"
    examples = ({"project": "digits"},)
    project: Text = "aezoo"
    """Name of the project."""

    @override
    def build(self) -> Callback:
        return _Wandb(self.project)


class _MLflow(_Tracker):
    def __init__(self, experiment: str) -> None:
        super().__init__()
        self.module = optional("mlflow", "MLflow", "mlflow")
        self.experiment = experiment

    @override
    def open(self, name: str, config: dict[str, Any]) -> Any:
        # A client of its own leaves the run that is active in the process as it is.
        client = self.module.MlflowClient()
        if self.run_id is None:
            experiment = client.get_experiment_by_name(self.experiment)
            number = experiment.experiment_id if experiment else client.create_experiment(self.experiment)
            self.run_id = str(client.create_run(number, run_name=name).info.run_id)
            client.log_dict(self.run_id, config, "spec.json")
            for key, value in config.get("recipe", {}).items():
                if isinstance(value, str | int | float | bool):
                    client.log_param(self.run_id, key, value)
        else:
            client.update_run(self.run_id, status="RUNNING")
        return client

    @override
    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.run.log_metric(self.run_id, name, value, step=step)

    @override
    def finish(self, failed: bool) -> None:
        self.run.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


class MLflowSpec(CallbackSpec):
    """Logs loss terms, the learning rate and the spec to MLflow; needs `aezoo[mlflow]`.

    The server is that of `MLFLOW_TRACKING_URI`. Without a server, MLflow needs its full package (`pip install
    mlflow`) for a local database.
    """

    kind: Literal["mlflow"] = "mlflow"
    examples = ({"experiment": "digits"},)
    experiment: Text = "aezoo"
    """Name of the experiment, created if it does not exist."""

    @override
    def build(self) -> Callback:
        return _MLflow(self.experiment)


@hookimpl
def register_callbacks(register: Register) -> None:
    """Registers the callbacks that this module defines."""
    register_defined(__name__, "callback", register)
