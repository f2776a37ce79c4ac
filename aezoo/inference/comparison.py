"""Autoencoders side by side, on the same samples and in the same units, with PCA among them."""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from aezoo.data.samples import check_columns
from aezoo.errors import CheckpointError, DataError, NotSupportedError
from aezoo.evaluation.evaluate import dataset_of, load_split
from aezoo.evaluation.metric import recipe_of
from aezoo.files import replace_folder
from aezoo.inference.network import loaded
from aezoo.inference.outputs import write_errors
from aezoo.inference.sources import BATCH_SIZE, Source, open_source
from aezoo.jsonio import pretty_json
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.plots import comparison as draw_samples
from aezoo.plots import pareto as draw_pareto
from aezoo.plots import png
from aezoo.progress import ItemProgress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

StrPath = str | os.PathLike[str]
FILES = ("comparison.json", "samples.png", "pareto.png")
"""What `Comparison.save` writes."""
ROUNDS = 7
"""How often the time of a batch is measured, all networks in turn."""
SHOWN = 12
"""Number of samples in the picture."""
MOST_VALUES = 4096
"""Values of a sample up to which PCA is computed from their covariance; above, from this many samples."""


@dataclass(frozen=True)
class ComparisonRow:
    """An autoencoder, or PCA, in a comparison.

    Attributes:
        name: the variant's name, its folder, or `PCA (K)`.
        mse: mean squared error, in the comparison's units.
        fvu: squared error over the squared distance of the samples from the mean of those that PCA was fitted
            to; None if that distance is 0.
        l0: latents that are not exactly zero, mean over samples.
        latents: number of latents of a sample.
        parameters: number of parameters; for PCA, those of its components and its mean.
        milliseconds: to encode and decode a batch of the samples, median of alternating rounds.
        weights_sha256: of the weights file, or None.
    """

    name: str
    mse: float
    fvu: float | None
    l0: float
    latents: int
    parameters: int
    milliseconds: float
    weights_sha256: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Autoencoders on the same samples.

    Attributes:
        rows: the networks in the order given, then PCA with as many components as each has latents, and as
            many as each sparse one has non-zero latents.
        data: what the samples are.
        n: number of samples.
        units: in which units errors are.
        pca_data: to what PCA was fitted.
        batch: number of samples in the batch that was timed.
        samples: name -> reconstructions of a few samples; the samples themselves are `input`.
    """

    rows: list[ComparisonRow]
    data: str
    n: int
    units: str
    pca_data: str
    batch: int
    samples: dict[str, Tensor] = field(repr=False)
    value_range: tuple[float, float] | None = field(default=None, repr=False)
    columns: tuple[str, ...] = field(default=(), repr=False)

    def plot_samples(self) -> "Figure":
        """The samples and their reconstructions, a row for each network."""
        labels = {row.name: f"mse {row.mse:.3g}" for row in self.rows}
        return draw_samples(self.samples, value_range=self.value_range, columns=self.columns, notes=labels)

    def plot_pareto(self) -> "Figure":
        """The error against L0, latents, parameters and milliseconds; who is not dominated is connected."""
        measures = {
            "L0": [row.l0 for row in self.rows],
            "latents": [float(row.latents) for row in self.rows],
            "parameters": [float(row.parameters) for row in self.rows],
            f"milliseconds per {self.batch} samples": [row.milliseconds for row in self.rows],
        }
        return draw_pareto([row.name for row in self.rows], [row.mse for row in self.rows], measures)

    def as_dict(self) -> dict[str, Any]:
        """The comparison without its samples, for JSON."""
        keys = ("data", "n", "units", "pca_data", "batch")
        return {key: getattr(self, key) for key in keys} | {"rows": [asdict(row) for row in self.rows]}

    def save(self, folder: StrPath, *, force: bool = False) -> Path:
        """Writes a folder with `comparison.json`, `samples.png` and `pareto.png`.

        Args:
            folder: created with its parents.
            force: whether to replace an older comparison.

        Raises:
            CheckpointError: the folder holds other files, exists, or cannot be written.
        """
        path = Path(folder).expanduser()
        check_folder(path, force=force)
        contents = (
            pretty_json(self.as_dict()), png(self.plot_samples()), png(self.plot_pareto()),
        )  # fmt: skip

        def fill(target: Path) -> None:
            for name, content in zip(FILES, contents, strict=True):
                (target / name).write_bytes(content)

        with write_errors(path):
            replace_folder(path, fill)
        return path


def check_folder(path: Path, *, force: bool) -> None:
    """Checks that a comparison may be written to a folder.

    Raises:
        CheckpointError: it is a file, holds other files, or, unless `force`, an older comparison.
    """
    if path.exists() and not path.is_dir():
        raise CheckpointError("target", f"{path} is a file, a folder is expected")
    found = {file.name for file in path.iterdir()} if path.is_dir() else set[str]()
    if found - set(FILES):
        raise CheckpointError("target", f"{path} holds other files; write into a new folder")
    if found and not force:
        raise CheckpointError("target", f"{path} exists; pass force=True (--force) to replace it")


def compare(
    autoencoders: Sequence[Autoencoder | str],
    data: object = None,
    *,
    fit: object = None,
    key: str | None = None,
    skip_corrupt: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> Comparison:
    """Measures autoencoders on the same samples, with PCA among them.

    Errors are in the same units for all: images are scaled from their network's range to [0, 1]; data that a
    network standardizes are in units of the training data's standard deviation, by the statistics of the
    first network that has any; other data are as they are. PCA is fitted to the training samples of the first
    network whose recipe names a dataset, those of the validation split included after a refit. The samples
    that are compared take no part in any choice.

    Times are those of this machine and this moment: compare them within a comparison only.

    Args:
        autoencoders: autoencoders, or what `aezoo.load` takes; their targets are their inputs, and all take
            the same samples.
        data: as for `encode_to_file`; by default the test split of the dataset that all recipes name.
        fit: samples to which PCA is fitted, as for `data`.
        key: name of the array in a file that has several.
        skip_corrupt: whether to leave out images that cannot be read.
        batch_size: samples in a batch.
        progress: whether to report progress on standard error.

    Raises:
        DataError: no data are given and the recipes name different datasets; the data do not fit one of the
            networks, or are not the same for all; or no recipe names a dataset to which PCA can be fitted.
        NotSupportedError: no network, or one whose target is not its input.
    """
    networks = _networks(autoencoders)
    units = _choose_units(networks)
    text, sources = _sources(networks, data, key, skip_corrupt, batch_size)
    fitted_to, pca = _fit_pca(networks, fit, key)
    values = pca.mean.numel()
    spread, explained = _Spread(), torch.zeros(pca.components.shape[1], dtype=torch.float64)
    first: list[Tensor] = []
    shown: dict[str, Tensor] = {}
    with ItemProgress(progress, "compare", sources[0].size) as bar:
        for chunks in zip(*(source.chunks() for source in sources), strict=True):
            if not len(chunks[0].x):
                continue  # none of its images can be read
            x = _same_input(networks, [chunk.x for chunk in chunks])
            spread.add(x)
            explained += pca.coefficients(x).square().sum(0)
            for network, chunk in zip(networks, chunks, strict=True):
                x_hat = network.add(chunk.x, x)
                if not first:
                    shown[network.name] = x_hat[_evenly(len(x))]
            if not first:
                first = [chunk.x for chunk in chunks]
                shown = {"input": x[_evenly(len(x))], **shown}
            bar.advance(len(x))
    if not spread.n:
        raise DataError(f"none of the images in {text} can be read")
    variation, elements = spread.about(pca.mean), spread.n * values
    timed = {network.name: network.timed(batch) for network, batch in zip(networks, first, strict=True)}
    rows = [
        ComparisonRow(
            network.name, network.squared / elements, _share(network.squared, variation),
            network.active / spread.n, network.ae.num_latents, network.ae.num_parameters, 0.0,
            network.ae.source.sha256,
        )
        for network in networks
    ]  # fmt: skip
    ranks = {network.ae.num_latents for network in networks}
    ranks |= {max(1, round(network.active / spread.n)) for network in networks if network.ae.sparsity()}
    for rank in sorted(rank for rank in ranks if rank < values):
        name = f"PCA ({rank})"
        squared = max(0.0, variation - float(explained[:rank].sum()))
        rows.append(
            ComparisonRow(
                name,
                squared / elements,
                _share(squared, variation),
                float(rank),
                rank,
                (rank + 1) * values,
                0.0,
            )
        )
        shown[name] = pca.project(shown["input"], rank)
        timed[name] = pca.timed(networks[0].common(first[0]), rank)
    times = _median_times(timed)
    return Comparison(
        [replace(row, milliseconds=times[row.name]) for row in rows], text, spread.n, units, fitted_to,
        len(first[0]), shown, networks[0].limits and (0.0, 1.0), networks[0].ae.columns,
    )  # fmt: skip


class _Network:
    """A network in a comparison: converts its inputs and outputs to common units, and sums over samples.

    Attributes:
        name: unique in the comparison.
        ae: the network.
        limits: range of its inputs, or None.
        order: places of the common columns among the network's, or None.
        scale: what values in the units of the data are divided by.
        squared: sum of squared errors in common units.
        active: number of latents that are not zero.
    """

    def __init__(self, name: str, ae: Autoencoder) -> None:
        self.name, self.ae, self.limits = name, ae, ae.spec.input.range
        self.order: Tensor | None = None
        self.scale = torch.ones((), dtype=torch.float64)
        self.squared, self.active = 0.0, 0

    def common(self, x: Tensor) -> Tensor:
        """Converts from the network's units, (n, *shape), to common ones, float64 on the CPU."""
        x = self.ae.transforms().inverse(x).double()
        if self.limits is not None:
            x = (x - self.limits[0]) / (self.limits[1] - self.limits[0])
        return (x if self.order is None else x[:, self.order]) / self.scale

    def add(self, given: Tensor, x: Tensor) -> Tensor:
        """Adds a batch, in the network's and in common units; returns the reconstructions in common units."""
        with eval_mode(self.ae), torch.no_grad():
            out = self.ae(given.to(next(self.ae.parameters(), given)))
        x_hat = self.common(out.x_hat.float().cpu())
        self.squared += float((x_hat - x).square().sum())
        self.active += int((out.latents != 0).sum())
        return x_hat

    def timed(self, x: Tensor) -> Callable[[], object]:
        """A function that encodes and decodes a batch, and waits for the result."""
        given = x.to(next(self.ae.parameters(), x))

        def run() -> object:
            with eval_mode(self.ae), torch.no_grad():
                return self.ae(given).x_hat.sum().item()

        return run


