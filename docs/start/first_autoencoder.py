# %% [markdown]
# # A first autoencoder
#
# Load a trained autoencoder, look at its latents and reconstructions, measure it, and train a smaller one.
#
# Install: `pip install aezoo`.

# %%
import aezoo

ae = aezoo.load("sparse-topk16")
print(ae)

# %% [markdown]
# The package contains 300 of MNIST's test digits as uint8 images. `transforms()` converts them to the input of the
# network.

# %%
digits = aezoo.sample_digits()
x = ae.transforms()(digits.inputs)
out = ae(x)
print("input", tuple(x.shape), "latents", tuple(out.latents.shape), "x_hat", tuple(out.x_hat.shape))
print("non-zero latents of the first digit:", int((out.latents[0] != 0).sum()))

# %% [markdown]
# Each column of the picture is a digit, its 64 latents, and the reconstruction.

# %%
aezoo.reconstructions(ae, x[:12]).savefig("first_autoencoder.png")

# %% [markdown]
# `aezoo.evaluate` measures every metric. Each result comes with its definition.

# %%
measured = aezoo.evaluate(ae, digits, dataset="300 digits", split="test")
for name in ("mse", "fvu", "l0"):
    print(f"{name:4} {measured[name]['value']:8.4f}  {measured[name]['definition']}")

# %% [markdown]
# ## Train your own
#
# This variant keeps 8 of 32 latents per digit. Its recipe takes a few seconds. 10 % of the digits are held out as the
# validation split.

# %%
spec = aezoo.get_spec("sparse-topk16").replace(
    {
        "name": "mine",
        "encoder.1.out_features": 32,
        "encoder.2.k": 8,
        "recipe.batch_size": 32,
        "recipe.refit": False,
        "recipe.stages": [
            {"kind": "fit", "tie": True, "epochs": 30, "optimizer": {"kind": "adam", "lr": 3e-3}}
        ],
    }
)
mine = aezoo.train(spec, data=digits)
print("validation MSE per pixel:", round(mine.metrics["mse.validation"]["value"], 4))

# %% [markdown]
# The error is about twice that of `sparse-topk16`, which keeps twice as many latents and was trained on 60,000 digits.
#
# ## Save and load
#
# An autoencoder is an ordinary PyTorch module. Saved to a folder and loaded again, it has the same weights, bit for bit.

# %%
aezoo.save(mine, "mine", overwrite=True)
again = aezoo.load("./mine")
print("same:", bool((again.encode(x) == mine.encode(x)).all()))
