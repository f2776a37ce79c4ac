"""Python: one file of source that builds the network with PyTorch alone, and its weights next to it."""

import hashlib
import tempfile
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from numpy.typing import NDArray

from aezoo.errors import NotSupportedError
from aezoo.exporting import python_layers as text
from aezoo.exporting.comparison import Runner
from aezoo.exporting.python_source import (
    WIDTH,
    Call,
    Writer,
    batch_shape,
    passes_tensors,
    quoted,
    tuple_lines,
)
from aezoo.inference.outputs import write_errors
from aezoo.model.autoencoder import DATA_STATISTICS, Autoencoder
from aezoo.model.summary import format_shape
from aezoo.text import printable

STATISTICS = {
    "target_mean": "Mean of the training targets, for measures of variance; the network does not use it.",
    "input_shift": "Mean and standard deviation of the training inputs.",
    "input_scale": "",
}
"""Buffers of training data -> what they are."""


def weights_bytes(ae: Autoencoder, published: bytes | None, encoder_only: bool) -> bytes:
    """The weights as a safetensors file.

    Args:
        ae: the network, in float32.
        published: the file that the network was loaded from, if it is unchanged.
        encoder_only: whether to leave out the decoder.
    """
    if published is not None and not encoder_only:
        return published
    state = {
        name: tensor.detach().clone().contiguous()
        for name, tensor in ae.state_dict().items()
        if not (encoder_only and name.startswith(("decoder.", "target_mean")))
    }
    return safetensors.torch.save(state)


def python_bytes(ae: Autoencoder, weights: bytes, weights_name: str, outputs: tuple[str, ...],
                 numbers: list[str]) -> bytes:  # fmt: skip
    """The source of a file that builds the network.

    Args:
        ae: the network, on the CPU, in evaluation mode.
        weights: content of the weights file.
        weights_name: its name, next to the source.
        outputs: what the file gives.
        numbers: measured numbers for the docstring: a heading and lines; empty if there are none.

    Raises:
        NotSupportedError: the class of a layer has no source form; the message names it.
    """
    encoder_only = outputs == ("latents",)
    aux = passes_tensors(ae.encoder) or (not encoder_only and passes_tensors(ae.decoder))
    writer = Writer(ae.shapes, aux)
    parts = {"encoder": writer.sequence(ae.encoder, "encoder", "encoder")}
    if not encoder_only:
        parts["decoder"] = writer.sequence(ae.decoder, "decoder", "decoder")
    definitions = [source.strip("\n") for source in writer.definitions.values() if source]
    if aux:
        definitions += ["\n".join(tuple_lines("WITH_AUX", writer.with_aux)), text.LAYERS.strip("\n")]
    model = _Model(ae, aux, outputs)
    body = [*definitions, "\n".join(model.lines(parts)), _LOAD.strip("\n"), model.demonstration()]
    source = _join([
        _docstring(ae, outputs, numbers), "\n".join(_imports(body)),
        "\n".join(_constants(ae, weights, weights_name)), *body,
    ])  # fmt: skip
    return source.encode()


def _join(parts: list[str]) -> str:
    """Joins parts of a file with the blank lines that ruff puts between them."""
    docstring, imports, constants, *body = parts
    return f"{docstring}\n\n{imports}\n\n{constants}\n\n\n" + "\n\n\n".join(body) + "\n"


# -- the head of the file -----------------------------------------------------------------------------


def harmless(words: str) -> str:
    """Text from a spec that cannot end a docstring: one line, without control characters and backslashes."""
    return " ".join(printable(words).split()).replace("\\", "/").replace('"""', "'''").rstrip('"')


def _docstring(ae: Autoencoder, outputs: tuple[str, ...], numbers: list[str]) -> str:
    name, summary = getattr(ae.spec, "name", "autoencoder"), getattr(ae.spec, "summary", "")
    first = harmless(f"{name}: {summary}" if summary else f"{name}, an autoencoder.")
    lines = [*_wrapped(f'"""{first}'), "", *_wrapped(f"Input: {_raw(ae)}.")]
    lines.append(f"Latents: {batch_shape(ae.latent_shape)}.")
    if "reconstruction" in outputs:
        lines.append(f"Reconstruction: {batch_shape(ae.spec.output.shape)}.")
    lines.append("N is the number of samples.")
    references = ", ".join(harmless(reference) for reference in getattr(ae.spec, "references", ()))
    lines += _wrapped(f"References: {references}.") if references else []
    lines += ["", f"Written by aezoo {version('aezoo')}. It needs PyTorch and safetensors, and not aezoo."]
    if numbers:
        lines += ["", *(harmless(numbers[0]).splitlines()), "", *(f"    {line}" for line in numbers[1:])]
    return "\n".join([*lines, '"""'])


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, break_on_hyphens=False)


