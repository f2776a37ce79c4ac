"""Data as people hand them over, and named datasets as they lie on disk."""

import importlib
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import aezoo
from aezoo.data.datasets import torchvision as named
from aezoo.data.datasets.torchvision import HOLDOUT, data_root, torchvision_datasets
from aezoo.data.inputs import Splits, as_samples, prepare_splits
from aezoo.data.samples import Samples
from aezoo.errors import DataError
from tests.examples import small_spec

SPEC = small_spec()  # (1, 6, 6) in 0 to 1


def spec(
    shape: tuple[int, ...] = (1, 6, 6),
    range: tuple[float, float] | None = (0.0, 1.0),
    target: dict[str, Any] | None = None,
) -> aezoo.AutoencoderSpec:
    """What the data must fit; its layers are never built here."""
    return aezoo.AutoencoderSpec.model_validate({
        "input": {"shape": shape, "range": range},
        "target": target,
        "encoder": [{"kind": "flatten"}],
        "decoder": [{"kind": "unflatten", "shape": shape}],
    })  # fmt: skip


def bytes_of(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def numbered(n: int) -> torch.Tensor:
    """Samples that can be told apart: the first is 0 throughout, the last 1."""
    return torch.linspace(0, 1, n).view(n, 1, 1, 1).expand(n, 1, 6, 6).contiguous()


# -- samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["targets", "labels"])
def test_every_part_has_as_many_entries(part: str) -> None:
    with pytest.raises(DataError, match=f"^3 inputs but 2 {part}$"):
        Samples(torch.zeros(3, 4), **{part: torch.zeros(2)})


@pytest.mark.parametrize("index", [slice(2, 5), torch.tensor([4, 0, 4])])
def test_a_slice_takes_the_same_rows_of_every_part(index: slice | torch.Tensor) -> None:
    samples = Samples(bytes_of(6, 4), bytes_of(6, 2, seed=1), torch.arange(6))
    part = samples[index]
    assert len(part) == 3
    assert part.targets is not None
    assert part.labels is not None
    assert torch.equal(part.inputs, samples.inputs[index])
    assert torch.equal(part.targets, bytes_of(6, 2, seed=1)[index])
    assert torch.equal(part.labels, torch.arange(6)[index])


def test_joined_samples_come_one_after_the_other() -> None:
    samples = Samples(bytes_of(6, 4), bytes_of(6, 2, seed=1), torch.arange(6))
    assert samples[:2].concat(samples[2:]).sha256() == samples.sha256()
    unlabelled = Samples(bytes_of(6, 4))
    assert unlabelled[:5].concat(unlabelled[5:]).sha256() == unlabelled.sha256()


@pytest.mark.parametrize("other", [{}, {"targets": torch.zeros(2)}])
def test_samples_with_other_parts_cannot_be_joined(other: dict[str, torch.Tensor]) -> None:
    labelled = Samples(torch.zeros(2, 4), labels=torch.zeros(2))
    with pytest.raises(DataError, match=r"only one of the two has (labels|targets)"):
        labelled.concat(Samples(torch.zeros(2, 4), **other))


def test_bytes_stay_bytes_and_are_scaled_a_batch_at_a_time() -> None:
    fits = spec((4,), (-1.0, 1.0), target={"shape": (2,), "range": (0.0, 10.0)})
    samples = Samples(bytes_of(7, 4), bytes_of(7, 2, seed=1), torch.arange(7)).validated_for(fits)
    assert samples.inputs.dtype == torch.uint8
    batches = list(samples.batches(fits, 3))
    assert [len(rows.input) for rows in batches] == [3, 3, 1]
    assert torch.allclose(torch.cat([r.input for r in batches]), bytes_of(7, 4) / 127.5 - 1, atol=1e-6)
    target = torch.cat([r.target for r in batches])
    assert torch.allclose(target, bytes_of(7, 2, seed=1) / 25.5, atol=1e-6)
    assert torch.equal(samples.inputs, bytes_of(7, 4))
    labels = [rows.labels for rows in batches]
    assert torch.equal(torch.cat([part for part in labels if part is not None]), torch.arange(7))


def test_floats_are_not_scaled_and_the_input_is_its_own_target() -> None:
    x = numbered(3)
    rows = Samples(x).rows(slice(1, 3), SPEC)
    assert torch.equal(rows.input, x[1:])
    assert torch.equal(rows.target, x[1:])
    assert rows.labels is None


def test_an_input_that_is_its_own_target_still_obeys_the_targets_range() -> None:
    other = spec((4,), (0.0, 1.0), target={"shape": (4,), "range": (-1.0, 1.0)})
    rows = Samples(bytes_of(3, 4)).validated_for(other).rows(slice(None), other)
    assert torch.allclose(rows.input, bytes_of(3, 4) / 255, atol=1e-6)
    assert torch.allclose(rows.target, bytes_of(3, 4) / 127.5 - 1, atol=1e-6)
    narrower = spec((4,), (-1.0, 1.0), target={"shape": (4,), "range": (0.0, 1.0)})
    with pytest.raises(DataError, match=r"expected values in \[0.0, 1.0\], found -1 to"):
        Samples(torch.tensor([[-1.0, 0.0, 0.5, 1.0]] * 2)).validated_for(narrower)


def test_the_hash_knows_values_dtypes_shapes_and_parts() -> None:
    x, labels = bytes_of(4, 6), torch.arange(4)
    one_off = x.clone()
    one_off[3, 5] ^= 1
    different = [
        Samples(x),
        Samples(one_off),
        Samples(x.view(torch.int8)),
        Samples(x.view(4, 2, 3)),
        Samples(x.view(2, 12)),
        Samples(x, labels=labels),
        Samples(x, labels=labels.flip(0)),
        Samples(x, labels=labels.int()),
        Samples(x, targets=labels),
        Samples(x, targets=x),
    ]
    assert len({samples.sha256() for samples in different}) == len(different)
    assert Samples(x.t().contiguous().t()).sha256() == Samples(x.clone()).sha256()


def test_the_mean_target_is_summed_in_double_precision() -> None:
    # 5,000 rows cross the size of a batch; single precision would lose the fourth decimal.
    x = 1000 + torch.rand(5000, 3, generator=torch.Generator().manual_seed(0))
    mean = Samples(x).target_mean(spec((3,), None))
    assert mean.dtype == torch.float32
    assert np.array_equal(mean.numpy(), x.numpy().astype(np.float64).mean(0).astype(np.float32))


def test_the_mean_is_of_the_targets_as_scaled() -> None:
    target = {"shape": (2,), "range": (0.0, 10.0)}
    samples = Samples(torch.zeros(6, 4), bytes_of(6, 2))
    mean = samples.target_mean(spec((4,), target=target))
    assert mean.tolist() == pytest.approx((bytes_of(6, 2).numpy() / 25.5).mean(0).tolist(), rel=1e-6)


# -- fitting to a spec --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_a_missing_channel_axis_is_added(dtype: torch.dtype) -> None:
    samples = Samples(torch.ones(3, 6, 6, dtype=dtype), torch.ones(3, 6, 6)).validated_for(SPEC)
    assert samples.inputs.shape == (3, 1, 6, 6)
    assert samples.inputs.dtype == (torch.uint8 if dtype == torch.uint8 else torch.float32)
    assert samples.targets is not None
    assert samples.targets.shape == (3, 1, 6, 6)


def with_one(value: float) -> torch.Tensor:
    x = numbered(3)
    x[1, 0, 2, 3] = value
    return x


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.zeros(0, 1, 6, 6), "there are no samples"),
        (torch.zeros(1, 6, 6), "expected a batch of [1, 6, 6], found a single one"),
        (torch.zeros(1, 6, 6, dtype=torch.uint8), "expected a batch of [1, 6, 6], found a single one"),
        (torch.zeros(3, 1, 5, 6), "expected samples of shape [1, 6, 6], found [3, 1, 5, 6]"),
        (torch.zeros(3, 36), "expected samples of shape [1, 6, 6], found [3, 36]"),
        (torch.zeros(3, 1, 6, 6, dtype=torch.int64), "expected uint8 or floating point as input, found torch.int64"),
        (torch.zeros(3, 1, 6, 6, dtype=torch.bool), "expected uint8 or floating point as input, found torch.bool"),
        (with_one(float("nan")), "the value at index (1, 0, 2, 3) is not finite"),
        (with_one(float("-inf")), "the value at index (1, 0, 2, 3) is not finite"),
        (with_one(1.5), "expected values in [0.0, 1.0], found 0 to 1.5"),
        (with_one(-0.5), "expected values in [0.0, 1.0], found -0.5 to 1"),
        (torch.full((3, 1, 6, 6), 255.0), "bytes (uint8) are scaled by themselves"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_pair", [False, True])
def test_what_does_not_fit_the_spec_is_refused(inputs: torch.Tensor, words: str, as_pair: bool) -> None:
    with pytest.raises(DataError) as error:
        Samples(inputs, numbered(len(inputs)) if as_pair else None).validated_for(SPEC)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (torch.zeros(3, 5), "expected samples of shape [4], found [3, 5]"),
        (torch.zeros(3, 4, dtype=torch.int32), "expected uint8 or floating point as target, found torch.int32"),
        (torch.full((3, 4), 2.0), "expected values in [-1.0, 1.0], found 2 to 2"),
        (torch.full((3, 4), torch.nan), "the value at index (0, 0) is not finite"),
        (None, "the spec's target has shape [4], but the data bring inputs alone"),
    ],
)  # fmt: skip
def test_targets_are_checked_against_the_target(targets: torch.Tensor | None, words: str) -> None:
    with pytest.raises(DataError) as error:
        Samples(numbered(3), targets).validated_for(spec(target={"shape": (4,), "range": (-1.0, 1.0)}))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("fits", "what"),
    [
        (spec((4,), None), "input"),
        (spec((4,), target={"shape": (4,)}), "target"),
    ],
)
def test_bytes_need_a_range(fits: aezoo.AutoencoderSpec, what: str) -> None:
    with pytest.raises(DataError, match=f"bytes need a declared range for the {what} to be scaled to"):
        Samples(bytes_of(3, 4), bytes_of(3, 4)).validated_for(fits)


