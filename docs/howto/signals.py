# %% [markdown]
# # Signals and time series
#
# Train an autoencoder on windows of a signal with one or several channels, find unusual windows, and see where in the
# window the error is.
#
# Install: `pip install aezoo`.

# %%
import numpy as np

import aezoo

# Two channels, a pulse and a slow wave with noise. The second recording has three faults.
rng = np.random.default_rng(0)


def recording(steps):
    time = np.arange(steps)
    pulse = np.exp(8 * (np.cos(2 * np.pi * time / 50) - 1))
    wave = np.sin(2 * np.pi * time / 400)
    return np.stack([pulse, 20 + 5 * wave], axis=1) + rng.normal(scale=[0.05, 0.2], size=(steps, 2))


np.save("good.npy", recording(8000))
later = recording(3000)
later[600:640, 0] = later[600:640, 0][::-1] + 0.5  # a shifted pulse
later[1500:1550, 0] = 0.5  # no pulse
later[2200:2300, 1] += 4  # the second channel is too high
np.save("later.npy", later)

# %% [markdown]
# ## Train on windows
#
# The dataset `windows` cuts the series, (time, channels), into windows of 64 steps that begin every 4 steps, and
# standardizes each channel. The splits follow one another in time: training, then validation. The layers are the ones of
# images; with an input of (channels, length), they are PyTorch's `Conv1d` and `ConvTranspose1d`.

# %%
from pathlib import Path

Path("pulse.yaml").write_text("""\
name: pulse
summary: Two channels in windows of 64 steps through eight latents.
input: {shape: [2, 64]}
encoder:
  - {kind: conv, out_channels: 8, kernel_size: 8, stride: 4, padding: 2, activation: gelu}
  - flatten
  - {kind: linear, out_features: 8}
decoder:
  - {kind: linear, out_features: 128, activation: gelu}
  - {kind: unflatten, shape: [8, 16]}
  - {kind: conv_transpose, out_channels: 2, kernel_size: 8, stride: 4, padding: 2}
recipe:
  dataset: {kind: windows, path: good.npy, length: 64, stride: 4, validation: 0.2}
  reconstruction: mse
  batch_size: 64
  stages:
    - {kind: fit, epochs: 40, optimizer: {kind: adam, lr: 3e-3}, schedule: cosine}
  threads: 1
""")
spec = aezoo.read_spec("pulse.yaml")
ae = aezoo.train_to_folder(spec, "pulse-ae", overwrite=True)
print("validation FVU:", round(ae.metrics["fvu.validation"]["value"], 3))

# %% [markdown]
# ## Score a new recording
#
# A file with a series is cut into windows of the same length and stride, in the order of time. The last fifth of the good
# recording, which was the validation split, sets the threshold; nothing was chosen on it.

# %%
np.save("calibration.npy", np.load("good.npy")[-1600:])
result = aezoo.score_to_file(
    ae, "later.npy", "scores.npz", calibrate="calibration.npy", threshold=0.01, explain=True, force=True
)
scores = np.load("scores.npz")
starts = 4 * scores["rows"]
found = np.flatnonzero(scores["anomalous"])
for group in np.split(found, np.flatnonzero(np.diff(starts[found]) > 64) + 1):
    worst = group[np.argmax(scores["error"][group])]
    channel, step = divmod(scores["value"][worst], 64)
    print(
        f"steps {starts[group[0]]} to {starts[group[-1]] + 64}: channel {channel}, most at {starts[worst] + step}"
    )

# %% [markdown]
# The three faults are found. Whatever else is listed is a false alarm, of which the threshold allows a hundredth of the
# windows. On the command line:
# `aezoo score ./pulse-ae later.npy -o scores.npz --threshold 0.01 --calibrate calibration.npy --explain`.

# %%
at = [120, 600, 1500, 2180]
x = ae.transforms()(np.stack([later[start : start + 64].T for start in at]))
aezoo.plots.lines(x, ae(x).x_hat.detach(), title="a usual window and three faults").savefig("windows.png")

# %% [markdown]
# The scale is that of the standardized channels; `ae.transforms().inverse` returns to the units of the file.
#
# ## Recordings of different lengths
#
# Cut each recording into windows, and leave out the rest at its end. Whole recordings are held out, so that no window of
# the validation data overlaps one of the training data. A tuple of arrays would be input and target; a
# [dataset of your own](own_dataset.md) has the splits.

# %%
from typing import Literal

import torch

# Read your files here: arrays (time, channels).
recordings = {
    split: [recording(n) for n in steps]
    for split, steps in {"train": (2100, 900, 3333), "validation": (700, 1000)}.items()
}
mean, std = (f(np.concatenate(recordings["train"]), axis=0) for f in (np.mean, np.std))


def windows(series, length=64, stride=16):
    return np.lib.stride_tricks.sliding_window_view((series - mean) / std, length, axis=0)[::stride]


@aezoo.register
class RecordingsSpec(aezoo.DatasetSpec):
    kind: Literal["recordings"] = "recordings"

    def load(self, split):
        cut = np.concatenate([windows(series) for series in recordings[split]])  # (windows, channels, 64)
        return aezoo.Samples(torch.from_numpy(cut).float())

    def has(self, split):
        return split != "test"


several = aezoo.train(
    spec.replace({"name": "recordings", "recipe.dataset": {"kind": "recordings"}}), progress=False
)
print(
    several.metrics["mse.validation"]["n"],
    "windows held out; FVU",
    round(several.metrics["fvu.validation"]["value"], 3),
)

# %% [markdown]
# ## Your own signals
#
# Replace `good.npy` by your series: an array, (time,) or (time, channels), or a CSV or Parquet table with a row for each
# step (`pip install 'aezoo[table]'`). The input shape is (channels, length). `length` should cover the slowest event that you look for, and be divisible
# by the strides of the layers together.
#
# - **Windows overlap** if `stride` is smaller than `length`. Neighbouring windows then have similar errors, and an event is
#   found several times. The bound on the share of false alarms holds for the average, not for each recording.
# - **Drift.** A slow trend ends outside of what the training has seen. Train on differences, or subtract a running mean.
# - **Gaps.** Missing values are an error with their row. Fill short gaps, and cut the series at long ones.
# - **Sampling rate.** All recordings must have the same one; resample before.
#
# Reference: [the dataset `windows`](../specs.md#datasets), [scores and thresholds](../inference.md#scores-and-thresholds).
