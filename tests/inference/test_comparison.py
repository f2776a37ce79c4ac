"""Comparisons: the same samples, the same units, PCA at equal latents, and what may be dominated."""

import json
from pathlib import Path

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Generator, Tensor

import aezoo
from aezoo.data.transforms import Scaler
from aezoo.errors import AezooError, CheckpointError, DataError, NotSupportedError
from aezoo.inference import comparison as module
from aezoo.plots import non_dominated
from tests.zoo.conftest import Run, run

__all__ = ["run"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def network(
    values: int = 6, latents: int = 2, *, k: int | None = None, name: str = "toy", seed: int = 1
) -> aezoo.Autoencoder:
    sparse = [] if k is None else [{"kind": "topk", "k": k}]
    spec = {
        "name": name, "summary": "A network for tests.", "input": {"shape": [values]},
        "encoder": [{"kind": "linear", "out_features": latents}, *sparse],
        "decoder": [{"kind": "linear", "out_features": values}],
        "recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1}]},
    }  # fmt: skip
    return aezoo.build(aezoo.VariantSpec.model_validate(spec), seed=seed)


@pytest.fixture
def train() -> Tensor:
    return normal(500, 6) @ normal(6, 6, seed=2) + 3


@pytest.fixture
def test() -> Tensor:
    return normal(300, 6, seed=1) @ normal(6, 6, seed=2) + 3


@torch.no_grad()
def test_errors_are_those_of_the_samples_and_of_scikit_learn(train: Tensor, test: Tensor) -> None:
    dense, sparse = network(), network(latents=5, k=3, name="sparse")
    found = aezoo.compare([dense, sparse], test, fit=train, batch_size=128)
    assert [row.name for row in found.rows] == ["toy", "sparse", "PCA (2)", "PCA (3)", "PCA (5)"]
    assert found.n == 300
    distance = float((test - train.mean(0)).square().sum())
    for row, ae in zip(found.rows, (dense, sparse), strict=False):
        out = ae(test)
        squared = float((out.x_hat - test).square().sum().detach())
        assert row.mse == pytest.approx(squared / test.numel(), rel=1e-5)
        assert row.fvu == pytest.approx(squared / distance, rel=1e-4)
        assert row.l0 == float((out.latents != 0).float().sum(1).mean())
        assert (row.latents, row.parameters) == (ae.num_latents, ae.num_parameters)
    for row in found.rows[2:]:
        pca = PCA(row.latents).fit(train.double().numpy())
        rest = pca.inverse_transform(pca.transform(test.double().numpy())) - test.double().numpy()
        assert row.mse == pytest.approx(float((rest**2).mean()), rel=1e-5)
        assert (row.l0, row.parameters) == (row.latents, 6 * row.latents + 6)
    assert all(row.milliseconds > 0 for row in found.rows)
    shown = found.samples
    assert list(shown) == ["input", "toy", "sparse", "PCA (2)", "PCA (3)", "PCA (5)"]
    assert torch.allclose(shown["toy"].float(), dense(shown["input"].float()).x_hat, atol=1e-5)
    better = [(a - shown["input"]).square().sum() for a in (shown["PCA (5)"], shown["PCA (2)"])]
    assert better[0] < better[1]


def test_wide_samples_are_decomposed_from_fewer(
    train: Tensor, test: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_VALUES", 5)
    found = aezoo.compare([network(latents=2)], test, fit=train)
    pca = PCA(2).fit(train[:5].double().numpy())
    rest = pca.inverse_transform(pca.transform(test.double().numpy())) - test.double().numpy()
    assert found.rows[1].mse == pytest.approx(float((rest**2).mean()), rel=1e-5)


def test_pca_with_all_components_is_left_out(train: Tensor, test: Tensor) -> None:
    found = aezoo.compare([network(latents=6), network(latents=9, name="wide")], test, fit=train)
    assert [row.name for row in found.rows] == ["toy", "wide"]


def test_networks_of_one_name_are_told_apart(train: Tensor, test: Tensor) -> None:
    found = aezoo.compare([network(), network(seed=2), network(seed=3)], test, fit=train)
    assert [row.name for row in found.rows] == ["toy", "toy (2)", "toy (3)", "PCA (2)"]
    assert len({row.mse for row in found.rows}) == 4


@torch.no_grad()
def test_standardized_networks_are_compared_in_one_unit(train: Tensor, test: Tensor) -> None:
    plain, scaled = network(), network(seed=2)
    scaled.scaler = Scaler.fit(train.double())
    found = aezoo.compare([plain, scaled], test, fit=train)
    scale = scaled.scaler.scale
    x_hat = scaled.transforms().inverse(scaled(scaled.transforms()(test)).x_hat)
    assert found.rows[0].mse == pytest.approx(
        float(((plain(test).x_hat - test) / scale).square().mean()), rel=1e-5
    )
    assert found.rows[1].mse == pytest.approx(float(((x_hat - test) / scale).square().mean()), rel=1e-5)
    assert found.units == "standard deviations of the training data of toy (2)"


def test_columns_are_matched_by_name(train: Tensor, test: Tensor) -> None:
    # The same network twice, the second with the columns in another order and weights to match.
    first, second = network(), network()
    order = [3, 1, 0, 2, 5, 4]
    first.columns = tuple("abcdef")
    second.columns = tuple("abcdef"[i] for i in order)
    state = first.state_dict()
    state["encoder.0.linear.weight"] = state["encoder.0.linear.weight"][:, order]
    for name in ("weight", "bias"):
        if (key := f"decoder.0.linear.{name}") in state:
            state[key] = state[key][order]
    second.load_state_dict(state)
    table = {name: test[:, i].numpy() for i, name in enumerate("abcdef")}
    fit = {name: train[:, i].numpy() for i, name in enumerate("abcdef")}
    found = aezoo.compare([first, second], table, fit=fit)
    assert found.rows[0].mse == pytest.approx(found.rows[1].mse, rel=1e-6)
    assert torch.allclose(found.samples["toy"], found.samples["toy (2)"], atol=1e-5)


@torch.no_grad()
def test_images_of_different_ranges_are_compared_in_one_unit() -> None:
    def image_network(low: float) -> aezoo.Autoencoder:
        spec = {
            "input": {"shape": [1, 4, 4], "range": [low, 1]},
            "encoder": [{"kind": "flatten"}, {"kind": "linear", "out_features": 3}],
            "decoder": [{"kind": "linear", "out_features": 16}, {"kind": "unflatten", "shape": [1, 4, 4]}],
        }  # fmt: skip
        return aezoo.build(aezoo.AutoencoderSpec.model_validate(spec), seed=1)

    data = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=Generator().manual_seed(0))
    unit, wide = image_network(0), image_network(-1)
    found = aezoo.compare([unit, wide], data, fit=data)
    x = data.float() / 255
    assert found.rows[0].mse == pytest.approx(float((unit(x).x_hat - x).square().mean()), rel=1e-5)
    x_hat = (wide(2 * x - 1).x_hat + 1) / 2
    assert found.rows[1].mse == pytest.approx(float((x_hat - x).square().mean()), rel=1e-5)
    assert found.value_range == (0.0, 1.0)


def test_one_sample_and_equal_samples(train: Tensor) -> None:
    found = aezoo.compare([network()], train[:1], fit=train)
    assert found.n == 1
    equal = aezoo.compare([network()], torch.ones(5, 6), fit=torch.ones(3, 6))
    assert equal.rows[0].fvu is None
    assert equal.rows[1].mse == pytest.approx(0, abs=1e-12)
    assert equal.plot_pareto() is not None


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: aezoo.compare([], torch.zeros(2, 6)), NotSupportedError, "at least one"),
        (lambda: aezoo.compare("fc-64"), NotSupportedError, "a list of at least one"),
        (lambda: aezoo.compare([network()], torch.zeros(2, 6)), DataError, "--fit DATA"),
        (lambda: aezoo.compare([network()]), DataError, "names no dataset"),
        (lambda: aezoo.compare([network(), network(5)], torch.zeros(2, 6)), DataError, "different shapes: [6] and [5]"),
        (lambda: aezoo.compare([network()], torch.zeros(2, 5), fit=torch.zeros(2, 6)), DataError, "expected samples of shape [6]"),
        (lambda: aezoo.compare(["fc-64", "swissroll-2"]), DataError, "inputs of different shapes"),
        (lambda: aezoo.compare(["fc-64", "fc-64.fashion"]), DataError, "name different datasets"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said_in_one_line(make, kind: type[AezooError], words: str) -> None:
    with pytest.raises(kind) as error:
        make()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_target_of_its_own_is_refused() -> None:
    spec = {
        "input": {"shape": [4]}, "target": {"shape": [2]},
        "encoder": [{"kind": "linear", "out_features": 2}], "decoder": [{"kind": "linear", "out_features": 2}],
    }  # fmt: skip
    ae = aezoo.build(aezoo.AutoencoderSpec.model_validate(spec))
    with pytest.raises(NotSupportedError, match="its target is not its input"):
        aezoo.compare([ae], torch.zeros(3, 4))


def test_non_dominated_points() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.0), (4.0, 1.0), (4.0, 1.0)]
    assert non_dominated(points) == [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0), (4.0, 1.0)]


