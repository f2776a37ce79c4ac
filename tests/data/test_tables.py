# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

import aezoo
from aezoo.data.datasets import files
from aezoo.data.datasets.arrays import WindowsSpec
from aezoo.data.datasets.tables import Table, TableSpec
from aezoo.data.samples import Samples
from aezoo.data.transforms import Scaler, Transforms
from aezoo.evaluation.evaluate import dataset_of, evaluate_variant
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
    torch.testing.assert_close(scaled, expected, rtol=0, atol=1e-6)
    transforms = Transforms(TensorSpec(shape=(2,)), samples.scaler, samples.columns)
    new = transforms({"a": np.zeros(len(seen)), "seconds": seen.numpy()})
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
    with data_error("expected a PIL image, a path, a NumPy array or a tensor, found dict"):
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


# -- what a table must not lose -----------------------------------------------------------------------


def rows(first: str, n: int = 20) -> str:
    Path("data.csv").write_text(first + "".join(f"{i},{i * 0.5},{i * 2}\n" for i in range(1, n + 1)))
    return "data.csv"


HEADERS = {
    "numbers": "1,0.5,2\n",
    "equal numbers": "1.0,1.0,2.0\n",
    "numbers and a class": "5.1,3.5,setosa\n",
    "a cell is missing": "1,,2\n",
    "not a number": "nan,1e5,-inf\n",
}


@pytest.mark.parametrize("first", HEADERS)
def test_first_row_of_a_table_without_header_is_not_lost(first: str) -> None:
    path = rows(HEADERS[first])
    with data_error("the first line looks like data", start=path, end="`header: true` if these are names"):
        TableSpec(path=path).read()
    with data_error("the first line looks like data", start=path):
        WindowsSpec(path=path, length=2).load("train")


def test_columns_without_names_are_numbered() -> None:
    samples = TableSpec(path=rows("1,0.5,2\n"), header=False, scale="none").read()
    assert samples.columns == ("f0", "f1", "f2")
    assert len(samples) == 21
    assert samples.inputs[0].tolist() == [1, 0.5, 2]
    windows = WindowsSpec(path="data.csv", header=False, length=2, scale="none").load("train")
    assert windows.inputs[0, :, 0].tolist() == [1, 0.5, 2]


def test_names_may_be_numbers() -> None:
    wavelengths = TableSpec(path=rows("400,402.5,405\n"), header=True).read()
    assert wavelengths.columns == ("400", "402.5", "405")
    assert TableSpec(path=rows("0,1,2\n")).read().columns == ("0", "1", "2")  # pandas' names
    assert TableSpec(path=rows("a,400,402\n"), header=True).read().columns == ("a", "400", "402")
    assert TableSpec(path=rows("a,b,402\n")).read().columns == ("a", "b", "402")


def test_row_index_that_pandas_declares_in_parquet_is_no_feature() -> None:
    a, index = numbers(20), np.arange(20)
    for declared in (["index"], [{"kind": "range"}], [], None):
        table = pa.table({"a": a, "index": index})
        metadata = {} if declared is None else {"pandas": json.dumps({"index_columns": declared})}
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), "t.parquet")
        expected = ("a",) if declared == ["index"] else ("a", "index")
        assert TableSpec(path="t.parquet").read().columns == expected
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"pandas": json.dumps({"index_columns": ["index"]})}), "t.parquet"
    )
    assert TableSpec(path="t.parquet", columns=("index", "a")).read().columns == ("index", "a")
    for damaged in (b"", b"{", b"[]", b'{"index_columns": 3}', b"\xff"):
        pyarrow.parquet.write_table(table.replace_schema_metadata({b"pandas": damaged}), "t.parquet")
        assert TableSpec(path="t.parquet").read().columns == ("a", "index")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__"])
def test_row_index_in_a_csv_is_no_feature(name: str) -> None:
    path = rows(f"{name},a,b\n")
    with data_error("probably pandas' row index", start=f"column 1 of {path} "):
        TableSpec(path=path).read()
    assert TableSpec(path=path, columns=("a", "b")).read().columns == ("a", "b")
    assert TableSpec(path=path, label=name).read().columns == ("a", "b")


@pytest.mark.parametrize("n", [10, 60_000])
def test_line_breaks_within_quotes_are_part_of_a_value(n: int) -> None:
    text = "".join(f'{i},"seen at the\nsecond pump {i}",{i % 7}\n' for i in range(n))
    Path("data.csv").write_text("a,note,b\n" + text)
    samples = TableSpec(path="data.csv", columns=("a", "b"), scale="none").read()
    assert samples.inputs[:, 0].tolist() == list(range(n))


def test_type_of_a_column_is_not_that_of_its_first_megabyte() -> None:
    Path("data.csv").write_text("a,b\n" + "1,1234567\n" * 200_000 + "0.5,1\n")
    assert float(TableSpec(path="data.csv", scale="none").read().inputs[-1, 0]) == 0.5


