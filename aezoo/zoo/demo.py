"""A demonstration without network or dataset: load a variant, reconstruct shipped digits, draw them."""

import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import safetensors.torch

from aezoo import plots
from aezoo.data.samples import Samples
from aezoo.evaluation.evaluate import Measurement, evaluate
from aezoo.model.autoencoder import Autoencoder
from aezoo.zoo.folders import write_file
from aezoo.zoo.load import load

DIGITS = "digits.safetensors"


@dataclass(frozen=True)
class Demo:
    """The result of `demo`.

    Attributes:
        ae: the loaded variant.
        metrics: measured on the shipped digits, not on the whole test set.
        load_seconds: wall time of the load.
        run_seconds: wall time of reconstructing all digits once.
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

    Returns:
        Inputs of shape (300, 28, 28) with values from 0 to 255, and labels of shape (300,).
    """
    tensors = safetensors.torch.load(files("aezoo").joinpath(DIGITS).read_bytes())
    return Samples(tensors["images"], None, tensors["labels"])


def demo(name: str = "sparse-topk16", picture: str | Path = "aezoo-demo.png") -> Demo:
    """Load a variant, reconstruct the shipped digits, and draw some of them.

    Args:
        name: a variant for 28 x 28 gray images.
        picture: path of the PNG to write.

    Raises:
        UnknownVariantError: no variant has this name.
        DataError: the variant expects something other than digits.
        CheckpointError: the files are not the published ones, or the picture cannot be written.
    """
    digits = sample_digits()
    start = time.perf_counter()
    ae = load(name)
    load_seconds = time.perf_counter() - start
    batch = ae.transforms()(digits.validated_for(ae.spec).inputs)
    start = time.perf_counter()
    ae(batch)
    run_seconds = time.perf_counter() - start
    metrics = evaluate(ae, digits, dataset="MNIST, first 300 of the test set", split="test")
    path = Path(picture).absolute()
    write_file(path, plots.png(plots.reconstructions(ae, batch)))
    return Demo(ae, metrics, load_seconds, run_seconds, path)
