# %% [markdown]
# # Several processes and machines
#
# Train with several processes, each on a share of every batch, and encode with several workers of Ray. Both give the results
# of one process.
#
# Install: `pip install 'aezoo[ray]'`. The training needs no extra.
#
# ## Train
#
# `torchrun`, which comes with PyTorch, starts the processes. This trains the same spec with one and with two processes on
# this machine.

# %%
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import aezoo

digits = aezoo.sample_digits().inputs.numpy()
np.save("digits.npy", digits)
spec = aezoo.get_spec("fc-64").replace(
    {
        "name": "shared",
        "recipe.dataset": {"kind": "array", "path": "digits.npy"},
        "recipe.batch_size": 50,
        "recipe.refit": False,
        "recipe.stages": [{"kind": "fit", "epochs": 4}],
    }
)
Path("shared.yaml").write_text(aezoo.to_yaml(spec))
for n in (1, 2):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n)]
    train = ["-m", "aezoo", "train", "shared.yaml", "--out", f"by-{n}", "--device", "cpu"]
    subprocess.run([*torchrun, *train], check=True, capture_output=True)
    losses = [
        record["validation"]["mse"]
        for record in json.loads(Path(f"by-{n}/training.json").read_text())["history"]
    ]
    print(n, "process" if n == 1 else "processes", [round(loss, 6) for loss in losses])

# %% [markdown]
# In a shell this is `torchrun --nproc-per-node 2 -m aezoo train shared.yaml`. On several machines, run on each of them
# `torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m aezoo train shared.yaml`, where
# HOST is one of the machines. `accelerate launch` works as well (`pip install 'aezoo[distributed]'`). Each GPU gets one
# process. A script that calls `aezoo.train` is started in the same way.
#
# ## Encode
#
# `engine="ray"` divides the input among workers. Each holds the network once, and the output has the same bytes.

# %%
for engine, workers in (("local", None), ("ray", 2)):
    result = aezoo.encode_to_file(
        "fc-64", "digits.npy", f"{engine}.npy", engine=engine, workers=workers, force=True
    )
    print(engine, result.n, "samples")
print("same:", Path("local.npy").read_bytes() == Path("ray.npy").read_bytes())

# %% [markdown]
# On the command line: `aezoo encode fc-64 digits.npy -o latents.npy --engine ray --workers 2`. Connected to a cluster by
# `ray.init(address="auto")`, its machines are used.
#
# ## Your own data
#
# - **Files** must have the same paths on all machines.
# - **Batch size.** `batch_size` is that of all processes together, so that the loss curve does not depend on their number.
#   Raise it to keep each GPU busy, and the learning rate with it.
# - **Small networks** are not faster with several processes: they exchange outputs and gradients in every step. Measure one
#   epoch before.
# - **A machine that fails** ends the others with one line of an error. `aezoo train ... --resume` continues with the same
#   number of processes.
# - **Interactive notebooks** cannot train with several processes; start a script.
#
# Reference: [training with several processes](../training.md#several-processes),
# [encoding with several workers](../inference.md#several-workers).