class _Spread:
    """Squared distances of the samples from a point; sums are about the mean of the first batch."""

    def __init__(self) -> None:
        self.n = 0
        self._shift, self._sum, self._squares = torch.zeros(()), torch.zeros(()), 0.0

    def add(self, x: Tensor) -> None:
        x = x.flatten(1)
        if self.n == 0:
            self._shift, self._sum = x.mean(0), torch.zeros_like(x[0])
        self._sum += (x - self._shift).sum(0)
        self._squares += float((x - self._shift).square().sum())
        self.n += len(x)

    def about(self, point: Tensor) -> float:
        """Sum of squared distances from a point."""
        step = point - self._shift
        return self._squares - 2 * float(step @ self._sum) + self.n * float(step @ step)


@dataclass(frozen=True)
class _Pca:
    """All principal components, (values, rank), by decreasing variance, and the mean, (values,)."""

    components: Tensor
    mean: Tensor

    @classmethod
    def fit(cls, batches: Iterable[Tensor]) -> "_Pca":
        """Fits PCA to batches, (n, *shape), float64."""
        shift = total = products = torch.zeros(())
        kept, n = list[Tensor](), 0
        for batch in batches:
            x = batch.flatten(1)
            if n == 0:
                shift, total = x.mean(0), torch.zeros_like(x[0])
                products = torch.zeros(0) if x.shape[1] > MOST_VALUES else x.new_zeros(x.shape[1], x.shape[1])
            if not products.numel():
                # A covariance of so many values would not fit: the first samples alone are decomposed.
                x = x[: MOST_VALUES - n]
                kept.append(x)
            total += (x - shift).sum(0)
            n += len(x)
            if products.numel():
                products += (x - shift).T @ (x - shift)
            elif n == MOST_VALUES:
                break
        mean = shift + total / n
        if kept:
            _, _, rows = cast(
                tuple[Tensor, ...], torch.linalg.svd(torch.cat(kept) - mean, full_matrices=False)
            )
            return cls(rows.T, mean)
        covariance = products / n - torch.outer(total, total) / n**2
        _, vectors = cast(tuple[Tensor, ...], torch.linalg.eigh(covariance))
        return cls(vectors.flip(1), mean)

    def coefficients(self, x: Tensor) -> Tensor:
        """(n, rank)."""
        return (x.flatten(1) - self.mean) @ self.components

    def project(self, x: Tensor, rank: int) -> Tensor:
        """Samples projected on the first components, in their shape."""
        components = self.components[:, :rank]
        return ((x.flatten(1) - self.mean) @ components @ components.T + self.mean).reshape(x.shape)

    def timed(self, x: Tensor, rank: int) -> Callable[[], object]:
        """A function that encodes and decodes a batch in single precision, as networks do."""
        pca = _Pca(self.components[:, :rank].float().contiguous(), self.mean.float())
        given = x.float()
        return lambda: pca.project(given, rank).sum().item()


