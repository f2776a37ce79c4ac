# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

import aezoo
from aezoo.data.datasets.tables import TableSpec
from aezoo.data.samples import Samples
from aezoo.data.transforms import Transforms
from aezoo.specs.tensor import TensorSpec
from tests.data.generated import numbers, parquet_file, pixels
from tests.data.networks import saved_and_loaded, tiny_variant, train_quietly
from tests.data.raising import data_error
from tests.data.splits import inputs_of, labels_of
from tests.raising import raises


def plants(suffix: str = ".csv") -> str:
    """A table of floats, integers, booleans and text."""
    columns = {
        "width": [round(float(value), 3) for value in numbers(20)],
        "leaves": list(range(20)),
        "alive": [i % 3 == 0 for i in range(20)],
        "name": ["oak" if i % 2 else "elm" for i in range(20)],
    }
    if suffix == ".parquet":
        return parquet_file("plants.parquet", **columns)
    pyarrow.csv.write_csv(pa.table(columns), "plants.csv")
    return "plants.csv"


def test_csv_and_parquet_give_the_same_samples() -> None:
    first, second = (TableSpec(path=plants(s), label="name").load("train") for s in (".csv", ".parquet"))
    assert first.columns == second.columns == ("width", "leaves", "alive")
    assert first.sha256() == second.sha256()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_are_selected_in_the_given_order(suffix: str) -> None:
    samples = TableSpec(path=plants(suffix), columns=("leaves", "alive"), scale="none").read()
    assert samples.columns == ("leaves", "alive")
    assert samples.inputs[:, 0].tolist() == list(range(20))
    assert samples.inputs[:, 1].tolist() == [float(i % 3 == 0) for i in range(20)]
    assert samples.labels is None


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("name", [i % 2 for i in range(20)]),
        ("leaves", list(range(20))),
        ("alive", [int(i % 3 == 0) for i in range(20)]),
    ],
)
def test_label_column_may_be_text_integer_or_boolean(label: str, values: list[int]) -> None:
    samples = TableSpec(path=plants(), columns=("width",), label=label).read()
    assert samples.columns == ("width",)
    assert labels_of(samples).tolist() == values


def test_column_may_be_both_input_and_label() -> None:
    samples = TableSpec(path=plants(), columns=("leaves", "width"), label="leaves", scale="none").read()
    assert torch.equal(samples.inputs[:, 0].long(), labels_of(samples))


def test_dictionary_encoded_text_is_a_label() -> None:
    # pandas writes categories in this way.
    names = pa.array(["oak", "elm", "oak", "ash"] * 5).dictionary_encode()
    path = parquet_file("t.parquet", a=numbers(20), name=names)
    assert labels_of(TableSpec(path=path, label="name").read()).tolist() == [2, 1, 2, 0] * 5