def _raw(ae: Autoencoder) -> str:
    """The data that `preprocess` takes, in words."""
    shape = batch_shape(ae.spec.input.shape)
    if ae.scaler is not None:
        return f"numbers in their original units, {shape}"
    if ae.spec.input.range is not None and not ae.columns:
        low, high = ae.spec.input.range
        return f"bytes, or floating point from {low:g} to {high:g}, {shape}"
    return f"floating point, {shape}"


def _imports(body: list[str]) -> list[str]:
    joined = "\n".join(body)
    standard = ["import hashlib"]
    if "OrderedDict(" in joined:
        standard.append("from collections import OrderedDict")
    standard.append("from pathlib import Path")
    third = ["import safetensors.torch", "import torch"]
    if "F." in joined:
        third.append("import torch.nn.functional as F")
    return [*standard, "", *third, "from torch import Tensor, nn"]


def _constants(ae: Autoencoder, weights: bytes, name: str) -> list[str]:
    lines = [
        f"WEIGHTS = Path(__file__).with_name({quoted(name)})",
        f'SHA256 = "{hashlib.sha256(weights).hexdigest()}"',
    ]
    if ae.columns:
        lines.append("# The columns of the table, in the order of the input's values.")
        lines += tuple_lines("COLUMNS", [quoted(column) for column in ae.columns])
    return lines


_LOAD = '''
def load(weights: str | Path = WEIGHTS) -> Autoencoder:
    """Builds the network with its weights, in evaluation mode, after checking their sha256."""
    content = Path(weights).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ValueError(f"{weights}: expected the sha256 {SHA256}, found {found}")
    model = Autoencoder()
    model.load_state_dict(safetensors.torch.load(content))
    return model.eval()
'''


# -- the class ----------------------------------------------------------------------------------------


class _Model:
    """The source of the class `Autoencoder`."""

    def __init__(self, ae: Autoencoder, aux: bool, outputs: tuple[str, ...]) -> None:
        self.ae, self.aux, self.outputs = ae, aux, outputs
        self.x = batch_shape(ae.spec.input.shape)
        self.latents = batch_shape(ae.latent_shape)
        self.x_hat = batch_shape(ae.spec.output.shape)

    def lines(self, parts: dict[str, Call]) -> list[str]:
        """The class, given the calls that build the encoder and the decoder."""
        shapes = [format_shape(self.ae.spec.input.shape), f"{format_shape(self.ae.latent_shape)} latents"]
        if "decoder" in parts:
            shapes.append(format_shape(self.ae.spec.output.shape))
        head = [
            "class Autoencoder(nn.Module):", f'    """{" -> ".join(shapes)}."""', "",
            "    def __init__(self) -> None:", "        super().__init__()",
        ]  # fmt: skip
        for name, call in parts.items():
            head += call.lines(8, f"self.{name} = ")
        methods = [self._preprocess(), self._encode()]
        if "decoder" in parts:
            methods += [self._decode(), *([self._inverse()] if self.ae.scaler is not None else [])]
            methods += [self._forward(), *([self._score()] if "score" in self.outputs else [])]
        else:
            methods.append(self._encoder_forward())
        body = [
            line
            for method in methods
            for line in ["", *textwrap.indent(method.strip("\n"), "    ").split("\n")]
        ]
        return [*head, *self._buffers(), *body]

    def _buffers(self) -> list[str]:
        lines: list[str] = []
        for name in DATA_STATISTICS:
            tensor: Any = getattr(self.ae, name)
            if tensor is None or (name == "target_mean" and self.outputs == ("latents",)):
                continue
            if STATISTICS[name]:
                lines.append(f"        # {STATISTICS[name]}")
            dtype = "" if tensor.dtype == torch.float32 else f", dtype={tensor.dtype}"
            sizes = ", ".join(map(str, tensor.shape))
            lines.append(f'        self.register_buffer("{name}", torch.zeros({sizes}{dtype}))')
        return lines

    def _preprocess(self) -> str:
        if self.ae.scaler is not None:
            return f"""
def preprocess(self, x: Tensor) -> Tensor:
    {_doc(f"Numbers in their original units, {self.x} -> the input, standardized in double precision.")}
    return ((x.double() - self.input_shift) / self.input_scale).float()
"""
        limits = self.ae.spec.input.range
        if limits is None or self.ae.columns:
            return f"""
def preprocess(self, x: Tensor) -> Tensor:
    {_doc(f"Numbers, {self.x} -> the input, float32.")}
    return x.to(torch.float32)
"""
        low, high = limits
        scaled = "return x.to(torch.float32) / 255.0"
        if (low, high) != (0.0, 1.0):
            scaled = f"return torch.lerp(torch.tensor({low}), torch.tensor({high}), x / 255.0)"
            scaled = f"x = x.to(torch.float32)\n        {scaled}"
        return f"""
def preprocess(self, x: Tensor) -> Tensor:
    {_doc(f"Bytes, {self.x} -> the input, float32 from {low:g} to {high:g}.")}
    if x.dtype == torch.uint8:
        {scaled}
    return x.to(torch.float32)
"""

    def _encode(self) -> str:
        if not self.aux:
            return f"""
def encode(self, x: Tensor) -> Tensor:
    {_doc(f"The input, {self.x} -> latents, {self.latents}.")}
    return self.encoder(x)
"""
        return f"""
def encode(self, x: Tensor, aux: dict[str, Tensor] | None = None) -> Tensor:
    {_doc(f"The input, {self.x} -> latents, {self.latents}. `aux` receives what the decoder needs.")}
    return self.encoder(x, {{}} if aux is None else aux)
"""

    def _decode(self) -> str:
        if not self.aux:
            return f"""
def decode(self, latents: Tensor) -> Tensor:
    {_doc(f"Latents, {self.latents} -> the reconstruction, {self.x_hat}.")}
    return self.decoder(latents)
"""
        return f"""
def decode(self, latents: Tensor, aux: dict[str, Tensor]) -> Tensor:
    {_doc(f"Latents, {self.latents}, and the `aux` of `encode` -> {self.x_hat}.")}
    return self.decoder(latents, aux)
"""

    def _forward(self) -> str:
        doc = _doc(f"The input, {self.x} -> the reconstruction and the latents.")
        if not self.aux:
            return f"""
def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
    {doc}
    latents = self.encode(x)
    return self.decode(latents), latents
"""
        return f"""
def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
    {doc}
    aux: dict[str, Tensor] = {{}}
    latents = self.encode(x, aux)
    return self.decode(latents, aux), latents
"""

    def _encoder_forward(self) -> str:
        return f"""
def forward(self, x: Tensor) -> Tensor:
    {_doc(f"The input, {self.x} -> latents, {self.latents}.")}
    return self.encode(x)
"""

    def _inverse(self) -> str:
        wide = self.ae.scaler is not None and self.ae.scaler.shift.dtype == torch.float64
        values = "x_hat.double() * self.input_scale + self.input_shift"
        return f"""
def inverse(self, x_hat: Tensor) -> Tensor:
    {_doc(f"A reconstruction, {self.x_hat} -> numbers in their original units.")}
    return {values if wide else f"({values}).float()"}
"""

    def _score(self) -> str:
        return f"""
def score_samples(self, x: Tensor) -> Tensor:
    {_doc("The input -> minus the mean squared error of each sample, (N,); higher is more usual.")}
    return -(self(x)[0] - x).flatten(1).square().mean(1)
"""

    def demonstration(self) -> str:
        """What the file does when it is run."""
        size = ", ".join(["2", *map(str, self.ae.spec.input.shape)])
        kind = ", dtype=torch.uint8" if _raw(self.ae).startswith("bytes") else ""
        lines = ['if __name__ == "__main__":', "    model = load()"]
        lines.append(f"    x = model.preprocess(torch.zeros({size}{kind}))")
        if self.outputs == ("latents",):
            lines.append("    print(model(x).shape)")
        else:
            lines += ["    x_hat, latents = model(x)", "    print(latents.shape, x_hat.shape)"]
        return "\n".join(lines)


