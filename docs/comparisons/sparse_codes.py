# %% [markdown]
# # Dictionaries
#
# If the decoder is one linear layer, each latent is the coefficient of an atom, a column of the decoder's weights. The
# constraint on the code determines what the atoms look like.

# %%
import aezoo
from aezoo import plots

names = ("fc-64", "sparse-topk16", "sparse-topk5", "sparse-l1", "sparse-kl-strong", "sparse-lifetime5")
for name in names:
    numbers = aezoo.get_entry(name)["metrics"]
    keys = ("mse", "active_latents", "dead_latents", "hoyer", "atom_area")
    print(f"{name:17}", *(f"{key} {numbers[key]:7.4f} " for key in keys))

# %% [markdown]
# Without a constraint, every atom takes part in every digit. Blue is negative, red positive.

# %%
plots.dictionary(aezoo.load("fc-64")).savefig("atoms_fc.png")

# %% [markdown]
# With 16 and with 5 non-zero latents per digit: the fewer there are, the larger the part of a digit that each atom
# covers.

# %%
plots.dictionary(aezoo.load("sparse-topk16")).savefig("atoms_topk16.png")
plots.dictionary(aezoo.load("sparse-topk5")).savefig("atoms_topk5.png")

# %% [markdown]
# With lifetime sparsity, each latent is active for 5 % of the digits of a training batch:

# %%
plots.dictionary(aezoo.load("sparse-lifetime5")).savefig("atoms_lifetime5.png")

# %% [markdown]
# ## Codes in two dimensions
#
# The two latents of a deep network that was trained layer by layer. The labels are used for the colours only.

# %%
deep = aezoo.load("deep-2")
digits = aezoo.sample_digits()
latents = deep.encode(deep.transforms()(digits.inputs)).detach()
plots.embedding(latents, digits.labels, title="deep-2: 300 test digits").savefig("plane.png")
