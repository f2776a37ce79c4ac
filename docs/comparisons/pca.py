# %% [markdown]
# # Principal components and autoencoders
#
# Principal component analysis (PCA) gives the linear code with the smallest squared error, for any number of latents.
# How much does a nonlinear network of as many latents gain? PCA is fitted here to MNIST's training split and measured on
# its test split, like the variants.

# %%
import torch

import aezoo
from aezoo import plots

mnist = aezoo.DatasetSpec.model_validate("mnist")
train, test = (mnist.load(split).inputs.flatten(1).double() / 255 for split in ("train", "test"))
mean = train.mean(0)
components = torch.linalg.eigh((train - mean).T @ (train - mean)).eigenvectors.flip(1)


def pca_error(latents):
    """The MSE per pixel of the reconstruction from the first principal components."""
    basis = components[:, :latents]
    centred = test - mean
    return float((centred - centred @ basis @ basis.T).square().mean())


# %% [markdown]
# Variants with the same number of latents, and PCA:

# %%
groups = {
    2: ["deep-2", "vae-2"],
    16: ["fc-16", "vae-16", "vae-bce"],
    32: ["pca-32", "linear-pca-32", "linear-32", "denoise-32"],
    64: ["fc-64", "deep-64", "contractive", "sparse-topk16", "denoise-gaussian"],
    128: ["conv-fc"],
}
for latents, members in groups.items():
    print(f"{latents} latents: PCA {pca_error(latents):.5f}")
    for name in members:
        mse = aezoo.get_entry(name)["metrics"]["mse"]
        print(f"    {name:16} {mse:.5f}, {mse / pca_error(latents):.2f} times that of PCA")

# %% [markdown]
# Up to 64 latents, networks that are trained for the error alone are below PCA, the more layers they have the further. The
# gain is largest at 16 latents. At 128, `conv-fc` has the error of PCA; its decoder is a single linear layer. Networks with
# another aim pay for it: a prior, sparsity, or the removal of noise.

# %%
from matplotlib.figure import Figure

figure = Figure(figsize=(8, 4.6), dpi=120, layout="constrained")
axes = figure.subplots()
sizes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
axes.plot(sizes, [pca_error(size) for size in sizes], color="#98a3ae", linewidth=3)
axes.annotate("PCA", (4, pca_error(4)), xytext=(6, 6), textcoords="offset points", color="#5d6873")
last = {}
for latents, members in groups.items():
    points = sorted((aezoo.get_entry(name)["metrics"]["mse"], name) for name in members)
    for mse, name in points:
        axes.plot(latents, mse, "o", color="#1f77b4")
        # Labels of points that are close together are moved apart.
        height = max(mse, last.get(latents, 0) * 1.09)
        axes.annotate(
            name, (latents, height), xytext=(7, 0), textcoords="offset points", fontsize=8, va="center"
        )
        last[latents] = height
axes.set_xscale("log", base=2)
axes.set_yscale("log")
axes.set_xlim(0.9, 300)
axes.set_xticks([1, 2, 4, 8, 16, 32, 64, 128], ["1", "2", "4", "8", "16", "32", "64", "128"])
axes.set_xlabel("latents")
axes.set_ylabel("MSE per pixel, test split")
figure.savefig("pca_and_networks.png")

# %% [markdown]
# ## The same subspace
#
# A linear autoencoder that is trained by gradient descent finds the subspace of the principal components, not the
# components themselves. The angle is the largest between both subspaces, in degrees.

# %%
for name in ("pca-32", "linear-pca-32", "linear-32"):
    angle = aezoo.get_entry(name)["metrics"].get("principal_angle")
    print(f"{name:14}", "not measured" if angle is None else f"{angle:.3f} degrees")

# %% [markdown]
# Reconstructions from 32 latents, in this order: the digits, PCA, and a network with one hidden layer.

# %%
x = aezoo.load("pca-32").transforms()(aezoo.sample_digits().inputs[:12])
rows = [x, *(aezoo.load(name)(x).x_hat.detach() for name in ("pca-32", "linear-32"))]
plots.images(torch.cat(rows), columns=12, title="digits, pca-32, linear-32").savefig("pca_digits.png")
