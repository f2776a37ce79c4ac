"""A recipe that is run again: the published bits, or numbers that agree with those of several seeds."""

import json
from pathlib import Path
from typing import Any

import pytest

import aezoo
from aezoo.errors import DataError, NotSupportedError
from tests.data.networks import train_quietly as quietly
from tests.zoo.conftest import Run, run

__all__ = ["run"]


def variant(seed: int = 0, epochs: int = 3, **recipe: Any) -> aezoo.VariantSpec:
    return aezoo.VariantSpec.model_validate({
        "name": "roll", "summary": "A network for tests.", "input": {"shape": [3]},
        "encoder": [{"kind": "linear", "out_features": 8, "activation": "relu"}, {"kind": "linear", "out_features": 2}],
        "decoder": [{"kind": "linear", "out_features": 8, "activation": "relu"}, {"kind": "linear", "out_features": 3}],
        "recipe": {
            "dataset": {"kind": "swiss_roll", "count": 300}, "reconstruction": "mse", "batch_size": 32,
            "stages": [{"kind": "fit", "epochs": epochs}], "seed": seed, "threads": 1,
        } | recipe,
    })  # fmt: skip


def published(folder: Path, spec: aezoo.VariantSpec, **record: Any) -> aezoo.Autoencoder:
    """A trained variant that was saved and loaded, with changes to its training record."""
    ae = quietly(spec)
    aezoo.save(ae, folder)
    path = folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | record))
    return aezoo.load(folder)


def with_weights_of(other: aezoo.VariantSpec, folder: Path, **record: Any) -> aezoo.Autoencoder:
    """A variant whose record claims the recipe of `variant()`, with weights and numbers of another recipe."""
    ae = published(folder, variant(), **record)
    trained = quietly(other)
    ae.load_state_dict(trained.state_dict())
    ae.metrics, ae.training_record = trained.metrics, ae.training_record
    return ae


ELSEWHERE = {"cpu_capability": "another"}


def test_the_same_machine_gives_the_same_bits(tmp_path: Path) -> None:
    found = aezoo.verify_training(published(tmp_path / "a", variant()))
    assert (found.verdict, found.reason, found.seeds, found.metrics) == ("identical", "", (0,), ())


def test_the_same_bits_elsewhere_need_no_seeds(tmp_path: Path) -> None:
    found = aezoo.verify_training(published(tmp_path / "a", variant(), **ELSEWHERE))
    assert (found.verdict, found.seeds) == ("identical", (0,))


@pytest.mark.slow
def test_other_bits_on_the_same_machine_differ(tmp_path: Path) -> None:
    # Another seed: numbers alone would not show it.
    found = aezoo.verify_training(with_weights_of(variant(seed=5), tmp_path / "a"))
    assert (found.verdict, found.seeds) == ("differs", (0,))
    assert "the bits differ" in found.reason


def test_elsewhere_the_numbers_of_several_seeds_decide(tmp_path: Path) -> None:
    found = aezoo.verify_training(with_weights_of(variant(seed=5), tmp_path / "a", **ELSEWHERE), seeds=4)
    assert (found.verdict, found.seeds) == ("consistent", (0, 1, 2, 3))
    assert "vector instructions was another" in found.reason
    values = [quietly(variant(seed)).metrics["mse"]["value"] for seed in range(4)]
    (mse,) = [row for row in found.metrics if row.metric == "mse"]
    assert mse.mean == pytest.approx(sum(values) / 4)
    assert mse.sd == pytest.approx((sum((v - mse.mean) ** 2 for v in values) / 3) ** 0.5)
    assert mse.published == quietly(variant(5)).metrics["mse"]["value"]
    # t at 3 degrees of freedom, two-sided 1 % over all numbers, is above that of a single number, 5.84.
    assert mse.limit > 5.84 * mse.sd * 1.25**0.5


@pytest.mark.slow
def test_numbers_that_the_recipe_does_not_give_differ(tmp_path: Path) -> None:
    found = aezoo.verify_training(with_weights_of(variant(epochs=60), tmp_path / "a", **ELSEWHERE), seeds=4)
    assert found.verdict == "differs"
    assert "mse" in found.reason
    assert {row.verdict for row in found.metrics if row.metric in ("mse", "fvu")} == {"differs"}


def test_what_cannot_be_repeated_is_said_before_training(tmp_path: Path) -> None:
    ae = published(tmp_path / "a", variant())
    with pytest.raises(NotSupportedError, match="at least 2"):
        aezoo.verify_training(ae, seeds=1)
    with pytest.raises(NotSupportedError, match="no training to verify"):
        aezoo.verify_training(aezoo.build(variant()))
    ae.encoder[0].linear.weight.data.mul_(2)
    with pytest.raises(NotSupportedError, match="changed after it"):
        aezoo.verify_training(ae)
    data = json.loads((tmp_path / "a" / "training.json").read_text())["data"]
    data["train"]["sha256"] = "0" * 64
    with pytest.raises(DataError, match="cannot be repeated: the train split is not the one"):
        aezoo.verify_training(published(tmp_path / "b", variant(), data=data))


def test_a_recipe_that_writes_elsewhere_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    spec = variant(callbacks=[{"kind": "history", "path": "log.jsonl"}])
    ae = published(tmp_path / "a", spec)
    outside = spec.recipe.model_copy(
        update={"callbacks": (spec.recipe.callbacks[0].model_copy(update={"path": "../log.jsonl"}),)}
    )
    ae.spec = spec.model_copy(update={"recipe": outside})
    monkeypatch.chdir(tmp_path / "here")
    ae.training_record = ae.training_record
    with pytest.raises(aezoo.SpecError, match="outside of the current folder"):
        aezoo.verify_training(ae)


@pytest.mark.slow
def test_the_command(tmp_path: Path, run: Run) -> None:
    published(tmp_path / "a", variant())
    code, out, _ = run("verify", tmp_path / "a", "--retrain")
    assert code == 0
    assert out.splitlines()[-1].endswith("trained again (seed 0), identical, bit for bit")
    ae = with_weights_of(variant(epochs=60), tmp_path / "b", **ELSEWHERE)
    aezoo.save(ae, tmp_path / "c")
    code, out, _ = run("verify", tmp_path / "c", "--retrain", "--seeds", "2", "--json")
    training = json.loads(out)[str(tmp_path / "c")]["training"]
    assert code == (1 if training["verdict"] == "differs" else 0)
    assert training["seeds"] == [0, 1]
    assert {row["metric"] for row in training["metrics"]} >= {"mse", "fvu"}
