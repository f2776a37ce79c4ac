# %% [markdown]
# # Fine-tune a published variant
#
# Start a training from the weights of a published variant instead of random ones. This pays if you have few samples that
# resemble those of the variant.
#
# Install: `pip install 'aezoo[sklearn]'`. Only the data of this page need scikit-learn.

# %%
import torch
from sklearn.datasets import load_digits

import aezoo

# Digits of another collection, 8 x 8 pixels, enlarged to the 28 x 28 pixels of MNIST.
small = torch.from_numpy(load_digits().images)[:, None].float() / 16
images = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear")[:, 0]
train, test = images[:400], images[1000:]
print("training", tuple(train.shape), "test", tuple(test.shape))

# %% [markdown]
# ## Three ways
#
# `init_from` starts from the weights of another variant of the same architecture, and records their hash. `freeze` keeps
# layers as they are. All trainings have the same number of epochs, and choose their best epoch on a tenth of the training
# images. The test images are used once, at the end.

# %%
base = aezoo.get_spec("fc-64").replace(
    {
        "name": "small-digits",
        "recipe.batch_size": 32,
        "recipe.refit": False,
        "recipe.stages": [
            {
                "kind": "fit",
                "epochs": 40,
                "optimizer": {"kind": "adam", "lr": 1e-3},
                "early_stop": {"patience": 5},
            }
        ],
    }
)
trained = {
    "published weights, not trained": aezoo.load("fc-64"),
    "trained from random weights": aezoo.train(base, data=train, progress=False),
    "fine-tuned": aezoo.train(base.replace({"recipe.init_from": "fc-64"}), data=train, progress=False),
    "fine-tuned, encoder frozen": aezoo.train(
        base.replace({"recipe.init_from": "fc-64", "recipe.stages.0.freeze": ["encoder"]}),
        data=train,
        progress=False,
    ),
}
for name, ae in trained.items():
    mse = aezoo.evaluate(ae, test, dataset="small digits", split="test")["mse"]["value"]
    print(f"{name:32} test MSE per pixel {mse:.5f}")
print(trained["fine-tuned"].training_record["init_from"])

# %% [markdown]
# In YAML these are `init_from: fc-64` in the recipe and `freeze: [encoder]` in a stage.
#
# ## Your own data
#
# `init_from` takes a name, a folder such as `./photos-ae` or an address on the Hub. The architecture must be the same, apart
# from the recipe: names and shapes of all weights. Images must have the size and the range of the network's input.
#
# - **Learning rate.** A rate above the one of the last stage of the original recipe forgets what the weights have learned.
#   Begin with a tenth of it, without `tie`: tied weights replace those of the decoder.
# - **A frozen encoder** keeps the meaning of the latents, so that latents of old and new samples can be compared.
# - **Data that are far from the original ones**, such as photographs for a network of digits, gain nothing. Compare with
#   random weights, as here.
# - **A name of its own.** What was trained is another variant: `aezoo.save` refuses to give it the name of the published
#   one.
#
# Reference: [recipes and stages](../specs.md#recipe), [training](../training.md).
