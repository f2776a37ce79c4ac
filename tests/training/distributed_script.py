"""Trains in one process of a group; run by `test_distributed.py` with a JSON list of arguments."""

import json
import os
import sys
from pathlib import Path

import aezoo
from tests.training.networks import images

spec, out, fails, resume = json.loads(sys.argv[1])
rank = int(os.environ.get("RANK", "0"))


class Fail(aezoo.Callback):
    """Kills rank 1 at the end of one epoch."""

    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        if rank == 1 and state.epoch == fails:
            os._exit(9)


try:
    variant = aezoo.VariantSpec.model_validate(spec)
    ae = aezoo.train(variant, images(101), callbacks=[Fail()], progress=False, resume=resume)
except aezoo.TrainingError as error:
    sys.exit(f"refused: {error}")
if rank == 0:
    losses = [[record["train"], record.get("validation")] for record in ae.history]
    weights = {name: tensor.tolist() for name, tensor in ae.state_dict().items()}
    Path(out).write_text(json.dumps([losses, weights, ae.training_record["processes"]]))
