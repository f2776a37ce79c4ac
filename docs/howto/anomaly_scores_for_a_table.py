# %% [markdown]
# # Anomaly scores for a table
#
# Train an autoencoder on usual rows of a CSV file. It then writes for every new row how unusual it is, which column is the
# most unusual, and whether the row is above a threshold with a chosen share of false alarms.
#
# Install: `pip install 'aezoo[sklearn,table]'`. Only the data of this page need scikit-learn.

# %%
import csv

import numpy as np
from sklearn.datasets import load_breast_cancer

data = load_breast_cancer()
malignant = data.target == 0
usual = np.random.default_rng(0).permutation(np.flatnonzero(~malignant))


def write(name, rows):
    with open(name, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(data.feature_names)
        out.writerows(data.data[rows])


new = np.concatenate([usual[280:], np.flatnonzero(malignant)])
write("usual.csv", usual[:200])  # to train on
write("calibration.csv", usual[200:280])  # usual rows that set the threshold
write("new.csv", new)  # rows to score
print(f"new: {len(usual[280:])} benign and {malignant.sum()} malignant tumours")

# %% [markdown]
# ## Train on usual rows
#
# The columns are scaled to mean 0 and standard deviation 1 over the training rows. A fifth of the rows of `usual.csv` is
# the validation split, on which the training stops early.

# %%
from pathlib import Path

import aezoo

Path("tumours.yaml").write_text("""\
name: tumours
summary: Thirty measurements of a tumour through eight latents.
input: {shape: [30]}
encoder:
  - {kind: linear, out_features: 24, activation: tanh}
  - {kind: linear, out_features: 8}
decoder:
  - {kind: linear, out_features: 24, activation: tanh}
  - {kind: linear, out_features: 30}
recipe:
  dataset: {kind: table, path: usual.csv, validation: 0.2}
  reconstruction: mse
  batch_size: 16
  stages:
    - {kind: fit, epochs: 200, optimizer: {kind: adam, lr: 3e-3}, early_stop: {patience: 20}}
  threads: 1
""")
ae = aezoo.train_to_folder(aezoo.read_spec("tumours.yaml"), "tumours-ae", overwrite=True)
print("validation FVU:", round(ae.metrics["fvu.validation"]["value"], 3))

# %% [markdown]
# `fvu` is the fraction of variance unexplained: 0 is a perfect reconstruction, 1 is no better than the mean row.
#
# ## Score new rows
#
# `threshold` is the share of false alarms that you accept. The limit is computed from the calibration rows, which must be
# usual rows that the network was not trained on.

# %%
result = aezoo.score_to_file(
    ae, "new.csv", "scores.csv", calibrate="calibration.csv", threshold=0.05, explain=True, force=True
)
print(f"limit {result.threshold:.3f}; {result.anomalous} of {result.n} rows are anomalous")
print(Path("scores.csv").read_text()[:330])

# %% [markdown]
# On the command line:
# `aezoo score ./tumours-ae new.csv -o scores.csv --threshold 0.05 --calibrate calibration.csv --explain`.
#
# ## How good are the scores?
#
# This can only be measured where someone knows the anomalies, as here.

# %%
import torch
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

with open("scores.csv", newline="") as file:
    rows = list(csv.DictReader(file))
errors = np.array([float(row["error"]) for row in rows])
anomalous = np.array([row["anomalous"] == "true" for row in rows])
truth = malignant[new]
forest = IsolationForest(random_state=0).fit(data.data[usual[:280]])
print(f"false alarms: {anomalous[~truth].mean():.0%} of the benign tumours")
print(f"found:        {anomalous[truth].mean():.0%} of the malignant tumours")
print(f"AUROC:        {roc_auc_score(truth, errors):.3f}")
print(
    f"AUROC of scikit-learn's IsolationForest: {roc_auc_score(truth, -forest.score_samples(data.data[new])):.3f}"
)
aezoo.plots.roc(torch.from_numpy(errors), torch.from_numpy(truth), title="malignant among benign").savefig(
    "roc.png"
)

# %% [markdown]
# On tables, tree ensembles such as `IsolationForest` are often as good or better, and faster: compare both on your data. An
# autoencoder also says which column is unusual (`where`, with its `share` of the error), and what it would expect:

# %%
with open("new.csv", newline="") as file:
    row = list(csv.DictReader(file))[3]
x = ae.transforms()({name: [float(value)] for name, value in row.items()})
expected = ae.transforms().inverse(ae(x).x_hat)[0]
name = rows[3]["where"]
print(f"{name}: {float(row[name]):.3f}, expected about {expected[ae.columns.index(name)].item():.3f}")

# %% [markdown]
# `ae.transforms()` accepts rows in the units of the table: an array, a mapping of columns, or a data frame with its columns
# in any order. Its `inverse` converts reconstructions back to these units.
#
# ## Your own table
#
# Replace `usual.csv` by your file, and 30 by its number of columns. A `.parquet` file works in the same way. `columns: [height, weight]` in the dataset selects columns, and `label: NAME` leaves one
# out and keeps it as the label. Leave out numbers that only count rows, such as an id.
#
# Columns must be numbers. Text is an error that names the column:

# %%
Path("mixed.csv").write_text("height,colour\n1.5,red\n1.7,blue\n1.6,red\n")
try:
    aezoo.DatasetSpec.model_validate({"kind": "table", "path": "mixed.csv"}).load("train")
except aezoo.DataError as error:
    print(error)

# %% [markdown]
# - **Text.** Make a column of zeros and ones for each value, for example with `pandas.get_dummies(frame, dtype=float)`.
# - **Missing values** are an error as well. Fill them before the training and before scoring in the same way, such as with
#   the median of the training rows.
# - **Anomalies among the training rows** are learned if they are many. Remove those that you know.
# - **Heavy tails.** A column with a few huge values dominates the error. Take its logarithm.
# - **The threshold** holds for new rows that come from where the calibration rows come from. If the usual rows change with
#   time, calibrate again with recent ones. `n` calibration rows allow a share of false alarms of `1 / (n + 1)` or more.
#
# Reference: [scores and thresholds](../inference.md#scores-and-thresholds), [the dataset `table`](../specs.md#datasets),
# [the scikit-learn detector](../sklearn.md).
