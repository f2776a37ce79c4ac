# %% [markdown]
# # Embed a folder of images
#
# Train an autoencoder on a folder of images, write a short vector (an embedding) for every image to one file, and find
# similar images with these vectors.
#
# Install: `pip install 'aezoo[sklearn]'`. Only the photographs of this page need scikit-learn.

# %%
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

# Two photographs, cut into tiles of 40 x 40 pixels. Every eighth tile goes to a folder of new images.
for name, pixels in zip(("temple", "flower"), load_sample_images().images, strict=True):
    photo = Image.fromarray(pixels)
    corners = [(left, top) for top in range(0, 400, 40) for left in range(0, 640, 40)]
    for number, (left, top) in enumerate(corners):
        folder = Path("new" if number % 8 == 3 else "photos", name)
        folder.mkdir(parents=True, exist_ok=True)
        photo.crop((left, top, left + 40, top + 40)).save(folder / f"{top}-{left}.png")

# %% [markdown]
# ## Train
#
# The spec is a YAML file. The dataset `images` reads a folder and its subfolders. With `fit: crop`, the default, each
# image is scaled to cover 32 x 32 pixels and the center is cut out. A tenth of the images is the validation split.

# %%
import aezoo

Path("photos.yaml").write_text("""\
name: photos
summary: Convolutions down to 32 latents.
input: {shape: [3, 32, 32], range: [0, 1]}
encoder:
  - {kind: conv, out_channels: 16, kernel_size: 4, stride: 2, padding: 1, activation: relu}
  - {kind: conv, out_channels: 32, kernel_size: 4, stride: 2, padding: 1, activation: relu}
  - flatten
  - {kind: linear, out_features: 32}
decoder:
  - {kind: linear, out_features: 2048, activation: relu}
  - {kind: unflatten, shape: [32, 8, 8]}
  - {kind: conv_transpose, out_channels: 16, kernel_size: 4, stride: 2, padding: 1, activation: relu}
  - {kind: conv_transpose, out_channels: 3, kernel_size: 4, stride: 2, padding: 1, activation: sigmoid}
recipe:
  dataset: {kind: images, path: photos, size: [32, 32]}
  reconstruction: mse
  batch_size: 32
  stages:
    - {kind: fit, epochs: 40, optimizer: {kind: adam, lr: 2e-3}, early_stop: {patience: 10}}
  threads: 1
""")
ae = aezoo.train_to_folder(aezoo.read_spec("photos.yaml"), "photos-ae", overwrite=True)
print("validation:", {name: round(ae.metrics[f"{name}.validation"]["value"], 4) for name in ("mse", "fvu")})

# %% [markdown]
# `fvu` is the fraction of variance unexplained: 0 is a perfect reconstruction, 1 is no better than the mean image. The
# trained network is in the folder `photos-ae` of the next step; `aezoo train photos.yaml` does the same on the command
# line.
#
# ## Encode
#
# `encode_to_file` reads the images in chunks and writes all latents or nothing. Images are named by their path below
# the folder.

# %%
import numpy as np

for folder in ("photos", "new"):
    result = aezoo.encode_to_file(ae, folder, f"{folder}.npz", force=True)
    print(result.path, result.n, "images,", f"{result.ratio:.0f} times smaller than the images")
known, new = np.load("photos.npz"), np.load("new.npz")
print(known["latents"].shape, known["names"][0])

# %% [markdown]
# On the command line: `aezoo encode ./photos-ae new -o new.npz`.
#
# ## Find similar images
#
# The distance between two vectors says how similar the images are to the network. Each row of the picture is a new image
# and the four nearest images of the folder. The network has never seen the new images, and never a label.

# %%
distance = np.linalg.norm(new["latents"][:, None] - known["latents"][None], axis=2)
nearest = np.argsort(distance, axis=1)
of_photo = [np.array([name.split("/")[0] for name in file["names"]]) for file in (new, known)]
same = of_photo[0] == of_photo[1][nearest[:, 0]]
print(f"the nearest image is of the same photograph for {same.mean():.0%} of {len(same)} new images")

rows = range(4, len(same), 8)
paths = [
    path
    for row in rows
    for path in ("new/" + new["names"][row], *("photos/" + known["names"][nearest[row, :4]]))
]
aezoo.plots.images(ae.transforms()(paths), columns=5, title="new image, and its four nearest").savefig(
    "nearest.png"
)

# %% [markdown]
# ## Your own folder
#
# Replace `photos` by your folder. For gray images, write `channels: 1` in the dataset, `shape: [1, 32, 32]`, and
# `out_channels: 1` in the last layer. `size` and `shape` must agree. With larger images, add a layer of stride 2 on each
# side for each doubling, so that the linear layers stay small.
#
# - **Few images.** A large network learns few images by heart. `ae.history[-1]` has the error on the training and on the
#   validation images; if the first is much smaller, use fewer latents or more images.
# - **An image that cannot be read** is an error that names the file. `skip_corrupt: true` in the dataset, and
#   `skip_corrupt=True` in `encode_to_file`, leave it out and report it. So are
#   images with transparent pixels, which three channels cannot hold: paste them on a background, or use four channels.
# - **Copies.** The splits are drawn by a hash of each file: copies of a file are in the same split, but crops or frames of
#   the same scene are not. Put such images into subfolders `train` and `val` yourself.
# - **Meaning.** The network keeps what lowers the squared error: colours, brightness, large shapes. For the object in an
#   image, embeddings of a network that was trained on labels or captions are better.
#
# Reference: [inputs and outputs of `encode`](../inference.md), [the dataset `images`](../specs.md#datasets),
# [how images are read](../training.md#your-own-data).