# -- what a person hands to train ---------------------------------------------------------------------


def all_of(data: Splits) -> Samples:
    """Both splits again, in the order in which they were drawn."""
    parts = zip(data.train._tensors(), data.validation._tensors(), strict=True)
    return Samples(*(None if a is None or b is None else torch.cat([a, b]) for a, b in parts))  # pyright: ignore[reportArgumentType]


def sorted_values(x: torch.Tensor) -> list[float]:
    return sorted(x.flatten(1)[:, 0].tolist())


Make = Callable[[torch.Tensor], object]


class Pictures(torch.utils.data.Dataset[Any]):
    """A map-style dataset as torchvision's are: PIL images with labels."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray((self.x[index, 0] * 255).round().byte().numpy()), index % 3


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.fixture
def every_warning() -> Iterator[None]:
    """PyTorch gives some warnings once in a process, so that an earlier test could have taken it."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


KINDS: dict[str, Make] = {
    "tensor": lambda x: x,
    "float16": lambda x: x.half(),
    "no channel axis": lambda x: x[:, 0],
    "array": lambda x: x.numpy(),
    "negative strides": lambda x: x.numpy()[::-1, :, ::-1],
    "big endian": lambda x: x.numpy().astype(">f8"),
    "column major": lambda x: np.asfortranarray(x.numpy()),
    "read-only": lambda x: read_only(x.numpy()),
    "memory that repeats": lambda x: np.broadcast_to(x.numpy()[:, :, :1, :1], x.shape),
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
    # Multiples of 1/255, so that pictures and half precision can hold them.
    x = numbered(52)
    data = prepare_splits(KINDS[kind](x), SPEC, seed=0)
    everything = all_of(data)
    assert everything.inputs.shape == (52, 1, 6, 6)
    found = sorted_values(everything.rows(slice(None), SPEC).input)
    assert found == pytest.approx(sorted_values(x), abs=5e-4)
    assert everything.targets is None


def test_colour_pictures_have_their_channels_first() -> None:
    picture = Image.new("RGB", (5, 4), (255, 0, 51))
    data = prepare_splits([picture] * 3, spec((3, 4, 5)), seed=0)
    assert all_of(data).inputs.shape == (3, 3, 4, 5)
    assert data.train.inputs[0, :, 2, 2].tolist() == [255, 0, 51]


def test_a_picture_with_a_palette_is_not_taken_for_its_colours() -> None:
    # The bytes behind it are places in a palette, and no brightness at all.
    with pytest.raises(DataError, match=r"item 0.* mode P.*convert"):
        prepare_splits([Image.new("P", (6, 6))] * 3, SPEC, seed=0)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda x, y: (x, y), id="tensors"),
        pytest.param(lambda x, y: (x.numpy(), y.numpy()), id="arrays"),
        pytest.param(lambda x, y: (x.numpy(), y), id="mixed"),
        pytest.param(lambda x, y: Samples(x, y), id="samples"),
        pytest.param(lambda x, y: TensorDataset(x, y), id="dataset"),
        pytest.param(lambda x, y: [[a, b] for a, b in zip(x, y, strict=True)], id="list"),
    ],
)
def test_a_pair_is_input_and_target(make: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
    x = numbered(20)
    fits = spec(target={"shape": (2,), "range": (0.0, 1.0)})
    y = 1 - x.flatten(1)[:, :2]
    everything = all_of(prepare_splits(make(x, y), fits, seed=0))
    assert everything.targets is not None
    assert everything.labels is None
    assert torch.equal(everything.targets, 1 - everything.inputs.flatten(1)[:, :2])


def test_input_and_target_may_share_memory() -> None:
    x = numbered(20)
    data = prepare_splits((x, x), SPEC, seed=0)
    rows = data.train.rows(slice(None), SPEC)
    assert torch.equal(rows.input, rows.target)
    assert torch.equal(x, numbered(20))


@pytest.mark.parametrize("label", [int, np.int64, torch.tensor])
def test_the_second_part_of_an_item_is_its_label_where_it_is_a_number(label: Callable[[int], Any]) -> None:
    x = numbered(20)
    everything = all_of(prepare_splits([(x[i], label(i)) for i in range(20)], SPEC, seed=0))
    assert everything.targets is None
    assert everything.labels is not None
    assert everything.labels.dtype == torch.int64
    assert torch.equal(everything.inputs[:, 0, 0, 0], numbered(20)[everything.labels][:, 0, 0, 0])


def numbers() -> Iterator[int]:
    yield 0


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return numbers()


class CountedStream(Stream):
    def __len__(self) -> int:
        return 3


EXPECTED = (
    "expected a tensor, an array, an (input, target) pair of them, a map-style dataset or a dataset spec"
)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (numbers(), "generator"),
        (Stream(), "Stream"),
        (CountedStream(), "CountedStream"),
        (DataLoader(TensorDataset(torch.zeros(3, 1))), "DataLoader"),
        ({"image": torch.zeros(3, 1, 6, 6)}, "dict"),
        ("mnist", "str"),
        (Path("mnist"), "PosixPath"),
        (Image.new("L", (6, 6)), "Image"),
        (3, "int"),
        (None, "NoneType"),
        (dict, "type"),
        ((torch.zeros(3, 1, 6, 6),), "tuple"),
        ((torch.zeros(3, 1, 6, 6),) * 3, "tuple"),
        ((torch.zeros(2, 1, 6, 6), [0, 1]), "tuple"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_of_another_kind_is_named(data: object, found: str) -> None:
    with pytest.raises(DataError) as error:
        prepare_splits(data, SPEC, seed=0)
    assert str(error.value).startswith(EXPECTED)
    assert str(error.value).endswith(f"found {found}")


X = torch.zeros(1, 6, 6)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "there are no samples"),
        (torch.zeros(0, 1, 6, 6), "there are no samples"),
        (torch.tensor(0.5), "a single number holds no samples"),
        ([X, X[:, 1:]], "the items differ in shape"),
        (
            [(X, X, 1, 2)] * 2,
            "item 0 has 4 parts; a sample, (sample, label), (input, target) or (input, target, label) is",
        ),
        ([(X, 1), (X,)], "1 of 2 items have a target or label; all or none are expected"),
        ([(X, X, 1), (X, X, None)], "1 of 2 items have a label; all or none are expected"),
        ([(X, "cat")] * 2, "item 0 is a str, not a sample"),
        ([X, None], "item 1 is a NoneType, not a sample"),
        ([{"image": X}] * 2, "item 0 is a dict, not a sample"),
        ((torch.zeros(3, 1, 6, 6), torch.zeros(2, 1, 6, 6)), "3 inputs but 2 targets"),
        (np.array([None, None]), "expected numbers that PyTorch has, found an array of object"),
        (np.zeros((3, 6, 6), np.int64), "expected uint8 or floating point as input, found torch.int64"),
    ],
)
def test_data_that_cannot_be_samples_are_refused_in_one_line(data: object, words: str) -> None:
    with pytest.raises(DataError) as error:
        prepare_splits(data, SPEC, seed=0)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