def _doc(words: str) -> str:
    """The docstring of a method, without the indentation of its first line."""
    quotes = '"""'
    if len(words) + 8 + 2 * len(quotes) <= WIDTH:
        return f"{quotes}{words}{quotes}"
    lines = textwrap.wrap(f"{quotes}{words}", WIDTH - 14, break_on_hyphens=False)
    return "\n    ".join([*lines, quotes])


# -- running ------------------------------------------------------------------------------------------


def open_python(file: Path | bytes, weights: bytes, outputs: tuple[str, ...]) -> Runner:
    """Runs the source of an exported file, and loads its weights.

    Args:
        file: the file or its content.
        weights: content of the weights file.
        outputs: what to compute.

    Raises:
        NotSupportedError: the source does not run, or the weights do not fit it.
        CheckpointError: the weights cannot be written to the folder of temporary files.
    """
    source = file if isinstance(file, bytes) else file.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported.safetensors"
        with write_errors(path):
            path.write_bytes(weights)
        names: dict[str, Any] = {"__name__": "exported", "__file__": str(path.with_suffix(".py"))}
        try:
            exec(compile(source, "exported.py", "exec"), names)  # noqa: S102 - what was just written
            model: Any = names["load"](path)
        except Exception as error:  # of the code of a plugin's layer
            reason = " ".join(str(error).split())[:300]
            raise NotSupportedError(f"the exported source does not run: {reason}") from error

    def run(batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        with torch.no_grad():
            x = model.preprocess(torch.from_numpy(batch))
            if outputs == ("latents",):
                return {"latents": model(x).numpy()}
            x_hat, latents = model(x)
            found = {
                "latents": latents,
                "reconstruction": model.inverse(x_hat) if hasattr(model, "inverse") else x_hat,
            }
            if "score" in outputs:
                found["score"] = model.score_samples(x)
            return {name: values.numpy() for name, values in found.items()}

    return run
