"""PyTorch's own format, `.pt2`: a program of torch.export, which PyTorch runs without aezoo."""

import io
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from aezoo.errors import NotSupportedError
from aezoo.exporting.comparison import Runner
from aezoo.exporting.program import quiet

RECORD = "aezoo.json"
"""Name of the record among the extra files of a `.pt2` file."""


def torch_bytes(program: Any, record: str) -> bytes:
    """A traced program as a `.pt2` file.

    Args:
        program: of `aezoo.exporting.program.trace`.
        record: JSON that is stored in the file.
    """
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={RECORD: record})
    return buffer.getvalue()


def open_torch(file: Path | bytes) -> Runner:
    """Opens a `.pt2` file.

    Args:
        file: the file or its content.

    Raises:
        NotSupportedError: PyTorch cannot load it.
    """
    try:
        with quiet():
            content = io.BytesIO(file if isinstance(file, bytes) else file.read_bytes())
            module: Any = torch.export.load(content).module()
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise NotSupportedError(
            f"PyTorch {torch.__version__} cannot load the exported file: {text}"
        ) from error

    def run(batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        with torch.no_grad():
            return {name: values.numpy() for name, values in module(torch.from_numpy(batch)).items()}

    return run


def torch_runtime() -> str:
    """Name and version of what runs `.pt2` files."""
    return f"PyTorch {torch.__version__}"
