"""Figures of latents and dictionaries."""

import math

import numpy as np
import pytest
import torch

import aezoo
from aezoo import plots
from tests.examples import small
from tests.plots.pictures import cut, identity, random, slow_except, texts


def test_a_heat_map_has_a_row_for_each_sample() -> None:
    x = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.5, 0.0]])
    figure = plots.latents(x)
    (image,) = figure.axes[0].images
    found = np.asarray(image.get_array()).astype(int)
    assert found.shape == (2, 3, 4)
    assert found[0, 0, 0] > found[0, 0, 2]
    assert found[0, 2, 2] > found[0, 2, 0]
    np.testing.assert_array_equal(found[0, 1], found[1, 0])
    assert cut(figure) == []


def test_a_heat_map_is_sorted_by_class() -> None:
    x = torch.arange(6.0).view(6, 1)
    labels = torch.tensor([2, 0, 2, 1, 0, 1])
    figure = plots.latents(x, labels)
    heat = np.asarray(figure.axes[0].images[0].get_array())[:, 0, 1].astype(int)
    # Larger values are darker.
    assert list(np.argsort(-heat, kind="stable")) == list(
        np.argsort(x[torch.argsort(labels, stable=True), 0].numpy())
    )
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["0", "1", "2"]
    assert cut(figure) == []


@pytest.mark.parametrize(
    "shape",
    slow_except([(1, 1), (512, 1), (3, 1024), (5, 4, 7, 7), (5, 2, 9), (600, 64)], (1, 1), (5, 4, 7, 7)),
)
@pytest.mark.parametrize("labels", [False, True])
def test_latents_of_every_shape(shape: tuple[int, ...], labels: bool) -> None:
    x = random(*shape) - 0.5
    x = torch.where(x < 0, 0.0, x) if shape[0] == 5 else x
    for figure in (
        plots.latents(x, torch.arange(len(x)) % 10 if labels else None),
        plots.l0_histogram(x),
        plots.activation_histogram(x),
    ):
        assert plots.png(figure)
        assert cut(figure) == []


@pytest.mark.parametrize("value", [0.0, 1.0, -3e38, 1e-42])
def test_latents_of_every_value(value: float) -> None:
    x = torch.full((4, 5), value)
    for figure in (plots.latents(x), plots.l0_histogram(x), plots.activation_histogram(x)):
        assert plots.png(figure)
    wide = torch.tensor([[-3e38, 3e38, 0.0]])
    assert plots.png(plots.activation_histogram(wide.double() * 4e269))


def test_a_histogram_of_l0_counts_samples() -> None:
    x = torch.zeros(4, 8)
    for row, active in enumerate((2, 2, 2, 6)):
        x[row, :active] = 1.0
    figure = plots.l0_histogram(x)
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in figure.axes[0].patches}
    assert bars[2] == 75
    assert bars[6] == 25
    assert sum(bars.values()) == 100
    assert "mean 3 of 8" in texts(figure)


def test_a_histogram_of_activations_counts_values_that_are_not_zero() -> None:
    x = torch.tensor([[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 2.0]])
    figure = plots.activation_histogram(x)
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 3
    assert "62 % are zero" in texts(figure)


X = random(4, 6)
REFUSED = {
    "one axis": (lambda: plots.latents(X[0]), r"expected latents of shape \(batch, latents\), found \[6\]"),
    "no samples": (lambda: plots.l0_histogram(X[:0]), "latents: expected at least one sample"),
    "NaN": (lambda: plots.activation_histogram(X * math.nan), r"the value at index \(0, 0\) is not finite"),
    "labels": (lambda: plots.latents(X, torch.zeros(4)), "labels: expected whole numbers that name classes"),
    "fewer labels": (lambda: plots.latents(X, torch.zeros(3, dtype=torch.long)), "expected 4 labels"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drawn_is_one_line(what: str) -> None:
    draw, words = REFUSED[what]
    with pytest.raises(aezoo.DataError, match=words) as error:
        draw()
    assert "\n" not in str(error.value)


# -- dictionaries -------------------------------------------------------------------------------------


def atoms_of(figure: object, columns: int, count: int) -> list[np.ndarray]:
    whole = np.asarray(figure.axes[0].images[0].get_array()).astype(int)  # type: ignore[attr-defined]
    return [whole[i // columns * 30 :, i % columns * 30 :][:28, :28] for i in range(count)]


def test_a_dictionary_draws_the_decoders_weights() -> None:
    ae = aezoo.load("sparse-topk16")
    figure = plots.dictionary(ae, columns=8, most=20)
    weight = dict(ae.named_parameters())["decoder.0.linear.weight"].detach()
    for index, found in enumerate(atoms_of(figure, 8, 20)):
        atom = weight[:, index].view(28, 28)
        # Red minus blue grows with the weight.
        tone = (found[..., 0] - found[..., 2]).flatten()
        assert np.corrcoef(tone, atom.flatten().numpy())[0, 1] > 0.95
    assert "20 of 64" in figure.get_suptitle()
    assert cut(figure) == []


def test_a_dictionary_is_sorted_by_use() -> None:
    ae = aezoo.load("sparse-topk16")
    use = torch.zeros(64)
    use[[5, 9, 2]] = torch.tensor([0.2, 0.9, 0.5])
    figure = plots.dictionary(ae, use=use, columns=8)
    plain = atoms_of(plots.dictionary(ae, columns=8), 8, 64)
    for found, latent in zip(atoms_of(figure, 3, 3), (9, 2, 5), strict=True):
        np.testing.assert_array_equal(found, plain[latent])
    assert "active in 90 % of the samples (first) to 20 % (last); 61 never" in texts(figure)
    assert cut(figure) == []


@pytest.mark.parametrize(
    "shape", slow_except([(1,), (9,), (40,), (2, 9), (3, 6, 6), (5, 1, 6), (2, 3, 4, 5)], (1,), (3, 6, 6))
)
def test_a_dictionary_of_atoms_of_every_shape(shape: tuple[int, ...]) -> None:
    ae = identity(shape)
    assert plots.png(plots.dictionary(ae))
    with torch.no_grad():
        for p in ae.parameters():
            p.zero_()
    assert plots.png(plots.dictionary(ae))


def test_a_dictionary_needs_a_decoder_of_one_layer() -> None:
    spec = small(decoder=[
        {"kind": "linear", "out_features": 9}, {"kind": "linear", "out_features": 36},
        {"kind": "unflatten", "shape": [1, 6, 6]},
    ])  # fmt: skip
    ae = aezoo.build(aezoo.VariantSpec.model_validate(spec))
    with pytest.raises(aezoo.NotSupportedError, match="only decoders of one linear layer"):
        plots.dictionary(ae)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (torch.ones(3), "use: expected 9 shares, one for each latent, found 3"),
        (torch.full((9,), 2.0), "use: expected shares from 0 to 1, found 2"),
        (torch.full((9,), -0.5), "use: expected shares from 0 to 1, found"),
        (torch.zeros(9), "use: expected at least one latent that is active, found none"),
        (torch.ones(3, 3), r"use: expected shape \(batch,\)"),
    ],
)
def test_shares_are_checked(use: torch.Tensor, words: str) -> None:
    with pytest.raises(aezoo.DataError, match=words):
        plots.dictionary(identity((9,)), use=use)
