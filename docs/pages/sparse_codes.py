# %% [markdown]
# # Dictionaries
#
# In a network of one layer on each side, a latent is the weight of an atom, and the decoder's weights are the
# atoms. What is asked of the code decides what they look like.

# %%
import aezoo
from aezoo import plots

names = ("fc-64", "sparse-topk16", "sparse-topk5", "sparse-l1", "sparse-kl-strong", "sparse-lifetime5")
for name in names:
    numbers = aezoo.get_entry(name)["metrics"]
    keys = ("mse", "active_latents", "dead_latents", "hoyer", "atom_area")
    print(f"{name:17}", *(f"{key} {numbers[key]:7.4f} " for key in keys))

# %% [markdown]
# Nothing is asked: every atom takes part in every digit.

# %%
plots.dictionary(aezoo.load("fc-64")).savefig("atoms_fc.png")

# %% [markdown]
# Sixteen of sixty-four, then five. The fewer take part, the more of a digit each has to bring.

# %%
plots.dictionary(aezoo.load("sparse-topk16")).savefig("atoms_topk16.png")
plots.dictionary(aezoo.load("sparse-topk5")).savefig("atoms_topk5.png")

# %% [markdown]
# Lifetime sparsity, for which each latent wins a twentieth of the digits in a batch:

# %%
plots.dictionary(aezoo.load("sparse-lifetime5")).savefig("atoms_lifetime5.png")

# %% [markdown]
# And codes on a plane: two latents of a deep network, trained layer by layer, without having seen a label.

# %%
deep = aezoo.load("deep-2")
digits = aezoo.sample_digits()
latents = deep.encode(deep.transforms()(digits.inputs)).detach()
plots.embedding(latents, digits.labels, title="deep-2: 300 test digits").savefig("plane.png")
