"""Networks that were changed after they were trained or measured: what their folders, cards and pushes say."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.data.transforms import Scaler
from aezoo.zoo.model_card import card
from aezoo.zoo.push import plan_push
from aezoo.zoo.save import CHANGED, record_metrics
from aezoo.zoo.schema import METRICS, TRAINING
from tests.parts import in_parts
from tests.raising import raises
from tests.zoo.folders import contents, metric, network

Change = Callable[[aezoo.Autoencoder], object]


def zero_weights(ae: aezoo.Autoencoder) -> None:
    for parameter in ae.parameters():
        parameter.data.zero_()


def step(ae: aezoo.Autoencoder) -> None:
    ae(torch.rand(2, 1, 6, 6)).x_hat.sum().backward()
    torch.optim.SGD(ae.parameters(), 0.1).step()


def set_scaler(ae: aezoo.Autoencoder) -> None:
    ae.scaler = Scaler(torch.zeros(1, 6, 6), torch.ones(1, 6, 6))


def set_mean(ae: aezoo.Autoencoder) -> None:
    ae.target_mean = torch.zeros(1, 6, 6)


def set_columns(ae: aezoo.Autoencoder) -> None:
    ae.columns = tuple(f"c{i}" for i in range(36))


def edit_recipe(ae: aezoo.Autoencoder) -> None:
    ae.spec = ae.spec.replace({"recipe.seed": 77})


CHANGES: list[Change] = [
    zero_weights,
    step,
    set_scaler,
    set_mean,
    set_columns,
    edit_recipe,
    lambda ae: ae.load_state_dict(network(seed=9).state_dict()),
    lambda ae: ae.half(),
]
UNCHANGED: list[Change] = [
    lambda ae: None,
    lambda ae: ae.double(),
    lambda ae: ae.train(),
    lambda ae: setattr(ae, "spec", ae.spec.replace({"name": "another", "summary": "Another."})),
]


def records(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return json.loads((folder / METRICS).read_text()), json.loads((folder / TRAINING).read_text())


@pytest.fixture(params=["as trained", "loaded", "deep copy", "pickled"])
def measured(request: pytest.FixtureRequest, tmp_path: Path) -> aezoo.Autoencoder:
    ae = network()
    if request.param == "loaded":
        return aezoo.load(aezoo.save(ae, tmp_path / "first"))
    if request.param == "deep copy":
        return copy.deepcopy(ae)
    return pickle.loads(pickle.dumps(ae)) if request.param == "pickled" else ae


@pytest.mark.parametrize("change", in_parts(CHANGES, 2))
def test_metrics_of_another_network_are_saved_as_null(
    measured: aezoo.Autoencoder, tmp_path: Path, change: Change
) -> None:
    change(measured)
    metrics, training = records(aezoo.save(measured, tmp_path / "mine"))
    assert metrics["mse"] == metric(0.25) | {"value": None, "reason": CHANGED}
    assert "modified" in training
    assert training["seed"] == 1


@pytest.mark.parametrize("change", UNCHANGED)
def test_metrics_of_the_same_network_are_kept(
    measured: aezoo.Autoencoder, tmp_path: Path, change: Change
) -> None:
    change(measured)
    assert records(aezoo.save(measured, tmp_path / "mine")) == ({"mse": metric(0.25)}, {"seed": 1})


def test_metrics_assigned_after_the_change_are_kept(tmp_path: Path) -> None:
    ae = network()
    zero_weights(ae)
    ae.metrics = {"mse": metric(0.5)}
    metrics, training = records(aezoo.save(ae, tmp_path / "mine"))
    assert metrics == {"mse": metric(0.5)}
    assert "modified" in training


def test_metrics_recorded_for_the_changed_folder_are_kept(tmp_path: Path) -> None:
    ae = network()
    zero_weights(ae)
    folder = aezoo.save(ae, tmp_path / "mine")
    record_metrics(folder, {"mse": metric(0.5)})
    again, training = records(aezoo.save(aezoo.load(folder), tmp_path / "again"))
    assert again == {"mse": metric(0.5)}
    assert "modified" in training


def test_a_changed_network_is_pushed_only_when_asked(tmp_path: Path) -> None:
    ae = network()
    zero_weights(ae)
    folder = aezoo.save(ae, tmp_path / "mine")
    assert "**Modified**" in card(folder)
    before = contents(folder)
    with raises("modified", "--allow-modified"):
        plan_push(folder, org="ann")
    assert contents(folder) == before
    assert plan_push(folder, org="ann", allow_modified=True).repository.startswith("ann/")
