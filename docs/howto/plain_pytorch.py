# %% [markdown]
# # Use an autoencoder in plain PyTorch
#
# An autoencoder is an `nn.Module`: train it in a loop of your own, put its encoder into another network, move it to a GPU,
# or take its weights without aezoo.
#
# Install: `pip install aezoo`.

# %%
import torch
from torch import nn

import aezoo

digits = aezoo.sample_digits()
ae = aezoo.build(aezoo.get_spec("sparse-topk16"), seed=0)  # random weights
x = ae.transforms()(digits.inputs)  # float32, (300, 1, 28, 28)
train, test = x[:240], x[240:]

# %% [markdown]
# ## A loop of your own

# %%
optimizer = torch.optim.Adam(ae.parameters(), lr=2e-3)
generator = torch.Generator().manual_seed(0)
ae.train()
for epoch in range(60):
    for rows in torch.randperm(len(train), generator=generator).split(40):
        out = ae(train[rows])
        loss = nn.functional.mse_loss(out.x_hat, train[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
ae.eval()
with torch.no_grad():
    print(f"test MSE per pixel {nn.functional.mse_loss(ae(test).x_hat, test):.4f}")

# %% [markdown]
# `aezoo.Objective` computes what a recipe minimizes, with its penalties, and `aezoo.StepContext` holds what a loss is given
# beside the output: the epoch determines the weights of penalties with a warm-up. It returns the weighted sum, and each
# term without its weight.

# %%
recipe = aezoo.get_spec("sparse-l1").recipe
sparse = aezoo.build(aezoo.get_spec("sparse-l1"), seed=0)
objective = aezoo.Objective(recipe)
loss, terms = objective(
    sparse, aezoo.StepContext(train, train, labels=None, epoch=20.0, step=0, generator=generator)
)
print(f"{loss.item():.4f}", {name: round(float(value), 4) for name, value in terms.items()})

# %% [markdown]
# ## The encoder in another network
#
# A published encoder with a linear layer for the ten digits. Only the new layer is trained; it sees latents as they are in
# evaluation mode.

# %%
published = aezoo.load("fc-64")
encoder = published.encoder.requires_grad_(False)
torch.manual_seed(0)
classifier = nn.Sequential(encoder, nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
optimizer = torch.optim.Adam([p for p in classifier.parameters() if p.requires_grad], lr=1e-2)
labels = digits.labels.long()
classifier.train()
encoder.eval()
for step in range(100):
    loss = nn.functional.cross_entropy(classifier(train), labels[:240])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
classifier.eval()
accuracy = (classifier(test).argmax(1) == labels[240:]).float().mean()
print(f"accuracy on {len(test)} test digits: {accuracy:.2f}")

# %% [markdown]
# ## Measure and save
#
# After a loop of your own, assign what you measure; otherwise the saved metrics are `null`, because they belong to other
# weights. The recipe of the spec is not what you ran: give the variant a name of its own.

# %%
ae.metrics = aezoo.evaluate(ae, digits.inputs[240:], dataset="60 digits", split="test")
aezoo.save(ae, "my-loop", overwrite=True)
again = aezoo.load("./my-loop")
print(
    again.metrics["mse"]["value"] == ae.metrics["mse"]["value"],
    bool((again.encode(test) == ae.encode(test)).all()),
)

# %% [markdown]
# ## Without aezoo
#
# The weights are one safetensors file, with PyTorch's names. `aezoo.export(..., format="python")` writes the network as
# source that needs PyTorch and safetensors alone, and compares its outputs.

# %%
from safetensors.torch import load_file

for name, tensor in load_file("my-loop/model.safetensors").items():
    print(f"{name:20} {tuple(tensor.shape)}")
result = aezoo.export(again, "my_loop.py", format="python", samples=digits.inputs[:60], force=True)
print(result.path, f"differs by at most {result.comparison.differences['reconstruction'].relative:.1e}")

# %% [markdown]
# ## Your own code
#
# - **Mode.** `aezoo.load` returns the network in evaluation mode, `aezoo.build` in training mode. Dropout, sampling and batch
#   normalization depend on it.
# - **Range.** The network takes floating point in the range of its spec. `ae.transforms()` scales bytes and images.
# - **GPU.** `ae.to("cuda")`; then inputs must be there as well. `aezoo.train(..., device="auto")` moves them itself.
# - **Layers with an invariant**, such as unit-length atoms: call `after_step()` of each layer that has it after
#   `optimizer.step()`, as `aezoo.train` does.
# - **`torch.compile(ae)`** and mixed precision work as for any module.
#
# Reference: [training](../training.md), [export](../export.md), [folders](../folders.md).
