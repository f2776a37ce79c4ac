"""Image quality protocol: peak signal-to-noise ratio and structural similarity of reconstructed images."""

import torch
from typing_extensions import override

from aezoo.data.datasets.torchvision import torchvision_datasets
from aezoo.errors import optional
from aezoo.evaluation.evaluate import Measurement, batches_for
from aezoo.evaluation.protocols.protocol import Protocol
from aezoo.model.autoencoder import Autoencoder, eval_mode

WINDOW = 11
"""Side of the Gaussian window of SSIM, whose standard deviation is 1.5 pixels, in pixels."""
BORDER = WINDOW // 2


class ImageQuality(Protocol):
    """Compares reconstructed images with their targets as images are compared in the literature.

    SSIM (Wang et al., IEEE Transactions on Image Processing 13, 2004, equation 13, with the constants of its
    section III-C) is computed by torchmetrics; its mean is over the pixels whose window is within the image.
    """

    name = "image-quality"
    summary = "PSNR and SSIM of the reconstructed images"
    gives = ("psnr", "ssim")

    @classmethod
    @override
    def incompatibility(cls, ae: Autoencoder) -> str | None:
        if reason := super().incompatibility(ae):
            return reason
        target = ae.spec.output
        if len(target.shape) != 3 or target.range is None:
            return "it is defined for images: targets of shape (channels, height, width) with a range"
        if min(target.shape[1:]) < WINDOW:
            return f"SSIM needs images of at least {WINDOW} x {WINDOW} pixels"
        return None

    @override
    def run(self) -> dict[str, Measurement]:
        # torchmetrics imports torchvision, which may not be importable without help.
        torchvision_datasets()
        similarity = optional("torchmetrics.functional.image", "torchmetrics", "metrics")
        samples = self.samples("test")
        assert self.ae.spec.output.range is not None
        low, high = self.ae.spec.output.range
        psnr, ssim, n = 0.0, 0.0, 0
        with eval_mode(self.ae), torch.no_grad():
            # SSIM keeps five filtered copies of a batch, so that batches are smaller than elsewhere.
            for batch in batches_for(self.ae, samples, 250):
                # Pixels outside the range are clipped where an image is written or shown.
                x_hat = ((self.ae(batch.input).x_hat - low) / (high - low)).clamp(0, 1).float().cpu()
                target = ((batch.target - low) / (high - low)).float().cpu()
                error = (x_hat.double() - target.double()).flatten(1).square().mean(1)
                psnr += float((-10 * error.log10()).sum())
                _, similar = similarity.structural_similarity_index_measure(
                    x_hat, target, data_range=1.0, reduction="none", return_full_image=True
                )
                # Versions of torchmetrics differ in whether their mean includes the border, where the window
                # sees pixels that are not in the image.
                inner = similar[..., BORDER:-BORDER, BORDER:-BORDER]
                ssim += float(inner.double().flatten(1).mean(1).sum())
                n += len(target)
        what = "images, clipped to the range of the targets, mean over images"
        return {
            "psnr": self.measurement(
                psnr / n,
                n,
                f"10 log10(range^2 / mean squared error) of an image, in decibels, of reconstructed {what}",
            ),
            "ssim": self.measurement(
                ssim / n,
                n,
                f"structural similarity (Gaussian window of {WINDOW} x {WINDOW} pixels, standard deviation "
                f"1.5, within the image; 1 for equal images) of reconstructed {what}",
            ),
        }
