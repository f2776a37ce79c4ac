"""Tensors, arrays and tables of other libraries: `aezoo/data/containers.py` and where it is used."""

# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from torch.utils.data import Dataset, TensorDataset

import aezoo
from aezoo.data.containers import column_values, from_numpy, plain_tensor, table_values
from aezoo.data.inputs import as_samples, prepare_splits
from aezoo.data.samples import Samples
from aezoo.data.transforms import Transforms
from aezoo.model.autoencoder import _require_tensor  # pyright: ignore[reportPrivateUsage]
from aezoo.specs.tensor import TensorSpec
from aezoo.text import type_name
from tests.data.generated import numbers
from tests.data.networks import shape_spec, tiny_variant, train_quietly
from tests.data.raising import data_error

X = numbers(20, 3)


class Frame:
    """A data frame: columns by name, a row index that is not a column, `[i]` a column as in pandas."""

    def __init__(self, columns: dict[Any, Any]) -> None:
        self._columns = columns
        self.columns = list(columns)
        self.shape = (len(next(iter(columns.values()))), len(columns))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, name: Any) -> Any:
        return self._columns[name]

    def to_numpy(self) -> Any:
        return np.stack(list(self._columns.values()), 1)


class Series:
    """A column of a data frame: `[i]` is a label of its row index."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, label: Any) -> Any:
        raise KeyError(label)

    def to_numpy(self) -> Any:
        return self.values


# -- tensors ------------------------------------------------------------------------------------------


def masked_tensor() -> torch.Tensor:
    return type("MaskedTensor", (torch.Tensor,), {})(torch.zeros(4, 3))


UNUSABLE: dict[str, tuple[Callable[[], object], str]] = {
    "sparse": (lambda: torch.eye(3).to_sparse(), "found a sparse tensor (torch.sparse_coo); call .to_dense()"),
    "meta": (lambda: torch.zeros(4, 3, device="meta"), "found a tensor on the meta device, which has no values"),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
        "found a nested tensor",
    ),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.zeros(4, 3), 0.1, 0, torch.qint8),
        "found a quantized tensor; call .dequantize()",
    ),
    "masked": (masked_tensor, "found a masked tensor; call .to_tensor(value)"),
    "complex": (lambda: torch.zeros(4, 3, dtype=torch.complex64), "found torch.complex64; torch.view_as_real"),
    "float8": (lambda: torch.zeros(4, 3).to(torch.float8_e4m3fn), "found torch.float8_e4m3fn; call .float()"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*(beta|prototype|deprecat)")
@pytest.mark.parametrize("kind", UNUSABLE)
def test_tensor_without_dense_real_numbers_is_rejected(kind: str) -> None:
    make, words = UNUSABLE[kind]
    given: Any = make()
    with data_error(words):
        Samples(given)
    for read in (as_samples, Transforms(TensorSpec(shape=(3,))), lambda x: as_samples((X, x))):
        with data_error(words):
            read(given)
    with data_error("found "):
        as_samples([given, given])


GRAPHS: dict[str, Callable[[torch.Tensor], Any]] = {
    "output of a network": lambda x: x,
    "pair": lambda x: (x, x),
    "TensorDataset": TensorDataset,
    "items": list,
    "samples": Samples,
}


@pytest.mark.filterwarnings("ignore:noisy-target")
@pytest.mark.parametrize("kind", GRAPHS)
def test_training_data_are_detached_from_their_graph(kind: str) -> None:
    weight = torch.randn(3, 3, requires_grad=True)
    spec = tiny_variant((3,))
    expected = train_quietly(spec, GRAPHS[kind](torch.from_numpy(X) @ weight.detach()))
    found = train_quietly(spec, GRAPHS[kind](torch.from_numpy(X) @ weight))
    assert weight.grad is None
    assert found.metrics["mse.validation"]["value"] == expected.metrics["mse.validation"]["value"]


def test_parameter_and_inference_tensor_can_be_trained_on() -> None:
    parameter = torch.nn.Parameter(torch.from_numpy(X.copy()))
    with torch.inference_mode():
        inference = torch.from_numpy(X.copy())
    for data in (parameter, inference):
        train_quietly(tiny_variant((3,)), data)
    assert parameter.grad is None


def test_plain_tensor_is_returned_itself() -> None:
    x = torch.rand(3, 2)
    assert plain_tensor(x) is x
    assert Samples(x).inputs is x


# -- arrays -------------------------------------------------------------------------------------------


def masked() -> Any:
    x = X.copy()
    x[5, 1] = x[7, 0] = -9999
    return np.ma.masked_equal(x, -9999)


READERS: dict[str, Callable[[Any], object]] = {
    "train": lambda x: prepare_splits(x, shape_spec((3,), None), seed=0),
    "items": lambda x: prepare_splits(list(x), shape_spec((3,), None), seed=0),
    "pair": lambda x: prepare_splits((X, x), shape_spec((3,), None), seed=0),
    "transforms": Transforms(TensorSpec(shape=(3,))),
    "evaluate": lambda x: aezoo.evaluate(aezoo.build(tiny_variant((3,))), x, dataset="ours", split="test"),
}


@pytest.mark.parametrize("reader", READERS)
def test_masked_values_are_rejected_whichever_way_they_come(reader: str) -> None:
    with data_error("masked, the first at index"):
        READERS[reader](masked())
    unmasked = np.ma.masked_array(X, mask=False)
    READERS[reader](unmasked)


def test_masked_columns_are_named() -> None:
    columns = {name: masked()[:, i] for i, name in enumerate("abc")}
    with data_error("column 'a': 1 values are masked, the first at index (7,)"):
        Transforms(TensorSpec(shape=(3,)), columns=("a", "b", "c"))(columns)


UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "complex": (X.astype(complex), "expected real numbers, found an array of complex128; pass real and imag"),
    "objects": (np.array([[1.0, None]] * 4, dtype=object), "an array of object; numpy.stack joins equally long"),
    "text": (np.array([["1"], ["2"]]), "an array of <U1; text is not numbers"),
    "bytes": (np.array([[b"1"], [b"2"]]), "an array of |S1; text is not numbers"),
    "dates": (np.array(["2024-01-01", "NaT"], "M8[s]"), "an array of datetime64[s]; dates are not numbers"),
    "durations": (np.array([1, 2], "m8[s]"), "an array of timedelta64[s]; durations are not numbers"),
    "structured": (np.zeros(4, [("a", "f4"), ("b", "f4")]), "pass the fields of a structured array as columns"),
    "long double": (X.astype(np.longdouble), "expected a dtype that PyTorch supports, found an array of float128"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_array_of_something_else_is_rejected(kind: str) -> None:
    array, words = UNSUPPORTED[kind]
    for read in (as_samples, Transforms(TensorSpec(shape=(array.shape[-1],)))):
        with data_error(words):
            read(array)


FORMS: dict[str, Callable[[Any], Any]] = {
    "matrix": np.asmatrix,
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "not contiguous": lambda x: np.repeat(x, 2, 1)[:, ::2],
    "column major": np.asfortranarray,
    "big endian": lambda x: x.astype(">f4"),
    "float64": lambda x: x.astype(np.float64),
    "read-only": lambda x: np.broadcast_to(x, x.shape),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("form", FORMS)
def test_form_of_an_array_does_not_matter(form: str) -> None:
    array = FORMS[form](X)
    assert np.array_equal(as_samples(array).inputs, X)
    assert np.array_equal(Transforms(TensorSpec(shape=(3,)))(array), X)


def test_zero_dimensional_array_is_no_batch() -> None:
    with data_error("expected an axis that counts the samples, found a single number"):
        as_samples(np.array(3.0))
    assert from_numpy(np.array(3.0)).shape == ()


# -- tables -------------------------------------------------------------------------------------------


def test_rows_of_a_data_frame_are_samples_and_its_columns_are_kept() -> None:
    # Square, so that columns in the place of rows would have the right shape.
    square = np.arange(900.0).reshape(30, 30)
    ae = train_quietly(tiny_variant((30,)), Frame({i: square[:, i] for i in range(30)}))
    assert ae.target_mean is not None
    assert float(ae.target_mean.max() - ae.target_mean.min()) == 29
    assert ae.columns == tuple(str(i) for i in range(30))
    shuffled = Frame({i: square[:, i] for i in reversed(range(30))})
    assert np.array_equal(ae.transforms()(shuffled), square)


def test_arrow_table_is_a_data_frame() -> None:
    samples = as_samples(pa.table({"a": X[:, 0], "b": X[:, 1]}))
    assert samples.columns == ("a", "b")
    assert np.array_equal(samples.inputs, X[:, :2])


COLUMNS: dict[str, tuple[Any, str]] = {
    "text": (["a", "b"], "contains text, not numbers"),
    "text that looks like numbers": (["1.5", "2"], "contains text, not numbers"),
    "objects that look like numbers": (np.array(["1.5", 2], object), "contains str in row 1, not numbers"),
    "dates": (np.array(["2024-01-01", "NaT"], "M8[ns]"), "contains dates, not numbers"),
    "durations": (np.array([1, 2], "m8[s]"), "contains durations, not numbers"),
    "dates as objects": (np.array([datetime.now(UTC)] * 2, object), "contains datetime in row 1, not numbers"),
    "decimals": (np.array([Decimal(1), Decimal(2)], object), "contains Decimal in row 1, not numbers"),
    "missing": (np.array([1.0, None], object), "contains a missing value in row 2, not numbers"),
    "missing in arrow": (pa.array([1, None, 3]), "has 1 values that are missing or not finite, the first in row 2"),
    "arrow dates": (pa.array([datetime.now(UTC)] * 2), "contains dates, not numbers"),
    "complex": (np.array([1 + 2j, 3]), "contains complex numbers, not numbers"),
    "several values in a row": (np.zeros((2, 3)), "has 3 values in a row, expected one"),
    "not a number": ([1.0, np.nan], "has 1 values that are missing or not finite, the first in row 2"),
    "huge integers": ([1, 2**53 + 1], "has integers that float32 cannot hold, such as 9007199254740993"),
    "ragged": ([[1.0], [1.0, 2.0]], "contains values that are not numbers: "),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
def test_column_that_is_not_numbers_is_named(kind: str) -> None:
    values, words = COLUMNS[kind]
    transforms = Transforms(TensorSpec(shape=(2,)), columns=("a", "b"))
    with data_error(words, start="column 'b'"):
        transforms({"a": np.zeros(len(values)), "b": values})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], [1, 2]),
        (np.array([True, False]), [1, 0]),
        (np.array([1, 2.5], object), [1, 2.5]),
        (pa.array([1.5, 2]), [1.5, 2]),
        (torch.tensor([1.5, 2], requires_grad=True), [1.5, 2]),
        (torch.tensor([1.5, 2], dtype=torch.bfloat16), [1.5, 2]),
        (2**53, 2**53),
        (np.array([2**63], np.uint64), [2.0**63]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_column_of_numbers_is_read_in_double_precision(values: Any, expected: Any) -> None:
    found = column_values(values, "a")
    assert found.dtype == np.float64
    assert found.tolist() == expected


def test_integers_beyond_double_precision_are_rejected() -> None:
    with data_error(
        "column 'a' has integers that float64 cannot hold, such as 9007199254740993", "column 'a'"
    ):
        column_values([1, 2**53 + 1], "a")


def test_integers_that_float32_cannot_hold_are_rejected_unless_scaled() -> None:
    numbers = {"a": np.array([2**24 + 1, 5]), "b": np.array([1, 2])}
    with data_error(
        "column 'a' has integers that float32 cannot hold, such as 16777217; use `scale: standard`"
    ):
        as_samples(Frame(numbers))
    with data_error("column 'a' has integers that float32 cannot hold"):
        Transforms(TensorSpec(shape=(2,)), columns=("a", "b"))(numbers)
    assert table_values(numbers)[0][0, 0] == 2**24 + 1
    assert as_samples(Frame({"a": np.array([2**24, 2**25])})).inputs[1, 0] == 2**25


@pytest.mark.parametrize("name", ["Unnamed: 0", "__index_level_0__", ""])
def test_row_index_of_pandas_is_no_feature(name: str) -> None:
    with data_error("column 1 of the table", end="or name the columns to use"):
        as_samples(Frame({name: np.arange(20), "a": X[:, 0]}))


def test_two_columns_of_one_name_are_rejected() -> None:
    frame = Frame({"0": X[:, 0], 0: X[:, 1]})
    with data_error("", "the table has two columns called '0'"):
        as_samples(frame)


def test_lazy_frame_says_to_collect() -> None:
    lazy = type(
        "LazyFrame", (), {"columns": ["a"], "collect": None, "collect_schema": None, "__getitem__": None}
    )()
    for read in (as_samples, Transforms(TensorSpec(shape=(1,)), columns=("a",))):
        with data_error("", "found a LazyFrame, which is not computed yet; call .collect()"):
            read(lazy)


def anndata() -> object:
    module = sys.modules.get("anndata") or ModuleType("anndata")
    cls = type("AnnData", (Series,), {"__module__": module.__name__})
    return cls(X)


OTHERS: dict[str, tuple[Callable[[], object], str]] = {
    "series": (lambda: Series(X[:, 0]), "found Series; call .to_numpy()"),
    "sparse matrix": (
        lambda: scipy.sparse.csr_matrix(X),
        "found csr_matrix, a sparse matrix; call .toarray()",
    ),
    "sparse array": (lambda: scipy.sparse.coo_array(X), "found coo_array, a sparse matrix; call .toarray()"),
    "arrow array": (lambda: pa.array(X[:, 0]), "found FloatArray; call .to_numpy()"),
    "AnnData": (anndata, "found AnnData; pass its array .X"),
    "bytes": (lambda: b"123", "found bytes"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_containers_say_how_to_convert_them(kind: str) -> None:
    make, words = OTHERS[kind]
    for read in (as_samples, Transforms(TensorSpec(shape=(3,)))):
        with data_error(words):
            read(make())


def test_frame_is_no_input_of_a_network_trained_on_an_array() -> None:
    with data_error("found Frame; call .to_numpy()"):
        Transforms(TensorSpec(shape=(3,)))(Frame({name: X[:, i] for i, name in enumerate("abc")}))


def test_what_is_not_a_tensor_is_named() -> None:
    # Called directly, because the tests check the types of arguments before a network can.
    for given in (X, Frame({"a": X[:, 0]}), X.tolist(), None):
        with data_error("", f"expected a tensor as input, found {type_name(given)}; ae.transforms() conv"):
            _require_tensor(given, "input", "ae.transforms() converts it")
        with data_error("", f"expected a tensor as inputs, found {type(given).__name__}"):
            plain_tensor(given, "inputs")


# -- lists --------------------------------------------------------------------------------------------


def deep(depth: int) -> Any:
    nested: Any = np.zeros(3, np.float32)
    for _ in range(depth):
        nested = [nested]
    return nested


def endless() -> Any:
    nested: list[Any] = []
    nested.append(nested)
    return nested


@pytest.mark.parametrize("data", [deep(5000), endless()], ids=["deep", "endless"])
def test_lists_nested_without_end_are_rejected(data: Any) -> None:
    with data_error("expected samples, found lists nested more than 8 deep"):
        Transforms(TensorSpec(shape=(3,)))(data)
    with data_error("item 0"):
        as_samples(data)


# -- map-style datasets -------------------------------------------------------------------------------


class Items(Dataset[Any]):
    """Twenty items that a function makes."""

    columns = ("a", "b")  # an attribute of its own does not make a dataset a data frame

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


def random_item(_: int) -> torch.Tensor:
    return torch.rand(3)


def sometimes_flipped(index: int) -> torch.Tensor:
    x = torch.from_numpy(X[index])
    return x.flip(0) if torch.rand(()) < 0.3 else x


RANDOM: dict[str, Callable[[], Any]] = {
    "item": lambda: Items(random_item),
    "with a label": lambda: Items(lambda i: (torch.rand(3), i)),
    "now and then": lambda: Items(sometimes_flipped),
    "target": lambda: Items(lambda i: (torch.from_numpy(X[i]), torch.rand(3))),
    "pairs": lambda: aezoo.pairs(torch.from_numpy(X), input_transform=lambda x: x + torch.randn(3)),
    "target of pairs": lambda: aezoo.pairs(torch.from_numpy(X), target_transform=lambda x: x + torch.randn(3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", RANDOM)
def test_random_items_are_reported(kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with pytest.warns(
            aezoo.DiagnosticWarning, match=r"^random-items: item \d+ differs when it is read twice\. .*noises"
        ):
            as_samples(RANDOM[kind]())


@pytest.mark.filterwarnings("error")
def test_items_that_stay_the_same_are_not_reported() -> None:
    assert np.array_equal(as_samples(Items(lambda i: (torch.from_numpy(X[i]), i))).inputs, X)
    as_samples(aezoo.pairs(torch.from_numpy(X), input_transform=lambda x: x.mul_(2)))


ITEMS: dict[str, tuple[Callable[[int], Any], str]] = {
    "bytes and floats": (
        lambda i: X[i].astype(np.uint8 if i % 2 else np.float32),
        "the items differ in dtype: torch.float32 in item 0, torch.uint8 in item 1",
    ),
    "text as label": (lambda i: (X[i], "cat"), "found str; a label is a number"),
    "date as label": (lambda i: (X[i], np.datetime64("2024-01-01")), "in item 0, found datetime64"),
    "huge label": (lambda i: (X[i], 10**30), "expected an image or numbers in item 0, found int"),
    "complex": (lambda i: X[i] * 1j, "item 0, expected real numbers"),
    "frame": (lambda i: Frame({"a": X[i]}), "item 0, found Frame; call .to_numpy()"),
    "failing": (lambda i: X[i] / (0 if i == 7 else 1) if i != 7 else [][1], "item 7 cannot be read: IndexError: list"),
    "sparse": (lambda i: torch.eye(3).to_sparse(), "found a sparse tensor"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ITEMS)
def test_unusable_items_are_named(kind: str) -> None:
    make, words = ITEMS[kind]
    with data_error(words):
        as_samples(Items(make))


def test_floats_of_different_precision_may_be_mixed() -> None:
    samples = as_samples(Items(lambda i: X[i].astype(np.float64 if i % 2 else np.float32)))
    assert np.array_equal(samples.inputs, X)


# -- tuples -------------------------------------------------------------------------------------------


def test_training_and_validation_data_are_not_taken_as_input_and_target() -> None:
    with data_error(
        "", "20 inputs but 5 targets; a tuple is (input, target), not (training, validation), for which"
    ):
        as_samples((X, X[:5]))
    with data_error("", "20 inputs but 5 targets; a tuple is (input, target)", "(input, target)"):
        as_samples((X, X[:5, :2]))


def test_second_array_of_one_number_per_sample_is_the_labels() -> None:
    samples = as_samples((X, np.arange(20)))
    assert samples.targets is None
    assert samples.labels is not None
    assert samples.labels.tolist() == list(range(20))


# -- precision ----------------------------------------------------------------------------------------


def test_float64_values_that_float32_merges_are_reported() -> None:
    x = np.stack([1.7e12 + np.arange(40.0), np.arange(40.0)], 1)
    with pytest.warns(
        aezoo.DiagnosticWarning, match=r"^float32-rounding: .* changes value \[0\] of a sample"
    ):
        prepare_splits(x, shape_spec((2,), None), seed=0)


@pytest.mark.filterwarnings("error")
def test_rounding_of_other_values_is_not_reported() -> None:
    constant = np.full(40, 0.1) + 1e-17 * np.arange(40)
    x = np.stack([numbers(40).astype(np.float64), constant, 1e4 + numbers(40).astype(np.float64)], 1)
    prepare_splits(x, shape_spec((3,), None), seed=0)


def test_value_beyond_float32_is_named() -> None:
    x = X.astype(np.float64)
    x[3, 1] = 1e39
    with data_error("the value at index (3, 1), 1e+39, is more than float32 holds"):
        prepare_splits(x, shape_spec((3,), None), seed=0)
