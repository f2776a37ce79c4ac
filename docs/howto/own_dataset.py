# %% [markdown]
# # A dataset of your own, with augmentation
#
# Write a class that loads your samples and enlarges the training split by shifted copies. A recipe can then name it, and
# validation and test splits stay as they are.
#
# Install: `pip install aezoo`.

# %%
from typing import Literal

import torch

import aezoo


@aezoo.register
class ShiftedDigitsSpec(aezoo.DatasetSpec):
    """300 digits; the training split has copies that are shifted by up to `shift` pixels."""

    kind: Literal["shifted_digits"] = "shifted_digits"
    shift: int = 0
    """Largest shift in each direction, in pixels; 0 for no copies."""

    def load(self, split):
        images = aezoo.sample_digits().inputs  # read your files here: (n, *shape), uint8 or floating point
        rows = {"train": slice(0, 150), "validation": slice(150, 200), "test": slice(200, 300)}[split]
        images = images[rows]
        if split == "train":
            steps = range(-self.shift, self.shift + 1)
            images = torch.cat([images.roll((down, right), (1, 2)) for down in steps for right in steps])
        return aezoo.Samples(images)


# %% [markdown]
# The fields are validated like those of built-in datasets, and appear in the saved spec. The test split is measured once, at
# the end of each training. `roll` moves pixels around the edge; the edges of these digits are black.

# %%
base = aezoo.get_spec("fc-64").replace(
    {
        "name": "shifted",
        "recipe.batch_size": 50,
        "recipe.refit": False,
        "recipe.stages": [
            {
                "kind": "fit",
                "epochs": 60,
                "optimizer": {"kind": "adam", "lr": 2e-3},
                "early_stop": {"patience": 5},
            }
        ],
    }
)
for shift in (0, 1):
    ae = aezoo.train(
        base.replace({"recipe.dataset": {"kind": "shifted_digits", "shift": shift}}), progress=False
    )
    validation, test = (ae.metrics[name]["value"] for name in ("mse.validation", "mse"))
    print(
        f"shift {shift}: {len(ae.history)} epochs, MSE per pixel: validation {validation:.4f}, test {test:.4f}"
    )

# %% [markdown]
# The copies lower the error on digits that the network has not seen. On the command line, put the class into a file:
# `aezoo train spec.yaml --plugin ./my_dataset.py`.
#
# ## Your own data
#
# `load(split)` returns `aezoo.Samples(inputs, targets=None, labels=None)`, tensors with one row for each sample. It is called
# once for each split. `has(split)` says which splits exist; without a test split, return `split != "test"`.
#
# Files that a built-in dataset reads need no class: `images`, `array`, `table` and `windows`
# ([datasets](../specs.md#datasets)). For data in memory, `aezoo.train(spec, data=images)` is enough.
#
# - **Augment the training split only**, and after it was separated: a shifted copy of a validation image in the training
#   data makes the validation error too good.
# - **New copies in every epoch.** Samples are read once, so that a training can be repeated bit for bit. Noise that changes
#   the input alone, and is drawn for every batch, is `recipe.noises`. For random changes of input and target in every epoch,
#   write [your own loop](plain_pytorch.md).
# - **Random transforms of a PyTorch dataset** would be drawn once, also for validation data. The warning `random-items` says
#   so.
# - **The same samples each time.** `load` must return the same data in every call; seed whatever is random. The training
#   record holds a hash of each split.
#
# Reference: [extending aezoo](../extending.md), [your own data](../training.md#your-own-data).
