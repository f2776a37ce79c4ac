# %% [markdown]
# # Inputs that differ from their targets
#
# Train a network that completes, cleans or colours its input: pairs of an input and a target instead of samples.
#
# Install: `pip install aezoo`.

# %%
import aezoo

digits = aezoo.sample_digits()
whole = [(image[None], int(label)) for image, label in zip(digits.inputs, digits.labels, strict=True)]


def erase_lower_half(image):
    image[:, 14:] = 0
    return image


# %% [markdown]
# `aezoo.pairs` makes pairs of any dataset with a length and items, such as one of torchvision's. The items are samples or
# (sample, label). Here the input is the upper half of a digit, and the target the whole digit. The last 60 digits are the
# test data.

# %%
training, test = (aezoo.pairs(part, input_transform=erase_lower_half) for part in (whole[:240], whole[240:]))
spec = aezoo.get_spec("fc-64").replace(
    {
        "name": "completing",
        "recipe.batch_size": 32,
        "recipe.refit": False,
        "recipe.stages": [
            {
                "kind": "fit",
                "epochs": 40,
                "optimizer": {"kind": "adam", "lr": 2e-3},
                "early_stop": {"patience": 5},
            }
        ],
    }
)
ae = aezoo.train(spec, data=training, progress=False)
measured = aezoo.evaluate(ae, test, dataset="60 digits", split="test")
print("test MSE per pixel", round(measured["mse"]["value"], 4), "FVU", round(measured["fvu"]["value"], 3))

# %%
import torch

x, target = (
    ae.transforms()(torch.stack([getattr(test[i], name) for i in range(12)])) for name in ("input", "target")
)
aezoo.reconstructions(ae, x, target=target).savefig("completed.png")

# %% [markdown]
# ## Your own data
#
# - **Arrays.** `aezoo.train(spec, data=(inputs, targets))` takes two arrays with one row for each sample. In a spec:
#   `{kind: array, path: pairs.npz, key: inputs, target: targets}`.
# - **Other shapes.** A target of another shape or range than the input has an entry of its own in the spec, such as
#   `target: {shape: [3, 16, 16], range: [0, 1]}` for a network that colours gray images (`colorize` in the zoo).
# - **Noise** that should be drawn again for every batch belongs in `recipe.noises` ([denoise a folder](denoise_a_folder.md)).
#   Transforms of `pairs` run once for each item.
# - **Compression.** The latents describe the target, as far as the input determines it. `score_samples` compares with the
#   input, and has no meaning here.
#
# Reference: [your own data](../training.md#your-own-data).
