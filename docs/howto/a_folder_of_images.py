# %% [markdown]
# # A folder of images
#
# An autoencoder can be trained on a folder of images of any size, in any common format. The folder may be flat,
# have one subfolder per class, or have the subfolders `train`, `val` and `test`. To run without a download, this
# page cuts the two photographs that come with scikit-learn into tiles of 40 x 40 pixels.

# %%
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

photos = load_sample_images()
for name, pixels in zip(("temple", "flower"), photos.images, strict=True):
    Path("tiles", name).mkdir(parents=True, exist_ok=True)
    photo = Image.fromarray(pixels)
    for top in range(0, 400, 40):
        for left in range(0, 640, 40):
            photo.crop((left, top, left + 40, top + 40)).save(f"tiles/{name}/{top}-{left}.png")

# %% [markdown]
# The dataset is part of the spec. By default (`fit: crop`), every image is scaled to cover 32 x 32 pixels, and the
# center is cut out. `test: 0.1` puts a tenth of the images into the test split; another tenth is the validation
# split. Both are drawn by a hash of each file, so that new files do not move the others. `fvu` is the fraction
# of variance unexplained: 0 is a perfect reconstruction, 1 is no better than the mean image.

# %%
import aezoo

spec = aezoo.VariantSpec.model_validate(
    {
        "name": "tiles",
        "summary": "Tiles of two photographs through a convolutional bottleneck.",
        "input": {"shape": [3, 32, 32], "range": [0, 1]},
        "encoder": [
            {
                "kind": "conv",
                "out_channels": 16,
                "kernel_size": 4,
                "stride": 2,
                "padding": 1,
                "activation": "relu",
            },
            {"kind": "conv", "out_channels": 8, "kernel_size": 4, "stride": 2, "padding": 1},
        ],
        "decoder": [
            {
                "kind": "conv_transpose",
                "out_channels": 16,
                "kernel_size": 4,
                "stride": 2,
                "padding": 1,
                "activation": "relu",
            },
            {"kind": "conv_transpose", "out_channels": 3, "kernel_size": 4, "stride": 2, "padding": 1},
        ],
        "recipe": {
            "dataset": {"kind": "images", "path": "tiles", "size": [32, 32], "test": 0.1},
            "reconstruction": "mse",
            "batch_size": 32,
            "stages": [{"kind": "fit", "epochs": 20, "optimizer": {"kind": "adam", "lr": 3e-3}}],
        },
    }
)
ae = aezoo.train(spec)
print({name: round(ae.metrics[name]["value"], 4) for name in ("mse", "fvu")})

# %% [markdown]
# The saved network encodes new images: `ae.transforms()` accepts a PIL image of any size and resizes it as in
# training.

# %%
folder = aezoo.save(ae, "tiles-ae", overwrite=True)
ae = aezoo.load(folder)
photo = Image.fromarray(photos.images[1])
latents = ae.encode(ae.transforms()(photo))
print(photo.size, photo.mode, "->", tuple(latents.shape))
aezoo.reconstructions(
    ae, ae.transforms()([Image.open(p) for p in sorted(Path("tiles").rglob("*.png"))[3::28]])
).savefig("tiles.png")
