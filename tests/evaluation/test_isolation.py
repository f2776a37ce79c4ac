"""Metrics of plugins are isolated: whatever one does, no other number changes and no training is lost."""

import os
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import aezoo
from aezoo.data.samples import Samples
from aezoo.evaluation.evaluate import Measurement, applicable_metrics, evaluate
from aezoo.evaluation.metric import NotMeasured
from tests.evaluation.networks import uniform
from tests.examples import small_spec

Register = Callable[..., type[aezoo.Metric]]


class Sum(aezoo.Metric):
    """The sum of all reconstructions."""

    definition = "sum over samples and elements"

    def __init__(self, ae: Any) -> None:
        super().__init__(ae)
        self.total = 0.0

    def update(self, output: Any, batch: Any) -> None:
        self.total += float(output.x_hat.sum())

    def compute(self) -> Any:
        return self.total


@pytest.fixture
def register(fresh_registry: object) -> Register:
    def add(kind: str = "ours.metric", **members: Any) -> type[aezoo.Metric]:
        return aezoo.register(type("Ours", (Sum,), {"kind": kind, "__doc__": "Ours.", **members}))

    return add


def measured(ae: aezoo.Autoencoder) -> tuple[dict[str, Measurement], list[str]]:
    """The metrics of three batches, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = evaluate(ae, Samples(uniform(30, 1, 6, 6)), dataset="ours", split="test", batch_size=10)
    assert {warning.category for warning in caught} <= {aezoo.PluginWarning}
    return found, [str(warning.message) for warning in caught]


def raiser(error: BaseException) -> Callable[..., Any]:
    def method(*_: Any) -> Any:
        raise error

    return method


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS = (
    ValueError("out of\nluck"), AssertionError(), KeyError("x"), SystemExit(3), RecursionError("deep"),
    StopIteration(), MemoryError(), Unprintable(), aezoo.DataError("none"),
)  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["__init__", "applies", "update", "compute"])
def test_a_metric_that_raises_is_null_with_the_reason(
    register: Register, method: str, error: BaseException
) -> None:
    ae = aezoo.build(small_spec())
    expected, _ = measured(ae)
    body = classmethod(raiser(error)) if method == "applies" else raiser(error)
    register(**{method: body})
    register("ours.other")
    found, messages = measured(ae)
    entry = found.pop("ours.metric")
    assert entry["value"] is None
    assert entry["reason"] is not None
    assert entry["reason"].startswith(f"the metric raised {type(error).__name__}: ")
    assert entry["reason"].isprintable()
    assert messages == [f"metric ours.metric was not measured: {entry['reason']}"]
    assert found.pop("ours.other")["value"] is not None
    assert found == expected
    assert "ours.metric" in {metric.kind for metric in applicable_metrics(ae)}


def test_ctrl_c_ends_an_evaluation(register: Register) -> None:
    register(update=raiser(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        measured(aezoo.build(small_spec()))


def test_a_metric_without_a_value_says_why_and_nothing_is_reported(register: Register) -> None:
    register(update=raiser(NotMeasured("there are no labels")))
    register("ours.silent", compute=raiser(NotMeasured()))
    found, messages = measured(aezoo.build(small_spec()))
    assert found["ours.metric"]["reason"] == "there are no labels"
    assert found["ours.silent"]["reason"] == "the metric gives no reason"
    assert messages == []


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (torch.tensor(2.5), 2.5), (torch.tensor([2.5]), 2.5), (np.float32(2.5), 2.5), (3, 3.0),
        (None, None), ("2.5", None), (b"2", None), (2 + 1j, None), (np.complex64(1j), None),
        (torch.tensor(1j), None), (torch.ones(2), None), ([2.5], None), (float("nan"), None),
        (float("inf"), None), (10**400, None),
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_is_one_finite_number(register: Register, result: Any, value: float | None) -> None:
    def compute(self: Any) -> Any:
        return result

    register(compute=compute)
    entry = measured(aezoo.build(small_spec()))[0]["ours.metric"]
    assert entry["value"] == value
    assert (entry["reason"] is None) == (value is not None)
    assert value is None or type(entry["value"]) is float


def zero_everything(self: Any, output: Any, batch: Any) -> None:
    for tensor in (output.x_hat, output.latents, *output.aux.values(), batch.input, batch.target):
        tensor.zero_()
        tensor.detach().numpy()[...] = 7
    output.aux.clear()


def ruin_the_network(self: Any, output: Any, batch: Any) -> None:
    self.ae.train()
    for tensor in (*self.ae.parameters(), *self.ae.buffers()):
        tensor.data.zero_()
        tensor.requires_grad_(False)
    self.ae.encoder.register_forward_hook(raiser(ValueError()))
    self.ae.decoder = torch.nn.Identity()
    self.ae.metrics["mse"] = {"value": 0.0}


def ruin_the_process(self: Any, output: Any, batch: Any) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(torch.get_num_threads() + 1)
    os.environ["OURS"] = "1"
    print("to standard output")


@pytest.mark.parametrize("update", [zero_everything, ruin_the_network, ruin_the_process])
def test_a_metric_cannot_change_other_numbers_or_the_network(
    register: Register, update: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ae = aezoo.build(small_spec())
    before = {name: tensor.clone() for name, tensor in ae.state_dict().items()}
    expected, _ = measured(ae)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    register("aaa.first", update=update)
    register("zzz.last")
    ae.train()
    found, messages = measured(ae)
    assert found.pop("zzz.last")["value"] == pytest.approx(
        float(ae.eval()(uniform(30, 1, 6, 6)).x_hat.detach().sum())
    )
    del found["aaa.first"]
    assert found == expected
    assert all(torch.equal(tensor, before[name]) for name, tensor in ae.state_dict().items())
    assert all(parameter.requires_grad for parameter in ae.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32
    assert "OURS" not in os.environ
    assert capsys.readouterr().out == ""
    if update is ruin_the_process:
        (message,) = messages
        for name in ("PyTorch's random state", "NumPy's random state", "PyTorch's default dtype"):
            assert name in message


def test_a_training_keeps_its_weights_when_a_metric_raises(register: Register) -> None:
    register(__init__=raiser(ValueError("out of luck")))
    spec = small_spec()
    with pytest.warns(aezoo.PluginWarning, match=r"ours\.metric was not measured"):
        ae = aezoo.train(spec, uniform(60, 1, 6, 6), progress=False, device="cpu")
    values = {name.removesuffix(".validation"): entry["value"] for name, entry in ae.metrics.items()}
    assert values["ours.metric"] is None
    assert values["mse"] is not None
