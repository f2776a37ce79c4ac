# %% [markdown]
# # A first autoencoder, in a notebook
#
# Load a trained one, look at what it does, change one number of its spec, and train that.

# %%
import aezoo

ae = aezoo.load("sparse-topk16")
print(ae)

# %% [markdown]
# Three hundred of MNIST's test digits ship with the package, as bytes. `transforms()` makes of them
# what this network expects.

# %%
digits = aezoo.sample_digits()
x = ae.transforms()(digits.inputs)
out = ae(x)
print("input", tuple(x.shape), "latents", tuple(out.latents.shape), "x_hat", tuple(out.x_hat.shape))
print("latents in use for the first digit:", int((out.latents[0] != 0).sum()))

# %% [markdown]
# A picture says more: each column is a digit, its 64 latents, and what they give back.

# %%
aezoo.reconstructions(ae, x[:12]).savefig("first_autoencoder.png")

# %% [markdown]
# How wrong is it? Every metric is defined once and says how.

# %%
measured = aezoo.evaluate(ae, digits, dataset="300 digits", split="test")
for name in ("mse", "fvu", "l0"):
    print(f"{name:4} {measured[name]['value']:8.4f}  {measured[name]['definition']}")

# %% [markdown]
# Now one of your own: eight latents for each digit in place of sixteen, and a recipe that is done in
# seconds. A tenth of the digits is held out, and what is printed was measured on those.

# %%
spec = aezoo.get_spec("sparse-topk16").replace(
    {
        "name": "mine",
        "encoder.2.k": 8,
        "recipe.batch_size": 32,
        "recipe.refit": False,
        "recipe.stages": [{"kind": "fit", "tie": True, "epochs": 30}],
    }
)
mine = aezoo.train(spec, data=digits)
print("MSE per pixel on digits held out:", round(mine.metrics["mse.validation"]["value"], 4))

# %% [markdown]
# The advice is right: 270 digits are too few for 64 sparse latents, and the published ones saw 60,000.
# aezoo says such things where they are due; the code in front silences one (`AEZOO_SILENCE`, or Python's
# own `warnings.filterwarnings("ignore", message="dead-latents")`).

# %% [markdown]
# It is a PyTorch module like any other; its folder loads back to the same bits.

# %%
aezoo.save(mine, "mine", overwrite=True)
again = aezoo.load("./mine")
print("same:", bool((again.encode(x) == mine.encode(x)).all()))
