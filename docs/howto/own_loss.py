# %% [markdown]
# # Write your own loss
#
# Train with a data term or a penalty of your own, from a notebook cell.
#
# Install: `pip install aezoo`.
#
# A loss is a class with a `kind`, its fields, and a function that computes it. As soon as it is registered, every
# spec can use it.

# %%
from typing import Literal

import aezoo


@aezoo.register
class CharbonnierSpec(aezoo.LossSpec):
    """A smooth absolute difference, sqrt(d^2 + eps^2) (Charbonnier et al., ICIP 1994)."""

    kind: Literal["charbonnier"] = "charbonnier"
    role = "reconstruction"
    eps: float = 1e-3

    def __call__(self, output, batch, ae):
        return ((output.x_hat - batch.target) ** 2 + self.eps**2).sqrt().mean()


# %% [markdown]
# The fields are validated like those of built-in losses. An error names the path of the mistake.

# %%
base = aezoo.get_spec("fc-64").replace(
    {
        "name": "smooth",
        "recipe.batch_size": 32,
        "recipe.refit": False,
        "recipe.stages": [{"kind": "fit", "epochs": 20}],
    }
)
try:
    base.replace({"recipe.reconstruction": {"kind": "charbonnier", "epss": 0.1}})
except aezoo.SpecError as error:
    print(error)

# %% [markdown]
# Train the same network with both losses, on 270 of the 300 digits that are part of the package. The other 30 are
# the validation split.

# %%
digits = aezoo.sample_digits()
for loss in ("mse", "charbonnier"):
    ae = aezoo.train(base.replace({"recipe.reconstruction": {"kind": loss}}), data=digits, progress=False)
    print(f"{loss:12} validation MSE per pixel {ae.metrics['mse.validation']['value']:.4f}")

# %% [markdown]
# ## A penalty, in a cell
#
# A penalty is added to the data term, times its `weight`. This one asks neighbouring pixels of the reconstruction to be
# similar (total variation, Rudin et al., Physica D 60, 1992).


# %%
@aezoo.register
class TotalVariationSpec(aezoo.LossSpec):
    """Absolute differences of neighbouring pixels, mean over pixels."""

    kind: Literal["total_variation"] = "total_variation"
    role = "penalty"

    def __call__(self, output, batch, ae):
        x_hat = output.x_hat
        return x_hat.diff(dim=-1).abs().mean() + x_hat.diff(dim=-2).abs().mean()

    def incompatibility(self, ae):
        return (
            None
            if len(ae.spec.output.shape) == 3
            else "total_variation needs images, (channels, height, width)"
        )


penalized = base.replace({"recipe.penalties": [{"kind": "total_variation", "weight": 0.05}]})
ae = aezoo.train(penalized, data=digits, progress=False)
print({name: round(value, 4) for name, value in ae.history[-1]["validation"].items()})

# %% [markdown]
# The record of each epoch has every term without its weight. A recipe that does not fit is an error before the training:

# %%
points = aezoo.get_spec("swissroll-2").replace({"name": "points", "recipe.penalties": ["total_variation"]})
try:
    aezoo.train(points)
except aezoo.SpecError as error:
    print(error)

# %% [markdown]
# ## Your own loss
#
# The function gets `output` (`x_hat`, `latents`, `aux`), the batch (`input`, `target`, `epoch`, `step`, `generator`) and the
# network. It returns one number, the mean over the rows.
#
# - **`target`, not `input`.** With noise, `batch.input` is the corrupted input and `batch.target` the clean one.
# - **Mean over rows.** A sum over rows makes the learning rate depend on the batch size.
# - **Weights of your own.** A loss with parameters, such as a discriminator, defines `build()`, which returns an `nn.Module`
#   with the same arguments.
# - **Compare with the same number.** Losses of different kinds have different units; `mse.validation` is measured for all.
# - **From the command line**, put the class into a file: `aezoo train spec.yaml --plugin ./my_loss.py`. The folder of a
#   variant that was trained with it records that the kind is not part of an installed package.
#
# Check the contract of a loss with `aezoo.testing.check_loss(CharbonnierSpec())`.
#
# Reference: [losses](../specs.md#losses), [extending aezoo](../extending.md), [from a cell to a
# package](../tutorial-plugin.md). A loop of your own with these losses: [plain PyTorch](plain_pytorch.md).
