# %% [markdown]
# # Noise
#
# How does the reconstruction of a noisy digit compare with the clean digit, for networks of each kind? Most of them were
# trained without noise. The 300 digits are test digits that ship with aezoo.

# %%
import torch
from matplotlib.figure import Figure

import aezoo

names = [
    "pca-32",
    "fc-64",
    "overcomplete-plain",
    "contractive",
    "sparse-topk16",
    "vae-16",
    "denoise-gaussian",
    "denoise-mask",
    "denoise-mixture",
]
names = [name for name in names if name in aezoo.list_variants()]
clean = aezoo.load("fc-64").transforms()(aezoo.sample_digits().inputs)
levels = {"gaussian": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], "masking": [0.1, 0.25, 0.4, 0.6, 0.8]}
field = {"gaussian": "std", "masking": "share"}


def noisy(kind, level):
    """The digits with noise of a kind and a strength, the same on every call."""
    if level == 0:
        return clean
    clip = {"clip": [0.0, 1.0]} if kind == "gaussian" else {}
    spec = aezoo.NoiseSpec.model_validate({"kind": kind, field[kind]: level, **clip})
    return spec(clean, torch.Generator().manual_seed(0))


def errors(name, kind):
    """The MSE per pixel between the reconstructions and the clean digits, for each level."""
    ae = aezoo.load(name)
    with torch.no_grad():
        return [float((ae(noisy(kind, level)).x_hat - clean).square().mean()) for level in levels[kind]]


# %% [markdown]
# ## Gaussian noise
#
# Columns are standard deviations. The first line is the error of the noisy digits themselves.


# %%
def show(kind):
    """Prints a table of errors and returns them."""
    before = [float((noisy(kind, level) - clean).square().mean()) for level in levels[kind]]
    found = {"the noisy digits": before, **{name: errors(name, kind) for name in names}}
    print(f"{'':19}", *(f"{level:8g}" for level in levels[kind]))
    for name, values in found.items():
        print(f"{name:19}", *(f"{value:8.4f}" for value in values))
    return found


gaussian = show("gaussian")

# %% [markdown]
# Without noise, the denoisers have a larger error than `fc-64`; with strong noise, `denoise-gaussian`, trained at a
# standard deviation of about 0.3, and `denoise-mixture` have the smallest. `contractive` was never trained on noise and is
# nearly as good: its encoder was penalized for reacting to small changes. Of the networks without any such aim, PCA with
# 32 components is the most robust, although its error without noise is the largest.
#
# ## Missing pixels
#
# Columns are the shares of pixels that are set to zero.

# %%
masking = show("masking")

# %% [markdown]
# Stability under small changes does not help here: `contractive` and `denoise-gaussian` reproduce the holes. Only
# `denoise-mask`, trained on a quarter of missing pixels, and `denoise-mixture`, one of whose corruptions hides a rectangle,
# fill them in.
#
# Both tables as a picture. The broad gray line is the error of the noisy digits.

# %%
figure = Figure(figsize=(9, 4.4), dpi=120, layout="constrained")
for axes, (kind, table) in zip(
    figure.subplots(1, 2), {"gaussian": gaussian, "masking": masking}.items(), strict=True
):
    (_, before), *others = table.items()
    axes.plot(levels[kind], before, color="#98a3ae", linewidth=4, label="the noisy digits")
    for number, (name, values) in enumerate(others):
        axes.plot(levels[kind], values, marker="os^DvPX*<"[number], linewidth=1.4, label=name)
    axes.set_xlabel(f"{kind} noise: {field[kind]}")
    axes.set_ylabel("MSE to the clean digit")
    axes.set_ylim(bottom=0)
figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=9)
figure.savefig("robustness.png")
