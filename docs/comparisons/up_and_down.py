# %% [markdown]
# # Downsampling and upsampling
#
# Four networks with the same number of parameters, the same 4 x 7 x 7 latents and the same recipe. They differ in the
# layers that reduce and enlarge the image: strided and transposed convolutions, or pooling followed by nearest-neighbour
# upsampling, bilinear interpolation, or unpooling to the positions of the maxima.

# %%
import torch

import aezoo
from aezoo import plots

names = ("conv-strided", "conv-unpool-nearest", "conv-upsample", "conv-unpool-max")
networks = {name: aezoo.load(name) for name in names}
for name, ae in networks.items():
    mse, checkerboard = (ae.metrics[key]["value"] for key in ("mse", "checkerboard"))
    print(f"{name:20} {ae.num_parameters:,} parameters  MSE {mse:.5f}  checkerboard {checkerboard:.3f}")

# %% [markdown]
# The first row has the inputs, the others the reconstructions in the order above.

# %%
x = networks["conv-strided"].transforms()(aezoo.sample_digits().inputs[:12])
rows = torch.cat([x, *(ae(x).x_hat.detach() for ae in networks.values())])
plots.images(rows, columns=12, title="inputs and reconstructions").savefig("up_and_down.png")

# %% [markdown]
# Upsampling by two can leave a pattern that alternates from pixel to pixel, a checkerboard. It is hard to see and easy to
# measure: `checkerboard` is the power of the error at half a cycle per pixel, divided by its mean power.
#
# The picture shows the power of the error at every frequency, on a logarithmic scale, with frequency zero in the centre.
# Checkerboard patterns are at the border.

# %%
from matplotlib.figure import Figure

from aezoo.evaluation.metrics.checkerboard import error_power

digits = networks["conv-strided"].transforms()(aezoo.sample_digits().inputs)
figure = Figure(figsize=(10, 2.8), dpi=120)
for axes, (name, ae) in zip(figure.subplots(1, 4), networks.items(), strict=True):
    power = error_power(ae(digits).x_hat.detach(), digits)
    axes.imshow(torch.fft.fftshift(power / power.mean()).log10().numpy(), vmin=-2, vmax=1, cmap="magma")
    axes.set_title(name, fontsize=9)
    axes.axis("off")
figure.savefig("spectra.png")
