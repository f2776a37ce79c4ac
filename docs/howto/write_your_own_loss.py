# %% [markdown]
# # Write your own loss
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
    ae = aezoo.train(base.replace({"recipe.reconstruction": {"kind": loss}}), data=digits)
    print(f"{loss:12} validation MSE per pixel {ae.metrics['mse.validation']['value']:.4f}")

# %% [markdown]
# ## Write your own training loop
#
# `aezoo.Objective` computes what a recipe minimizes. It returns the weighted sum and each term without its weight.

# %%
import torch

spec = base.replace({"recipe.reconstruction": {"kind": "charbonnier"}})
ae = aezoo.build(spec, seed=1)
optimizer = torch.optim.Adam(ae.parameters(), lr=1e-3)
x = ae.transforms()(digits.inputs)
generator = torch.Generator().manual_seed(0)
objective = aezoo.Objective(spec.recipe)
for step in range(60):
    rows = x[torch.randperm(len(x), generator=generator)[:64]]
    loss, terms = objective(ae, aezoo.StepContext(rows, rows, None, 0.0, step, generator))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(step, {name: round(float(value), 4) for name, value in terms.items()})

# %% [markdown]
# To use the loss from the command line, put the class into a file: `aezoo train spec.yaml --plugin ./my_loss.py`.
# The folder of a variant that was trained with it records that the kind is not part of an installed package.
# [Extending aezoo](../extending.md) explains how to make a package of it.
