from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import aezoo
from aezoo.data.samples import Samples
from tests.data.generated import byte_tensor, numbered, with_value
from tests.data.networks import shape_spec
from tests.data.raising import data_error
from tests.data.splits import labels_of

SPEC = shape_spec()  # (1, 6, 6) in 0 to 1


@pytest.fixture
def complete() -> Samples:
    """Six samples with targets and labels."""
    return Samples(byte_tensor(6, 4), byte_tensor(6, 2, seed=1), torch.arange(6))


@pytest.mark.parametrize("part", ["targets", "labels"])
def test_tensors_of_different_length_are_rejected(part: str) -> None:
    options: dict[str, Any] = {part: torch.zeros(2)}
    with data_error("", f"3 inputs but 2 {part}"):
        Samples(torch.zeros(3, 4), **options)


@pytest.mark.parametrize("index", [slice(2, 5), torch.tensor([4, 0, 4])])
def test_indexing_selects_rows_of_every_tensor(index: slice | torch.Tensor, complete: Samples) -> None:
    part = complete[index]
    assert len(part) == 3
    assert part.targets is not None
    assert part.labels is not None
    assert torch.equal(part.inputs, complete.inputs[index])
    assert torch.equal(part.targets, byte_tensor(6, 2, seed=1)[index])
    assert torch.equal(part.labels, torch.arange(6)[index])


def test_selections_compose_without_copying(complete: Samples) -> None:
    part = complete.select(torch.tensor([5, 3, 1]))[1:]
    assert labels_of(part).tolist() == [3, 1]
    mapped = replace(complete, mapped=True)[torch.tensor([4, 0])]
    assert labels_of(mapped).tolist() == [4, 0]
    assert part.inputs is mapped.inputs is complete.inputs


def test_concat_appends(complete: Samples) -> None:
    assert complete[:2].concat(complete[2:]).sha256() == complete.sha256()
    unlabelled = Samples(byte_tensor(6, 4))
    assert unlabelled[:5].concat(unlabelled[5:]).sha256() == unlabelled.sha256()


@pytest.mark.parametrize("other", [{}, {"targets": torch.zeros(2)}])
def test_concat_rejects_samples_without_the_same_parts(other: dict[str, Any]) -> None:
    labelled = Samples(torch.zeros(2, 4), labels=torch.zeros(2))
    with pytest.raises(aezoo.DataError, match=r"only one of the two has (labels|targets)"):
        labelled.concat(Samples(torch.zeros(2, 4), **other))


def test_bytes_are_stored_as_bytes_and_scaled_per_batch() -> None:
    spec = shape_spec((4,), (-1.0, 1.0), target={"shape": (2,), "range": (0.0, 10.0)})
    samples = Samples(byte_tensor(7, 4), byte_tensor(7, 2, seed=1), torch.arange(7)).validated_for(spec)
    assert samples.inputs.dtype == torch.uint8
    batches = list(samples.batches(spec, 3))
    assert [len(batch.input) for batch in batches] == [3, 3, 1]
    assert torch.allclose(torch.cat([b.input for b in batches]), byte_tensor(7, 4) / 127.5 - 1, atol=1e-6)
    target = torch.cat([batch.target for batch in batches])
    assert torch.allclose(target, byte_tensor(7, 2, seed=1) / 25.5, atol=1e-6)
    assert torch.equal(samples.inputs, byte_tensor(7, 4))
    labels = [batch.labels for batch in batches]
    assert torch.equal(torch.cat([part for part in labels if part is not None]), torch.arange(7))


def test_floats_are_not_scaled_and_the_input_is_the_default_target() -> None:
    x = numbered(3)
    batch = Samples(x).batch(slice(1, 3), SPEC)
    assert torch.equal(batch.input, x[1:])
    assert torch.equal(batch.target, x[1:])
    assert batch.labels is None


def test_default_target_is_scaled_to_and_checked_against_its_own_range() -> None:
    wider = shape_spec((4,), (0.0, 1.0), target={"shape": (4,), "range": (-1.0, 1.0)})
    batch = Samples(byte_tensor(3, 4)).validated_for(wider).batch(slice(None), wider)
    assert torch.allclose(batch.input, byte_tensor(3, 4) / 255, atol=1e-6)
    assert torch.allclose(batch.target, byte_tensor(3, 4) / 127.5 - 1, atol=1e-6)
    narrower = shape_spec((4,), (-1.0, 1.0), target={"shape": (4,), "range": (0.0, 1.0)})
    with data_error("expected values in [0.0, 1.0], found -1 to"):
        Samples(torch.tensor([[-1.0, 0.0, 0.5, 1.0]] * 2)).validated_for(narrower)


