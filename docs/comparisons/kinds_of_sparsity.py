# %% [markdown]
# # Kinds of sparsity
#
# A code is sparse if few latents of a sample are active. The kinds below reach this in different ways: some keep a fixed
# number of latents, others penalize them, and one constrains each latent over a batch.

# %%
import aezoo
from aezoo import plots

KEYS = ("mse", "active_latents", "dead_latents", "hoyer", "atom_area")


def show(names):
    """Prints the metrics of variants, one line each; a dash for what was not measured."""
    print(f"{'variant':19}", *(f"{key:>15}" for key in KEYS))
    for name in names:
        numbers = aezoo.get_entry(name)["metrics"]
        found = [f"{numbers[key]:15.4f}" if key in numbers else f"{'-':>15}" for key in KEYS]
        print(f"{name:19}", *found)


small = [
    "fc-64",
    "sparse-topk16",
    "sparse-topk5",
    "sparse-l1",
    "sparse-kl-weak",
    "sparse-kl-strong",
    "sparse-lifetime25",
    "sparse-lifetime5",
]
show(small)

# %% [markdown]
# All have 64 latents. `active_latents` counts, for each sample, the latents above 1 % of the largest value that each had
# in training, and `hoyer` is 0 if all latents of a sample have the same magnitude and 1 if only one is not zero.
# `atom_area` is the share of the image that an atom covers.
#
# The error against both measures. Filled points are the best: no other has a smaller error and a smaller cost.

# %%
metrics = [aezoo.get_entry(name)["metrics"] for name in small]
plots.pareto(
    small,
    [numbers["mse"] for numbers in metrics],
    {
        "active latents": [numbers["active_latents"] for numbers in metrics],
        "1 - hoyer": [1 - numbers["hoyer"] for numbers in metrics],
    },
).savefig("small_dictionaries.png")

# %% [markdown]
# The two measures disagree about the KL penalty: a sigmoid is never exactly zero, so that nearly all latents count as
# active, although most of their values are small.
#
# ## How many latents are active
#
# Top-k uses the same number for every digit. With an L1 penalty, the number depends on the digit.

# %%
for name in ("sparse-topk16", "sparse-l1"):
    ae = aezoo.load(name)
    latents = ae.encode(ae.transforms()(aezoo.sample_digits().inputs)).detach()
    plots.l0_histogram(latents, title=name).savefig(f"l0_{name}.png")

# %% [markdown]
# ## Large dictionaries
#
# With 1,024 latents, more than the 784 pixels, and about 32 of them active. Those whose names begin with `sae-` belong to
# the plugin [aezoo-sae](../../plugins/aezoo-sae/README.md), were trained with the same budget, and are shown if it is
# installed. `overcomplete-plain` has no constraint.

# %%
large = [
    "overcomplete-plain",
    "overcomplete-topk",
    "sae-topk32",
    "sae-batchtopk32",
    "sae-jumprelu32",
    "sae-gated",
    "sae-matryoshka32",
]
installed = [name for name in large if name in aezoo.list_variants()]
for name in installed:
    numbers = aezoo.get_entry(name)["metrics"]
    print(f"{name:19}", *(f"{key} {numbers[key]:9.4f} " for key in ("mse", "l0", "dead_latents", "hoyer")))

# %% [markdown]
# Each atom covers a smaller part of the image than those of the small dictionaries. The atoms that are used most come
# first.

# %%
plots.dictionary(aezoo.load("overcomplete-topk")).savefig("atoms_overcomplete.png")
