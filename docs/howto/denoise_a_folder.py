# %% [markdown]
# # Denoise a folder of images
#
# Remove noise from every image of a folder, with a published denoiser or with one that is trained on your own images. The
# clean images have the same names in a new folder.
#
# Install: `pip install 'aezoo[sklearn]'`. Only the photographs of the second part need scikit-learn.

# %%
from pathlib import Path

import numpy as np
from PIL import Image

import aezoo

# 300 digits of MNIST's test split, with Gaussian noise of variance 0.1.
digits = aezoo.sample_digits().inputs.numpy()
noise = np.random.default_rng(0).normal(scale=0.1**0.5, size=digits.shape)
noisy = (np.clip(digits / 255 + noise, 0, 1) * 255).round().astype("uint8")
Path("noisy").mkdir(exist_ok=True)
for number, image in enumerate(noisy):
    Image.fromarray(image).save(f"noisy/{number:03}.png")

# %% [markdown]
# ## With a published denoiser
#
# `denoise-gaussian` was trained on MNIST with this kind of noise.

# %%
result = aezoo.reconstruct_to("denoise-gaussian", "noisy", "clean", force=True)
print(result.n, "images in", result.path)


def error(images):
    return np.mean((images / 255 - digits / 255) ** 2)


clean = np.stack([np.asarray(Image.open(path)) for path in sorted(Path("clean").glob("*.png"))])
print(f"mean squared error: {error(noisy):.4f} with noise, {error(clean):.4f} without")
ae = aezoo.load("denoise-gaussian")
x, x_noisy = (ae.transforms()(images[:12]) for images in (digits, noisy))
aezoo.reconstructions(ae, x, noisy=x_noisy).savefig("denoised.png")

# %% [markdown]
# On the command line: `aezoo reconstruct denoise-gaussian noisy -o clean`.
#
# ## Train a denoiser on your own images
#
# A denoiser needs clean images. The recipe's `noises` corrupt each input again in every epoch; targets stay clean.
# The network here keeps the size of the image and has no narrow layer: with noise on its input, copying does not help it.
# The images are tiles of scikit-learn's two photographs; a tenth of them is the test split.

# %%
from sklearn.datasets import load_sample_images

Path("tiles").mkdir(exist_ok=True)
for name, pixels in zip(("temple", "flower"), load_sample_images().images, strict=True):
    for top in range(0, 416, 32):
        for left in range(0, 640, 32):
            Image.fromarray(pixels[top : top + 32, left : left + 32]).save(f"tiles/{name}-{top}-{left}.png")

Path("denoise-tiles.yaml").write_text("""\
name: denoise-tiles
summary: Convolutions that remove Gaussian noise of standard deviation 0.1 from tiles of photographs.
input: {shape: [3, 32, 32], range: [0, 1]}
encoder:
  - {kind: conv, out_channels: 16, kernel_size: 3, padding: same, activation: leaky_relu}
  - {kind: conv, out_channels: 16, kernel_size: 3, padding: same, activation: leaky_relu}
decoder:
  - {kind: conv, out_channels: 16, kernel_size: 3, padding: same, activation: leaky_relu}
  - {kind: conv, out_channels: 3, kernel_size: 3, padding: same}
recipe:
  dataset: {kind: images, path: tiles, size: [32, 32], test: 0.1}
  noises: [{kind: gaussian, std: 0.1, clip: [0, 1]}]
  reconstruction: mse
  batch_size: 16
  stages:
    - {kind: fit, epochs: 12, optimizer: {kind: adam, lr: 3e-3}, schedule: cosine}
  threads: 1
""")
ae = aezoo.train_to_folder(aezoo.read_spec("denoise-tiles.yaml"), "denoiser", overwrite=True)
for name in ("noisy_input_mse", "denoised_mse"):
    print(f"{name:16} {ae.metrics[name]['value']:.5f}  {ae.metrics[name]['definition']}")

# %% [markdown]
# Both errors are those of the test split, which the training has not used. Denoised test tiles:

# %%
import torch

spec = aezoo.read_spec("denoise-tiles.yaml")
test = spec.recipe.dataset.load("test")
x = ae.transforms()(test.inputs[test.index[:48:4]])
noise = spec.recipe.noises[0]
noisy = noise(x, torch.Generator().manual_seed(0))
with torch.no_grad():
    rows = {"clean": x, "noisy": noisy, "denoised": ae(noisy).x_hat}
aezoo.plots.comparison(rows, value_range=(0.0, 1.0)).savefig("tiles.png")

# %% [markdown]
# ## Your own folder
#
# Replace `tiles` by a folder of clean images. Use the noise of your own images: `gaussian`, `salt_pepper`, `masking`, the
# corruptions of the plugin [aezoo-corruptions](../../plugins/aezoo-corruptions/README.md), or
# [a noise of your own](../extending.md). Images that are noisy already, as pairs of noisy and clean ones, are trained on as
# [inputs and targets](input_and_target.md).
#
# - **Another strength.** A denoiser removes the noise that it was trained on. With less noise it blurs, with more it leaves
#   some. Measure the standard deviation of yours on a uniform region, in units of the range: 0 to 1 here.
# - **Size.** `reconstruct_to` resizes each image to the input of the network, as in training. For large images, cut tiles
#   and put them together again.
# - **Noisy targets.** Trained on noisy images as targets, a network learns the noise too. The warning `noisy-target` says
#   when inputs and targets are equal although `noises` are declared.
# - **A narrow layer** removes noise as well, but also every detail that does not fit through it.
#
# Reference: [comparison of denoisers](../comparisons/denoising.md), [noises](../specs.md#noises),
# [`reconstruct`](../inference.md).
