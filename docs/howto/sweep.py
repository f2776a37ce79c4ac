# %% [markdown]
# # Sweeps and callbacks
#
# Train a spec with several values of a hyperparameter, choose one on the validation split, and measure it once on test data.
# Watch and stop trainings with callbacks.
#
# Install: `pip install aezoo`.

# %%
import aezoo

digits = aezoo.sample_digits()
train, test = digits[:240], digits[240:]
base = aezoo.get_spec("sparse-topk16").replace(
    {
        "name": "swept",
        "recipe.batch_size": 32,
        "recipe.refit": False,
        "recipe.stages": [
            {"kind": "fit", "tie": True, "epochs": 20, "optimizer": {"kind": "adam", "lr": 2e-3}}
        ],
    }
)

# %% [markdown]
# ## A loop over `replace`
#
# A spec is plain data. `replace` returns a copy that is validated as a whole; a path that does not exist is an error.

# %%
found = {}
for lr in (5e-4, 2e-3, 8e-3):
    spec = base.replace({"recipe.stages.0.optimizer.lr": lr})
    found[lr] = aezoo.train(spec, data=train, progress=False)
    print(f"lr {lr:.4f}: validation MSE per pixel {found[lr].metrics['mse.validation']['value']:.4f}")

best = min(found, key=lambda lr: found[lr].metrics["mse.validation"]["value"])
measured = aezoo.evaluate(found[best], test, dataset="60 digits", split="test")
print(f"chosen: {best}, test MSE per pixel {measured['mse']['value']:.4f}")

# %% [markdown]
# On the command line: `aezoo train spec.yaml --set recipe.stages.0.optimizer.lr=0.002 --out swept-1`. `aezoo compare` then
# measures several folders side by side.
#
# Several hyperparameters at once are a product of the loops, `itertools.product`. For many, use a search library: its
# objective is a function that trains and returns `ae.metrics["mse.validation"]["value"]`.
#
# ## Several seeds
#
# A difference that is smaller than the one between seeds is no difference.

# %%
by_seed = [
    aezoo.train(base.replace({"recipe.seed": seed}), data=train, progress=False).metrics["mse.validation"][
        "value"
    ]
    for seed in (1, 2, 3)
]
print([round(value, 4) for value in by_seed])

# %% [markdown]
# The seed determines initial weights, the order of samples and noise. For data without splits of their own, it also draws
# the validation split, which is a part of the differences here.
#
# ## Callbacks
#
# A callback observes, changes and stops a training. This one prints the validation error of every fifth epoch, and stops
# when it is low enough.


# %%
class Report(aezoo.Callback):
    def on_epoch_end(self, state):
        mse = state.history[-1]["validation"]["mse"]
        if state.epoch % 5 == 0:
            print(f"epoch {state.epoch}: {mse:.4f}")
        if mse < 0.0265:
            print(f"epoch {state.epoch}: stop")
            state.stop = True


ae = aezoo.train(base, data=train, callbacks=[Report()], progress=False)
aezoo.plots.history(ae.history).savefig("history.png")

# %% [markdown]
# Callbacks of a recipe log to files and trackers: `history`, `tensorboard`, `mlflow`, `wandb`, `trackio` and
# [others](../specs.md#callbacks).
#
# ## Your own sweep
#
# - **Choose on validation, report on test.** The lowest of many validation errors is lower than what new data give.
# - **Number of latents, k, weight of a penalty:** a larger or smaller one is always better in one number. Choose by what the
#   latents are for, or draw the error against the cost (`aezoo compare NAME NAME... -o FOLDER`).
# - **The learning rate** interacts with the number of epochs. Give each value the epochs that it needs, with
#   `early_stop`.
#
# Reference: [training](../training.md), [compare](../inference.md#compare), [figures](../plots.md).
