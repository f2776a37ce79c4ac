"""Principal components in closed form: Baldi and Hornik, Neural Networks 2 (1989)."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from aezoo.data.samples import Samples
from aezoo.errors import Problem, SpecError
from aezoo.model.autoencoder import Autoencoder

BATCH_SIZE = 4096
"""Samples that are read at once."""


def linear_layers(ae: Autoencoder, path: str) -> tuple[nn.Linear, nn.Linear]:
    """Returns the encoder and decoder layer of a linear autoencoder.

    Raises:
        SpecError: the network is not a linear autoencoder; reported at `path`.
    """
    found: list[nn.Linear] = []
    for side, layers in (("an encoder", ae.encoder), ("a decoder", ae.decoder)):
        modules = [m for layer in layers for m in (layer if isinstance(layer, nn.Sequential) else [layer])]
        linear = [m for m in modules if type(m) is nn.Linear]
        others = [m for m in modules if not isinstance(m, nn.Linear | nn.Flatten | nn.Unflatten)]
        if len(linear) != 1 or others or "bias" not in dict(linear[0].named_parameters()):
            text = f"pca needs {side} of one linear layer with a bias and without an activation"
            raise SpecError([Problem(path, text)])
        found.append(linear[0])
    encoder, decoder = found
    if encoder.in_features != decoder.out_features or encoder.out_features > encoder.in_features:
        sizes = f"{encoder.in_features} -> {encoder.out_features} -> {decoder.out_features}"
        raise SpecError([Problem(path, f"pca gives at most as many components as values, found {sizes}")])
    if ae.spec.target is not None:
        raise SpecError([Problem(path, "pca reconstructs the input, but the spec declares another target")])
    return encoder, decoder


@torch.no_grad()
def fit_principal_components(ae: Autoencoder, samples: Samples, path: str) -> None:
    """Sets the weights of a linear autoencoder to the principal components of `samples`, largest first.

    Sums are in double precision. The largest weight of each component is positive, so that the same data
    give the same signs.

    Raises:
        SpecError: the network is not a linear autoencoder; reported at `path`.
    """
    encoder, decoder = linear_layers(ae, path)
    d = encoder.in_features
    total, outer = (torch.zeros(shape, dtype=torch.float64, device="cpu") for shape in ((d,), (d, d)))
    for batch in samples.batches(ae.spec, BATCH_SIZE):
        x = batch.input.flatten(1).cpu().double()
        total += x.sum(0)
        outer += x.T @ x
    mean = total / len(samples)
    covariance = outer / len(samples) - torch.outer(mean, mean)
    eigenvectors = cast(Tensor, cast(Any, torch.linalg.eigh)(covariance)[1])
    vectors = eigenvectors.flip(1)[:, : encoder.out_features].T
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    components = vectors * largest.sign()
    encoder.weight.copy_(components)
    encoder.bias.copy_(-components @ mean)
    decoder.weight.copy_(components.T)
    decoder.bias.copy_(mean)
