# %% [markdown]
# # A table
#
# A CSV of measurements becomes an anomaly score. The table here is scikit-learn's: 178 wines, 13 numbers
# each. One column is put aside as label; the others are scaled by what the training rows say.

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
print("FVU on rows held out:", round(ae.metrics["fvu.validation"]["value"], 3))

# %% [markdown]
# The scaling is saved with the weights. Raw rows go in, as an array, a mapping of columns or a data frame
# whose columns may stand in any order, and reconstructions come back in the units of the table.

# %%
aezoo.save(ae, "wine-ae", overwrite=True)
ae = aezoo.load("./wine-ae")
columns = {name: wine.data[:, i] for i, name in reversed(list(enumerate(wine.feature_names)))}
x = ae.transforms()(columns)
x_hat = ae.transforms().inverse(ae(x).x_hat)
print("alcohol of the first wine:", wine.data[0, 0], "reconstructed:", round(x_hat[0, 0].item(), 2))

# %% [markdown]
# `score_samples` is higher the more usual a sample looks. In a strange wine every number is some wine's,
# but no two of them are of the same one.

# %%
usual = ae.score_samples(x)
mixed = np.random.default_rng(0).permuted(wine.data, axis=0)
strange = ae.score_samples(ae.transforms()(mixed))
print("AUROC of strange against usual:", round(roc_auc_score([0] * 178 + [1] * 178, [*-usual, *-strange]), 2))
