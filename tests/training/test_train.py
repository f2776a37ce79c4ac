"""`train`: its result, reproducibility, initial weights, precision, devices, and what it refuses."""

import hashlib
import io
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import aezoo
from aezoo.data.inputs import prepare_splits
from aezoo.training.train import pick_device
from tests.training.networks import DENSE, IMAGES, LINEAR, adam, images, same_weights, spec_of, stage, train
from tests.training.probes import Tiny, on

# -- the result ---------------------------------------------------------------------------------------


def test_training_returns_a_trained_autoencoder_in_eval_mode() -> None:
    ae = train(spec_of(stages=[stage(5)]))
    assert isinstance(ae, aezoo.Autoencoder)
    assert not any(module.training for module in ae.modules())
    assert ae.source.kind == "trained"
    losses = [record["validation"]["loss"] for record in ae.history]
    assert len(losses) == 5
    assert losses[-1] < losses[0]


def test_history_has_a_record_of_each_epoch_of_each_stage() -> None:
    ae = train(spec_of(stages=[stage(2), stage(1, optimizer=adam(0.5))]))
    assert [(r["round"], r["stage"], r["epoch"], r["lr"]) for r in ae.history] == [
        ("choose", 0, 1, 1e-3), ("choose", 0, 2, 1e-3), ("choose", 1, 1, 0.5),
    ]  # fmt: skip
    for record in ae.history:
        assert set(record["train"]) == set(record["validation"]) == {"loss", "mse"}
        assert record["seconds"] >= 0
    assert ae.training_record["history"] == ae.history
    assert ae.training_record["epochs"] == [2, 1]


def test_target_mean_is_the_mean_of_the_training_split() -> None:
    spec = spec_of()
    torch.testing.assert_close(train(spec).target_mean, prepare_splits(IMAGES, spec, 0).train.inputs.mean(0))


def test_data_replace_the_dataset_of_the_recipe() -> None:
    loads: list[str] = []
    ae = train(spec_of(dataset=Tiny(on_load=loads.append)), data=images(20))
    assert loads == []
    assert ae.training_record["data"]["train"]["n"] == 18
    assert train(spec_of(), data=Tiny()).training_record["data"]["name"] == "tiny"


class FewDigits(aezoo.DatasetSpec):
    """The first rows of each split of MNIST."""

    kind: Literal["few_digits"] = "few_digits"

    def load(self, split: Any) -> aezoo.Samples:
        return aezoo.DatasetSpec.model_validate("mnist").load(split)[:600]


@pytest.mark.data
def test_sparse_topk16_learns_digits(fresh_registry: None) -> None:
    aezoo.register(FewDigits)
    changes = {"dataset": "few_digits", "stages": [stage(6)], "batch_size": 50, "threads": 1}
    spec = aezoo.get_spec("sparse-topk16").replace({f"recipe.{name}": v for name, v in changes.items()})
    ae = train(spec, data=None)
    assert (ae.metrics["fvu"]["n"], ae.metrics["fvu"]["dataset"]) == (600, "few_digits")
    assert ae.metrics["l0"]["value"] == 16
    assert ae.metrics["fvu"]["value"] < 0.8, "predicting the mean digit gives 1"


# -- reproducibility ----------------------------------------------------------------------------------

REPRODUCIBLE: dict[str, dict[str, Any]] = {
    "plain": {},
    "noise": {"noises": [{"kind": "gaussian", "std": 0.1}, {"kind": "masking", "share": 0.2}]},
    "dropout": {"encoder": ["flatten", DENSE | {"dropout": 0.5}]},
    "batch_norm": {"encoder": ["flatten", DENSE | {"norm": "batch_norm"}]},
    "lifetime": {"encoder": ["flatten", DENSE, {"kind": "lifetime", "rate": 0.3}]},
    "tie": {"stages": [stage(tie=True), stage()]},
    "refit": {"refit": True, "encoder": ["flatten", DENSE | {"dropout": 0.5}]},
    "early stop": {"stages": [stage(6, early_stop={"patience": 1}, optimizer=adam(0.3))]},
}


def numbers(ae: aezoo.Autoencoder) -> list[Any]:
    return [(record["train"], record.get("validation"), record["lr"]) for record in ae.history]


