"""Trains a variant with several seeds and writes its validation metrics to docs/experiments/NAME/seeds.json.

    python docs/experiments/seeds.py deep-sparse deep-sparse-joint

The claims page compares these numbers where two variants differ by little (docs/claims.py).
"""

import json
import sys
from pathlib import Path

import aezoo
from aezoo.files import write_atomically

SEEDS = (1, 2, 3, 4, 5)
HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """Trains each variant once for each seed. Seeds that were measured before are kept."""
    for name in names:
        path = HERE / name / "seeds.json"
        found = json.loads(path.read_text("utf-8")) if path.exists() else {}
        for seed in SEEDS:
            if str(seed) in found:
                continue
            ae = aezoo.train(aezoo.get_spec(name).replace({"recipe.seed": seed}))
            ending = ".validation"
            found[str(seed)] = {
                metric.removesuffix(ending): entry["value"]
                for metric, entry in ae.metrics.items()
                if metric.endswith(ending)
            }
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, (json.dumps(found, indent=2) + "\n").encode())


if __name__ == "__main__":
    main(sys.argv[1:])