def test_hash_covers_values_dtypes_shapes_and_parts() -> None:
    x, labels = byte_tensor(4, 6), torch.arange(4)
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


def test_target_mean_is_summed_in_double_precision() -> None:
    # 5,000 rows are more than one block; float32 sums would lose the fourth decimal.
    x = 1000 + torch.rand(5000, 3, generator=torch.Generator().manual_seed(0))
    mean = Samples(x).target_mean(shape_spec((3,), None))
    assert mean.dtype == torch.float32
    assert np.array_equal(mean.numpy(), x.numpy().astype(np.float64).mean(0).astype(np.float32))


def test_target_mean_is_of_the_scaled_targets() -> None:
    samples = Samples(torch.zeros(6, 4), byte_tensor(6, 2))
    mean = samples.target_mean(shape_spec((4,), target={"shape": (2,), "range": (0.0, 10.0)}))
    assert mean.tolist() == pytest.approx((byte_tensor(6, 2).numpy() / 25.5).mean(0).tolist(), rel=1e-6)


# -- validation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_missing_channel_axis_is_added(dtype: torch.dtype) -> None:
    samples = Samples(torch.ones(3, 6, 6, dtype=dtype), torch.ones(3, 6, 6)).validated_for(SPEC)
    assert samples.inputs.shape == (3, 1, 6, 6)
    assert samples.inputs.dtype == (torch.uint8 if dtype == torch.uint8 else torch.float32)
    assert samples.targets is not None
    assert samples.targets.shape == (3, 1, 6, 6)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.zeros(0, 1, 6, 6), "there are no samples"),
        (torch.zeros(1, 6, 6), "expected a batch of samples of shape [1, 6, 6], found a single sample"),
        (torch.zeros(1, 6, 6, dtype=torch.uint8), "expected a batch of samples of shape [1, 6, 6], found a single sample"),
        (torch.zeros(3, 1, 5, 6), "expected samples of shape [1, 6, 6], found [3, 1, 5, 6]"),
        (torch.zeros(3, 36), "expected samples of shape [1, 6, 6], found [3, 36]"),
        (torch.zeros(3, 1, 6, 6, dtype=torch.int64), "expected uint8 or floating point as input, found torch.int64"),
        (torch.zeros(3, 1, 6, 6, dtype=torch.bool), "expected uint8 or floating point as input, found torch.bool"),
        (with_value(numbered(3), (1, 0, 2, 3), torch.nan), "the value at index (1, 0, 2, 3) is not finite"),
        (with_value(numbered(3), (1, 0, 2, 3), -torch.inf), "the value at index (1, 0, 2, 3) is not finite"),
        (with_value(numbered(3), (1, 0, 2, 3), 1.5), "expected values in [0.0, 1.0], found 0 to 1.5"),
        (with_value(numbered(3), (1, 0, 2, 3), -0.5), "expected values in [0.0, 1.0], found -0.5 to 1"),
        (torch.full((3, 1, 6, 6), 255.0), "found 255 to 255; pass bytes as uint8 to have them scaled"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("with_targets", [False, True])
def test_invalid_inputs_are_rejected(inputs: torch.Tensor, words: str, with_targets: bool) -> None:
    with data_error(words):
        Samples(inputs, numbered(len(inputs)) if with_targets else None).validated_for(SPEC)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (torch.zeros(3, 5), "expected samples of shape [4], found [3, 5]"),
        (torch.zeros(3, 4, dtype=torch.int32), "expected uint8 or floating point as target, found torch.int32"),
        (torch.full((3, 4), 2.0), "expected values in [-1.0, 1.0], found 2 to 2"),
        (torch.full((3, 4), torch.nan), "the value at index (0, 0) is not finite"),
        (None, "expected targets of shape [4], found inputs only"),
    ],
)  # fmt: skip
def test_invalid_targets_are_rejected(targets: torch.Tensor | None, words: str) -> None:
    with data_error(words):
        spec = shape_spec(target={"shape": (4,), "range": (-1.0, 1.0)})
        Samples(numbered(3), targets).validated_for(spec)


@pytest.mark.parametrize(
    ("spec", "what"),
    [(shape_spec((4,), None), "input"), (shape_spec((4,), target={"shape": (4,)}), "target")],
    ids=["input", "target"],
)
def test_bytes_need_a_range(spec: aezoo.AutoencoderSpec, what: str) -> None:
    with data_error("", f"uint8 {what}s need `{what}.range` in the spec"):
        Samples(byte_tensor(3, 4), byte_tensor(3, 4)).validated_for(spec)
