"""The same two jobs in aezoo and in other libraries: lines of user code, seconds, and peak memory.

    python tests/benchmarks/user_jobs.py        # needs AEZOO_DATA; pyod and pythae where they are installed

`encode`: 10,000 images, bytes in a file, to latents on disk, by a network that is trained already. `score`: 5,000
rows of a table to scores and a threshold, the training included. Every way runs in a process of its own, in turn,
three rounds; the median is printed. Imports are not counted, but for those of aezoo, which happen on first use. The
peak is that of the whole process.
"""

import ast
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 3
# Each way is what a user writes, after the data are on disk: images.npy, uint8, (10,000, 28, 28); table.npy,
# float32, (5,000, 20), and usual.npy, (5,000, 20), to train on. The network has 64 latents.
ENCODE = {
    "aezoo": """
import aezoo
aezoo.encode_to_file("fc-64", "images.npy", "latents.npy", force=True)
""",
    "hand-written": """
import numpy as np
import torch
from torch import nn
encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.LeakyReLU(0.01))
encoder.load_state_dict(torch.load("encoder.pt"))
encoder.eval()
images = np.load("images.npy", mmap_mode="r")
parts = []
with torch.no_grad():
    for start in range(0, len(images), 256):
        x = torch.from_numpy(images[start : start + 256].astype("float32") / 255)
        parts.append(encoder(x).numpy())
np.save("latents.npy", np.concatenate(parts))
""",
    "pythae": """
import numpy as np
import torch
from pythae.models import AutoModel
model = AutoModel.load_from_folder("pythae")
images = np.load("images.npy")
parts = []
with torch.no_grad():
    for start in range(0, len(images), 256):
        x = torch.from_numpy(images[start : start + 256].astype("float32") / 255)
        parts.append(model.embed(x).numpy())
np.save("latents.npy", np.concatenate(parts))
""",
}
SCORE = {
    "aezoo.sklearn": """
import numpy as np
from aezoo.sklearn import AutoencoderDetector
detector = AutoencoderDetector(contamination=0.05).fit(np.load("usual.npy"))
rows = np.load("table.npy")
np.savez("scores.npz", score=detector.score_samples(rows), outlier=detector.predict(rows) == -1)
""",
    "hand-written": """
import numpy as np
import torch
from torch import nn
usual = torch.from_numpy(np.load("usual.npy"))
mean, sd = usual.mean(0), usual.std(0)
x = (usual - mean) / sd
model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 5), nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 20))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
held_out, x = x[:500], x[500:]
best, state, patience = float("inf"), None, 0
for epoch in range(200):
    for batch in torch.randperm(len(x)).split(32):
        optimizer.zero_grad()
        loss = (model(x[batch]) - x[batch]).square().mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = float((model(held_out) - held_out).square().mean())
    patience += 1
    if error < best:
        best, patience = error, 0
        state = {name: value.clone() for name, value in model.state_dict().items()}
    if patience == 20:
        break
model.load_state_dict(state)
def errors(rows):
    z = (rows - mean) / sd
    with torch.no_grad():
        return (model(z) - z).square().mean(1).numpy()
threshold = np.percentile(errors(usual), 95)
found = errors(torch.from_numpy(np.load("table.npy")))
np.savez("scores.npz", score=found, outlier=found > threshold)
""",
    "pyod": """
import numpy as np
from pyod.models.auto_encoder import AutoEncoder
detector = AutoEncoder(contamination=0.05, hidden_neuron_list=[64, 5], verbose=0)
detector.fit(np.load("usual.npy"))
rows = np.load("table.npy")
np.savez("scores.npz", score=detector.decision_function(rows), outlier=detector.predict(rows))
""",
}
JOBS = {"encode": ENCODE, "score": SCORE}


def prepare(folder: Path) -> None:
    """Writes the data, and the same network for every way that encodes."""
    import numpy as np
    import torch

    import aezoo
    from aezoo.evaluation.evaluate import load_split

    ae = aezoo.load("fc-64")
    np.save(folder / "images.npy", load_split(ae, "test").inputs.numpy().reshape(-1, 28, 28))
    state = {"1.weight": ae.encoder[1].linear.weight, "1.bias": ae.encoder[1].linear.bias}
    torch.save(state, folder / "encoder.pt")
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 20))
    for name in ("usual", "table"):
        rows = np.tanh(rng.normal(size=(5000, 5)) @ mixing) + 0.1 * rng.normal(size=(5000, 20))
        np.save(folder / f"{name}.npy", rows.astype(np.float32))
    try:
        from pythae.models import AE, AEConfig
    except ImportError:
        return
    # Its own network of the same latents, with random weights: only the time is compared.
    AE(AEConfig(input_dim=(1, 28, 28), latent_dim=64)).save(str(folder / "pythae"))


def run(code: str, folder: Path) -> tuple[float, float]:
    """Seconds without imports, and peak memory in MB, of a way in a process of its own."""
    imports = [line for line in code.splitlines() if line.startswith(("import ", "from "))]
    rest = [line for line in code.splitlines() if line not in imports]
    program = "\n".join([*imports, "import time, resource, json, torch", "torch.set_num_threads(2)"])
    program += "\n_start = time.perf_counter()\n" + "\n".join(rest)
    program += "\nprint(json.dumps([time.perf_counter() - _start, "
    program += "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    seconds, peak = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, peak


def statements(code: str) -> int:
    """Lines of code that are not empty."""
    ast.parse(code)
    return len([line for line in code.splitlines() if line.strip()])


def main() -> None:
    """Prints a table for each job."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        for job, ways in JOBS.items():
            found: dict[str, list[tuple[float, float]]] = {}
            for _ in range(ROUNDS):
                for name, code in ways.items():
                    try:
                        found.setdefault(name, []).append(run(code, folder))
                    except RuntimeError as error:
                        print(f"{job}, {name}: null ({error})", file=sys.stderr)
            print(f"\n{job:14}  lines  seconds  peak MB")
            for name, values in found.items():
                seconds, peak = (statistics.median(column) for column in zip(*values, strict=True))
                print(f"{name:14}  {statements(ways[name]):5}  {seconds:7.2f}  {peak:7.0f}")


if __name__ == "__main__":
    main()