def test_table_is_standardized_by_its_training_rows() -> None:
    values = numbers(40, 2).astype(np.float64)
    path = parquet_file("t.parquet", a=values[:, 0], b=1e6 * values[:, 1], row=np.arange(40))
    dataset = TableSpec(path=path, label="row", validation=0.3)
    train, validation = dataset.load("train"), dataset.load("validation")
    torch.testing.assert_close(inputs_of(train).mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs_of(train).std(0, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    seen = values[labels_of(train)]
    expected = (values[labels_of(validation)] - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(inputs_of(validation), expected, rtol=1e-3, atol=1e-4)


def test_small_differences_between_large_numbers_survive_scaling() -> None:
    # Seconds since 1970, which float32 resolves in steps of 128.
    seconds = 1_700_000_000 + np.arange(100)
    path = parquet_file("t.parquet", a=numbers(100), seconds=seconds, row=seconds)
    samples = TableSpec(path=path, label="row").load("train")
    seen = labels_of(samples).double()
    expected = (seen - seen.mean()) / seen.std(correction=0)
    scaled = inputs_of(samples)[:, 1].double()
    # The common offset is that of rounding the mean to float32.
    differences = scaled - expected
    assert differences.max() - differences.min() < 1e-4
    transforms = Transforms(TensorSpec(shape=(2,)), samples.scaler, samples.columns)
    new = transforms({"a": np.zeros(90), "seconds": seen.numpy()})
    torch.testing.assert_close(new[:, 1].double(), scaled, rtol=0, atol=1e-6)


HEADER = "a,b,name\n"
ROWS = "".join(f"{i},{i / 2},oak\n" for i in range(9))


INVALID: dict[str, tuple[str, dict[str, Any], str]] = {
    "text": (HEADER + ROWS, {}, "column 'name' contains text, not numbers; name the numeric columns in `columns`"),
    "letter case": (HEADER + ROWS, {"columns": ("a", "B")}, "has no column 'B'; it has a, b, name"),
    "misspelled column": (HEADER + ROWS, {"columns": ("a", "nome")}, "has no column 'nome' (did you mean 'name'?)"),
    "misspelled label with columns": (HEADER + ROWS, {"columns": ("a",), "label": "nam"}, "has no column 'nam' (did you mean 'name'?)"),
    # The error is about the label, not about the text in the column that it should have named.
    "misspelled label": (HEADER + ROWS, {"label": "nam"}, "has no column 'nam' (did you mean 'name'?)"),
    "missing": (HEADER + ROWS + ",3,oak\n", {"label": "name"}, "column 'a' has 1 missing values, the first in row 10; fill"),
    "missing twice": (HEADER + ROWS + "1,NA,oak\n1,,elm\n", {"label": "name"}, "column 'b' has 2 missing values, the first in row 10"),
    "empty column": ("a,b\n1,\n1,\n1,\n", {}, "column 'b' has 3 missing values, the first in row 1"),
    "infinite": ("a,b\n1,2\n1,inf\n2,3\n", {}, "column 'b' has 1 values that are not finite, the first in row 2"),
    "beyond float64": ("a,b\n1,2\n1,1e600\n2,3\n", {}, "column 'b' has 1 values that are not finite, the first in row 2"),
    "duplicate column": ("a,b,a\n1,2,3\n4,5,6\n", {}, "has two columns called 'a'"),
    "duplicate empty name": ("a,,\n1,2,3\n4,5,6\n", {}, "has two columns called ''"),
    "no rows": (HEADER, {}, "has no rows"),
    "ragged": ("a,b\n1,2\n3\n", {}, "cannot be read: "),
    "empty": ("", {}, "cannot be read: "),
    "only a label": ("name\n1\n2\n", {"label": "name"}, "has no columns to train on"),
    "dates": ("a,when\n1,2020-01-01\n2,2020-01-02\n", {}, "column 'when' contains date32[day], not numbers"),
    "one row": ("a\n1\n", {}, "1 samples are too few"),
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
def test_invalid_table_is_rejected(name: str) -> None:
    text, options, words = INVALID[name]
    Path("data.csv").write_text(text, "utf-8")
    with data_error(words):
        TableSpec(path="data.csv", **options).load("train")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data.csv", "a,größe\n1,2\n3,4\n5,6\n".encode("latin-1"), " cannot be read: "),
        ("data.csv", "a,name\n1,Bär\n3,Kuh\n5,Reh\n".encode("latin-1"), ": column 'name' contains binary, not numbers"),
        ("data.csv", "a,b\n1,2\n3,4\n".encode("utf-16"), " cannot be read: "),
        ("data.parquet", b"a,b\n1,2\n", " cannot be read: "),
        ("data.parquet", b"", " cannot be read: "),
        ("data.xlsx", b"", ": expected .csv or .parquet, found '.xlsx'"),
    ],
    ids=["latin-1 names", "latin-1 text", "utf-16", "csv as parquet", "empty parquet", "xlsx"],
)  # fmt: skip
def test_other_encodings_and_formats_are_rejected(name: str, content: bytes, words: str) -> None:
    Path(name).write_bytes(content)
    with data_error("", start=f"{name}{words}"):
        TableSpec(path=name).load("train")


def test_byte_order_mark_is_not_part_of_the_first_name() -> None:
    Path("data.csv").write_bytes("a,b\n1,2\n3,5\n4,6\n".encode("utf-8-sig"))
    assert TableSpec(path="data.csv").load("train").columns == ("a", "b")


# -- columns and scaler of a trained network ----------------------------------------------------------


class Frame:
    """The part of a data frame's interface that is used: names of columns, and a column by name."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]


@dataclass
class Trained:
    """A network trained on a table and loaded from its folder, with its training data."""

    ae: aezoo.Autoencoder
    folder: Path
    samples: Samples
    columns: dict[str, NDArray[Any]]

    @property
    def raw(self) -> NDArray[Any]:
        return np.stack([self.columns[name] for name in "abc"], 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    tmp_path = tmp_path_factory.mktemp("table")
    a, b, c = numbers(3, 40).astype(np.float64)
    columns = {"a": a, "b": 1000 + 100 * b, "c": np.round(c)}
    dataset = TableSpec(path=parquet_file(f"{tmp_path}/t.parquet", **columns, row=np.arange(40)), label="row")
    ae = train_quietly(tiny_variant((3,), dataset=dataset))
    samples = dataset.load("train")
    rows = labels_of(samples).numpy()
    return Trained(
        saved_and_loaded(ae, tmp_path / "trained"),
        tmp_path / "trained",
        samples,
        {k: v[rows] for k, v in columns.items()},
    )


def test_scaler_is_part_of_the_hashed_weights(trained: Trained) -> None:
    scaler = trained.samples.scaler
    assert scaler is not None
    assert trained.ae.scaler is not None
    assert torch.equal(trained.ae.scaler.shift, scaler.shift)
    assert torch.equal(trained.ae.scaler.scale, scaler.scale)
    weights = safetensors.torch.load_file(trained.folder / "model.safetensors")
    assert torch.equal(weights["input_shift"], scaler.shift)
    assert torch.equal(weights["input_scale"], scaler.scale)
    changed = shutil.copytree(trained.folder, Path("changed")) / "model.safetensors"
    raw = changed.read_bytes()
    offset = raw.index(scaler.shift.numpy().tobytes())
    changed.write_bytes(raw[:offset] + bytes([raw[offset] ^ 1]) + raw[offset + 1 :])
    with raises("hash-mismatch"):
        aezoo.load(changed.parent)


def test_columns_are_saved_with_the_network(trained: Trained) -> None:
    assert trained.ae.columns == ("a", "b", "c")
    assert '"columns": ["a", "b", "c"]' in (trained.folder / "config.json").read_text("utf-8")


def test_network_without_scaler_saves_none() -> None:
    ae = train_quietly(tiny_variant((3,), (0.0, 1.0)), pixels(20, 3))
    loaded = saved_and_loaded(ae)
    assert (loaded.scaler, loaded.columns) == (None, ())
    weights = safetensors.torch.load_file("trained/model.safetensors")
    assert not {"input_shift", "input_scale"} & set(weights)


TABLES: dict[str, Callable[[Trained], object]] = {
    "array": lambda t: t.raw,
    "array of integers": lambda t: t.raw.round().astype(np.int64),
    "tensor": lambda t: torch.from_numpy(t.raw),
    "mapping": lambda t: dict(reversed(t.columns.items())),
    "mapping of lists": lambda t: {k: v.tolist() for k, v in t.columns.items()},
    "mapping of tensors": lambda t: {k: torch.from_numpy(v) for k, v in t.columns.items()},
    "mapping with more columns": lambda t: {"name": ["oak"] * len(t.raw), **t.columns},
    "data frame": lambda t: Frame(dict(reversed(t.columns.items()))),
    "pyarrow table": lambda t: pa.table(dict(reversed(t.columns.items()))),
    "list of rows": lambda t: [{k: v[i] for k, v in t.columns.items()} for i in range(len(t.raw))],
}


@pytest.mark.parametrize("kind", TABLES)
def test_every_kind_of_table_is_scaled_as_in_training(kind: str, trained: Trained) -> None:
    x = trained.ae.transforms()(TABLES[kind](trained))
    assert x.dtype == torch.float32
    integers = kind == "array of integers"
    assert trained.ae.scaler is not None
    raw = trained.raw.round() if integers else trained.raw
    torch.testing.assert_close(x, trained.ae.scaler(torch.from_numpy(raw).float()))
    if not integers:
        torch.testing.assert_close(x, inputs_of(trained.samples), rtol=0, atol=1e-6)


def test_one_row_is_a_batch_of_one(trained: Trained) -> None:
    row = {name: float(values[3]) for name, values in trained.columns.items()}
    torch.testing.assert_close(trained.ae.transforms()(row), inputs_of(trained.samples)[3:4])


def test_inverse_returns_the_original_units(trained: Trained) -> None:
    transforms = trained.ae.transforms()
    back = transforms.inverse(transforms(trained.raw))
    torch.testing.assert_close(back, torch.from_numpy(trained.raw).float(), rtol=1e-5, atol=1e-4)


def test_inverse_without_scaler_returns_its_argument() -> None:
    x = torch.rand(2, 3)
    assert aezoo.build(tiny_variant((3,), (0.0, 1.0))).transforms().inverse(x) is x


Columns = dict[str, Any]
CHANGES: dict[str, tuple[Callable[[Columns], Columns], str]] = {
    "missing": (lambda c: {k: v for k, v in c.items() if k != "b"}, "the table has no column 'b'; expected columns: a, b, c"),
    "text": (lambda c: {**c, "b": ["x"] * len(c["a"])}, "column 'b' contains text, not numbers"),
    "not finite": (lambda c: {**c, "b": np.where(c["a"] == c["a"][4], np.nan, c["b"])}, "column 'b' has 1 values that are missing or not finite, the first in row 5"),
    "shorter": (lambda c: {**c, "b": c["b"][:-1]}, "the columns differ in length"),
    "no rows": (lambda c: {k: v[:0] for k, v in c.items()}, "expected at least one value, found an empty array"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [dict, Frame])
def test_incomplete_table_is_rejected(kind: Callable[[Any], object], change: str, trained: Trained) -> None:
    changed, words = CHANGES[change]
    with data_error(words):
        trained.ae.transforms()(kind(changed(trained.columns)))


def test_mapping_is_rejected_if_the_training_data_were_not_a_table() -> None:
    ae = aezoo.build(tiny_variant((3,)))
    with data_error("expected a PIL image, a NumPy array or a tensor, found dict"):
        ae.transforms()({"a": [1.0], "b": [2.0], "c": [3.0]})


def test_table_that_was_not_scaled_accepts_integers() -> None:
    path = parquet_file("t.parquet", a=np.arange(20), b=np.arange(20) % 3)
    ae = train_quietly(tiny_variant((2,)), TableSpec(path=path, scale="none"))
    rows = np.array([[1, 2], [3, 0]])
    x = ae.transforms()({"a": rows[:, 0], "b": rows[:, 1]})
    assert x.tolist() == rows.tolist()
    assert torch.equal(ae.transforms()(rows), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scaler_stays_exact_with_half_precision_weights(dtype: torch.dtype, trained: Trained) -> None:
    half = aezoo.load(trained.folder, dtype=dtype)
    assert torch.equal(half.transforms()(trained.raw), trained.ae.transforms()(trained.raw))