def test_column_named_twice_is_rejected() -> None:
    with data_error("column 'a' is named twice in `columns`", start="data.csv"):
        TableSpec(path=rows("a,b,c\n"), columns=("a", "b", "a")).read()


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separator_is_named(separator: str) -> None:
    Path("data.csv").write_text(f"a{separator}b\n1,5{separator}2\n3,5{separator}4\n")
    with data_error(f"the columns seem to be separated by {separator!r}, a comma is expected"):
        TableSpec(path="data.csv").read()


def test_integers_that_float32_cannot_hold_need_scaling() -> None:
    path = parquet_file("t.parquet", a=2**24 + 1 + np.arange(20), b=numbers(20))
    with data_error(
        "column 'a' has integers that float32 cannot hold, such as 16777217; use `scale: standard`"
    ):
        TableSpec(path=path, scale="none").read()
    x = inputs_of(TableSpec(path=path).load("train"))
    assert len(x[:, 0].unique()) == len(x)
    path = parquet_file("t.parquet", a=2**53 + 1 + np.arange(20), b=numbers(20))
    with data_error("column 'a' has integers that float64 cannot hold, such as 9007199254740993"):
        TableSpec(path=path).read()


def test_parquet_that_announces_more_than_fits_into_memory_is_rejected() -> None:
    # A few kilobytes: equal values are stored once.
    ones = pa.chunked_array([pa.array(np.ones(2**20, np.int8))] * 64)
    parquet_file("t.parquet", a=ones)
    assert Path("t.parquet").stat().st_size < 2**20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10_000}.get)
        with data_error("", "t.parquet cannot be read: it announces more data than fit into memory"):
            TableSpec(path="t.parquet").read()


def test_wide_table_is_read_by_position() -> None:
    # Looking every column up by name takes time quadratic in their number.
    names = [f"gene{i}" for i in range(20_000)]
    Path("data.csv").write_text("\n".join([",".join(names), *(",".join(["1.5"] * 20_000) for _ in range(3))]))
    lookups: list[str] = []

    class Names(tuple[str, ...]):
        def __contains__(self, name: object) -> bool:
            lookups.append(str(name))
            return super().__contains__(name)

        def count(self, name: Any, /) -> int:
            lookups.append(name)
            return super().count(name)

    table = Table(Path("data.csv"))
    table.names = Names(table.names)
    values, found = table.numbers(None)
    assert values.shape == (3, 20_000)
    assert found == tuple(names)
    assert lookups == []


# -- a trained network and data that have changed -----------------------------------------------------


OFFSETS: dict[str, NDArray[Any]] = {
    "milliseconds since 1970": 1.7e12 + np.arange(200.0),
    "seconds since 1970": 1.7e9 + np.arange(200.0),
    "Julian days": 2460000.5 + np.arange(200) / 1440,
    "frequency": 2.4e9 + 100 * numbers(200),
    "pressure": 101325 + 0.01 * numbers(200).astype(np.float64),
    "longitude": 13.405 + 1e-5 * numbers(200).astype(np.float64),
    "temperature": 21 + numbers(200).astype(np.float64),
    "beyond float32": 1e39 * np.arange(200.0),
    "tiny": 1e-30 * np.arange(200.0),
}


@pytest.mark.parametrize("kind", OFFSETS)
def test_large_offsets_are_scaled_and_restored_exactly(kind: str) -> None:
    column = OFFSETS[kind].astype(np.float64)
    path = parquet_file("t.parquet", a=column, b=numbers(200))
    dataset = TableSpec(path=path)
    x = inputs_of(dataset.load("train"))[:, 0].double()
    # Double precision resolves milliseconds since 1970 in steps of 0.0002.
    assert abs(float(x.mean())) < 1e-6 + 1.2e-4 / column.std() * (column.mean() > 1e12)
    assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-6)
    ae = saved_and_loaded(train_quietly(tiny_variant((2,), dataset=dataset)))
    transforms = ae.half().transforms()
    given = np.stack([column, 0 * column], 1)
    back = transforms.inverse(transforms(given))[:, 0].double().numpy()
    assert np.abs(back - column).max() < 2e-6 * column.std()


def test_statistics_are_float32_where_that_is_precise_enough() -> None:
    # Folders that were published before stay readable, and training them again gives the same bytes.
    assert Scaler.fit(torch.tensor([[1.0], [2.0]])).shift.dtype == torch.float32
    assert Scaler.fit(1e9 + torch.tensor([[1.5], [2.0]], dtype=torch.float64)).shift.dtype == torch.float64


def test_values_too_large_to_be_standardized_are_rejected() -> None:
    path = parquet_file("t.parquet", a=1e200 * numbers(20).astype(np.float64))
    with data_error("are too large to be standardized"):
        TableSpec(path=path).load("train")


def written(columns: dict[str, Any]) -> str:
    return parquet_file("t.parquet", **columns)


def by_hand(ae: aezoo.Autoencoder, columns: dict[str, Any]) -> float:
    """The error on all rows, scaled by the network's own statistics, columns by name."""
    return float(-ae.score_samples(ae.transforms()(columns)).mean())


