# %% [markdown]
# # Data larger than memory
#
# Train on arrays and images that do not fit into memory, and encode them to a file. Samples are read batch by batch from
# the disk.
#
# Install: `pip install aezoo`.

# %%
import numpy as np

import aezoo

# 20,000 images in one file, written in parts. Yours may have millions.
digits = aezoo.sample_digits().inputs.numpy()
rng = np.random.default_rng(0)
big = np.lib.format.open_memmap("big.npy", mode="w+", dtype="uint8", shape=(20_000, 28, 28))
for start in range(0, len(big), 1000):
    rows, down, right = rng.integers(300, size=1000), *rng.integers(-2, 3, size=(2, 1000))
    big[start : start + 1000] = [
        np.roll(digits[r], (d, s), (0, 1)) for r, d, s in zip(rows, down, right, strict=True)
    ]
big.flush()

# %% [markdown]
# ## Train on a memory-mapped array
#
# `mapped=True` says that the array is on a disk: the training then never copies a whole split, and reads the rows of a
# batch when it needs them. The rows of the splits are numbers, `index`.

# %%
from typing import Literal

import torch


@aezoo.register
class BigFileSpec(aezoo.DatasetSpec):
    kind: Literal["big_file"] = "big_file"
    path: str

    def load(self, split):
        images = torch.from_numpy(np.load(self.path, mmap_mode="r+"))
        first, last = {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}[split]
        rows = torch.arange(int(first * len(images)), int(last * len(images)))
        return aezoo.Samples(images, index=rows, mapped=True)


spec = aezoo.get_spec("fc-64").replace(
    {
        "name": "big",
        "recipe.dataset": {"kind": "big_file", "path": "big.npy"},
        "recipe.refit": False,
        "recipe.stages": [{"kind": "fit", "epochs": 2, "optimizer": {"kind": "adam", "lr": 1e-3}}],
    }
)
ae = aezoo.train(spec, progress=False)
print("test MSE per pixel", round(ae.metrics["mse"]["value"], 4), "on", ae.metrics["mse"]["n"], "images")

# %% [markdown]
# ## Encode to a file
#
# `encode_to_file` reads `.npy`, `.npz`, `.safetensors`, `.csv` and `.parquet` files and folders of images in chunks, and
# writes while it reads. Memory does not grow with the number of samples.

# %%
result = aezoo.encode_to_file(ae, "big.npy", "latents.npy", force=True)
latents = np.load("latents.npy", mmap_mode="r")
print(result.n, "samples", latents.shape, f"{result.ratio:.1f} times smaller")

# %% [markdown]
# On the command line: `aezoo encode ./big big.npy -o latents.npy`. A sparse network with exactly k latents writes pairs of
# index and value to `.npz`, `.safetensors` or `.parquet`, which are smaller.
#
# ## Folders of images
#
# The dataset `images` decodes every image once. If the decoded images are larger than `memory_mib`, they are kept in a
# file in the cache and memory-mapped; a second training starts at once.

# %%
from pathlib import Path

from PIL import Image

Path("many").mkdir(exist_ok=True)
for number, image in enumerate(digits):
    Image.fromarray(image).save(f"many/{number:03}.png")
dataset = aezoo.DatasetSpec.model_validate(
    {"kind": "images", "path": "many", "size": [64, 64], "channels": 1, "memory_mib": 1}
)
train = dataset.load("train")
print(len(train), "images, memory-mapped:", train.mapped)

# %% [markdown]
# ## Your own data
#
# - **The order of the rows.** The splits of this page are ranges of rows. If your file is sorted, by class or by time, take
#   the rows by a random permutation with a fixed seed instead; reading is then slower on hard disks.
# - **A copy by accident.** `array[...]` of a memory-mapped array with a list of rows, `astype` and arithmetic make copies in
#   memory. Convert the file once, in parts, and keep bytes as uint8: they are scaled batch by batch.
# - **Several files** become one by `np.lib.format.open_memmap` as above.
# - **Standardization.** `scale: standard` of `array` and `table` makes a copy of the data in memory. Compute mean and standard
#   deviation in parts, and write a standardized float32 file.
# - **Tables and series.** A `.csv` or `.parquet` is read into memory for a training, and in chunks by `encode` and `score`.
#   Sort a large series into windows in a file as above.
# - **Network drives.** Random rows over a network are slow: copy the file to a local disk first.
#
# Reference: [inputs of `encode`](../inference.md#inputs), [the dataset `images`](../specs.md#datasets),
# [many machines](many_machines.md).
