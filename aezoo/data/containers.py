"""Tensors, arrays and tables of other libraries: read as their own library reads them, or refused by name.

All data that users pass in go through `plain_tensor`, `from_numpy` or `table_values`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from aezoo.errors import DataError

EXACT_INTEGERS = {torch.float32: 2**24, torch.float64: 2**53}
"""Floating-point dtype -> the number up to which it holds every integer."""

ROW_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
"""Names under which pandas writes a row index: without a name to CSV, and to Parquet; `Unnamed: 0` is what
it makes of a column without a name."""

ARRAY_ADVICE = {
    "O": "numpy.stack joins equally long rows, .astype(float) converts numbers",
    "M": "dates are not numbers",
    "m": "durations are not numbers",
    "U": "text is not numbers",
    "S": "text is not numbers",
    "T": "text is not numbers",
    "V": "pass the fields of a structured array as columns",
}
"""Kind of a NumPy dtype that PyTorch lacks -> what to do."""


def plain_tensor(x: object, what: str = "data") -> Tensor:
    """Returns a dense tensor of real numbers without a graph; the tensor itself if it is one already.

    Args:
        x: a tensor; a subclass such as `nn.Parameter` is converted.
        what: what the tensor holds, for errors.

    Raises:
        DataError: not a tensor, or one that is sparse, nested, quantized, masked, distributed, complex, on
            the meta device, or of a dtype such as float8.
    """
    if not isinstance(x, Tensor):
        raise DataError(f"expected a tensor as {what}, found {type(x).__name__}{advice(x)}")
    if problem := _tensor_problem(x):
        raise DataError(problem)
    if x.requires_grad:
        x = x.detach()
    if type(x) is not Tensor:
        x = x.as_subclass(Tensor)
    # Autograd cannot save tensors made in inference mode.
    return x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x.resolve_neg()


def _tensor_problem(x: Tensor) -> str | None:
    if type(x) is not Tensor:
        if any(cls.__name__ == "MaskedTensor" for cls in type(x).__mro__):
            return "found a masked tensor; call .to_tensor(value) to fill in the masked values"
        if hasattr(x, "full_tensor"):
            return "found a distributed tensor; call .full_tensor()"
    if x.is_nested:
        return "found a nested tensor; call .to_padded_tensor(value), or pass a list of equal shapes"
    if x.layout != torch.strided:
        return f"found a sparse tensor ({x.layout}); call .to_dense()"
    if x.is_quantized:
        return "found a quantized tensor; call .dequantize()"
    if x.is_meta:
        return "found a tensor on the meta device, which has no values"
    if x.is_complex():
        return (
            f"expected uint8 or floating point, found {x.dtype}; torch.view_as_real gives real and "
            "imaginary part as two values"
        )
    if x.is_floating_point() and x.itemsize < 2:
        return f"expected uint8 or floating point, found {x.dtype}; call .float()"
    return None


def from_numpy(array: NDArray[Any]) -> Tensor:
    """Converts an array to a tensor; copies if its strides, byte order or read-only flag require it.

    Raises:
        DataError: masked values, or a dtype that PyTorch does not support or that is complex.
    """
    if isinstance(array, np.ma.MaskedArray):
        array = unmasked(cast(Any, array))
    array, dtype = np.asarray(array), array.dtype
    if dtype.kind == "c":
        raise DataError(
            f"expected real numbers, found an array of {dtype}; pass real and imaginary part as two values"
        )
    try:
        return torch.from_numpy(np.require(array, dtype.newbyteorder("="), ["C", "W"]))
    except TypeError as error:
        hint = ARRAY_ADVICE.get(dtype.kind)
        raise DataError(
            f"expected a dtype that PyTorch supports, found an array of {dtype}{f'; {hint}' if hint else ''}"
        ) from error


def unmasked(array: "np.ma.MaskedArray[Any, Any]", where: str = "") -> NDArray[Any]:
    """The values of a masked array of which none is masked; `where` begins the error.

    Raises:
        DataError: a value is masked.
    """
    mask = np.ma.getmaskarray(array)
    if mask.dtype.names is None and mask.any():
        count, first = int(mask.sum()), tuple(int(i) for i in np.argwhere(mask)[0])
        raise DataError(
            f"{where}{count} values are masked, the first at index {first}; fill them in or leave these "
            "samples out"
        )
    return array.data


# -- tables -------------------------------------------------------------------------------------------


def is_table(data: object) -> bool:
    """Whether an object is a data frame or another table with named columns that it gives by name."""
    return _names(data) is not None and hasattr(data, "__getitem__")


def table_values(
    data: object, names: tuple[str, ...] | None = None, exact: torch.dtype = torch.float64
) -> tuple[Float[np.ndarray, "*rows columns"], tuple[str, ...]]:
    """Reads columns of a data frame, a table or a mapping by name.

    Args:
        data: a pandas, polars or pyarrow table, or a mapping; a column may be a single number.
        names: names of the columns; None for all.
        exact: the floating-point dtype that has to hold the integers of the table.

    Returns:
        Values, float64, and the names of the columns.

    Raises:
        DataError: a column is missing, is there twice, or does not consist of finite numbers; columns of
            different length; or, without `names`, a column that looks like pandas' row index.
    """
    if hasattr(data, "collect") and not hasattr(data, "__len__"):
        raise DataError(f"found a {type(data).__name__}, which is not computed yet; call .collect()")
    keys = [(str(key), key) for key in _names(data) or ()]
    present = [name for name, _ in keys]
    if names is None:
        check_row_index(present, "the table")
    names = names or tuple(present)
    if not names:
        raise DataError("the table has no columns")
    known, times = dict(keys), Counter(present)
    for name in names:
        if name not in known:
            raise DataError(f"the table has no column {name!r}; expected columns: {', '.join(names)}")
        if times[name] > 1:
            raise DataError(f"the table has two columns called {name!r}")
    table = cast(Mapping[Any, Any], data)
    columns = [column_values(table[known[name]], name, exact) for name in names]
    if len({column.shape for column in columns}) > 1:
        lengths = ", ".join(f"{name} {column.size}" for name, column in zip(names, columns, strict=True))
        raise DataError(f"the columns differ in length: {lengths}")
    return np.stack(columns, axis=-1), names


def column_values(values: object, name: str, exact: torch.dtype = torch.float64) -> NDArray[np.float64]:
    """The values of one column, (rows,), or () of a single number.

    Args:
        values: anything that NumPy converts to an array, or a tensor.
        name: name of the column, for errors.
        exact: the floating-point dtype that has to hold its integers.

    Raises:
        DataError: values that are masked, missing, not finite, or not numbers.
    """
    where = f"column {name!r}"
    if isinstance(values, Tensor):
        array = plain_tensor(values).cpu()
        array = array.double().numpy() if array.is_floating_point() else array.numpy()
    elif isinstance(values, np.ma.MaskedArray):
        array = unmasked(cast(Any, values), f"{where}: ")
    else:
        try:
            array = np.asarray(cast(Any, values))
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{where} contains values that are not numbers: {error}") from error
    if array.ndim > 1:
        raise DataError(f"{where} has {array[0].size if len(array) else 0} values in a row, expected one")
    if array.dtype.kind == "O":
        array = _numbers_of_objects(array, where)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} contains {_kind_name(array.dtype)}, not numbers")
    if array.dtype.kind in "iu":
        check_exact(array, exact, where)
    converted = array.astype(np.float64)
    if not (finite := np.isfinite(converted)).all():
        bad = np.flatnonzero(~finite)
        raise DataError(
            f"{where} has {bad.size} values that are missing or not finite, the first in row {bad[0] + 1}"
        )
    return converted


def check_exact(integers: NDArray[Any], exact: torch.dtype, where: str) -> None:
    """Checks that a floating-point dtype holds every one of some integers.

    Raises:
        DataError: it does not.
    """
    limit = EXACT_INTEGERS[exact]
    numbers = integers[(integers > limit) | (integers < -limit)].tolist()  # Python's, which compare exactly
    rounded = np.array(numbers, np.float32 if exact == torch.float32 else np.float64).tolist()
    for number, kept in zip(numbers, rounded, strict=True):
        if number != kept:
            dtype = str(exact).removeprefix("torch.")
            advice = "; use `scale: standard`, or subtract an offset" if exact == torch.float32 else ""
            raise DataError(f"{where} has integers that {dtype} cannot hold, such as {number}{advice}")


def check_row_index(names: Iterable[str], where: str) -> None:
    """Checks that no column looks like the row index of a pandas data frame.

    Raises:
        DataError: a column without a name, or with one that pandas gives to row indices.
    """
    for position, name in enumerate(names, 1):
        if ROW_INDEX.fullmatch(name):
            called = f"is called {name!r}" if name else "has no name"
            raise DataError(
                f"column {position} of {where} {called}, probably pandas' row index; leave it out "
                "(to_csv(index=False), drop(columns=...)) or name the columns to use"
            )


def advice(data: object) -> str:
    """How to convert a well-known container to an array, as the end of an error; empty for other objects."""
    module = type(data).__module__.partition(".")[0]
    if module == "anndata":
        return "; pass its array .X"
    if hasattr(data, "toarray"):
        return ", a sparse matrix; call .toarray()"
    if is_table(data) or hasattr(data, "to_numpy"):
        return "; call .to_numpy()" if hasattr(data, "to_numpy") else ""
    if hasattr(data, "collect"):
        return "; call .collect()"
    return ""


def _names(data: object) -> list[object] | None:
    if isinstance(data, Tensor | np.ndarray):
        return None
    names: object = getattr(data, "column_names", None)
    names = getattr(data, "columns", None) if names is None else names
    if names is None and isinstance(data, Mapping):
        names = cast(Mapping[object, object], data).keys()
    return list(cast(Iterable[object], names)) if isinstance(names, Iterable) else None


def _numbers_of_objects(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Converts an array of Python objects; text that looks like a number is not one."""
    for row, value in enumerate(array.reshape(-1).tolist(), 1):
        if not isinstance(value, Real | np.bool_):
            found = (
                "a missing value" if value is None or str(value) in ("<NA>", "NaT") else type(value).__name__
            )
            raise DataError(f"{where} contains {found} in row {row}, not numbers")
    try:
        return np.array(array.tolist())
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where} contains values that are not numbers: {error}") from error


def _kind_name(dtype: np.dtype[Any]) -> str:
    names = {"M": "dates", "m": "durations", "U": "text", "S": "text", "T": "text", "c": "complex numbers"}
    return names.get(dtype.kind, str(dtype))