def _networks(autoencoders: Sequence[Autoencoder | str]) -> list[_Network]:
    if isinstance(autoencoders, str | Autoencoder) or not autoencoders:
        raise NotSupportedError("compare takes a list of at least one autoencoder, name or folder")
    found: list[_Network] = []
    for given in autoencoders:
        ae = loaded(given)
        name: str = getattr(ae.spec, "name", "autoencoder") if given is ae else os.fspath(str(given))
        if ae.spec.target is not None:
            raise NotSupportedError(f"{name}: its target is not its input; compare is for those that are")
        known = {network.name for network in found}
        names = (name, *(f"{name} ({i})" for i in range(2, len(known) + 2)))
        found.append(_Network(next(text for text in names if text not in known), ae))
    first = found[0].ae
    for network in found[1:]:
        if network.ae.spec.input.shape != first.spec.input.shape:
            shapes = f"{list(first.spec.input.shape)} and {list(network.ae.spec.input.shape)}"
            raise DataError(f"{found[0].name} and {network.name} take inputs of different shapes: {shapes}")
        if first.columns and network.ae.columns and first.columns != network.ae.columns:
            check_columns(first.columns, network.ae.columns)
            network.order = torch.tensor([network.ae.columns.index(name) for name in first.columns])
    return found


def _choose_units(networks: list[_Network]) -> str:
    """Sets what values are divided by, and returns the name of the units."""
    if networks[0].limits is not None:
        return "range of the images: 0 to 1"
    for network in networks:
        if (scaler := network.ae.scaler) is not None:
            scale = scaler.scale.double().cpu()
            scale = scale if network.order is None else scale[network.order]
            for each in networks:
                each.scale = scale
            return f"standard deviations of the training data of {network.name}"
    return "units of the data"


