"""Networks that are exported in tests, and how a file is run without aezoo."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

import aezoo

RECIPE = {"reconstruction": "mse", "threads": 1, "stages": [{"kind": "fit", "epochs": 1}]}
DENSE = [{"kind": "flatten"}, {"kind": "linear", "out_features": 12, "activation": "relu"}]


def network(
    *encoder: dict[str, Any],
    decoder: list[dict[str, Any]] | None = None,
    shape: tuple[int, ...] = (1, 6, 6),
    range: list[float] | None = None,
    target: dict[str, Any] | None = None,
) -> aezoo.Autoencoder:
    """A network for bytes, with random weights; by default 36-12-36."""
    size = int(np.prod(shape))
    spec = aezoo.VariantSpec.model_validate({
        "name": "small", "summary": "A network for tests.",
        "input": {"shape": shape, "range": range or [0, 1]}, "target": target,
        "encoder": [*(encoder or DENSE)],
        "decoder": decoder
        or [{"kind": "linear", "out_features": size}, {"kind": "unflatten", "shape": shape}],
        "recipe": RECIPE,
    })  # fmt: skip
    return aezoo.build(spec, seed=1)


def pixels(n: int, *shape: int) -> Tensor:
    return torch.randint(
        0, 256, (n, *(shape or (1, 6, 6))), dtype=torch.uint8, generator=Generator().manual_seed(1)
    )


def run_onnx(path: Path, batch: Tensor | NDArray[Any]) -> dict[str, Tensor]:
    """As a program without aezoo would run the file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = session.run(None, {"input": np.asarray(batch)})
    names = [output.name for output in session.get_outputs()]
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


def run_torch(path: Path, batch: Tensor | NDArray[Any]) -> dict[str, Tensor]:
    program: Any = torch.export.load(path).module()
    return program(torch.as_tensor(batch))


def load_python(path: Path) -> dict[str, Any]:
    """The names that an exported file defines, in a namespace in which aezoo cannot be imported."""

    def without_aezoo(name: str, *rest: Any) -> Any:
        assert name.partition(".")[0] != "aezoo"
        return builtins.__import__(name, *rest)

    allowed = {**vars(builtins), "__import__": without_aezoo}
    names: dict[str, Any] = {"__name__": "exported", "__file__": str(path), "__builtins__": allowed}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
    return names


@torch.no_grad()
def run_python(path: Path, batch: Tensor | NDArray[Any]) -> dict[str, Tensor]:
    model = load_python(path)["load"]()
    x = model.preprocess(torch.as_tensor(batch))
    if not hasattr(model, "decoder"):
        return {"latents": model(x)}
    x_hat, latents = model(x)
    found = {
        "latents": latents,
        "reconstruction": model.inverse(x_hat) if hasattr(model, "inverse") else x_hat,
    }
    return found | ({"score": model.score_samples(x)} if hasattr(model, "score_samples") else {})


RUN = {"onnx": run_onnx, "torch": run_torch, "python": run_python}
SUFFIX = {"onnx": ".onnx", "torch": ".pt2", "python": ".py"}