@pytest.mark.parametrize("changes", REPRODUCIBLE.values(), ids=REPRODUCIBLE)
def test_the_same_spec_gives_the_same_weights_bit_for_bit(changes: dict[str, Any]) -> None:
    spec = spec_of(**changes)
    torch.manual_seed(1)
    first = train(spec)
    torch.manual_seed(2)  # the caller's random state must not matter
    second = train(spec)
    assert same_weights(first, second)
    assert numbers(first) == numbers(second)
    assert not same_weights(first, train(spec_of(**changes, seed=1)))


@pytest.mark.parametrize("fails", [False, True])
def test_random_state_and_number_of_threads_are_restored(fails: bool) -> None:
    threads_during: list[int] = []

    def look(state: aezoo.TrainingState) -> None:
        threads_during.append(torch.get_num_threads())
        if fails:
            raise ZeroDivisionError

    spec = spec_of(encoder=["flatten", DENSE | {"dropout": 0.5}], refit=True)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        before = torch.get_rng_state()
        if fails:
            with pytest.raises(ZeroDivisionError):
                train(spec, on("after_step", look))
        else:
            train(spec, on("after_step", look))
        assert set(threads_during) == {1}
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(threads)


def test_training_on_the_cpu_does_not_seed_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    train(spec_of(refit=True))
    assert seeds == []


# -- initial weights ----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> tuple[aezoo.Autoencoder, str]:
    """A trained autoencoder and its folder."""
    ae = train(spec_of(), data=images(40))
    return ae, str(aezoo.save(ae, tmp_path / "first"))


def first_weight(ae: aezoo.Autoencoder) -> Tensor:
    return ae.encoder[1].get_parameter("linear.weight").detach().clone()


@pytest.mark.parametrize("refit", [False, True])
def test_init_from_sets_the_initial_weights_of_both_rounds(
    saved: tuple[aezoo.Autoencoder, str], refit: bool
) -> None:
    first, folder = saved
    starts: list[Tensor] = []
    look = on("on_fit_start", lambda state: starts.append(first_weight(state.ae)))
    ae = train(spec_of(init_from=folder, refit=refit), look, data=images(40))
    assert len(starts) == 1 + refit
    assert all(torch.equal(weight, first_weight(first)) for weight in starts)
    assert not torch.equal(first_weight(ae), starts[0])
    sha256 = hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()
    assert ae.training_record["init_from"] == {"name": folder, "sha256": sha256}


class ZeroStart(aezoo.Callback):
    def on_fit_start(self, state: aezoo.TrainingState) -> None:
        if state.step == 0:
            for parameter in state.ae.parameters():
                parameter.data.zero_()


class ZeroStartSpec(aezoo.CallbackSpec):
    kind: Literal["zero_start"] = "zero_start"

    def build(self) -> ZeroStart:
        return ZeroStart()


@pytest.mark.parametrize("refit", [False, True])
def test_callbacks_of_the_recipe_do_not_replace_loaded_weights(
    saved: tuple[aezoo.Autoencoder, str], refit: bool
) -> None:
    first, folder = saved
    starts: list[Tensor] = []
    look = on("before_step", lambda state: starts.append(first_weight(state.ae)) if state.step == 0 else None)
    callbacks = [{"kind": "history", "path": str(Path(folder).parent / "log")}, ZeroStartSpec()]
    text = "init-from: recipe.callbacks.1: zero_start initializes weights that recipe.init_from has loaded; "
    with pytest.warns(aezoo.DiagnosticWarning, match=text):
        train(spec_of(init_from=folder, refit=refit, callbacks=callbacks), look, data=images(40))
    assert len(starts) == 1 + refit
    assert all(torch.equal(weight, first_weight(first)) for weight in starts)


def test_callbacks_of_the_caller_may_replace_loaded_weights(saved: tuple[aezoo.Autoencoder, str]) -> None:
    starts: list[Tensor] = []
    look = on("before_step", lambda state: starts.append(first_weight(state.ae)) if state.step == 0 else None)
    train(spec_of(init_from=saved[1]), ZeroStart(), look, data=images(40))
    assert (starts[0] == 0).all()


def test_pca_is_refused_after_init_from(saved: tuple[aezoo.Autoencoder, str]) -> None:
    spec = spec_of(**LINEAR, init_from=saved[1], stages=[stage(1), {"kind": "pca"}])
    text = "^recipe.stages.1: pca would replace the weights of recipe.init_from$"
    with pytest.raises(aezoo.SpecError, match=text):
        train(spec)


