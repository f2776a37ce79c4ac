# %% [markdown]
# # Denoising
#
# A denoising autoencoder is trained to reconstruct the clean image from a corrupted one. The rows show the corrupted
# images and their reconstructions, first for Gaussian noise, then for masked pixels.
#
# Install: `pip install 'aezoo[sklearn]'`.

# %%
import torch

import aezoo
from aezoo import plots

generator = torch.Generator().manual_seed(0)
rows = []
for name in ("denoise-gaussian", "denoise-mask"):
    ae = aezoo.load(name)
    clean = ae.transforms()(aezoo.sample_digits().inputs[:12])
    noisy = clean
    for noise in ae.spec.recipe.noises:
        noisy = noise(noisy, generator)
    rows += [noisy, ae(noisy).x_hat.detach()]
    numbers = aezoo.get_entry(name)["metrics"]
    print(name, *(f"{key} {numbers[key]:.4f} " for key in ("noisy_input_mse", "denoised_mse", "mse")))
plots.images(torch.cat(rows), columns=12, title="corrupted images and their reconstructions").savefig(
    "denoised.png"
)

# %% [markdown]
# `noisy_input_mse` is the error of the corrupted image, `denoised_mse` the error of its reconstruction, and `mse` the
# error of the reconstruction of a clean image.
#
# Networks that were trained without noise also remove part of it. The bottleneck of `fc-64` does not explain this:
# `overcomplete-plain` has more latents than pixels and removes more.

# %%
for name in ("fc-64", "overcomplete-plain", "denoise-gaussian"):
    numbers = aezoo.get_entry(name)["metrics"]
    left, before = numbers["gaussian.denoised_mse"], numbers["gaussian.noisy_input_mse"]
    print(f"{name:19} MSE {before:.4f} before, {left:.4f} after")

# %% [markdown]
# ## Colorization
#
# Colorization is denoising with grayscale as the corruption. `colorize` was trained on patches of two photographs. From
# top to bottom: gray patches of the validation split, their reconstructions, and the original patches.

# %%
colorize = aezoo.load("colorize")
patches = colorize.spec.recipe.dataset.load("validation").inputs[:16] / 255
(gray,) = (noise(patches, generator) for noise in colorize.spec.recipe.noises)
made = colorize(gray).x_hat.detach()
plots.images(torch.cat([gray, made, patches]), columns=16, title="colorize").savefig("colour.png")