# -- the tenth that is held out -----------------------------------------------------------------------


@pytest.mark.parametrize(("n", "held"), [(2, 1), (10, 1), (19, 1), (20, 2), (104, 10)])
def test_a_tenth_is_held_out_and_nothing_is_lost_or_twice(n: int, held: int) -> None:
    x = numbered(n)
    data = prepare_splits(x, SPEC, seed=4)
    assert len(data.validation) == held
    assert len(data.train) == n - held
    assert sorted_values(all_of(data).inputs) == sorted_values(x)
    assert data.held_out == f"{held} of {n} samples, drawn with seed 4"
    assert data.name == "Tensor"
    assert torch.equal(x, numbered(n))


def test_the_seed_alone_says_which_samples_are_held_out() -> None:
    random_state = torch.get_rng_state()
    first, again, other = (prepare_splits(numbered(50), SPEC, seed).validation for seed in (1, 1, 2))
    assert first.sha256() == again.sha256()
    assert first.sha256() != other.sha256()
    # The last tenth would be a class of its own in sorted data.
    assert sorted_values(first.inputs) != sorted_values(numbered(50))[-5:]
    assert torch.equal(random_state, torch.get_rng_state())


def test_one_sample_is_too_few_to_hold_one_out() -> None:
    with pytest.raises(DataError, match=r"^1 sample is too few to hold one out for validation$"):
        prepare_splits(numbered(1), SPEC, seed=0)


