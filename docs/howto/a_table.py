# %% [markdown]
# # A table
#
# This page trains an autoencoder on a CSV file and scores anomalies with it. The table is scikit-learn's wine
# data: 178 wines with 13 measurements each, and the cultivar as label.

# %%
import csv

import numpy as np
from sklearn.datasets import load_wine
from sklearn.metrics import roc_auc_score

wine = load_wine()
with open("wine.csv", "w", newline="") as file:
    out = csv.writer(file)
    out.writerow([*wine.feature_names, "cultivar"])
    out.writerows([*row, label] for row, label in zip(wine.data, wine.target, strict=True))

# %% [markdown]
# The dataset is part of the spec. The column `cultivar` is the label; the other columns are scaled to mean 0 and
# standard deviation 1 over the training rows. A fifth of the rows, drawn at random, is the validation split.

# %%
import aezoo

spec = aezoo.VariantSpec.model_validate(
    {
        "name": "wine",
        "summary": "Thirteen measurements of a wine through four latents.",
        "input": {"shape": [13]},
        "encoder": [
            {"kind": "linear", "out_features": 8, "activation": "tanh"},
            {"kind": "linear", "out_features": 4},
        ],
        "decoder": [
            {"kind": "linear", "out_features": 8, "activation": "tanh"},
            {"kind": "linear", "out_features": 13},
        ],
        "recipe": {
            "dataset": {"kind": "table", "path": "wine.csv", "label": "cultivar", "validation": 0.2},
            "reconstruction": "mse",
            "batch_size": 16,
            "stages": [
                {
                    "kind": "fit",
                    "epochs": 200,
                    "optimizer": {"kind": "adam", "lr": 3e-3},
                    "early_stop": {"patience": 20},
                }
            ],
        },
    }
)
ae = aezoo.train(spec)
print("FVU on the validation rows:", round(ae.metrics["fvu.validation"]["value"], 3))

# %% [markdown]
# The scaling is saved with the weights. `ae.transforms()` accepts rows in the units of the table: an array, or a
# mapping of columns or a data frame with its columns in any order. Its `inverse` converts reconstructions back to
# these units.

# %%
aezoo.save(ae, "wine-ae", overwrite=True)
ae = aezoo.load("./wine-ae")
columns = {name: wine.data[:, i] for i, name in reversed(list(enumerate(wine.feature_names)))}
x = ae.transforms()(columns)
x_hat = ae.transforms().inverse(ae(x).x_hat)
print("alcohol of the first wine:", wine.data[0, 0], "reconstructed:", round(x_hat[0, 0].item(), 2))

# %% [markdown]
# `score_samples` is higher for samples that resemble the training data. Here the anomalies are made by shuffling
# each column independently: every value is a real one, but no longer comes with the other values of its wine.
# The area under the ROC curve (AUROC) is 1 if all anomalies score lower than all wines, and 0.5 for guessing.

# %%
usual = ae.score_samples(x)
mixed = np.random.default_rng(0).permuted(wine.data, axis=0)
strange = ae.score_samples(ae.transforms()(mixed))
print("AUROC of strange against usual:", round(roc_auc_score([0] * 178 + [1] * 178, [*-usual, *-strange]), 2))
