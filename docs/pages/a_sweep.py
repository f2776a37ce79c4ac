# %% [markdown]
# # A sweep, with pairs, callbacks and a warm start
#
# A spec is data, so a sweep is a loop over `spec.replace`. The choice is made on the validation split.

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
    print(f"{latents:2} latents: MSE per pixel {ae.metrics['mse.validation']['value']:.4f}")

# %% [markdown]
# From the shell it is the same: `aezoo train spec.yaml --set encoder.1.out_features=16 --out fc-16`.
#
# A callback sees and may stop a training. This one prints every fifth epoch.


# %%
class Report(aezoo.Callback):
    def on_epoch_end(self, state):
        if state.epoch % 5 == 0:
            print(f"epoch {state.epoch}: {state.history[-1]['validation']['mse']:.4f}")


ae = aezoo.train(base, data=digits, callbacks=[Report()])

# %% [markdown]
# `init_from` starts from published weights, whose hash goes into the record of the training. A small
# learning rate and no `tie` leave what they know in place.

# %%
gently = {"kind": "fit", "epochs": 10, "optimizer": {"kind": "adam", "lr": 1e-4}}
warm = aezoo.train(base.replace({"recipe.init_from": "fc-64", "recipe.stages": [gently]}), data=digits)
print(f"from published weights: {warm.metrics['mse.validation']['value']:.4f}")
print(warm.training_record["init_from"])

# %% [markdown]
# Any dataset of samples becomes pairs of input and target: here the upper half of a digit goes in, and
# the whole comes out.


# %%
def upper_half(image):
    image[:, 14:] = 0
    return image


whole = [(image[None], int(label)) for image, label in zip(digits.inputs, digits.labels, strict=True)]
completed = aezoo.train(
    base.replace({"name": "completing"}), data=aezoo.pairs(whole, input_transform=upper_half)
)
print(f"guessing the lower half: {completed.metrics['mse.validation']['value']:.4f}")