def _sources(
    networks: list[_Network], data: object, key: str | None, skip: bool, size: int
) -> tuple[str, list[Source]]:
    """What is read, in words, and the same samples as each network takes them."""
    if data is not None:
        sources = [
            open_source(network.ae, data, key=key, skip_corrupt=skip, batch_size=size) for network in networks
        ]
        return sources[0].text, sources
    datasets = [dataset_of(network.ae) for network in networks]
    if any(dataset != datasets[0] for dataset in datasets):
        raise DataError(
            "the recipes name different datasets; say on which data to compare, such as --on mnist:test "
            '(data="mnist:test")'
        )
    splits = [load_split(network.ae, "test") for network in networks]
    sources = [
        open_source(network.ae, split, batch_size=size)
        for network, split in zip(networks, splits, strict=True)
    ]
    return f"{datasets[0].kind_name}:test", sources


def _same_input(networks: list[_Network], given: list[Tensor]) -> Tensor:
    """A batch in common units.

    Raises:
        DataError: it is not the same for all networks.
    """
    x = networks[0].common(given[0])
    for network, other in zip(networks[1:], given[1:], strict=True):
        found = network.common(other)
        if found.shape != x.shape or float((found - x).abs().max()) > 1e-4 * max(1.0, float(x.abs().max())):
            raise DataError(
                f"{networks[0].name} and {network.name} take these data in different units or another order"
            )
    return x


def _fit_pca(networks: list[_Network], fit: object, key: str | None) -> tuple[str, _Pca]:
    """What PCA was fitted to, in words, and its components."""
    if fit is not None:
        source = open_source(networks[0].ae, fit, key=key)
        return source.text, _Pca.fit(networks[0].common(chunk.x) for chunk in source.chunks())
    for network in networks:
        recipe = recipe_of(network.ae)
        if recipe is None or recipe.dataset is None:
            continue
        options = recipe.dataset.model_dump(mode="json", exclude_defaults=True)
        which = "".join(f", {name}: {value}" for name, value in options.items() if name != "kind")
        samples, text = load_split(network.ae, "train"), f"{recipe.dataset.kind_name}:train{which}"
        if recipe.refit:
            samples, text = samples.concat(load_split(network.ae, "validation")), f"{text} and validation"
        batches = samples.batches(network.ae.spec, BATCH_SIZE)
        return text, _Pca.fit(network.common(batch.input.float().cpu()) for batch in batches)
    raise DataError("no recipe names a dataset; say to which samples PCA is fitted: --fit DATA (fit=...)")


def _share(squared: float, variation: float) -> float | None:
    return squared / variation if variation > 0 else None


def _evenly(n: int) -> Tensor:
    """Numbers of the samples that are shown, spread over a batch."""
    return torch.linspace(0, n - 1, min(n, SHOWN)).round().long()


def _median_times(timed: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds of functions that run in turn, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for round_ in range(ROUNDS + 1):
        for name, run in timed.items():
            start = time.perf_counter()
            run()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}
