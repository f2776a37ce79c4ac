"""Contract checks of datasets."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from aezoo.data.samples import Samples
from aezoo.errors import DataError
from aezoo.evaluation.evaluate import SPLITS
from aezoo.specs.components import DatasetSpec, Split
from aezoo.testing.contract import CheckList, Report
from aezoo.testing.determinism import changed_rng, equal, half_a_day_away, rng_states, seeded
from aezoo.testing.observation import another_day
from aezoo.testing.specs import run_checks

BLOCK = 4096
"""Samples that are read at once, because a dataset may be larger than memory."""
LABELLED = 50
"""Samples whose labels are compared."""
DATASET_CHECKS: CheckList[DatasetSpec] = CheckList()


def check_dataset(spec: DatasetSpec) -> Report:
    """Checks a dataset against the contract; its data must be available.

    Args:
        spec: the dataset.

    Returns:
        The results, exemptions included.

    Raises:
        ContractError: a check failed; the message says for each what was expected and found.
    """
    return run_checks(spec, f"dataset {spec.kind_name}", DATASET_CHECKS, spec)


def _loaded_splits(spec: DatasetSpec) -> Iterator[tuple[Split, Samples]]:
    for split in SPLITS:
        if spec.has(split):
            yield split, spec.load(split)


def _blocks(samples: Samples, store: Tensor) -> Iterator[Tensor]:
    """The rows of `store` that belong to the split, in order, a block at a time."""
    for start in range(0, len(samples), BLOCK):
        block = slice(start, start + BLOCK)
        yield store[block if samples.index is None else samples.index[block]]


@DATASET_CHECKS.add(
    "splits", "non-empty Samples for each split that has() confirms, and at least train and validation"
)
def splits(spec: DatasetSpec) -> str | None:
    """Training needs both splits, and evaluation relies on `has` for the third.

    Failure: `DataError: there is no test split`
    Fix: let `has(split)` return True exactly for the splits that `load(split)` returns.
    """
    for split in ("train", "validation"):
        if not spec.has(split):
            return f"no {split} split"
    for split in SPLITS:
        if spec.has(split):
            found: Any = spec.load(split)
            if not isinstance(found, Samples):
                return f"{type(found).__name__} for {split}"
            if len(found) == 0:
                return f"no samples in {split}"
    return None


@DATASET_CHECKS.add("absent-split", "a DataError for a split that does not exist")
def absent_split(spec: DatasetSpec) -> str | None:
    """`aezoo evaluate` reports a DataError as one line, other exceptions as a traceback.

    Failure: `KeyError: 'test'`
    Fix: raise `aezoo.DataError` in `load` for splits that `has` denies.
    """
    for split in SPLITS:
        if not spec.has(split):
            try:
                spec.load(split)
            except DataError:
                continue
            return f"samples for {split}"
    return None


@DATASET_CHECKS.add("repeatable", "the same samples each time")
def repeatable(spec: DatasetSpec) -> str | None:
    """Published numbers can be recomputed only on the same samples.

    Failure: `different samples in train the second time`
    Fix: draw and shuffle with a generator of a fixed seed.
    """
    for split, samples in _loaded_splits(spec):
        if samples.sha256() != spec.load(split).sha256():
            return f"different samples in {split} the second time"
    return None


@DATASET_CHECKS.add("splits-disjoint", "splits that share no sample")
def splits_disjoint(spec: DatasetSpec) -> str | None:
    """A number measured on samples that were trained on, or chosen by, is too good.

    Failure: `30 samples of validation in test`
    Fix: hold validation samples out of the training split, and remove duplicates across splits.
    """
    hashes = {
        split: {
            hashlib.sha256(row.contiguous().numpy().tobytes()).digest()
            for block in _blocks(samples, samples.inputs)
            for row in block
        }
        for split, samples in _loaded_splits(spec)
    }
    for number, split in enumerate(hashes):
        for other in list(hashes)[number + 1 :]:
            if common := len(hashes[split] & hashes[other]):
                return f"{common} samples of {split} in {other}"
    return None


@DATASET_CHECKS.add("finite", "finite inputs and targets")
def finite(spec: DatasetSpec) -> str | None:
    """One NaN spoils a whole training.

    Failure: `NaN or infinity in the targets of train`
    Fix: drop or fill in missing values when the data are read.
    """
    for split, samples in _loaded_splits(spec):
        for name, store in (("inputs", samples.inputs), ("targets", samples.targets)):
            if store is None or not store.is_floating_point():
                continue
            if not all(bool(torch.isfinite(block).all()) for block in _blocks(samples, store)):
                return f"NaN or infinity in the {name} of {split}"
    return None


@DATASET_CHECKS.add("labels", "labels that stay with their samples")
def labels(spec: DatasetSpec) -> str | None:
    """Probes and few-label protocols select samples and read their labels.

    Failure: `other labels in train after samples are selected`
    Fix: index inputs and labels alike in `select` and `__getitem__` of a subclass of Samples.
    """
    for split, samples in _loaded_splits(spec):
        if samples.labels is None:
            continue
        few = min(len(samples), LABELLED)
        backwards = torch.arange(few).flip(0)
        for index, part in (
            (backwards, samples.select(backwards)),
            (torch.arange(few // 2, few), samples[few // 2 : few]),
        ):
            if part.labels is None:
                return f"no labels in {split} after samples are selected"
            for store, selected in ((samples.inputs, part.inputs), (samples.labels, part.labels)):
                if not equal(next(_blocks(samples, store))[index], next(_blocks(part, selected))):
                    return f"other labels in {split} after samples are selected"
    return None


@DATASET_CHECKS.add("validation-note", "a description of the validation split")
def validation_note(spec: DatasetSpec) -> str | None:
    """It is recorded in `training.json`, because numbers depend on how the split was made.

    Failure: `None`
    Fix: return one sentence from `validation_note`, such as "the last 10,000 training images".
    """
    found: Any = spec.validation_note()
    return None if isinstance(found, str) and found else f"{found!r}"


@DATASET_CHECKS.add("alike", "splits of the same dtype, shape and scale")
def alike(spec: DatasetSpec) -> str | None:
    """A network that is trained on one scale fails on another, and its numbers mean nothing.

    Failure: `inputs of test from 0 to 1, of train from 0 to 255`
    Fix: scale every split by the statistics of the training split.
    """
    first: tuple[Split, Samples] | None = None
    for split, samples in _loaded_splits(spec):
        if first is None:
            first = split, samples
            continue
        for name in ("inputs", "targets", "labels"):
            a, b = (getattr(each, name) for each in (first[1], samples))
            if (a is None) != (b is None):
                return f"{name} in {first[0] if b is None else split} only"
            if a is not None and (a.dtype, a.shape[1:]) != (b.dtype, b.shape[1:]):
                return f"{name} of {a.dtype} {tuple(a.shape[1:])} and {b.dtype} {tuple(b.shape[1:])}"
        if different := _scales(first[1], samples):
            return f"inputs {different[1]} in {split}, {different[0]} in {first[0]}"
        if _is_standardized(first[1]) and _is_standardized(samples):
            return f"inputs of {split} that are standardized by themselves, as those of {first[0]} are"
    return None


def _is_standardized(samples: Samples) -> bool:
    """Whether every value has mean 0 and standard deviation 1 over the rows, which chance does not give."""
    if len(samples) < 2 or not samples.inputs.is_floating_point():
        return False
    values = samples.inputs.flatten(1)[:, :1000].double()
    mean, std = values.mean(0), values.std(0)
    alike = ((std - 1).abs() < 1e-3) | ((values.std(0, correction=0) - 1).abs() < 1e-3)
    return bool((mean.abs() < 1e-4).all() and alike.all())


def _scales(a: Samples, b: Samples) -> tuple[str, str] | None:
    """Mean and spread of both splits in words if they differ; None if they are alike."""
    texts: list[str] = []
    found: list[tuple[float, float]] = []
    for samples in (a, b):
        values = next(_blocks(samples, samples.inputs)).double()
        found.append((float(values.mean()), float(values.std())))
        texts.append(f"of mean {found[-1][0]:.4g} and standard deviation {found[-1][1]:.4g}")
    (mean, std), (other_mean, other_std) = found
    far = abs(mean - other_mean) > 2 * max(std, other_std, 1e-9)
    wide = max(std, other_std) > 3 * max(min(std, other_std), 1e-9)
    return (texts[0], texts[1]) if far or wide else None


@DATASET_CHECKS.add("random-state", "loading to leave global random states unchanged")
def random_state(spec: DatasetSpec) -> str | None:
    """Loading data must not change the random numbers of the training, nor depend on its seed.

    Failure: `PyTorch's global random state changed`
    Fix: draw from a generator of a fixed seed that the dataset makes itself.
    """
    digests: list[list[str]] = []
    for seed in (3, 4):
        with seeded(seed):
            before = rng_states()
            digests.append([samples.sha256() for _, samples in _loaded_splits(spec)])
            if changed := changed_rng(before):
                return changed
    return None if digests[0] == digests[1] else "different samples under another global seed"


@DATASET_CHECKS.add("order", "the same samples in whichever order the splits are loaded")
def order(spec: DatasetSpec) -> str | None:
    """`evaluate` loads the test split alone, training loads the others first.

    Failure: `different samples in test when it is loaded first`
    Fix: compute each split from the data alone, and share nothing that a load changes.
    """
    forwards: dict[Split, str] = {split: samples.sha256() for split, samples in _loaded_splits(spec)}
    for split in reversed(list(forwards)):
        if spec.model_copy().load(split).sha256() != forwards[split]:
            return f"different samples in {split} when it is loaded first"
    return None


@DATASET_CHECKS.add("clock", "samples that do not depend on the clock")
def clock(spec: DatasetSpec) -> str | None:
    """Published numbers can be recomputed only on the same samples.

    Failure: `different samples in train on another day`
    Fix: depend on neither `time` nor `datetime`.
    """
    for split, samples in _loaded_splits(spec):
        before = samples.sha256()
        for moved in (half_a_day_away(), another_day(type(spec))):
            with moved:
                after = spec.load(split).sha256()
            if before != after:
                return f"different samples in {split} on another day"
    return None


@DATASET_CHECKS.add("label-values", "one label for each sample, of the same kind in every split")
def label_values(spec: DatasetSpec) -> str | None:
    """Probes are trained on the labels of one split and tested on those of another.

    Failure: `labels in test that train does not have: 7`
    Fix: number the classes alike in every split, from the training split.
    """
    known: set[float] | None = None
    for split, samples in _loaded_splits(spec):
        labels: Tensor | None = samples.labels
        if labels is None:
            continue
        if labels.ndim != 1 or len(labels) < len(samples):
            return f"labels of shape {tuple(labels.shape)} for {len(samples)} samples in {split}"
        rows = labels if samples.index is None else labels[samples.index]
        values = {float(label) for label in rows}
        if known is None:
            known = values
        elif not labels.is_floating_point() and (new := sorted(values - known)):
            return (
                f"labels in {split} that train does not have: {', '.join(f'{label:g}' for label in new[:5])}"
            )
    return None
