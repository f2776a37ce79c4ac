# %% [markdown]
# # A folder of images
#
# Any format that Pillow reads, in any sizes, flat or one folder a class. Here the folder is made of the
# two photographs that come with scikit-learn, cut into tiles, so that the page runs anywhere.

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
# The dataset is part of the spec: every image is scaled until it covers 32 x 32, and the middle is cut out.

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
# What comes out is an encoder to use today: an image of any size and mode goes in.

# %%
folder = aezoo.save(ae, "tiles-ae", overwrite=True)
ae = aezoo.load(folder)
photo = Image.fromarray(photos.images[1])
latents = ae.encode(ae.transforms()(photo))
print(photo.size, photo.mode, "->", tuple(latents.shape))
aezoo.reconstructions(
    ae, ae.transforms()([Image.open(p) for p in sorted(Path("tiles").rglob("*.png"))[3::28]])
).savefig("tiles.png")
