# %% [markdown]
# # What a prior is good for
#
# A variational autoencoder presses its latents towards a standard normal distribution. That costs it
# some error, and buys a place to draw new digits from.

# %%
import torch

import aezoo
from aezoo import plots

vae, plain = aezoo.load("vae-16"), aezoo.load("fc-16")
for ae in (vae, plain):
    print(ae.spec.name, "MSE per pixel on the test set:", round(ae.metrics["mse"]["value"], 4))

# %% [markdown]
# Forty-eight draws from its prior:

# %%
generator = torch.Generator().manual_seed(0)
plots.images(vae.sample(48, generator), columns=16, title="vae-16: drawn from the prior").savefig("prior.png")

# %% [markdown]
# The plain autoencoder has as many latents and a smaller error, but no prior, and says so. Normal draws
# with the mean and the spread that its latents have on real digits decode to strokes, and few of them to digits:

# %%
try:
    plain.sample(48)
except aezoo.NotSupportedError as error:
    print(error)
latents = plain.encode(plain.transforms()(aezoo.sample_digits().inputs)).detach()
drawn = latents.mean(0) + latents.std(0) * torch.randn((48, 16), generator=generator)
garbage = plain.decode(drawn).detach()
plots.images(garbage, columns=16, title="fc-16: latents drawn as if it had one").savefig("garbage.png")

# %% [markdown]
# Between two digits both decode something, the variational one more smoothly.

# %%
x = vae.transforms()(aezoo.sample_digits().inputs)
plots.walk(vae, x[:6], steps=16).savefig("walk_vae.png")
plots.walk(plain, x[:6], steps=16).savefig("walk_plain.png")

# %% [markdown]
# With two latents, the whole prior fits into a picture: its quantiles, from left to right and from
# bottom to top.

# %%
plots.manifold(aezoo.load("vae-2")).savefig("manifold.png")

# %% [markdown]
# What it was trained by is the evidence lower bound, in nats: how likely the digit is given its latents,
# less how far these lie from the prior.

# %%
for name in ("vae-16", "beta-vae", "vae-2"):
    numbers = aezoo.get_entry(name)["metrics"]
    print(f"{name:9}", *(f"{key} {numbers[key]:8.2f} " for key in ("elbo", "log_likelihood", "kl")))
