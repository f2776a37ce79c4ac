# %% [markdown]
# # Sweeps, callbacks, warm starts and input-target pairs
#
# ## Sweep over a hyperparameter
#
# A spec is plain data, so a sweep is a loop over `spec.replace`. Compare the results on the validation split.

# %%
import aezoo

digits = aezoo.sample_digits()
base = aezoo.get_spec("fc-64").replace(
    {
        "name": "swept",
        "recipe.batch_size": 32,
        "recipe.refit": False,
        "recipe.stages": [{"kind": "fit", "tie": True, "epochs": 20}],
    }
)
for latents in (8, 16, 32):
    ae = aezoo.train(base.replace({"encoder.1.out_features": latents}), data=digits)
    print(f"{latents:2} latents: validation MSE per pixel {ae.metrics['mse.validation']['value']:.4f}")

# %% [markdown]
# On the command line: `aezoo train spec.yaml --set encoder.1.out_features=16 --out fc-16`.
#
# ## Callbacks
#
# A callback can observe, change and stop a training. This one prints the validation MSE of every fifth epoch.


# %%
class Report(aezoo.Callback):
    def on_epoch_end(self, state):
        if state.epoch % 5 == 0:
            print(f"epoch {state.epoch}: {state.history[-1]['validation']['mse']:.4f}")


ae = aezoo.train(base, data=digits, callbacks=[Report()])

# %% [markdown]
# ## Start from published weights
#
# `init_from` starts from the weights of another variant and records their hash. A small learning rate and no `tie`
# preserve what these weights have learned.

# %%
gently = {"kind": "fit", "epochs": 10, "optimizer": {"kind": "adam", "lr": 1e-4}}
warm = aezoo.train(base.replace({"recipe.init_from": "fc-64", "recipe.stages": [gently]}), data=digits)
print(f"validation MSE per pixel: {warm.metrics['mse.validation']['value']:.4f}")
print(warm.training_record["init_from"])

# %% [markdown]
# ## Inputs that differ from their targets
#
# `aezoo.pairs` makes pairs of input and target from any dataset of samples. Here the input is the upper half of a digit
# and the target the whole digit.


# %%
def erase_lower_half(image):
    image[:, 14:] = 0
    return image


whole = [(image[None], int(label)) for image, label in zip(digits.inputs, digits.labels, strict=True)]
completed = aezoo.train(
    base.replace({"name": "completing"}), data=aezoo.pairs(whole, input_transform=erase_lower_half)
)
print(f"validation MSE per pixel: {completed.metrics['mse.validation']['value']:.4f}")
