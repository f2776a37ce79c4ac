"""The second load of a variant, which uses what the first has checked, is as independent as the first."""

import copy
import json
import pickle
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.errors import SpecError
from aezoo.model.prototype import copy_with, is_copyable
from aezoo.zoo import verify

NAMES = ("fc-64", "conv-fc", "vae-16", "sparse-topk16", "overcomplete-topk", "swissroll-2")


@pytest.mark.parametrize("name", NAMES)
def test_networks_share_nothing(name: str) -> None:
    first, second = aezoo.load(name), aezoo.load(name)
    assert first is not second
    modules = {id(module) for module in first.modules()}
    assert not modules & {id(module) for module in second.modules()}
    pointers = {tensor.data_ptr() for tensor in first.state_dict().values() if tensor.numel()}
    assert not pointers & {tensor.data_ptr() for tensor in second.state_dict().values() if tensor.numel()}
    before = {key: value.clone() for key, value in second.state_dict().items()}
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    first.encoder.register_forward_hook(lambda *_: None)
    first.metrics["mse"]["value"] = -1.0
    first.train()
    third = aezoo.load(name)
    for ae in (second, third):
        assert all(torch.equal(value, before[key]) for key, value in ae.state_dict().items())
        assert ae.metrics["mse"]["value"] != -1.0
        assert not ae.training
        assert not ae.encoder._forward_hooks
        assert all(parameter.requires_grad and parameter.is_leaf for parameter in ae.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_network_is_the_built_one(name: str) -> None:
    copied, built = aezoo.load(name), aezoo.build(aezoo.load(name).spec)
    built.target_mean = copied.target_mean
    built.load_state_dict(copied.state_dict(), strict=False)
    assert repr(copied) == repr(built)
    assert [type(m) for m in copied.modules()] == [type(m) for m in built.modules()]
    for ours, theirs in zip(copied.modules(), built.modules(), strict=True):
        assert vars(ours).keys() == vars(theirs).keys()
    x = torch.rand(3, *copied.spec.input.shape)
    with torch.no_grad():
        assert torch.equal(copied(x).x_hat, built.eval()(x).x_hat)


def test_limits_hold_for_what_is_loaded_already() -> None:
    aezoo.load("fc-64")
    with pytest.raises(aezoo.CheckpointError, match="more than the 1,000 allowed"):
        aezoo.load("fc-64", max_parameters=1000)
    aezoo.load("fc-64")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    for name in ("fc-64", "overcomplete-topk"):
        expected = aezoo.load(name)
        found = aezoo.load(name, dtype=dtype)
        assert {parameter.dtype for parameter in found.parameters()} == {dtype}
        for (key, a), b in zip(found.named_parameters(), expected.parameters(), strict=True):
            assert torch.equal(a, b.to(dtype)), key


def test_modules_of_other_packages_are_built_again(fresh_registry: None) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.run = lambda h: h * self.weight

        def forward(self, h: Tensor) -> Tensor:
            return self.run(h)

    network = nn.Sequential(Scale())
    assert not is_copyable(network)
    shared = nn.Linear(2, 2)
    assert not is_copyable(nn.Sequential(shared, shared))
    assert is_copyable(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_a_copy_keeps_what_modules_hold() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.BatchNorm1d(3, momentum=0.3), nn.Sequential(nn.Linear(3, 2, bias=False)))
    module[1][0].weight.requires_grad_(False)
    tensors = {name: torch.randn(t.shape).to(t.dtype) for name, t in module.state_dict().items()}
    copied = copy_with(module, tensors)
    assert copied[0].momentum == 0.3
    assert not copied[1][0].weight.requires_grad
    assert copied.state_dict().keys() == module.state_dict().keys()
    assert all(copied.state_dict()[name] is not module.state_dict()[name] for name in tensors)
    assert not any(tensor.is_meta for tensor in copied.state_dict().values())
    with pytest.raises(KeyError):
        copy_with(module, {})


def test_a_kind_that_is_registered_again_is_built_again(tmp_path: Path, fresh_registry: None) -> None:
    def register(factor: float) -> None:
        class Times(nn.Module):
            def forward(self, h: Tensor) -> Tensor:
                return factor * h

        @aezoo.register
        class TimesSpec(aezoo.LayerSpec):
            """Multiplies."""

            kind: Literal["times"] = "times"

            def build(self, in_shape: tuple[int, ...]) -> nn.Module:
                return Times()

    register(2.0)
    spec = aezoo.AutoencoderSpec.model_validate({
        "input": {"shape": [3]}, "encoder": ["times"], "decoder": [{"kind": "linear", "out_features": 3}],
    })  # fmt: skip
    aezoo.save(aezoo.build(spec), tmp_path / "saved")
    assert aezoo.load(tmp_path / "saved").encode(torch.ones(1, 3)).tolist() == [[2.0, 2.0, 2.0]]
    register(3.0)
    assert aezoo.load(tmp_path / "saved").encode(torch.ones(1, 3)).tolist() == [[3.0, 3.0, 3.0]]


def test_a_changed_folder_is_checked_again(tmp_path: Path) -> None:
    ae = aezoo.build(aezoo.get_spec("fc-16"))
    aezoo.save(ae, tmp_path / "saved")
    aezoo.load(tmp_path / "saved")
    with torch.no_grad():
        next(ae.parameters()).add_(1)
    aezoo.save(ae, tmp_path / "saved", overwrite=True)
    assert torch.equal(next(aezoo.load(tmp_path / "saved").parameters()), next(ae.parameters()))
    config = tmp_path / "saved" / "config.json"
    data = json.loads(config.read_text())
    data["latents"] += 1
    config.write_text(json.dumps(data))
    for _ in range(2):
        with pytest.raises(aezoo.CheckpointError, match="latents: 17 is recorded"):
            aezoo.load(tmp_path / "saved")


# -- records ------------------------------------------------------------------------------------------


def test_records_are_read_when_they_are_used() -> None:
    ae = aezoo.load("fc-64")
    assert ae.history == ae.training_record["history"]
    assert ae.metrics["mse"]["value"] == aezoo.get_entry("fc-64")["metrics"]["mse"]
    assert ae.describes_weights("metrics")
    ae.history = []
    assert ae.history == []
    for again in (pickle.loads(pickle.dumps(aezoo.load("fc-64"))), copy.deepcopy(aezoo.load("fc-64"))):
        assert again.metrics == ae.metrics
        assert again.describes_weights("training_record")


@pytest.mark.parametrize("change", ["in place", "by numpy", "data", "spec", "columns"])
def test_a_change_is_noticed_without_a_hash_at_the_load(change: str, tmp_path: Path) -> None:
    ae = aezoo.load("fc-64")
    weight = ae.encoder[1].linear.weight
    with torch.no_grad():
        if change == "in place":
            weight[0, 0] += 1
        elif change == "by numpy":
            weight.detach().numpy()[0, 0] += 1
        elif change == "data":
            weight.data[0, 0] += 1
    if change == "spec":
        ae.spec = ae.spec.replace({"recipe.batch_size": 7})
    if change == "columns":
        ae.columns = tuple(map(str, range(784)))
    assert not ae.describes_weights("metrics")
    assert not ae.describes_weights("training_record")


def test_weights_whose_file_is_gone_keep_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aezoo.save(aezoo.load("fc-64"), tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    ae, other, copied = (aezoo.load("./saved") for _ in range(3))
    again = copy.deepcopy(copied)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert ae.describes_weights("metrics")
    (tmp_path / "saved" / "model.safetensors").unlink()
    assert again.describes_weights("metrics")
    with torch.no_grad():
        other.encoder[1].linear.weight[0, 0] += 1
    assert not other.describes_weights("metrics")
    unchanged = copied
    assert unchanged.describes_weights("metrics")
    aezoo.save(unchanged, tmp_path / "new")
    assert aezoo.load(tmp_path / "new").metrics == ae.metrics


# -- threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_every_value_is_checked(dtype: torch.dtype) -> None:
    x = torch.ones(70_000, dtype=dtype)
    verify.check_values({"x": x, "n": torch.tensor([2**40])})
    x[:] = torch.finfo(dtype).max
    verify.check_values({"x": x})  # whose sum is infinite
    verify.check_values({"x": -x.view(-1, 7).t()})
    for bad in (torch.inf, -torch.inf, torch.nan):
        x[12_345] = bad
        with pytest.raises(aezoo.CheckpointError, match="x has 1 values that are NaN or infinite"):
            verify.check_values({"x": x})


def test_several_threads_load_at_once() -> None:
    found: list[Any] = []

    def load() -> None:
        found.append([next(aezoo.load(name).parameters()).sum().item() for name in NAMES[:3]])

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.allclose(np.array(found), [found[0]] * 4)


def test_the_limit_of_parameters_names_what_to_raise() -> None:
    with pytest.raises(SpecError, match="raise max_parameters or AEZOO_MAX_PARAMETERS"):
        aezoo.build(aezoo.get_spec("fc-64"), max_parameters=10)
