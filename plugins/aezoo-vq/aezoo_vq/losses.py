"""What keeps the encoder near its codes."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

import aezoo


class CommitmentSpec(aezoo.LossSpec):
    """Squared distance of vectors from their codes, mean over elements (arXiv:1711.00937, eq. 3)."""

    kind: Literal["vq.commitment"] = "vq.commitment"

    example_encoder = ({"kind": "linear", "out_features": 12}, {"kind": "vq.quantize", "codes": 5})

    def incompatibility(self, ae: aezoo.Autoencoder) -> str | None:
        """An encoder without a codebook."""
        if "vq.error" in ae.encoder.emits:
            return None
        return "vq.commitment keeps vectors near their codes; end the encoder in vq.quantize"

    def __call__(
        self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder
    ) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        return output.aux["vq.error"].square().mean()