def test_init_from_another_architecture_is_rejected(saved: tuple[aezoo.Autoencoder, str]) -> None:
    spec = spec_of(init_from=saved[1]).replace({"encoder.1.out_features": 9})
    with pytest.raises(aezoo.SpecError) as caught:
        train(spec, data=images(40))
    assert str(caught.value) == (
        "recipe.init_from: another architecture: decoder.0.linear.weight is (36, 8) in "
        f"{saved[1]}, (36, 9) here"
    )


def test_init_from_an_unknown_variant_is_rejected_before_data_are_read() -> None:
    with pytest.raises(aezoo.UnknownVariantError, match="did you mean 'sparse-topk16'"):
        train(spec_of(init_from="sparse-topk17"), data=object())


# -- precision ----------------------------------------------------------------------------------------


def test_autocast_runs_layers_in_bfloat16_and_keeps_float32_weights() -> None:
    dtypes: list[tuple[torch.dtype, ...]] = []

    def look(state: aezoo.TrainingState) -> None:
        def after(module: Any, inputs: Any, out: Tensor) -> None:
            dtypes.append((out.dtype, module.weight.dtype))
            handle.remove()

        handle = state.ae.encoder[1].get_submodule("linear").register_forward_hook(after)

    ae = train(spec_of(autocast="bf16"), on("before_step", look), data=images(40))
    assert set(dtypes) == {(torch.bfloat16, torch.float32)}
    assert {p.dtype for p in ae.parameters()} == {torch.float32}
    plain = train(spec_of(), data=images(40))
    assert not torch.equal(first_weight(ae), first_weight(plain))
    expected = plain.metrics["mse.validation"]["value"]
    assert ae.metrics["mse.validation"]["value"] == pytest.approx(expected, rel=0.01)


# -- devices ------------------------------------------------------------------------------------------

DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("autocast", [None, "bf16"])
def test_every_available_device_trains(device: str, autocast: str | None) -> None:
    spec = spec_of(autocast=autocast, refit=True)
    ae = aezoo.train(spec, images(40), device=device, progress=False)
    assert {p.device.type for p in ae.parameters()} == {device}
    assert ae.training_record["device"].startswith(device)
    assert ae(images(2).to(device)).x_hat.isfinite().all()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "hpu", "vulkan", ""])
def test_unavailable_devices_are_rejected_in_one_line(device: str) -> None:
    with pytest.raises(aezoo.TrainingError) as caught:
        aezoo.train(spec_of(), IMAGES, device=device, progress=False)
    text = str(caught.value)
    assert text.startswith(f"device {device} is not available: ")
    assert "\n" not in text
    assert len(text) < 300


def test_auto_picks_an_available_device() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")


# -- refusals -----------------------------------------------------------------------------------------


def test_a_recipe_without_a_dataset_needs_data() -> None:
    text = r"^the recipe names no dataset; give data to train, or set recipe\.dataset$"
    with pytest.raises(aezoo.TrainingError, match=text):
        train(spec_of(), data=None)


def test_a_single_row_cannot_be_split() -> None:
    with pytest.raises(aezoo.DataError, match="1 sample is too few to hold one out for validation"):
        train(spec_of(), data=IMAGES[:1])


def test_max_parameters_limits_the_network() -> None:
    with pytest.raises(aezoo.SpecError, match="parameters are more than the 100 allowed"):
        aezoo.train(spec_of(), IMAGES, progress=False, max_parameters=100)


# -- the progress bar ---------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}], ids=["plain", "FORCE_COLOR"])
def test_progress_is_a_line_for_each_epoch_without_a_terminal(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    aezoo.train(spec_of(refit=True), IMAGES, device="cpu", progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.isprintable() or "\x1b" not in err
    assert [line.partition(": mse")[0] for line in err.splitlines()] == [
        f"{name}, stage 0: epoch {epoch} of 2" for name in ("training", "refit on all") for epoch in (1, 2)
    ]


@pytest.mark.parametrize("progress", [True, False])
def test_progress_bar_on_a_terminal(progress: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    aezoo.train(spec_of(refit=True), IMAGES, device="cpu", progress=progress)
    shown = [title in terminal.getvalue() for title in ("training, stage 0", "refit on all, stage 0")]
    assert shown == [progress] * 2
