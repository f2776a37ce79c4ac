"""The commitment loss of vector quantization."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

import aezoo
from aezoo_vq.layers import at_least_float32


class CommitmentSpec(aezoo.LossSpec):
    """Mean squared distance of the encoder's vectors from their codes (arXiv:1711.00937, equation 3)."""

    kind: Literal["vq.commitment"] = "vq.commitment"

    example_encoder = ({"kind": "linear", "out_features": 12}, {"kind": "vq.quantize", "codes": 5})

    @override
    def incompatibility(self, ae: aezoo.Autoencoder) -> str | None:
        if "vq.error" in ae.encoder.emits:
            return None
        return "vq.commitment needs a codebook; end the encoder in vq.quantize"

    @override
    def __call__(
        self, output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder
    ) -> Float[Tensor, ""]:
        return at_least_float32(output.aux["vq.error"]).square().mean()