def test_data_of_ones_own_have_no_test_split() -> None:
    data = prepare_splits(numbered(20).numpy(), SPEC, seed=0)
    assert not data.has_test
    with pytest.raises(DataError, match=r"^ndarray has no test split$"):
        _ = data.test


class SplitsSpec(aezoo.DatasetSpec):
    """Notes which splits were read."""

    kind: Literal["splits"] = "splits"
    with_test: bool = True
    read: ClassVar[list[str]] = []

    def load(self, split: Any) -> Samples:
        self.read.append(split)
        return Samples(numbered({"train": 5, "validation": 3, "test": 2}[split]))

    def has(self, split: Any) -> bool:
        return self.with_test or split != "test"


def test_a_dataset_brings_its_own_splits_and_the_test_split_is_read_last_and_once() -> None:
    SplitsSpec.read.clear()
    data = prepare_splits(SplitsSpec(), SPEC, seed=0)
    assert (len(data.train), len(data.validation)) == (5, 3)
    assert (data.name, data.held_out, data.has_test) == ("splits", "the dataset's own split", True)
    assert SplitsSpec.read == ["train", "validation"]
    assert len(data.test) == len(data.test) == 2
    assert SplitsSpec.read == ["train", "validation", "test"]
    assert not prepare_splits(SplitsSpec(with_test=False), SPEC, seed=0).has_test


