# %% [markdown]
# # Taking noise away
#
# A denoiser sees a corrupted image and is asked for the clean one.

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
plots.images(torch.cat(rows), columns=12, title="noise, and what is made of it").savefig("denoised.png")

# %% [markdown]
# `mse` is what becomes of an image without noise. Networks that were never shown any noise remove some of it, too.
# That `fc-64` is narrow does not explain it: `overcomplete-plain`, with room for all of the noise, leaves less.

# %%
for name in ("fc-64", "overcomplete-plain", "denoise-gaussian"):
    numbers = aezoo.get_entry(name)["metrics"]
    left, before = numbers["gaussian.denoised_mse"], numbers["gaussian.noisy_input_mse"]
    print(f"{name:19} leaves {left:.4f} of {before:.4f}")

# %% [markdown]
# Colour is a kind of denoising, too: gray patches of two photographs in, colour out. The upper rows are gray
# patches from a part of the photographs that the network has not seen, the middle ones what it makes of them, the
# lower ones the truth.

# %%
colorize = aezoo.load("colorize")
patches = colorize.spec.recipe.dataset.load("validation").inputs[:16] / 255
(gray,) = (noise(patches, generator) for noise in colorize.spec.recipe.noises)
made = colorize(gray).x_hat.detach()
plots.images(torch.cat([gray, made, patches]), columns=16, title="colorize").savefig("colour.png")
