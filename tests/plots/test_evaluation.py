"""Figures of trainings, measurements and networks."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aezoo
from aezoo import plots
from aezoo.plots.evaluation import roc_points
from tests.plots.pictures import cut, identity, random, slow_except, texts

# -- trainings ----------------------------------------------------------------------------------------


def record(value: float, **entries: Any) -> dict[str, Any]:
    return {"round": "choose", "stage": 0, "epoch": 1, "train": {"loss": value, "mse": value}, **entries}


def test_a_history_draws_the_terms() -> None:
    records = [
        {**record(3.0), "train": {"loss": 3.0, "mse": 2.0, "vae_kl": 1.0}, "validation": {"loss": 4.0, "mse": 2.5, "vae_kl": 1.5}},
        {**record(2.0), "train": {"loss": 2.0, "mse": 1.0, "vae_kl": 1.0}, "validation": {"loss": 3.0, "mse": 2.0, "vae_kl": 1.0}},
    ]  # fmt: skip
    figure = plots.history(records, title="two epochs")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "mse", "vae_kl"]
    train, validation = figure.axes[1].lines
    np.testing.assert_array_equal(train.get_ydata(), [2.0, 1.0])
    np.testing.assert_array_equal(validation.get_ydata(), [2.5, 2.0])
    assert "validation" in texts(figure)
    assert cut(figure) == []


def test_the_loss_is_drawn_once_if_it_is_the_data_term() -> None:
    figure = plots.history([record(3.0), record(2.0)])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss = mse"]
    assert "validation" not in texts(figure)


def test_stages_pairs_and_the_refit_are_separated() -> None:
    parts = [{"stage": 0, "pair": 1}, {"stage": 0, "pair": 2}, {"stage": 1}, {"stage": 1, "round": "refit"}]
    figure = plots.history([record(1.0 / (i + 1), **part) for part in parts for i in range(30)])
    said = texts(figure)
    for words in ("stage 1, pair 1", "stage 1, pair 2", "stage 2", "refit, stage 2"):
        assert words in said
    # A line for each part, and one between two of them.
    assert len(figure.axes[0].lines) == 4 + 3


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0, 1e30])
@pytest.mark.parametrize("n", [1, 5])
def test_a_history_of_any_values(value: float, n: int) -> None:
    assert plots.png(plots.history([record(1.0), *[record(value)] * n]))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "records: expected at least one epoch, found none"),
        ([{"epoch": 1}], "records: expected 'train' with a number for each term in record 0"),
        ([record(1.0), record(1.0, train=3)], "in record 1, found none"),
    ],
)
def test_records_are_checked(records: list[Any], words: str) -> None:
    with pytest.raises(aezoo.DataError, match=words):
        plots.history(records)


ROOT = Path(__file__).parent.parent.parent
FOLDERS = sorted(
    path.parent for path in [*ROOT.glob("zoo/*/config.json"), *ROOT.glob("plugins/*/*/zoo/*/config.json")]
)
QUICK = {"fc-64", "deep-sparse", "vae-16", "sae-gated"}


@pytest.mark.parametrize(
    "folder",
    [pytest.param(f, id=f.name, marks=() if f.name in QUICK else pytest.mark.slow) for f in FOLDERS],
)
def test_the_history_of_every_variant_is_legible(folder: Path) -> None:
    records = json.loads((folder / "training.json").read_text())["history"]
    if not records:
        pytest.skip("not trained by epochs")
    figure = plots.history(records, title=folder.name)
    assert cut(figure) == []


# -- measurements -------------------------------------------------------------------------------------


def test_errors_are_drawn_by_class() -> None:
    errors, labels = torch.arange(40.0), torch.arange(40) % 4
    figure = plots.class_errors(errors, labels)
    medians = [
        line.get_xdata()[0]
        for line in figure.axes[0].lines
        if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.4
    ]
    assert medians == pytest.approx([18.0, 19.0, 20.0, 21.0])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0", "1", "2", "3"]
    assert cut(figure) == []


@pytest.mark.parametrize("classes", slow_except([1, 2, 10, 40], 2))
@pytest.mark.parametrize("value", [0.0, 1.0, 1e30])
def test_errors_of_any_values(classes: int, value: float) -> None:
    assert plots.png(plots.class_errors(torch.full((40,), value).double(), torch.arange(40) % classes))


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_under_the_curve_is_scikit_learns(ties: bool) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores = random(200).double()
    scores = (10 * scores).round() if ties else scores
    labels = random(2, 200)[1] + 0.3 * scores / scores.max() > 0.6
    assert roc_points(scores, labels)[2] == pytest.approx(
        metrics.roc_auc_score(labels.numpy(), scores.numpy())
    )
    area = metrics.roc_auc_score(labels.numpy(), scores.numpy())
    figure = plots.roc(scores, labels)
    assert f"AUROC {area:.3f}" in texts(figure)
    assert cut(figure) == []


@pytest.mark.parametrize(
    ("scores", "labels", "area"),
    [
        ([1.0, 2.0], [0, 1], 1.0),
        ([2.0, 1.0], [0, 1], 0.0),
        ([1.0, 1.0], [0, 1], 0.5),
        ([3.0, 1.0, 2.0], [1, 0, 0], 1.0),
    ],
)
def test_curves_worked_out_by_hand(scores: list[float], labels: list[int], area: float) -> None:
    assert f"AUROC {area:.3f}" in texts(plots.roc(torch.tensor(scores), torch.tensor(labels)))


E, L = random(6), torch.arange(6)
REFUSED = {
    "one class": (lambda: plots.roc(E, torch.ones(6).long()), "expected anomalies and usual samples, found 6 anomalies of 6"),
    "no anomaly": (lambda: plots.roc(E, torch.zeros(6).bool()), "found 0 anomalies of 6"),
    "other labels": (lambda: plots.roc(E, L), "labels: expected 1 for anomalies and 0 for usual samples"),
    "NaN": (lambda: plots.roc(E * math.nan, L % 2), "is not finite"),
    "errors of pixels": (lambda: plots.class_errors(random(6, 2), L), r"errors: expected shape \(batch,\), found \[6, 2\]"),
    "no classes": (lambda: plots.class_errors(E, random(6)), "labels: expected whole numbers that name classes, found torch.float32"),
    "many classes": (lambda: plots.class_errors(random(50), torch.arange(50)), "labels: expected at most 40 classes, found 50"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drawn_is_one_line(what: str) -> None:
    draw, words = REFUSED[what]
    with pytest.raises(aezoo.DataError, match=words) as error:
        draw()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("costs", slow_except([1, 2, 3, 4], 4))
@pytest.mark.parametrize("names", slow_except([1, 9, 30], 9))
def test_a_figure_of_errors_against_costs(costs: int, names: int) -> None:
    errors = (random(names) + 0.01).tolist()
    values = {f"cost {i}": (1000 * random(names) * 10**i).tolist() for i in range(costs)}
    figure = plots.pareto([f"a variant with a long name {i}" for i in range(names)], errors, values)
    assert len(figure.axes) == costs
    # Points may be close to each other.
    assert [text for text in cut(figure) if "overlaps" not in text] == []


# -- networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    slow_except(["fc-64", "conv-fc", "colorize", "swissroll-2", "overcomplete-topk"], "conv-fc", "colorize"),
)
def test_layers_are_drawn_to_size(name: str) -> None:
    spec = aezoo.get_spec(name)
    figure = plots.layers(spec)
    ae = aezoo.load(name)
    assert plots.png(figure) == plots.png(plots.layers(ae))
    rows = ae.summary()
    encoder = [row for row in rows if row.path.startswith("encoder")]
    sizes = [math.prod(spec.input.shape), *(math.prod(r.output) for r in encoder), ae.num_latents]
    sizes += [math.prod(row.output) for row in rows[len(encoder) :]]
    widths = [bar.get_width() for bar in figure.axes[0].patches if hasattr(bar, "get_width")]
    expected = [max(0.024, math.sqrt(size / max(sizes))) for size in sizes]
    assert widths == pytest.approx(expected)
    assert f"{ae.num_parameters:,} parameters" in figure.get_suptitle()
    assert f"the widest has {max(sizes):,}" in texts(figure)
    assert cut(figure) == []


def test_layers_of_a_deep_network_are_legible() -> None:
    spec = aezoo.VariantSpec.model_validate({
        "name": "deep", "summary": "Deep.", "input": {"shape": [3, 32, 32]},
        "encoder": [
            {"kind": "conv", "repeat": 12, "out_channels": 24, "kernel_size": 3, "padding": 1, "activation": "leaky_relu"},
            "flatten", {"kind": "linear", "repeat": 12, "out_features": 7},
        ],
        "decoder": [{"kind": "linear", "out_features": 3072}, {"kind": "unflatten", "shape": [3, 32, 32]}],
        "recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1}]},
    })  # fmt: skip
    figure = plots.layers(spec)
    assert cut(figure) == []
    assert figure.get_size_inches()[0] < 6


@pytest.mark.parametrize("shape", [(1,), (9,), (2, 9), (5, 1, 6), (2, 3, 4, 5)])
def test_layers_of_networks_of_every_shape(shape: tuple[int, ...]) -> None:
    with plots.theme("dark"):
        figure = plots.layers(identity(shape))
    assert cut(figure) == []
    assert plots.png(figure)