def test_the_splits_of_a_dataset_must_fit_too() -> None:
    with pytest.raises(DataError, match=r"expected samples of shape \[1, 5, 5\], found \[5, 1, 6, 6\]"):
        prepare_splits(SplitsSpec(), spec((1, 5, 5)), seed=0)


# -- where datasets lie -------------------------------------------------------------------------------


def test_the_data_folder_is_the_named_one_or_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("AEZOO_DATA", "/named")
    assert data_root() == Path("/named")
    for unset in ("", None):
        monkeypatch.delenv("AEZOO_DATA") if unset is None else monkeypatch.setenv("AEZOO_DATA", unset)
        assert data_root() == Path("/cache/aezoo/data")
    for unset in ("", None):
        monkeypatch.delenv("XDG_CACHE_HOME") if unset is None else monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert data_root() == tmp_path / ".cache" / "aezoo" / "data"


# -- named datasets -----------------------------------------------------------------------------------

FILES = {"train": "train-{}-ubyte", "test": "t10k-{}-ubyte"}


def by_hand(name: str, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels as their files hold them, behind headers of 16 and 8 bytes."""
    raw = data_root() / name / "raw"
    images = (raw / FILES[split].format("images-idx3")).read_bytes()
    labels = (raw / FILES[split].format("labels-idx1")).read_bytes()
    pixels = torch.frombuffer(bytearray(images), dtype=torch.uint8, offset=16).view(-1, 1, 28, 28)
    return pixels, torch.frombuffer(bytearray(labels), dtype=torch.uint8, offset=8).long()


@pytest.mark.data
@pytest.mark.parametrize(("kind", "name"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_a_named_dataset_is_what_its_files_hold(kind: str, name: str) -> None:
    dataset = aezoo.DatasetSpec.model_validate({"kind": kind})
    assert dataset == aezoo.DatasetSpec.model_validate_json(dataset.model_dump_json())
    same = aezoo.DatasetSpec.model_validate({"kind": "torchvision", "name": name})
    images, labels = by_hand(name, "train")
    test_images, test_labels = by_hand(name, "test")
    expected = {
        # The last 10,000 training images are the validation split.
        "train": Samples(images[:50_000], None, labels[:50_000]),
        "validation": Samples(images[50_000:], None, labels[50_000:]),
        "test": Samples(test_images, None, test_labels),
    }
    assert [len(samples) for samples in expected.values()] == [50_000, HOLDOUT, 10_000]
    for split, samples in expected.items():
        assert dataset.has(split)  # pyright: ignore[reportArgumentType]
        found = dataset.load(split)  # pyright: ignore[reportArgumentType]
        assert found.inputs.dtype == torch.uint8
        assert found.sha256() == samples.sha256(), split
        assert same.load(split).sha256() == samples.sha256(), split  # pyright: ignore[reportArgumentType]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An empty data folder, and downloads that fail; gives the files that were asked for."""
    asked: list[str] = []

    def download(url: str, *args: object, **options: object) -> None:
        asked.append(url)
        raise URLError("no network here")

    monkeypatch.setenv("AEZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(torchvision_datasets().mnist, "download_and_extract_archive", download)
    return asked


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ({"kind": "mnist"}, "MNIST"),
        ({"kind": "fashion_mnist"}, "FashionMNIST"),
        ({"kind": "torchvision", "name": "KMNIST"}, "KMNIST"),
    ],
)
def test_a_dataset_that_is_nowhere_says_where_it_should_lie(
    dataset: dict[str, str], name: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        aezoo.DatasetSpec.model_validate(dataset).load("train")
    message = str(error.value)
    assert message.startswith(f"{name} is not under {tmp_path / 'data'} and could not be downloaded (")
    assert "no network here" in message
    assert message.endswith("; set AEZOO_DATA to a folder that holds it in torchvision's layout")
    assert "\n" not in message


def test_a_folder_that_cannot_be_made_is_named_too(no_network: list[str], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match=r"could not be downloaded .*; set AEZOO_DATA"):
        aezoo.DatasetSpec.model_validate({"kind": "mnist"}).load("train")
    assert no_network == []


def idx(array: torch.Tensor) -> bytes:
    """The file format of MNIST: kind and number of axes, sizes, bytes."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.numpy().tobytes()


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An empty data folder and downloads of 12 training and 4 test images; gives what was asked for."""
    asked: list[str] = []

    def download(url: str, download_root: str, filename: str, md5: str) -> None:
        asked.append(filename)
        n = 12 if filename.startswith("train") else 4
        content = bytes_of(n, 28, 28) if "images" in filename else torch.arange(n, dtype=torch.uint8)
        (Path(download_root) / filename.removesuffix(".gz")).write_bytes(idx(content))

    monkeypatch.setenv("AEZOO_DATA", str(tmp_path / "not" / "there" / "yet"))
    monkeypatch.setattr(torchvision_datasets().mnist, "download_and_extract_archive", download)
    return asked


def small_mnist(holdout: int) -> aezoo.DatasetSpec:
    return aezoo.DatasetSpec.model_validate({"kind": "torchvision", "name": "MNIST", "holdout": holdout})


def test_a_dataset_is_downloaded_where_it_is_absent_and_only_then(downloads: list[str]) -> None:
    dataset = small_mnist(holdout=5)
    train = dataset.load("train")
    assert len(downloads) == 4
    assert torch.equal(train.inputs[:, 0], bytes_of(12, 28, 28)[:7])
    assert train.labels is not None
    assert train.labels.tolist() == [*range(7)]
    validation = dataset.load("validation")
    assert torch.equal(validation.inputs[:, 0], bytes_of(12, 28, 28)[7:])
    assert len(dataset.load("test")) == 4
    assert len(downloads) == 4


@pytest.mark.usefixtures("downloads")
@pytest.mark.parametrize("holdout", [12, 13])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_holdout_must_leave_something_to_train_on(holdout: int, split: str) -> None:
    with pytest.raises(DataError, match=f"^{holdout} held-out samples leave none of 12 to train on$"):
        small_mnist(holdout).load(split)  # pyright: ignore[reportArgumentType]
    assert len(small_mnist(holdout).load("test")) == 4


@pytest.mark.parametrize("name", ["MINST", "mnist", "__name__", ""])
def test_a_dataset_that_torchvision_does_not_have_is_refused_before_any_download(
    name: str, no_network: list[str], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"^torchvision has no dataset '{name}'"):
        aezoo.DatasetSpec.model_validate({"kind": "torchvision", "name": name}).load("train")
    assert no_network == []
    assert not (tmp_path / "data").exists()


class Arrays:
    """As CIFAR10 in torchvision: an array with channels last, and a list of labels; already on disk."""

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        assert not download
        self.data = np.stack([np.full((4, 5, 3), (i, 10, 20), np.uint8) for i in range(6 if train else 2)])
        self.targets = [*range(len(self.data))]


class Parts:
    """As SVHN: a choice of `split`, channels first, and `labels`."""

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        assert not download
        self.data = np.moveaxis(Arrays(root, split == "train").data, -1, 1)
        self.labels = np.arange(len(self.data))


class Items:
    """As those that keep files on disk: items alone."""

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        assert not download
        self.pixels = Arrays(root, split == "train").data

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[index]), index