@dataclass
class Kept:
    ae: aezoo.Autoencoder
    columns: dict[str, NDArray[np.float64]]


@pytest.fixture
def kept() -> Kept:
    """A network that was trained on `t.parquet` and loaded from its folder."""
    a, c = numbers(2, 60).astype(np.float64)
    columns = {"a": a, "b": 100 * a - 20, "c": c}
    written(columns)
    dataset = TableSpec(path="t.parquet", test=0.3)
    return Kept(saved_and_loaded(train_quietly(tiny_variant((3,), dataset=dataset))), columns)


def evaluated(ae: aezoo.Autoencoder) -> tuple[float, dict[str, NDArray[Any]]]:
    """The error that `evaluate_variant` gives, and the rows that it measured."""
    value = evaluate_variant(ae)["mse"]["value"]
    assert value is not None
    dataset = dataset_of(ae)
    raw = dataset.model_copy(update={"scale": "none"}).load("test")
    return value, {name: inputs_of(raw)[:, i].numpy() for i, name in enumerate(raw.columns)}


def test_unchanged_table_gives_the_published_number(kept: Kept) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, measured = evaluated(kept.ae)
    assert value == kept.ae.metrics["mse"]["value"]
    assert value == pytest.approx(by_hand(kept.ae, measured), rel=1e-5)


TABLE_CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "other units": lambda c: {**c, "a": 1000 * c["a"]},
    "drift": lambda c: {**c, "a": c["a"] + 250},
    "more rows": lambda c: {name: np.concatenate([x, x[:40] + 1]) for name, x in c.items()},
}


@pytest.mark.parametrize("change", TABLE_CHANGES)
def test_changed_table_is_scaled_as_in_training_and_reported(change: str, kept: Kept) -> None:
    written(TABLE_CHANGES[change](kept.columns))
    with pytest.warns(
        aezoo.DiagnosticWarning, match=r"^other-data: the test split is not the one of the training: "
    ):
        value, measured = evaluated(kept.ae)
    assert value == pytest.approx(by_hand(kept.ae, measured), rel=1e-5)
    for data in (measured, TableSpec(path="t.parquet", test=0.3, scale="none").load("test")):
        again = aezoo.evaluate(kept.ae, as_data(data), dataset="ours", split="test")["mse"]["value"]
        assert again == pytest.approx(value, rel=1e-5)
    spec = TableSpec(path="t.parquet", test=0.3)
    assert aezoo.evaluate(kept.ae, spec, dataset="ours", split="test")["mse"]["value"] == value
    with data_error("the samples were scaled by statistics of their own"):
        aezoo.evaluate(kept.ae, spec.load("test"), dataset="ours", split="test")


def test_outlier_in_the_training_rows_changes_no_other_row(kept: Kept) -> None:
    row = int(np.flatnonzero(~np.isin(kept.columns["a"], evaluated(kept.ae)[1]["a"]))[0])
    written({**kept.columns, "a": np.where(np.arange(60) == row, 1e30, kept.columns["a"])})
    assert evaluate_variant(kept.ae)["mse"]["value"] == kept.ae.metrics["mse"]["value"]


def as_data(data: Any) -> object:
    return pa.table(data) if isinstance(data, dict) else data


def test_columns_are_taken_by_name_not_by_place(kept: Kept) -> None:
    written({name: kept.columns[name] for name in "cab"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate_variant(kept.ae)["mse"]["value"] == kept.ae.metrics["mse"]["value"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": "x", "b": "b", "c": "c"}, "the data have no column 'a'; the network needs a, b, c"),
        ({"a": "a", "b": "b"}, "the data have no column 'c'; the network needs a, b, c"),
        ({"a": "a", "b": "b", "c": "c", "d": "d"}, "the data have a column 'd', which the network was not trained on"),
    ],
)  # fmt: skip
def test_missing_and_unknown_columns_are_rejected(columns: dict[str, str], words: str, kept: Kept) -> None:
    written({new: kept.columns.get(old, kept.columns["a"]) for old, new in columns.items()})
    with data_error(words):
        evaluate_variant(kept.ae)


def test_network_trained_on_other_data_than_the_recipe_names_is_reported(kept: Kept) -> None:
    raw = np.stack(list(kept.columns.values()), 1)
    ae = train_quietly(tiny_variant((3,), dataset=TableSpec(path="t.parquet", test=0.3)), raw)
    assert ae.scaler is None
    if dataset_spec(ae) is None:
        return
    with pytest.warns(aezoo.DiagnosticWarning, match="^other-data: the network was trained on ndarray"):
        value = evaluate_variant(ae)["mse"]["value"]
    test = TableSpec(path="t.parquet", test=0.3, scale="none").load("test")
    assert value == pytest.approx(float(-ae.score_samples(inputs_of(test).float()).mean()), rel=1e-5)


def dataset_spec(ae: aezoo.Autoencoder) -> aezoo.DatasetSpec | None:
    assert isinstance(ae.spec, aezoo.VariantSpec)
    return ae.spec.recipe.dataset