def test_a_comparison_is_saved_whole_or_not_at_all(train: Tensor, test: Tensor, tmp_path: Path) -> None:
    found = aezoo.compare([network()], test, fit=train)
    folder = found.save(tmp_path / "x" / "out")
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.json", "pareto.png", "samples.png"]
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    assert rows[0]["mse"] == found.rows[0].mse
    with pytest.raises(CheckpointError, match="--force"):
        found.save(folder)
    found.save(folder, force=True)
    (folder / "mine.txt").write_text("kept")
    with pytest.raises(CheckpointError, match="holds other files"):
        found.save(folder, force=True)
    assert (folder / "mine.txt").read_text() == "kept"
    with pytest.raises(CheckpointError, match="is a file"):
        found.save(folder / "mine.txt")


@pytest.mark.slow
@pytest.mark.data
def test_default_data_give_the_published_numbers(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("compare", "pca-32", "sparse-topk16", "-o", "out", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)["rows"]}
    # The published variant pca-32 is PCA with 32 components.
    assert list(rows) == ["pca-32", "sparse-topk16", "PCA (16)", "PCA (32)", "PCA (64)"]
    assert rows["PCA (32)"]["mse"] == pytest.approx(rows["pca-32"]["mse"], rel=1e-5)
    for name in ("pca-32", "sparse-topk16"):
        for metric in ("mse", "fvu", "l0"):
            value = aezoo.load(name).metrics[metric]["value"]
            assert rows[name][metric] == pytest.approx(value, rel=1e-5), (name, metric)
        assert rows[name]["weights_sha256"] == aezoo.load(name).source.sha256
    assert (tmp_path / "out" / "samples.png").is_file()
    code, out, _ = run("compare", "fc-64", "-o", "out")
    assert (code, out) == (1, "")
    code, out, _ = run("compare", "fc-64", "--on", "mnist:validation", "--quiet")
    assert code == 0
    assert "pca: fitted to mnist:train and validation" in out