class Whole:
    """As EMNIST or FakeData might be: no split to choose."""

    def __init__(self, root: str, download: bool = False) -> None:
        raise AssertionError("nothing is read")


@pytest.fixture
def other_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(Arrays=Arrays, Parts=Parts, Items=Items, Whole=Whole)
    monkeypatch.setattr(named, "torchvision_datasets", lambda: fake)


@pytest.mark.usefixtures("other_datasets")
@pytest.mark.parametrize("name", ["Arrays", "Parts", "Items"])
def test_datasets_that_keep_their_images_in_another_way_give_the_same_samples(name: str) -> None:
    dataset = aezoo.DatasetSpec.model_validate({"kind": "torchvision", "name": name, "holdout": 2})
    train, validation, test = (dataset.load(split) for split in ("train", "validation", "test"))
    assert train.inputs.shape == (4, 3, 4, 5)
    assert train.inputs.dtype == torch.uint8
    assert train.inputs.is_contiguous()
    assert train.inputs[3, :, 2, 2].tolist() == [3, 10, 20]
    assert [part.labels.tolist() for part in (train, validation, test) if part.labels is not None] == [
        [0, 1, 2, 3],
        [4, 5],
        [0, 1],
    ]


@pytest.mark.usefixtures("other_datasets")
def test_a_dataset_without_splits_is_refused() -> None:
    dataset = aezoo.DatasetSpec.model_validate({"kind": "torchvision", "name": "Whole"})
    with pytest.raises(DataError, match=r"^torchvision's Whole has no training and test split to choose$"):
        dataset.load("test")


