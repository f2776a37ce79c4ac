"""Verification of published numbers: the same, different, missing, of other data."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.errors import DataError
from aezoo.evaluation.protocols import PROTOCOLS
from tests.zoo.conftest import Run, run

__all__ = ["run"]

VARIANT = "conv-strided"
pytestmark = pytest.mark.data


@pytest.fixture
def folder(tmp_path: Path, repository: Path) -> Path:
    return shutil.copytree(repository / "zoo" / VARIANT, tmp_path / VARIANT)


def edit(folder: Path, name: str, **changes: Any) -> None:
    """Change an entry of `metrics.json`."""
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics[name] = {**metrics.get(name, metrics["mse"]), **changes}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def verdicts(folder: Path, **options: Any) -> dict[str, Any]:
    return {verdict.metric: verdict for verdict in aezoo.verify(aezoo.load(folder), **options)}


# The numbers of every variant are recomputed by tests/zoo/test_variants.py.
@pytest.mark.parametrize("name", ["anomaly-0", "linear-32", "sparse-topk16.fashion"])
def test_published_numbers_are_recomputed(name: str) -> None:
    ae = aezoo.load(name)
    found = aezoo.verify(ae, protocols=False)
    assert {verdict.verdict for verdict in found} == {"same"}
    assert all(verdict.tolerance == 1e-5 for verdict in found)
    by_protocol = {key for protocol in PROTOCOLS.values() for key in protocol.gives}
    computed = {key for key, entry in ae.metrics.items() if entry["source"] == "computed"}
    assert {verdict.metric for verdict in found} == computed - by_protocol


def test_a_number_of_a_protocol_is_recomputed(repository: Path) -> None:
    ae = aezoo.load("sparse-topk16")
    (found,) = [verdict for verdict in aezoo.verify(ae) if verdict.metric == "active_latents"]
    assert (found.verdict, found.tolerance) == ("same", 1e-4)
    assert found.computed == pytest.approx(ae.metrics["active_latents"]["value"])


def test_changed_weights_differ_in_every_number_that_depends_on_them(folder: Path) -> None:
    ae = aezoo.load(folder)
    metrics = ae.metrics
    with torch.no_grad():
        next(ae.parameters()).mul_(1.5)
    ae.metrics = metrics
    found = {verdict.metric: verdict.verdict for verdict in aezoo.verify(ae)}
    assert found["mse"] == found["sse"] == found["fvu"] == "differs"
    assert found["l0"] == "same"


@pytest.mark.parametrize(("factor", "verdict"), [(1 + 9e-6, "same"), (1 + 2e-5, "differs"), (-1, "differs")])
def test_the_tolerance_is_relative(folder: Path, factor: float, verdict: str) -> None:
    published = aezoo.load(folder).metrics["mse"]["value"]
    edit(folder, "mse", value=published * factor)
    found = verdicts(folder)["mse"]
    assert found.verdict == verdict
    assert found.published == published * factor
    assert found.difference == pytest.approx(abs(1 / factor - 1), rel=1e-2)


def test_missing_and_unknown_numbers(folder: Path) -> None:
    edit(folder, "mse", value=None, reason="not measured")
    edit(folder, "elbo", value=3.0)
    found = verdicts(folder)
    assert (found["mse"].verdict, found["mse"].reason) == ("differs", "null is published")
    assert (found["elbo"].verdict, found["elbo"].reason) == ("not measured", "no metric of this name applies")


def test_recorded_numbers_are_not_compared(folder: Path) -> None:
    assert "train_seconds" in aezoo.load(folder).metrics
    assert "train_seconds" not in verdicts(folder)


def test_a_folder_without_numbers_or_data_is_refused(folder: Path) -> None:
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(DataError, match=r"nothing to verify: metrics\.json has no computed number"):
        verdicts(folder)


def test_the_command_prints_verdicts_and_exits_with_1(folder: Path, run: Run) -> None:
    code, out, _ = run("verify", str(folder))
    assert code == 0
    assert "fvu" in out
    edit(folder, "mse", value=0.5)
    code, out, _ = run("verify", str(folder), "--json")
    assert code == 1
    (wrong,) = [entry for entry in json.loads(out)[str(folder)] if entry["verdict"] != "same"]
    assert (wrong["metric"], wrong["published"]) == ("mse", 0.5)
    assert run("verify")[0] == 2
    assert run("verify", str(folder), "--all")[0] == 2


def test_other_data_are_said_with_exit_code_1(folder: Path, run: Run) -> None:
    record = json.loads((folder / "training.json").read_text())
    record["data"]["name"] = "fashion_mnist"
    (folder / "training.json").write_text(json.dumps(record))
    code, _, err = run("verify", str(folder))
    assert code == 1
    assert "other-data" in err
    assert "the network was trained on fashion_mnist, not on the dataset of its recipe (mnist)" in err
