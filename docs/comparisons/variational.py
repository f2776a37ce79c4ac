# %% [markdown]
# # Sampling from a prior
#
# A variational autoencoder is trained so that the distribution of its latents is close to a standard normal
# distribution, its prior. This increases the error, but new digits can be generated from samples of the prior.

# %%
import torch

import aezoo
from aezoo import plots

vae, plain = aezoo.load("vae-16"), aezoo.load("fc-16")
for ae in (vae, plain):
    print(ae.spec.name, "MSE per pixel on the test set:", round(ae.metrics["mse"]["value"], 4))

# %% [markdown]
# 48 samples:

# %%
generator = torch.Generator().manual_seed(0)
plots.images(vae.sample(48, generator), columns=16, title="vae-16: samples from the prior").savefig(
    "prior.png"
)

# %% [markdown]
# The plain autoencoder has as many latents and a smaller error, but no prior, so it refuses to sample. Normally
# distributed latents with the mean and the standard deviation of the latents of real digits give few digits:

# %%
try:
    plain.sample(48)
except aezoo.NotSupportedError as error:
    print(error)
latents = plain.encode(plain.transforms()(aezoo.sample_digits().inputs)).detach()
drawn = latents.mean(0) + latents.std(0) * torch.randn((48, 16), generator=generator)
garbage = plain.decode(drawn).detach()
plots.images(garbage, columns=16, title="fc-16: normally distributed latents").savefig("garbage.png")

# %% [markdown]
# ## Interpolation
#
# Decoded latents on the straight line between those of two digits, first for `vae-16`, then for `fc-16`.

# %%
x = vae.transforms()(aezoo.sample_digits().inputs)
plots.walk(vae, x[:6], steps=16).savefig("walk_vae.png")
plots.walk(plain, x[:6], steps=16).savefig("walk_plain.png")

# %% [markdown]
# ## Two latents
#
# With two latents, the whole prior fits into one picture. The axes are its quantiles.

# %%
plots.manifold(aezoo.load("vae-2")).savefig("manifold.png")

# %% [markdown]
# ## Evidence lower bound
#
# The objective is the evidence lower bound (ELBO), in nats: the log likelihood of the digit given its latents, minus the
# KL divergence of the latents from the prior.

# %%
for name in ("vae-16", "beta-vae", "vae-2"):
    numbers = aezoo.get_entry(name)["metrics"]
    print(f"{name:9}", *(f"{key} {numbers[key]:8.2f} " for key in ("elbo", "log_likelihood", "kl")))
