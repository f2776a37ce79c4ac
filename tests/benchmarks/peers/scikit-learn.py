"""An epoch of scikit-learn's `MLPRegressor`: 784-64-784, batches of 512.

    python scikit-learn.py images.npy   # bytes, (n, 784); reads names of ways from standard input

`fit` with one iteration, with its check of the data. The hidden layer has a ReLU and the output none, in aezoo both have
leaky ReLUs. Threads are those of the BLAS: all cores.
"""

import os
import sys
from pathlib import Path

# A kernel of OpenBLAS that the environment prescribes would slow NumPy.
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
# In place of this folder, whose files have the names of packages.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from measure import serve
from sklearn.neural_network import MLPRegressor

IMAGES, BATCH_SIZE = 50_000, 512


def main() -> None:
    """Serves the epoch."""
    images = np.load(sys.argv[1])[:IMAGES].astype(np.float32) / 255

    def epoch() -> None:
        network = MLPRegressor(
            hidden_layer_sizes=(64,), batch_size=BATCH_SIZE, max_iter=1, alpha=0.0, random_state=0
        )
        network.fit(images, images)

    serve({"epoch": epoch})


if __name__ == "__main__":
    main()
