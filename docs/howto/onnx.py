# %% [markdown]
# # Run an autoencoder with ONNX Runtime
#
# Export a trained autoencoder with its preprocessing to one ONNX file, and run it without PyTorch and aezoo.
#
# Install: `pip install 'aezoo[onnx]'`. Where the file runs, `pip install onnxruntime` is enough.

# %%
import aezoo

digits = aezoo.sample_digits().inputs.numpy()  # uint8, (300, 28, 28)
result = aezoo.export("fc-64", "fc-64.onnx", with_score=True, samples=digits, force=True)
for name, difference in result.comparison.differences.items():
    print(f"{name:15} differs from aezoo by at most {difference.relative:.1e}")

# %% [markdown]
# The file is compared with aezoo on the samples before it is put in place. On the command line:
# `aezoo export fc-64 -o fc-64.onnx --with-score --samples mnist:test`.
#
# ## Run

# %%
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("fc-64.onnx", providers=["CPUExecutionProvider"])
for tensor in (*session.get_inputs(), *session.get_outputs()):
    print(f"{tensor.name:15} {tensor.type:15} {tensor.shape}")
latents, reconstruction, score = session.run(None, {"input": digits[:, None]})
print(latents.shape, reconstruction.shape, score.shape)

# %% [markdown]
# `score` is minus the mean squared error: higher is more usual.
#
# ## The encoder alone

# %%
aezoo.export("fc-64", "encoder.onnx", encoder_only=True, samples=digits, force=True)
encoder = onnxruntime.InferenceSession("encoder.onnx", providers=["CPUExecutionProvider"])
(codes,) = encoder.run(None, {"input": digits[:, None]})
print(codes.shape, "same as above:", bool(np.abs(codes - latents).max() < 1e-5))

# %% [markdown]
# ## Your own autoencoder
#
# `aezoo.export("./photos-ae", "photos.onnx")` takes a folder, a name or an autoencoder. The comparison uses the test split
# of the recipe's dataset; `samples=` gives other data.
#
# - **Not in the file:** decoding and resizing of images, the selection of columns by name, and the cutting of series into
#   windows. `FILE.json` lists the columns in their order.
# - **Bytes or floating point.** If the samples are bytes, so is the input of the file, and the scaling is inside. An input
#   of the wrong type is an error of the runtime: `Unexpected input data type`.
# - **Channels first.** The layout is (batch, channels, height, width). For channels-last arrays, use
#   `x.transpose(0, 3, 1, 2)`.
# - **One latent more or less.** In a sparse code, a rounding error can change which latent is kept. Such samples are listed
#   in the result as undecided.
# - **A layer of your own** must be traceable; the error names it otherwise.
#
# Reference: [export](../export.md), with the formats `torch` and `python`.
