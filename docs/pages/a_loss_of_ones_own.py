# %% [markdown]
# # A loss of one's own
#
# A loss is a spec: a kind, its fields, and the function. Registered in a cell, every spec can use it.

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
# Its fields are checked like any other's, and a mistake says where it is.

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

# %%
digits = aezoo.sample_digits()
for loss in ("mse", "charbonnier"):
    ae = aezoo.train(base.replace({"recipe.reconstruction": {"kind": loss}}), data=digits)
    print(f"{loss:12} MSE per pixel on held-out digits {ae.metrics['mse.validation']['value']:.4f}")

# %% [markdown]
# A loop of your own takes the same objective: `recipe.objective` gives what training minimises, and
# each term unweighted.

# %%
import torch

spec = base.replace({"recipe.reconstruction": {"kind": "charbonnier"}})
ae = aezoo.build(spec, seed=1)
optimizer = torch.optim.Adam(ae.parameters(), lr=1e-3)
x = ae.transforms()(digits.inputs)
generator = torch.Generator().manual_seed(0)
for step in range(60):
    rows = x[torch.randperm(len(x), generator=generator)[:64]]
    loss, terms = aezoo.Objective(spec.recipe)(ae, aezoo.StepContext(rows, rows, None, 0.0, step, generator))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(step, {name: round(float(value), 4) for name, value in terms.items()})

# %% [markdown]
# A folder that is saved with such a kind says that no distribution brings it. Put the class into a file,
# and the command line takes it too: `aezoo train spec.yaml --plugin ./my_loss.py`.