# -- classes chosen of a named dataset ----------------------------------------------------------------


class Kinds:
    """Three classes by turns, already on disk; no two images are the same."""

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        n = 24 if train else 9
        self.data = bytes_of(n, 4, 4, seed=int(train))
        self.targets = torch.arange(n) % 3


class Lopsided(Kinds):
    """The same without class 0 among the samples that are held out, the last six."""

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        super().__init__(root, train)
        self.targets[-6:] = 1


class Many(Kinds):
    """Thirty classes."""

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.data, self.targets = bytes_of(90, 4, 4), torch.arange(90) % 30


class Nameless(Kinds):
    """Images alone."""

    targets = None

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.data = bytes_of(9, 1, 4, 4)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor]:
        return (self.data[index],)


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., aezoo.DatasetSpec]:
    """Gives one of these datasets; a quarter of the training images is held out."""
    fake = SimpleNamespace(Kinds=Kinds, Lopsided=Lopsided, Many=Many, Nameless=Nameless)
    monkeypatch.setattr(named, "torchvision_datasets", lambda: fake)

    def spec(name: str = "Kinds", **options: Any) -> aezoo.DatasetSpec:
        data = {"kind": "torchvision", "name": name, "holdout": 6}
        return aezoo.DatasetSpec.model_validate(data | options)

    return spec


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("classes", [(1,), (0, 2), (2, 0), (0, 1, 2)])
def test_chosen_classes_are_the_same_images_of_the_same_split_in_order(
    kinds: Any, classes: tuple[int, ...], split: str
) -> None:
    everything, chosen = kinds().load(split), kinds(classes=classes).load(split)
    assert everything.labels is not None
    rows = [row for row, label in enumerate(everything.labels.tolist()) if label in classes]
    assert len(chosen) == len(rows) == len(everything) * len(classes) // 3
    assert torch.equal(chosen.inputs, everything.inputs[rows])
    assert torch.equal(chosen.labels, everything.labels[rows])
    # An index into the whole would keep all of it in memory.
    assert chosen.index is None


def test_all_classes_are_the_whole_dataset(kinds: Any) -> None:
    for split in ("train", "validation", "test"):
        whole = kinds().load(split).sha256()
        assert kinds(classes=[0, 1, 2]).load(split).sha256() == kinds(classes=None).load(split).sha256()
        assert kinds(classes=[0, 1, 2]).load(split).sha256() == whole


@pytest.mark.parametrize(
    ("name", "classes", "split", "words"),
    [
        ("Kinds", [7], "train", "no sample has label 7; 0, 1, 2 are there"),
        ("Kinds", [1, 9, 8], "test", "no sample has label 9; 0, 1, 2 are there"),
        ("Lopsided", [0], "validation", "no sample has label 0; 1 are there"),
        ("Many", [30], "test", f"no sample has label 30; {', '.join(map(str, range(20)))} are there"),
    ],
)
def test_a_class_that_is_not_there_is_refused_by_those_that_are(
    kinds: Any, name: str, classes: list[int], split: str, words: str
) -> None:
    with pytest.raises(DataError, match=f"^classes: {words}$"):
        kinds(name, classes=classes).load(split)


