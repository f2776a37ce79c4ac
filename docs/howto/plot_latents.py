# %% [markdown]
# # Plot latents
#
# Draw the latents of a data set: as points by class, as a heat map, as histograms of their values, and as a walk between
# two samples.
#
# Install: `pip install 'aezoo[sklearn]'`. Only t-SNE needs scikit-learn.

# %%
import torch

import aezoo
from aezoo import plots

ae = aezoo.load("fc-16")
digits = aezoo.sample_digits()
x = ae.transforms()(digits.inputs)
with torch.no_grad():
    latents = ae.encode(x)
print(tuple(latents.shape))
plots.embedding(latents, digits.labels, title="fc-16, 300 digits").savefig("latents_pca.png")

# %% [markdown]
# With more than two latents, the default projection is PCA, which is linear: distances in the picture are at most those
# between the latents. The axes name the share of the variance that they show.
#
# t-SNE shows which samples are neighbours. Distances between groups, and the sizes of groups, have no meaning in it.

# %%
plots.embedding(latents, digits.labels, method="tsne").savefig("latents_tsne.png")

# %% [markdown]
# A network with two latents needs no projection. `dimensions=3` draws in space.

# %%
plane = aezoo.load("deep-2")
with torch.no_grad():
    plots.embedding(plane.encode(x), digits.labels, title="deep-2").savefig("latents_two.png")

# %% [markdown]
# ## All latents of a batch
#
# In the heat map, each row is a sample and each column is a latent. Samples are sorted by class.

# %%
sparse = aezoo.load("sparse-topk16")
with torch.no_grad():
    codes = sparse.encode(x)
plots.latents(codes, digits.labels, title="sparse-topk16").savefig("latents_heatmap.png")

# %%
plots.l0_histogram(aezoo.load("sparse-l1").encode(x).detach(), title="sparse-l1").savefig("latents_l0.png")
plots.activation_histogram(codes).savefig("latents_values.png")

# %% [markdown]
# ## What latents mean
#
# A walk decodes points on the line between the latents of two samples. The atoms of a linear decoder are what each latent
# adds to the output.

# %%
plots.walk(ae, x[:6]).savefig("latents_walk.png")
plots.dictionary(sparse, use=(codes != 0).float().mean(0), columns=16).savefig("latents_atoms.png")

# %% [markdown]
# `aezoo report sparse-topk16 -o report.html` writes a page with all latents: the samples that activate each one most, and
# what happens without it. `aezoo plot NAME KIND -o out.png` draws the figures of this page on the command line.
#
# ## Your own data
#
# Each function takes a tensor of latents, (samples, latents), and labels, (samples,), or none. Other labels than whole
# numbers from up to 20 classes are drawn on a continuous scale. Text labels become numbers with
# `numpy.unique(names, return_inverse=True)[1]`. With a data set that is larger than memory, encode it to a file first
# ([embed a folder](embed_a_folder.md)) and draw some thousand rows.
#
# - **Standardize** latents of very different scales before PCA; otherwise one of them makes the picture.
# - **Sampled latents.** `ae.encode` of a variational autoencoder in evaluation mode gives the means.
# - **New samples.** t-SNE has no map for new points: draw old and new samples in one call.
# - **Dark background:** `with plots.theme("dark"):` before the call.
#
# Reference: [figures](../plots.md), [the report](../inference.md#report).
