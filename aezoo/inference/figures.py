"""`plot_to_file`: a figure of a trained autoencoder, drawn from data that it finds by itself."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from aezoo import plots
from aezoo.data.samples import Samples
from aezoo.errors import DataError, NotSupportedError
from aezoo.evaluation.evaluate import dataset_of, load_for, load_split
from aezoo.evaluation.metric import recipe_of
from aezoo.evaluation.metrics.denoising import apply_noises
from aezoo.evaluation.metrics.latents import decoder_atoms
from aezoo.files import write_atomically
from aezoo.inference.network import encode, loaded, squared_errors
from aezoo.inference.outputs import check_output, write_errors
from aezoo.inference.sources import BATCH_SIZE, is_split, open_source, split_samples
from aezoo.model.autoencoder import Autoencoder
from aezoo.text import printable
from aezoo.zoo.demo import sample_digits

if TYPE_CHECKING:
    from aezoo.plots.figure import Figure

StrPath = str | os.PathLike[str]
SUFFIXES = (".png", ".svg", ".pdf")
MOST = 10_000
"""Samples in a figure at most; more take minutes and show nothing else."""


class _Kind(NamedTuple):
    """A kind of figure.

    Attributes:
        shows: what it shows, in words.
        reason: why it does not apply to a network; None if it does.
        n: number of samples, unless another one is given; 0 if it needs none.
        draw: draws the figure.
    """

    shows: str
    reason: Callable[[Autoencoder], str | None]
    n: int
    draw: "Callable[[_Given], Figure]"


@dataclass(frozen=True)
class Plot:
    """What was written.

    Attributes:
        path: the file.
        kind: of the figure.
        n: number of samples that it shows; 0 if it needs none.
        data: what they are, in words.
    """

    path: Path
    kind: str
    n: int
    data: str


class _Data(NamedTuple):
    """Samples as a network takes them: inputs and targets of one length, labels if there are any."""

    x: Tensor
    target: Tensor | None
    labels: Tensor | None
    text: str
    clean: bool


@dataclass(frozen=True)
class _Given:
    """What a figure is drawn from; data are read when they are first needed."""

    ae: Autoencoder
    data: object
    n: int
    seed: int
    method: str
    dimensions: int
    key: str | None
    skip_corrupt: bool

    @cached_property
    def samples(self) -> _Data:
        return _read(self)

    @cached_property
    def latents(self) -> Tensor:
        x = self.samples.x
        return torch.cat([encode(self.ae, x[i : i + BATCH_SIZE]) for i in range(0, len(x), BATCH_SIZE)])

    @cached_property
    def errors(self) -> Tensor:
        x = self.samples.x
        parts = [squared_errors(self.ae, x[i : i + BATCH_SIZE]) for i in range(0, len(x), BATCH_SIZE)]
        return torch.cat(parts).mean(1)

    @property
    def labels(self) -> Tensor:
        """The classes of the samples, which must be known."""
        if self.classes is None:
            found = "none" if self.samples.labels is None else "labels that are not whole numbers"
            raise DataError(f"{self.samples.text}: expected samples with labels of classes, found {found}")
        return self.classes

    @property
    def classes(self) -> Tensor | None:
        """The labels, if there are any and they are whole numbers."""
        labels = self.samples.labels
        return None if labels is None or labels.is_floating_point() else labels

    @property
    def name(self) -> str:
        return str(getattr(self.ae.spec, "name", "autoencoder"))


def plot_to_file(
    ae: Autoencoder | str,
    kind: str,
    out: StrPath,
    data: object = None,
    *,
    n: int | None = None,
    seed: int = 0,
    method: Literal["auto", "pca", "tsne", "umap", "none"] = "auto",
    dimensions: int = 2,
    dark: bool = False,
    key: str | None = None,
    skip_corrupt: bool = False,
    force: bool = False,
) -> Plot:
    """Draws a figure of a trained autoencoder and writes it.

    By default the samples are the digits that ship with aezoo, if the recipe's dataset is MNIST, and
    otherwise the validation split of the recipe's dataset. If the recipe trains on chosen classes of a
    dataset, samples of all classes are used. `reconstructions` applies the recipe's noises to samples of a
    dataset; files are drawn as they are.

    Args:
        ae: an autoencoder, or what `aezoo.load` takes.
        kind: one of `KINDS`.
        out: a `.png`, `.svg` or `.pdf` file.
        data: as for `aezoo.encode_to_file`.
        n: number of samples, the first ones, at most 10,000; each kind has a default.
        seed: of samples from the prior, of noises, of t-SNE and of UMAP.
        method: of `embedding`; see `aezoo.plots.embedding`.
        dimensions: of `embedding`, 2 or 3.
        dark: whether to draw on a dark background.
        key: name of the array in a file that has several.
        skip_corrupt: whether to leave out images that cannot be read.
        force: whether to replace a file.

    Raises:
        NotSupportedError: the kind does not apply to the network; the error lists those that do.
        DataError: an unknown kind, data that do not fit, or no labels where the kind needs them.
        CheckpointError: the file exists or cannot be written. Nothing was written.
    """
    ae, path = loaded(ae), Path(out).expanduser()
    if kind not in KINDS:
        raise DataError(f"kind: expected {', '.join(KINDS)}, found {printable(repr(kind))}")
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(f"{name}: expected a whole number of at least {least}, found {value!r}")
    if n is not None and n > MOST:
        raise DataError(f"n: expected at most {MOST:,} samples in a figure, found {n:,}")
    check_output(path, force=force, suffixes=SUFFIXES)
    if reason := KINDS[kind].reason(ae):
        known = ", ".join(applicable_kinds(ae))
        raise NotSupportedError(f"{kind} does not apply to this network: {reason}; these kinds do: {known}")
    shown = KINDS[kind].n if n is None else n
    if kind == "reconstructions" and n is None and ae.spec.input.shape in ((2,), (3,)):
        shown = 1000  # a few points say nothing about their distribution
    given = _Given(ae, data, shown, seed, method, dimensions, key, skip_corrupt)
    with plots.theme("dark" if dark else "light"):
        try:
            figure = KINDS[kind].draw(given)
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise DataError(str(error)) from error
    raw = plots.render(figure, cast(Any, path.suffix.lower()[1:]))
    with write_errors(path):
        write_atomically(path, raw)
    used = "samples" in vars(given)
    return Plot(path, kind, len(given.samples.x) if used else 0, given.samples.text if used else "")


def applicable_kinds(ae: Autoencoder) -> list[str]:
    """The kinds of figures that can be drawn of a network, if there are data for them."""
    return [name for name, kind in KINDS.items() if kind.reason(ae) is None]


# -- data ---------------------------------------------------------------------------------------------


def _read(given: _Given) -> _Data:
    """The first samples of the data."""
    ae, data, n = given.ae, given.data, given.n
    recipe = recipe_of(ae)
    dataset = None if recipe is None else recipe.dataset
    if (
        data is None
        and dataset is not None
        and dataset.kind_name == "mnist"
        and ae.spec.input.shape == (1, 28, 28)
    ):
        return _of_samples(ae, sample_digits().validated_for(ae.spec), n, "digits that ship with aezoo")
    if data is None:
        dataset = dataset_of(ae)
        if getattr(dataset, "classes", None) is not None:
            samples = load_for(ae, dataset.model_copy(update={"classes": None}), "validation")
        else:
            samples = load_split(ae, "validation")
        return _of_samples(ae, samples, n, f"{dataset.kind_name}:validation")
    if is_split(data):
        return _of_samples(ae, split_samples(ae, str(data), all_classes=True), n, str(data))
    if isinstance(data, Samples):
        samples = data.scaled_for(ae.scaler, ae.columns).validated_for(ae.spec)
        return _of_samples(ae, samples, n, f"{len(samples)} samples")
    source = open_source(ae, data, key=given.key, skip_corrupt=given.skip_corrupt)
    parts: list[Tensor] = []
    for chunk in source.chunks():
        parts.append(chunk.x)
        if sum(map(len, parts)) >= n:
            break
    x = torch.cat(parts)[:n] if parts else torch.empty(0, *ae.spec.input.shape)
    if len(x) == 0:
        raise DataError(f"{source.text} has no samples")
    return _Data(x, None, None, source.text, clean=False)


def _of_samples(ae: Autoencoder, samples: Samples, n: int, text: str) -> _Data:
    batch = samples.batch(slice(0, n), ae.spec)
    target = batch.target if samples.targets is not None else None
    labels = None if batch.labels is None else batch.labels.cpu()
    return _Data(batch.input.cpu(), None if target is None else target.cpu(), labels, text, clean=True)


# -- kinds --------------------------------------------------------------------------------------------


def _reconstructions(given: _Given) -> "Figure":
    ae, data = given.ae, given.samples
    recipe = recipe_of(ae)
    noisy = None
    if data.clean and recipe is not None and recipe.noises:
        noisy = apply_noises(data.x, recipe.noises, torch.Generator().manual_seed(given.seed))
    return plots.reconstructions(
        ae, data.x, target=data.target, noisy=noisy, columns=min(given.n, MOST_COLUMNS)
    )


MOST_COLUMNS = 24
"""Most samples in a figure of reconstructions, which shows them side by side."""


def _dictionary(given: _Given) -> "Figure":
    use = (given.latents != 0).double().mean(0)
    return plots.dictionary(given.ae, use=use if float(use.min()) < 1 else None)


def _manifold(given: _Given) -> "Figure":
    if _prior(given.ae) is None:
        return plots.manifold(given.ae)
    return plots.manifold(given.ae, latents=given.latents)


def _walk(given: _Given) -> "Figure":
    x = given.samples.x
    if len(x) < 2 or given.n % 2:
        raise DataError(
            f"n: expected an even number of samples, the ends of walks, found {min(given.n, len(x))}"
        )
    return plots.walk(given.ae, x[: len(x) // 2 * 2])


def _embedding(given: _Given) -> "Figure":
    return plots.embedding(
        given.latents, given.samples.labels, method=cast(Any, given.method), dimensions=given.dimensions,
        seed=given.seed, title=given.name,
    )  # fmt: skip


def _roc(given: _Given) -> "Figure":
    usual = torch.tensor(_usual_classes(given.ae))
    anomalous = ~torch.isin(given.labels, usual)
    return plots.roc(given.errors, anomalous, title=f"{given.name}: ROC curve of the squared error")


def _always(_: Autoencoder) -> None:
    """Applies to every network."""


def _two_latents(ae: Autoencoder) -> str | None:
    return None if ae.num_latents >= 2 else "it needs at least two latents, the network has one"


def _no_dictionary(ae: Autoencoder) -> str | None:
    return "its decoder is not a single linear layer" if decoder_atoms(ae) is None else None


def _needs(ae: Autoencoder) -> str | None:
    return (
        f"its decoder needs {', '.join(ae.decoder.needs)} besides the latents" if ae.decoder.needs else None
    )


def _prior(ae: Autoencoder) -> str | None:
    last = ae.encoder[len(ae.encoder) - 1]
    return (
        None if hasattr(last, "sample_prior") else "it has no prior to sample from, as variational ones have"
    )


def _no_plane(ae: Autoencoder) -> str | None:
    shape = " x ".join(map(str, ae.latent_shape))
    return f"it needs two latents, the network has {shape}" if ae.latent_shape != (2,) else _needs(ae)


def _no_error(ae: Autoencoder) -> str | None:
    same = ae.spec.output.shape == ae.spec.input.shape
    return None if same else "its target does not have the shape of the input"


def _usual_classes(ae: Autoencoder) -> tuple[int, ...] | None:
    recipe = recipe_of(ae)
    return None if recipe is None else getattr(recipe.dataset, "classes", None)


def _no_anomalies(ae: Autoencoder) -> str | None:
    if _usual_classes(ae) is None:
        return "it was trained on every class; the recipe's dataset has no `classes`"
    return _no_error(ae)


def _no_history(ae: Autoencoder) -> str | None:
    return None if ae.history else "it was not trained by epochs"


def _latents(given: _Given) -> "Figure":
    return plots.latents(given.latents, given.classes, title=f"{given.name}: latents")


def _l0(given: _Given) -> "Figure":
    return plots.l0_histogram(given.latents, title=f"{given.name}: active latents")


def _activations(given: _Given) -> "Figure":
    return plots.activation_histogram(given.latents, title=f"{given.name}: values of active latents")


def _samples(given: _Given) -> "Figure":
    return plots.samples(given.ae, given.n, seed=given.seed)


def _class_errors(given: _Given) -> "Figure":
    return plots.class_errors(given.errors, given.labels, title=f"{given.name}: error by class")


def _history(given: _Given) -> "Figure":
    return plots.history(given.ae.history, title=f"{given.name}: training")


def _layers(given: _Given) -> "Figure":
    return plots.layers(given.ae)


KINDS = {
    "reconstructions": _Kind("inputs, latents and reconstructions", _always, 12, _reconstructions),
    "latents": _Kind("latents of a batch as a heat map", _always, 512, _latents),
    "dictionary": _Kind("weights from each latent to the output, by use", _no_dictionary, 1000, _dictionary),
    "embedding": _Kind("latents in two or three dimensions, by class", _two_latents, 1000, _embedding),
    "l0": _Kind("number of active latents of a sample", _always, 1000, _l0),
    "activations": _Kind("values of active latents", _always, 1000, _activations),
    "walk": _Kind("walks between the latents of two samples", _needs, 6, _walk),
    "samples": _Kind("samples from the prior", _prior, 48, _samples),
    "manifold": _Kind("decoded plane of two latents", _no_plane, 1000, _manifold),
    "class-errors": _Kind("errors of the samples of each class", _no_error, 2000, _class_errors),
    "roc": _Kind("anomalies found against false alarms", _no_anomalies, 2000, _roc),
    "history": _Kind("terms of the training, epoch by epoch", _no_history, 0, _history),
    "layers": _Kind("layers, drawn to size", _always, 0, _layers),
}
"""Kinds of figures -> what they show and how they are drawn."""
