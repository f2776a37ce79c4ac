"""One batch through a trained network: latents, reconstructions, squared errors, sparse codes as pairs."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.model.autoencoder import Autoencoder, eval_mode, require_autoencoder
from aezoo.zoo.load import load


def loaded(ae: Autoencoder | str) -> Autoencoder:
    """The autoencoder itself, or the one that `aezoo.load` gives for a name, a folder or an address."""
    if isinstance(ae, str | os.PathLike):
        return load(ae)
    require_autoencoder(ae)
    return ae


def _on_network(ae: Autoencoder, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Runs a function of a batch in evaluation mode, on the network's device and in its dtype."""
    # Layers may not take an empty batch, such as one whose images were all skipped.
    given = x if len(x) else torch.zeros(1, *x.shape[1:])
    # Setting and restoring the mode of every module takes as long as a small layer.
    mode = eval_mode(ae) if any(module.training for module in ae.modules()) else nullcontext()
    with mode, torch.no_grad():
        return function(given.to(next(ae.parameters(), given)))[: len(x)].float().cpu()


def encode(ae: Autoencoder, x: Tensor) -> Tensor:
    """Latents, float32 on the CPU, (n, *latent shape)."""
    return _on_network(ae, x, ae.encode)


def decode(ae: Autoencoder, latents: Tensor) -> Tensor:
    """Reconstructions of latents, float32 on the CPU, (n, *target shape)."""
    return _on_network(ae, latents, ae.decode)


def reconstruct(ae: Autoencoder, x: Tensor) -> Tensor:
    """Reconstructions of inputs, float32 on the CPU, (n, *target shape)."""
    return _on_network(ae, x, lambda batch: ae(batch).x_hat)


def squared_errors(ae: Autoencoder, x: Tensor) -> Tensor:
    """Squared errors, (n, values)."""
    return _on_network(ae, x, lambda batch: (ae(batch).x_hat - batch).flatten(1).square())


def pairs(latents: Tensor, k: int) -> dict[str, NDArray[Any]]:
    """The k largest latents by magnitude as indices and values, (n, k), sorted by index, zeros last."""
    indices: Tensor = latents.abs().topk(k, dim=1).indices
    values = latents.gather(1, indices)
    order = torch.where(values == 0, latents.shape[1], indices).sort(dim=1, stable=True).indices
    indices, values = indices.gather(1, order), values.gather(1, order)
    indices = torch.where(values == 0, 0, indices)
    return {"indices": indices.to(torch.int32).numpy(), "values": values.numpy()}
