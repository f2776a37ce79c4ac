# %% [markdown]
# # Generate samples
#
# Draw new samples from a variational autoencoder, walk between two samples, and sample from any other autoencoder by a
# density that is fitted to its latents.
#
# Install: `pip install 'aezoo[sklearn]'`. Only the last part needs scikit-learn.

# %%
import torch

import aezoo
from aezoo import plots

vae = aezoo.load("vae-16")
images = vae.sample(12, seed=0)
print(tuple(images.shape), f"values from {images.min():.2f} to {images.max():.2f}")
plots.samples(vae, 48, seed=0).savefig("generated_samples.png")

# %% [markdown]
# `sample` draws latents from the prior, a standard normal distribution, and decodes them. The same seed gives the same
# samples. Images are values in the range of the spec; this saves them as files:

# %%
result = aezoo.decode_to(
    vae, torch.randn(12, 16, generator=torch.Generator().manual_seed(0)), "generated", force=True
)
print(result.n, "images in", result.path)

# %% [markdown]
# ## Between two samples
#
# Each row decodes the line between the latents of two digits.

# %%
digits = aezoo.sample_digits()
x = vae.transforms()(digits.inputs)
plots.walk(vae, x[:6]).savefig("generated_walk.png")

# %% [markdown]
# With two latents, the whole prior is a plane.

# %%
plots.manifold(aezoo.load("vae-2"), side=16).savefig("generated_manifold.png")

# %% [markdown]
# ## From an autoencoder without a prior
#
# The latents of an ordinary autoencoder follow no known distribution. A Gaussian mixture that is fitted to the latents of
# your data is one; its number of components is chosen by the likelihood of held-out samples.

# %%
from sklearn.mixture import GaussianMixture

ae = aezoo.load("fc-16")
with torch.no_grad():
    latents = ae.encode(x).double().numpy()


def fitted(components):
    mixture = GaussianMixture(components, covariance_type="full", reg_covar=1e-2, random_state=0)
    return mixture.fit(latents[:200])


likelihood = {k: fitted(k).score(latents[200:]) for k in (1, 2, 4, 8)}
print({k: round(value, 2) for k, value in likelihood.items()})
best = max(likelihood, key=likelihood.get)
drawn = torch.from_numpy(fitted(best).sample(24)[0]).float()
with torch.no_grad():
    plots.images(ae.decode(drawn), title=f"fc-16, a mixture of {best}").savefig("generated_mixture.png")

# %% [markdown]
# ## Your own data
#
# Train a variational autoencoder: the spec of `vae-16` (`aezoo.get_spec("vae-16")`) has the layer `gaussian_sample` and the
# penalty `vae_kl`. Replace its input shape and `recipe.dataset`. `aezoo.sample` of any network that ends in
# `gaussian_sample` works, and so do `plots.samples` and `plots.walk` for images, series, tables and points.
#
# - **Blurred samples** are typical of a squared error, which averages over what the latents do not determine.
# - **All samples alike.** The weight of `vae_kl` is too high, and the latents are ignored (posterior collapse). The metric
#   `kl` of `aezoo evaluate NAME` is then near 0. Lower the weight, or use `free_bits`.
# - **Samples like noise, good reconstructions.** The weight is too low: the latents are far from the prior.
# - **Standardized data:** `vae.transforms().inverse(samples)` returns to the units of the data. `decode_to` does so itself.
#
# Reference: [variational autoencoders compared](../comparisons/variational.md), [figures](../plots.md).
