from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import aezoo
from aezoo.data.datasets.arrays import ArraySpec
from aezoo.data.datasets.splits import hash_splits
from aezoo.data.inputs import Splits, as_samples, prepare_splits
from aezoo.data.samples import Samples
from aezoo.errors import DataError
from tests.data.generated import array_file, numbered, numbers, picture, with_value
from tests.data.networks import shape_spec, tiny_variant, train_quietly
from tests.data.raising import data_error

SPEC = shape_spec()  # (1, 6, 6) in 0 to 1


# -- conversion of user data --------------------------------------------------------------------------


def both_splits(data: Splits) -> Samples:
    return data.train.concat(data.validation)


def sorted_values(x: torch.Tensor) -> list[float]:
    return [float(value) for value in x.flatten(1)[:, 0].sort().values]


class Pictures(Dataset[Any]):
    """PIL images with labels, as in torchvision's datasets."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray((self.x[index, 0] * 255).round().byte().numpy()), index % 3


KINDS: dict[str, Callable[[torch.Tensor], object]] = {
    "tensor": lambda x: x,
    "float16": lambda x: x.half(),
    "no channel axis": lambda x: x[:, 0],
    "array": lambda x: x.numpy(),
    "negative strides": lambda x: x.numpy()[::-1, :, ::-1],
    "broadcast, read-only": lambda x: np.broadcast_to(x.numpy()[:, :, :1, :1], x.shape),
    "samples": Samples,
    "list of tensors": list,
    "list of arrays with a channel axis": lambda x: list(x.numpy()),
    "list of arrays without": lambda x: list(x[:, 0].numpy()),
    "TensorDataset": TensorDataset,
    "PIL images with labels": Pictures,
}


@pytest.mark.usefixtures("every_warning")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_the_same_samples(kind: str) -> None:
    x = numbered(52)  # multiples of 1/255, which images and float16 represent
    samples = both_splits(prepare_splits(KINDS[kind](x), SPEC, seed=0))
    assert samples.inputs.shape == (52, 1, 6, 6)
    found = sorted_values(samples.batch(slice(None), SPEC).input)
    assert found == pytest.approx(sorted_values(x), abs=5e-4)
    assert samples.targets is None


def test_samples_are_returned_unchanged() -> None:
    samples = Samples(numbered(3))
    assert as_samples(samples) is samples


def test_channels_of_images_come_first() -> None:
    image = Image.new("RGB", (5, 4), (255, 0, 51))
    data = prepare_splits([image] * 3, shape_spec((3, 4, 5)), seed=0)
    assert both_splits(data).inputs.shape == (3, 3, 4, 5)
    assert data.train.inputs[0, :, 2, 2].tolist() == [255, 0, 51]


def test_palette_image_is_rejected() -> None:
    # Its bytes are positions in the palette, not brightness.
    with data_error("item 0 is a PIL image of mode P; convert it to L or RGB"):
        prepare_splits([Image.new("P", (6, 6))] * 3, SPEC, seed=0)


INPUT_AND_TARGET: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "tensors": lambda x, y: (x, y),
    "arrays": lambda x, y: (x.numpy(), y.numpy()),
    "mixed": lambda x, y: (x.numpy(), y),
    "samples": Samples,
    "dataset": TensorDataset,
    "list": lambda x, y: [[a, b] for a, b in zip(x, y, strict=True)],
}


@pytest.mark.parametrize("kind", INPUT_AND_TARGET)
def test_tuple_of_arrays_is_input_and_target(kind: str) -> None:
    x = numbered(20)
    spec = shape_spec(target={"shape": (2,), "range": (0.0, 1.0)})
    data = INPUT_AND_TARGET[kind](x, 1 - x.flatten(1)[:, :2])
    samples = both_splits(prepare_splits(data, spec, seed=0))
    assert samples.targets is not None
    assert samples.labels is None
    assert torch.equal(samples.targets, 1 - samples.inputs.flatten(1)[:, :2])


def test_input_and_target_may_be_the_same_tensor() -> None:
    x = numbered(20)
    batch = prepare_splits((x, x), SPEC, seed=0).train.batch(slice(None), SPEC)
    assert torch.equal(batch.input, batch.target)
    assert torch.equal(x, numbered(20))


@pytest.mark.parametrize("label", [int, np.int64, torch.tensor])
def test_second_part_of_an_item_is_a_label_if_it_is_a_number(label: Callable[[int], Any]) -> None:
    x = numbered(20)
    samples = both_splits(prepare_splits([(x[i], label(i)) for i in range(20)], SPEC, seed=0))
    assert samples.targets is None
    assert samples.labels is not None
    assert samples.labels.dtype == torch.int64
    assert torch.equal(samples.inputs[:, 0, 0, 0], x[samples.labels][:, 0, 0, 0])


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        yield 0


class SizedStream(Stream):
    def __len__(self) -> int:
        return 3


X = torch.zeros(3, 1, 6, 6)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (iter(Stream()), "generator"),
        (Stream(), "Stream"),
        (SizedStream(), "SizedStream"),
        (DataLoader(TensorDataset(torch.zeros(3, 1))), "DataLoader"),
        ({"image": X}, "dict"),
        ("mnist", "str"),
        (Path("mnist"), "PosixPath"),
        (Image.new("L", (6, 6)), "Image"),
        (3, "int"),
        (None, "NoneType"),
        (dict, "type"),
        ((X,), "tuple"),
        ((X,) * 3, "tuple"),
        ((torch.zeros(2, 1, 6, 6), [0, 1]), "tuple"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unsupported_data_are_rejected(data: object, found: str) -> None:
    start = (
        "expected a tensor, an array, an (input, target) tuple of these, a map-style dataset, a data frame "
    )
    with data_error("or a dataset spec", start, end=f"found {found}"):
        prepare_splits(data, SPEC, seed=0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "there are no samples"),
        (torch.zeros(0, 1, 6, 6), "there are no samples"),
        (torch.tensor(0.5), "expected an axis that counts the samples, found a single number"),
        ([X[0], X[0, :, 1:]], "the items differ in shape"),
        (
            [(X[0], X[0], 1, 2)] * 2,
            "expected a sample, (sample, label), (input, target) or (input, target, label) as item 0, found 4 parts",
        ),
        ([(X[0], 1), (X[0],)], "expected a target or label in every item or in none, found 1 of 2"),
        ([(X[0], X[0], 1), (X[0], X[0], None)], "expected a label in every item or in none, found 1 of 2"),
        ([(X[0], "cat")] * 2, "expected an image or numbers in item 0, found str"),
        ([X[0], None], "expected an image or numbers in item 1, found NoneType"),
        ([{"image": X[0]}] * 2, "expected an image or numbers in item 0, found dict"),
        ((X, X[:2]), "3 inputs but 2 targets"),
        (np.array([None, None]), "expected a dtype that PyTorch supports, found an array of object"),
        (np.zeros((3, 6, 6), np.int64), "expected uint8 or floating point as input, found torch.int64"),
    ],
)
def test_invalid_data_are_rejected(data: object, words: str) -> None:
    with data_error(words):
        prepare_splits(data, SPEC, seed=0)


def test_training_rejects_invalid_values() -> None:
    x = with_value(torch.full((20, 3), 0.5), (7, 2), torch.nan)
    for data in (x, aezoo.pairs(x)):
        with data_error("the value at index (7, 2) is not finite"):
            train_quietly(tiny_variant((3,), (0.0, 1.0)), data)


def test_training_rejects_a_range_for_standardized_data() -> None:
    dataset = ArraySpec(path=array_file("x.npy", x=numbers(30, 3)), scale="standard")
    with data_error("`scale: standard` gives unbounded values, remove `input.range`: "):
        train_quietly(tiny_variant((3,), (0.0, 1.0)), dataset)


# -- splits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "least", "most"), [(2, 1, 1), (10, 1, 4), (20, 1, 5), (1000, 70, 130)])
def test_about_a_tenth_is_the_validation_split(n: int, least: int, most: int) -> None:
    x = numbered(n)
    data = prepare_splits(x, SPEC, seed=4)
    assert least <= len(data.validation) <= most
    assert sorted_values(both_splits(data).inputs) == sorted_values(x)
    assert data.validation_note == f"{len(data.validation)} of {n} samples, by a hash of each with seed 4"
    assert data.name == "Tensor"
    assert torch.equal(x, numbered(n))


FORMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda x: x,
    "float64 array": lambda x: x.double().numpy(),
    "dataset": TensorDataset,
    "list": list,
    "pairs": lambda x: aezoo.pairs(x),
}


@pytest.mark.parametrize("form", FORMS)
def test_added_samples_leave_the_validation_split_as_it_was(form: str) -> None:
    x = torch.from_numpy(numbers(400, 1, 6, 6)).sigmoid()
    expected = set(sorted_values(prepare_splits(x[:200], SPEC, seed=0).validation.inputs))
    assert len(expected) > 5
    reordered = torch.cat([x[200:], x[:200].flip(0)])
    data = prepare_splits(FORMS[form](reordered), SPEC, seed=0)
    assert set(sorted_values(data.validation.inputs)) > expected
    assert not set(sorted_values(data.train.inputs)) & expected


def test_equal_samples_are_in_one_split() -> None:
    x = torch.from_numpy(numbers(100, 1, 6, 6)).sigmoid().repeat(5, 1, 1, 1)
    data = prepare_splits((x, torch.arange(500)), SPEC, seed=0)
    assert not set(sorted_values(data.train.inputs)) & set(sorted_values(data.validation.inputs))
    assert len(data.validation) % 5 == 0


def test_validation_split_depends_on_the_seed_alone() -> None:
    random_state = torch.get_rng_state()
    first, again, other = (prepare_splits(numbered(50), SPEC, seed).validation for seed in (1, 1, 2))
    assert first.sha256() == again.sha256()
    assert first.sha256() != other.sha256()
    # In sorted data, the last tenth would be a class of its own.
    assert sorted_values(first.inputs) != sorted_values(numbered(50))[-5:]
    assert torch.equal(random_state, torch.get_rng_state())


def test_one_sample_is_too_few() -> None:
    with data_error("", "1 sample is too few to hold one out for validation"):
        prepare_splits(numbered(1), SPEC, seed=0)


def test_in_memory_data_have_no_test_split() -> None:
    data = prepare_splits(numbered(20).numpy(), SPEC, seed=0)
    assert not data.has_test
    with data_error("", "ndarray has no test split"):
        _ = data.test


class SplitsSpec(aezoo.DatasetSpec):
    """Records which splits were read."""

    kind: Literal["splits"] = "splits"
    with_test: bool = True
    read: ClassVar[list[str]] = []

    def load(self, split: Any) -> Samples:
        self.read.append(split)
        return Samples(numbered({"train": 5, "validation": 3, "test": 2}[split]))

    def has(self, split: Any) -> bool:
        return self.with_test or split != "test"


def test_test_split_of_a_dataset_is_read_once_on_first_access() -> None:
    SplitsSpec.read.clear()
    data = prepare_splits(SplitsSpec(), SPEC, seed=0)
    assert (len(data.train), len(data.validation)) == (5, 3)
    assert (data.name, data.validation_note, data.has_test) == ("splits", "the dataset's own split", True)
    assert SplitsSpec.read == ["train", "validation"]
    assert len(data.test) == len(data.test) == 2
    assert SplitsSpec.read == ["train", "validation", "test"]
    assert not prepare_splits(SplitsSpec(with_test=False), SPEC, seed=0).has_test


def test_splits_of_a_dataset_are_validated() -> None:
    with data_error("expected samples of shape [1, 5, 5], found [5, 1, 6, 6]"):
        prepare_splits(SplitsSpec(), shape_spec((1, 5, 5)), seed=0)


# -- aezoo.pairs --------------------------------------------------------------------------------------


def share_memory(a: object, b: object) -> bool:
    if isinstance(a, Image.Image):
        return a is b
    return np.may_share_memory(np.asarray(a), np.asarray(b))


def identity(x: Any) -> Any:
    return x


SAMPLES: dict[str, Callable[[], Any]] = {
    "tensor": lambda: torch.rand(3, 4, 4),
    "array": lambda: numbers(3, 4, 4),
    "image": lambda: picture(4, 4),
}


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("transforms", [{}, {"input_transform": identity}, {"target_transform": identity},
                                        {"input_transform": identity, "target_transform": identity}])  # fmt: skip
def test_input_and_target_never_share_memory(kind: str, transforms: dict[str, Any]) -> None:
    sample = SAMPLES[kind]()
    item = aezoo.pairs([(sample, 5)], **transforms)[0]
    assert np.array_equal(np.asarray(item.input), np.asarray(sample))
    assert np.array_equal(np.asarray(item.target), np.asarray(sample))
    assert item.label == 5
    for a, b in ((item.input, item.target), (item.input, sample), (item.target, sample)):
        assert not share_memory(a, b)


SHARED: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "same object": lambda x: (x, x),
    "overlapping views": lambda x: (x[:2], x[1:]),
    "tensor of an array": lambda x: (torch.from_numpy(np.asarray(x)), np.asarray(x)),
}


@pytest.mark.parametrize("what", SHARED)
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_results_of_transforms_that_share_memory_are_copied(kind: str, what: str) -> None:
    sample = SAMPLES[kind]()
    first, second = SHARED[what](sample)
    item = aezoo.pairs([sample], lambda _: first, lambda _: second)[0]
    assert np.array_equal(np.asarray(item.input), np.asarray(first))
    assert np.array_equal(np.asarray(item.target), np.asarray(second))
    assert not share_memory(item.input, item.target)


def zeroed(x: Any) -> Any:
    if isinstance(x, Image.Image):
        x.paste(0, (0, 0, *x.size))
    else:
        x[...] = 0
    return x


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("which", ["input_transform", "target_transform"])
def test_in_place_transform_changes_neither_the_dataset_nor_the_other_part(kind: str, which: str) -> None:
    sample = SAMPLES[kind]()
    before = np.asarray(sample).copy()
    transforms: dict[str, Any] = {which: zeroed}
    pairs = aezoo.pairs([(sample, 0)], **transforms)
    for _ in range(2):
        parts = [np.asarray(part) for part in pairs[0][:2]]
        changed, untouched = parts if which == "input_transform" else parts[::-1]
        assert not changed.any()
        assert np.array_equal(untouched, before)
    assert np.array_equal(np.asarray(sample), before)


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [
        (TensorDataset(torch.rand(3, 2), torch.arange(3)), [0, 1, 2]),
        ([(torch.rand(2), i) for i in range(3)], [0, 1, 2]),
        ([[torch.rand(2), i] for i in range(3)], [0, 1, 2]),
        ([torch.rand(2) for _ in range(3)], [None] * 3),
        (torch.rand(3, 2), [None] * 3),
        (TensorDataset(torch.rand(3, 2)), [None] * 3),
    ],
    ids=["TensorDataset", "tuples", "lists", "samples only", "tensor", "TensorDataset of samples only"],
)
def test_labels_are_kept(dataset: Any, labels: list[int | None]) -> None:
    pairs = aezoo.pairs(dataset, lambda x: x + 1)
    assert len(pairs) == 3
    items = [pairs[i] for i in range(3)]
    assert [None if item.label is None else int(item.label) for item in items] == labels
    for item in items:
        assert item.target.shape == (2,)
        assert torch.equal(item.input, item.target + 1)


@pytest.mark.parametrize("n", [0, 3, 4])
def test_items_with_other_than_one_or_two_parts_are_rejected(n: int) -> None:
    pairs = aezoo.pairs([(torch.rand(2), 0), (torch.rand(2),) * n])
    with data_error("", f"expected (sample, label) as item 1, found {n} parts"):
        pairs[1]


@pytest.mark.parametrize("labelled", [False, True])
def test_data_loader_collates_pairs(labelled: bool) -> None:
    x = torch.rand(5, 2)
    pairs: Any = aezoo.pairs(TensorDataset(x, torch.arange(5)) if labelled else x, lambda v: 2 * v)
    batches: list[Any] = list(DataLoader(pairs, batch_size=3))
    assert [len(batch.input) for batch in batches] == [3, 2]
    assert torch.equal(batches[0].input, 2 * x[:3])
    assert torch.equal(batches[1].target, x[3:])
    assert not labelled or batches[0].label.tolist() == [0, 1, 2]


class WatchSpec(aezoo.LossSpec):
    """Records the label of every row."""

    kind: Literal["watch"] = "watch"
    seen: ClassVar[dict[float, int]] = {}

    def __call__(self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> torch.Tensor:
        assert batch.labels is not None
        for row, label in zip(batch.target.flatten(1)[:, 0], batch.labels, strict=True):
            WatchSpec.seen[round(float(row), 4)] = int(label)
        return output.x_hat.sum() * 0


@pytest.mark.parametrize("refit", [False, True])
def test_loss_sees_the_labels_of_the_rows(refit: bool, fresh_registry: None) -> None:
    aezoo.register(WatchSpec)
    WatchSpec.seen.clear()
    x = torch.linspace(0, 1, 40).view(40, 1).expand(40, 3)
    data = aezoo.pairs(TensorDataset(x, torch.arange(40)), torch.zeros_like)
    train_quietly(tiny_variant((3,), (0.0, 1.0), penalties=[{"kind": "watch"}], refit=refit), data)
    assert WatchSpec.seen == {round(float(value), 4): i for i, value in enumerate(x[:, 0])}


def test_denoiser_is_trained_on_clean_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(60, 3, generator=generator)
    data = aezoo.pairs(clean, lambda x: (x + 0.1 * torch.randn(3, generator=generator)).clip(0, 1))
    ae = train_quietly(tiny_variant((3,), (0.0, 1.0)), data)
    assert ae.target_mean is not None
    n = ae.training_record["data"]["train"]["n"]
    assert ae.metrics["mse.validation"]["n"] == 60 - n
    generator.manual_seed(0)
    torch.rand(60, 3, generator=generator)
    noisy = torch.stack([data[i].input for i in range(60)])
    rows = hash_splits(noisy, 0.1, 0.0, 0)["train"]
    assert len(rows) == n
    torch.testing.assert_close(ae.target_mean, clean[rows].mean(0))


def test_gray_images_are_trained_to_give_colour_images() -> None:
    photos = [(picture(4, 4, seed=index), index % 3) for index in range(30)]
    data = aezoo.pairs(photos, lambda image: image.convert("L"))
    ae = train_quietly(tiny_variant((1, 4, 4), (0.0, 1.0), target=(3, 4, 4)), data)
    assert ae(ae.transforms()(picture(4, 4))).x_hat.shape == (1, 3, 4, 4)
    assert ae.training_record["data"]["name"] == "InputTargetDataset"


def test_splits_are_kept_and_checked() -> None:
    x = torch.linspace(0, 1, 40).view(10, 4)
    data = Splits("mine", Samples(x[:7]), Samples(x[7:]), "the last rows")
    spec = shape_spec((4,))
    kept = prepare_splits(data, spec, seed=5)
    assert torch.equal(kept.train.inputs, x[:7])
    assert torch.equal(kept.validation.inputs, x[7:])
    assert (kept.name, kept.validation_note, kept.has_test) == ("mine", "the last rows", False)
    with pytest.raises(DataError, match="expected values in"):
        prepare_splits(Splits("mine", Samples(x), Samples(x + 1), ""), spec, seed=5)
