"""The main job in one call, with no network and no dataset: load, encode, reconstruct, look."""

import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import safetensors.torch

from aezoo import plots
from aezoo.data.samples import Samples
from aezoo.errors import CheckpointError
from aezoo.evaluation.evaluate import Measurement, evaluate
from aezoo.files import write_atomically
from aezoo.model.autoencoder import Autoencoder
from aezoo.zoo.load import load

DIGITS = "digits.safetensors"


@dataclass(frozen=True)
class Demo:
    """What a demo found.

    Attributes:
        ae: the variant that was loaded.
        metrics: measured on the shipped digits, not on the whole test set.
        load_seconds: wall time of the load.
        run_seconds: wall time of encoding and reconstructing all digits once.
        picture: the file that was written.
    """

    ae: Autoencoder
    metrics: dict[str, Measurement]
    load_seconds: float
    run_seconds: float
    picture: Path


def sample_digits() -> Samples:
    """The first 300 images of MNIST's test set with their labels, uint8, as they ship with aezoo.

    MNIST is the work of Yann LeCun, Corinna Cortes and Christopher J. C. Burges (CC BY-SA 3.0).
    """
    tensors = safetensors.torch.load(files("aezoo").joinpath(DIGITS).read_bytes())
    return Samples(tensors["images"], None, tensors["labels"])


def demo(name: str = "sparse-topk16", picture: str | Path = "aezoo-demo.png") -> Demo:
    """Loads a variant, reconstructs the shipped digits, and draws some of them.

    Args:
        name: a variant for 28 x 28 gray images.
        picture: where to write the PNG.

    Raises:
        UnknownVariantError: no such variant.
        DataError: the variant expects something other than digits.
        CheckpointError: the files are not the published ones, or the picture cannot be written.
    """
    digits = sample_digits()
    clock = time.perf_counter()
    ae = load(name)
    load_seconds = time.perf_counter() - clock
    batch = ae.transforms()(digits.validated_for(ae.spec).inputs)
    clock = time.perf_counter()
    ae(batch)
    run_seconds = time.perf_counter() - clock
    metrics = evaluate(ae, digits, dataset="MNIST, first 300 of the test set", split="test")
    path = Path(picture).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, plots.png(plots.reconstructions(ae, batch)))
    except OSError as error:
        raise CheckpointError("write-failed", f"{path} could not be written: {error.strerror}") from error
    return Demo(ae, metrics, load_seconds, run_seconds, path)
