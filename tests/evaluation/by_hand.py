"""A network of two values whose metrics are worked out by hand."""

import math

import torch

import aezoo

TWO_TO_TWO = {
    "input": {"shape": [2]},
    "encoder": [{"kind": "linear", "out_features": 3, "activation": "relu"}],
    "decoder": [{"kind": "linear", "out_features": 2}],
}
X = torch.tensor([[1.0, 2.0], [3.0, -4.0], [0.0, 0.0]])
# The reconstructions are [[1, 2], [3, 0], [0, 0]], the latents [[1, 2, 0], [3, 0, 0], [0, 0, 0]]. The squared
# distances of the rows from the mean (1, -1) are 9, 13 and 2. The norms of the first code are 3 and sqrt(5),
# the second has a single latent, the third is left out. Each of two atoms covers one value of two.
BY_HAND = {
    "mse": 16 / 6,
    "sse": 16 / 3,
    "fvu": 16 / 24,
    "l0": 3 / 3,
    "dead_latents": 1.0,
    "hoyer": ((math.sqrt(3) - 3 / math.sqrt(5)) / (math.sqrt(3) - 1) + 1) / 2,
    "atom_area": 1 / 2,
}


def two_to_two(dtype: torch.dtype = torch.float32) -> aezoo.Autoencoder:
    """Returns the positive part of its input; the third latent is always zero."""
    ae = aezoo.build(aezoo.AutoencoderSpec.model_validate(TWO_TO_TWO), dtype=dtype)
    eye = torch.eye(3, 2, dtype=dtype)
    ae.load_state_dict({
        "encoder.0.linear.weight": eye, "encoder.0.linear.bias": torch.zeros(3),
        "decoder.0.linear.weight": eye.T, "decoder.0.linear.bias": torch.zeros(2),
    })  # fmt: skip
    ae.target_mean = torch.tensor([1.0, -1.0], dtype=dtype)
    return ae
