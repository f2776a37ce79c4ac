"""ONNX: the file, its metadata, and running it with onnxruntime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from aezoo.errors import NotSupportedError, optional
from aezoo.exporting.comparison import Runner
from aezoo.exporting.program import INPUT, quiet

OPSET = 18
"""The lowest version of ONNX's operators that PyTorch's exporter writes, which most runtimes know."""
MAX_BYTES = 2**31 - 2**20
"""Size of a file of Protocol Buffers, less what the graph takes."""
BATCH = "batch"
"""Name of the axis whose size is free."""


def require_onnx() -> None:
    """Checks that the libraries that write and run ONNX are installed.

    Raises:
        MissingExtraError: one is not; the message names the extra.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        optional(module, module, "onnx")


def onnx_model(program: Any, outputs: tuple[str, ...]) -> Any:
    """A traced program as an ONNX model, a `torch.onnx.ONNXProgram`.

    Args:
        program: of `aezoo.exporting.program.trace`.
        outputs: their names.

    Raises:
        NotSupportedError: ONNX has no operator for an operation, or the file would be larger than 2 GiB.
    """
    size = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    if size > MAX_BYTES:
        raise NotSupportedError(
            f"the weights have {size / 2**30:.1f} GiB and an ONNX file holds at most 2; use format torch"
        )
    try:
        with quiet():
            made: Any = torch.onnx.export(
                program, (), None, dynamo=True, input_names=[INPUT], output_names=list(outputs),
                opset_version=OPSET, verbose=False,
            )  # fmt: skip
    except Exception as error:  # the exporter raises exceptions of its own, caused by those of an operator
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = " ".join(str(cause).split())[:300]
        raise NotSupportedError(f"the network cannot be written as ONNX: {text}") from error
    _name_batch_axis(made.model)
    made.model.producer_name = "aezoo"
    return made


def onnx_bytes(model: Any, metadata: Mapping[str, str]) -> bytes:
    """A model of `onnx_model` as a file.

    Args:
        model: its metadata are replaced.
        metadata: name -> text in `metadata_props`.
    """
    model.model.metadata_props.update(metadata)
    return model.model_proto.SerializeToString()


def _name_batch_axis(model: Any) -> None:
    """Gives the free axis a name in place of PyTorch's symbol, such as `s77`."""
    ir = optional("onnx_ir", "onnxscript", "onnx")
    symbol = str(model.graph.inputs[0].shape[0])
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        if value.shape is not None and any(str(size) == symbol for size in value.shape):
            value.shape = ir.Shape([BATCH if str(size) == symbol else size for size in value.shape])


def open_onnx(file: Path | bytes) -> Runner:
    """Opens an ONNX file in onnxruntime, on the CPU.

    Args:
        file: the file or its content.

    Raises:
        NotSupportedError: onnxruntime does not run it.
    """
    runtime = optional("onnxruntime", "onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    content = file if isinstance(file, bytes) else str(file)
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # exceptions of the runtime have no common class
        text = " ".join(str(error).split())[:300]
        raise NotSupportedError(
            f"onnxruntime {runtime.__version__} does not run the exported file: {text}"
        ) from error
    names = [output.name for output in session.get_outputs()]

    def run(batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, {INPUT: batch}), strict=True))

    return run


def onnx_runtime() -> str:
    """Name and version of what runs ONNX files."""
    return f"onnxruntime {optional('onnxruntime', 'onnxruntime', 'onnx').__version__}"
