# %% [markdown]
# # Down to seven by seven and up again
#
# Four networks with the same number of parameters, the same latents and the same recipe. They differ in how
# they shrink an image and how they enlarge it again: strides and transposed convolutions, or pooling and,
# on the way up, repeated values, interpolation, or unpooling to where each maximum lay.

# %%
import torch

import aezoo
from aezoo import plots

names = ("conv-strided", "conv-unpool-nearest", "conv-upsample", "conv-unpool-max")
networks = {name: aezoo.load(name) for name in names}
for name, ae in networks.items():
    mse, checkerboard = (ae.metrics[key]["value"] for key in ("mse", "checkerboard"))
    print(f"{name:20} {ae.num_parameters:,} parameters  MSE {mse:.5f}  checkerboard {checkerboard:.3f}")

# %%
x = networks["conv-strided"].transforms()(aezoo.sample_digits().inputs[:12])
rows = torch.cat([x, *(ae(x).x_hat.detach() for ae in networks.values())])
plots.images(rows, columns=12, title="the input, and what each gives back").savefig("up_and_down.png")

# %% [markdown]
# Enlarging by two may leave a pattern that alternates from pixel to pixel, a checkerboard. It is hard to
# see and easy to measure: the power of the error at half a cycle per pixel, over its mean power.
# Below, the error's power at every frequency, on a logarithmic scale, zero in the middle: what an enlargement
# leaves behind lies on the border.

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