def test_classes_of_a_dataset_without_labels_are_refused(kinds: Any) -> None:
    assert len(kinds("Nameless").load("test")) == 9
    with pytest.raises(DataError, match=r"^classes: .* has no labels$"):
        kinds("Nameless", classes=[1]).load("test")


NAMED = [{"kind": "mnist"}, {"kind": "fashion_mnist"}, {"kind": "torchvision", "name": "KMNIST"}]


@pytest.mark.parametrize("dataset", NAMED, ids=lambda dataset: dataset["kind"])
@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ([], "classes: expected at least one label, each once"),
        ([3, 3], "classes: expected at least one label, each once"),
        ([1, 2, 1], "classes: expected at least one label, each once"),
        ([3, -1], "classes.1: expected greater than or equal to 0, found -1"),
        ([1.5], "classes.0: expected an integer, found 1.5"),
        (["3"], "classes.0: expected an integer, found '3'"),
        ([True], "classes.0: expected an integer, found True"),
        (3, "classes: expected a list, found 3"),
    ],
)
def test_classes_are_labels_each_once(dataset: dict[str, Any], classes: object, problem: str) -> None:
    with pytest.raises(aezoo.SpecError) as error:
        SPEC.replace({"recipe.dataset": dataset | {"classes": classes}})
    assert str(error.value) == f"recipe.dataset.{problem}"


@pytest.mark.parametrize("dataset", NAMED, ids=lambda dataset: dataset["kind"])
@pytest.mark.parametrize("classes", [None, (3,), (8, 0)])
def test_classes_come_back_from_a_written_spec(
    dataset: dict[str, Any], classes: tuple[int, ...] | None, tmp_path: Path
) -> None:
    whole = SPEC.replace({"recipe.dataset": dataset})
    spec = SPEC.replace({"recipe.dataset": dataset | {"classes": classes}})
    assert spec.recipe.dataset.classes == classes  # type: ignore[union-attr]
    assert (spec == whole) == (classes is None)
    assert aezoo.VariantSpec.model_validate_json(spec.model_dump_json()) == spec
    (tmp_path / "spec.yaml").write_text(aezoo.to_yaml(spec))
    assert aezoo.read_spec(tmp_path / "spec.yaml") == spec
    assert ("classes" in (tmp_path / "spec.yaml").read_text()) == (classes is not None)


@pytest.mark.data
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_classes_of_mnist_are_what_its_files_hold(split: str) -> None:
    images, labels = by_hand("MNIST", "test" if split == "test" else "train")
    part = {"train": slice(50_000), "validation": slice(50_000, None), "test": slice(None)}[split]
    images, labels = images[part], labels[part]
    of_two = (labels == 3) | (labels == 8)
    dataset = aezoo.DatasetSpec.model_validate({"kind": "mnist", "classes": [8, 3]})
    found = dataset.load(split)  # pyright: ignore[reportArgumentType]
    assert found.sha256() == Samples(images[of_two], None, labels[of_two]).sha256()


# -- torchvision beside a CPU build of torch ----------------------------------------------------------


@pytest.mark.parametrize("order", ["aezoo first", "torchvision first"])
def test_torchvision_can_be_imported_whatever_was_imported_before(order: str) -> None:
    by_itself = """
try:
    import torchvision.datasets
except RuntimeError as error:
    assert "torchvision::nms" in str(error)
"""
    through_aezoo = """
from aezoo.data.datasets.torchvision import torchvision_datasets
found = torchvision_datasets()
assert found is torchvision_datasets()
assert found.MNIST.__name__ == "MNIST"
import torchvision.datasets, torchvision.transforms
assert torchvision.datasets is found
"""
    script = through_aezoo if order == "aezoo first" else by_itself + through_aezoo
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_torchvision_that_can_be_imported_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace()
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    monkeypatch.setattr(torch.library, "Library", None)  # declaring an operator would call it
    assert torchvision_datasets() is module


def test_another_error_of_torchvision_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError(f"{name} is broken")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match=r"^torchvision\.datasets is broken$"):
        torchvision_datasets()


def test_as_samples_leaves_samples_alone() -> None:
    samples = Samples(numbered(3))
    assert as_samples(samples) is samples
