"""Metrics of users: their definition, and how `evaluate` treats them."""

import re
from typing import Any

import pytest
import torch

import aezoo
from aezoo.data.samples import Batch
from aezoo.evaluation.metric import Metric, full_float32
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.output import Output
from aezoo.plugins.registry import family_and_kind
from tests.evaluation.by_hand import BY_HAND, X, two_to_two
from tests.evaluation.networks import identity, measure, values


class LargestMetric(aezoo.Metric):
    """Largest error of a single element."""

    kind = "largest"
    definition = "largest absolute difference of any element"

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.largest = 0.0

    def update(self, output: Output, batch: Batch) -> None:
        self.largest = max(self.largest, float((output.x_hat - batch.target).abs().max()))

    def compute(self) -> float:
        if self.largest == 0:
            raise aezoo.NotMeasured("there is no error at all")
        return self.largest


class WideMetric(LargestMetric):
    """Applies to networks with more than two latents, and cannot be created for others."""

    kind = "wide"

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        assert ae.num_latents > 2

    @classmethod
    def applies(cls, ae: Autoencoder) -> bool:
        return ae.num_latents > 2


class ModeMetric(aezoo.Metric):
    """1 if any module was in training mode, or gradients were recorded; raises if told to."""

    kind = "mode"
    definition = "1 if the network was trained"
    fails = False
    training = False

    def update(self, output: Output, batch: Batch) -> None:
        if self.fails:
            raise RuntimeError("this metric fails")
        self.training |= output.x_hat.requires_grad or any(module.training for module in self.ae.modules())

    def compute(self) -> float:
        return float(self.training)


# -- definition ---------------------------------------------------------------------------------------


def needs_an_option(self: Metric, ae: Autoencoder, k: int) -> None: ...


def has_a_default(self: Metric, ae: Autoencoder, k: int = 3) -> None: ...


def takes_nothing(self: Metric) -> None: ...


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"kind": 3}, 'Bad: write kind as `kind = "name"`'),
        ({"kind": ""}, 'Bad: write kind as `kind = "name"`'),
        ({"kind": None}, 'Bad: write kind as `kind = "name"`'),
        ({"kind": "bad"}, "Bad: a metric needs a `definition`"),
        (
            {"kind": "bad", "definition": "x", "__init__": needs_an_option},
            "Bad: __init__ is called with `ae` alone: missing a required argument: 'k'",
        ),
        (
            {"kind": "bad", "definition": "x", "__init__": takes_nothing},
            "Bad: __init__ is called with `ae` alone: too many positional arguments",
        ),
    ],
)
def test_an_invalid_metric_is_rejected_when_it_is_defined(members: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(words)}$"):
        type("Bad", (aezoo.Metric,), members)


def test_a_metric_may_have_parameters_with_defaults() -> None:
    members = {"kind": "good", "definition": "x", "__init__": has_a_default}
    assert family_and_kind(type("Good", (aezoo.Metric,), members)) == ("metric", "good")


def test_a_metric_without_a_kind_cannot_be_registered() -> None:
    class Base(aezoo.Metric):
        better = "lower"

    for cls in (aezoo.Metric, Base):
        with pytest.raises(aezoo.RegistryError, match=f"{cls.__name__} has no kind"):
            aezoo.register(cls)


@pytest.mark.parametrize("cls", [aezoo.Metric, type("M", (aezoo.Metric,), {"kind": "m", "definition": "x"})])
def test_a_metric_without_its_methods_is_abstract(cls: type[Metric]) -> None:
    with pytest.raises(TypeError, match=r"abstract class .*compute.*update"):
        cls(two_to_two())


# -- evaluation ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fresh_registry")
def test_a_registered_metric_is_measured_with_the_others() -> None:
    aezoo.register(LargestMetric)
    found = measure(two_to_two(), X, batch_size=1)
    assert list(found) == sorted(found)
    assert values(found) == pytest.approx(BY_HAND | {"largest": 4.0})
    assert found["largest"]["definition"] == LargestMetric.definition
    perfect = measure(two_to_two(), X[:1])["largest"]
    assert (perfect["value"], perfect["reason"]) == (None, "there is no error at all")


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(("latents", "expected"), [(2, {"mode"}), (3, {"mode", "wide"})])
def test_a_metric_that_does_not_apply_is_left_out(latents: int, expected: set[str]) -> None:
    before = set(measure(identity(latents), torch.ones(2, latents)))
    aezoo.register(WideMetric)
    aezoo.register(ModeMetric)
    found = set(measure(identity(latents), torch.ones(2, latents)))
    assert before <= found
    assert found - before == expected


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("mode", ["train", "eval", "frozen encoder"])
def test_the_network_is_in_eval_mode_without_gradients_and_its_mode_is_restored(
    mode: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    aezoo.register(ModeMetric)
    monkeypatch.setattr(ModeMetric, "fails", fails)
    ae = two_to_two().train(mode != "eval")
    if mode == "frozen encoder":
        ae.encoder.eval()
    before = [module.training for module in ae.modules()]
    if fails:
        with pytest.warns(aezoo.PluginWarning, match="RuntimeError: this metric fails"):
            measure(ae, X)
    else:
        assert measure(ae, X)["mode"]["value"] == 0.0
    assert [module.training for module in ae.modules()] == before


# -- the precision of a GPU ---------------------------------------------------------------------------


def precisions() -> list[object]:
    """The older settings of PyTorch, and the newer ones; None for those that PyTorch refuses to read."""
    found: list[object] = []
    for read in (
        torch.get_float32_matmul_precision, lambda: torch.backends.cudnn.allow_tf32,
        lambda: torch.backends.cuda.matmul.fp32_precision, lambda: torch.backends.cudnn.conv.fp32_precision,
    ):  # fmt: skip
        try:
            found.append(read())
        except RuntimeError:
            found.append(None)
    return found


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="PyTorch has the older settings only")
@pytest.mark.parametrize("newer", [False, True])
def test_products_are_not_rounded_to_tf32_on_a_gpu(monkeypatch: pytest.MonkeyPatch, newer: bool) -> None:
    ae = two_to_two()
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    try:
        if newer:
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            torch.backends.cudnn.conv.fp32_precision = "tf32"
        else:
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        before = precisions()
        with full_float32(ae):
            assert precisions()[2:] in (["ieee", "ieee"], ["ieee", "none"])
        assert precisions() == before
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
