"""Encoding with a trained network: floats in memory, bytes in memory, and a file to a file."""

import hashlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from measure import Row, compare
from numpy.typing import NDArray
from torch import Tensor, nn

import aezoo

BATCH_SIZE = 256
"""The one of `encode_to_file`."""
MEMORY_AIM, FILE_AIM = 1.05, 1.1


def digits() -> Tensor:
    """60,000 images of digits, uint8, (60000, 1, 28, 28): the training and the validation split of MNIST."""
    mnist = aezoo.DatasetSpec.model_validate("mnist")
    return torch.cat([mnist.load("train").inputs, mnist.load("validation").inputs])


def batches(x: Tensor) -> list[Tensor]:
    """Slices of `BATCH_SIZE` samples."""
    return list(cast(tuple[Tensor, ...], x.split(BATCH_SIZE)))


def dense_encoder(ae: aezoo.Autoencoder) -> nn.Module:
    """The encoder of `fc-64` written by hand, with its weights."""
    return _with_weights(ae, nn.Flatten(), nn.Linear(784, 64), nn.LeakyReLU(0.01))


def conv_encoder(ae: aezoo.Autoencoder) -> nn.Module:
    """The encoder of `conv-strided` written by hand, with its weights."""
    first, second = nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.Conv2d(16, 4, 3, stride=2, padding=1)
    return _with_weights(ae, first, nn.ReLU(), second)


def _with_weights(ae: aezoo.Autoencoder, *layers: nn.Module) -> nn.Module:
    net = nn.Sequential(*layers)
    names = zip(net.state_dict(), ae.encoder.state_dict().values(), strict=True)
    net.load_state_dict(dict(names))
    return net.eval()


def pooled_encoder(ae: aezoo.Autoencoder) -> nn.Module:
    """The encoder of `conv-fc`, four convolutions of 6 x 6 and a pooling, written by hand, with its weights."""
    steps: list[nn.Module] = []
    for channels in (1, 8, 8, 8):
        steps += [nn.Conv2d(channels, 8, 6), nn.LeakyReLU(0.01)]
    return _with_weights(ae, *steps, nn.MaxPool2d(2), nn.Flatten())


ENCODERS: dict[str, Callable[[aezoo.Autoencoder], nn.Module]] = {
    "fc-64": dense_encoder,
    "conv-strided": conv_encoder,
    "conv-fc": pooled_encoder,
}
"""Name of a variant -> its encoder by hand; from the one with the least arithmetic to the one with the most."""
IN_MEMORY = ("fc-64", "conv-strided")
"""Those that are measured in memory, where the share of the calls is the largest."""


def require_equal(found: object, expected: object) -> None:
    """Checks that both ways give the same latents.

    Raises:
        AssertionError: they do not.
    """
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-5)


def encode_floats() -> list[Row]:
    """`ae.encode` of floats against the modules themselves: the calls around the arithmetic."""
    rows: list[Row] = []
    x = digits().float().div_(255)
    for name in IN_MEMORY:
        ae = aezoo.load(name)
        net = ENCODERS[name](ae)

        @torch.no_grad()
        def through_aezoo(ae: aezoo.Autoencoder = ae) -> Tensor:
            return torch.cat([ae.encode(batch) for batch in batches(x)])

        @torch.no_grad()
        def bare(net: nn.Module = net) -> Tensor:
            return torch.cat([net(batch) for batch in batches(x)])

        require_equal(through_aezoo(), bare())
        rows += compare(
            f"latents of 60,000 digits by {name}, floats in memory, batch {BATCH_SIZE}",
            {"ae.encode": through_aezoo, "bare forward": bare},
            ours="ae.encode",
            bases={"bare forward": ("overhead", MEMORY_AIM)},
            includes="forward, concatenation",
        )
    return rows


def encode_bytes() -> list[Row]:
    """`ae.transforms()` and `ae.encode` of bytes against scaling and the modules themselves."""
    rows: list[Row] = []
    images = digits()
    for name in IN_MEMORY:
        ae = aezoo.load(name)
        net, transforms = ENCODERS[name](ae), ae.transforms()

        @torch.no_grad()
        def through_aezoo(ae: aezoo.Autoencoder = ae, transforms: aezoo.Transforms = transforms) -> Tensor:
            return torch.cat([ae.encode(transforms(batch)) for batch in batches(images)])

        @torch.no_grad()
        def bare(net: nn.Module = net) -> Tensor:
            return torch.cat([net(batch.float().div_(255)) for batch in batches(images)])

        require_equal(through_aezoo(), bare())
        rows += compare(
            f"latents of 60,000 digits by {name}, bytes in memory, batch {BATCH_SIZE}",
            {"ae.transforms, ae.encode": through_aezoo, "scaling, bare forward": bare},
            ours="ae.transforms, ae.encode",
            bases={"scaling, bare forward": ("overhead", MEMORY_AIM)},
            includes="scaling, forward, concatenation",
        )
    return rows


def encode_file() -> list[Row]:
    """`encode_to_file` against a loop over a mapped array that ends in `np.save`."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images, ours, theirs = (folder / f"{name}.npy" for name in ("images", "ours", "theirs"))
        np.save(images, digits().numpy())
        for name, by_hand in ENCODERS.items():
            ae = aezoo.load(name)
            net = by_hand(ae)

            def through_aezoo(ae: aezoo.Autoencoder = ae) -> None:
                aezoo.encode_to_file(ae, images, ours, force=True)

            @torch.no_grad()
            def loop(net: nn.Module = net, *, hashed: bool = False) -> None:
                array = np.load(images, mmap_mode="r")
                digest, parts = hashlib.sha256(), list[NDArray[np.float32]]()
                for start in range(0, len(array), BATCH_SIZE):
                    x = torch.from_numpy(array[start : start + BATCH_SIZE].astype(np.float32) / 255)
                    if hashed:
                        digest.update(cast(Any, x.numpy()))
                    parts.append(net(x).numpy())
                np.save(theirs, np.concatenate(parts))

            through_aezoo()
            loop()
            require_equal(np.load(ours), np.load(theirs))
            rows += compare(
                f"latents of 60,000 digits by {name}, .npy to .npy, batch {BATCH_SIZE}",
                {
                    "aezoo.encode_to_file": through_aezoo,
                    "loop, np.save": loop,
                    "loop, sha256 of the inputs, np.save": partial(loop, hashed=True),
                },
                ours="aezoo.encode_to_file",
                bases={
                    "loop, np.save": ("overhead", FILE_AIM),
                    "loop, sha256 of the inputs, np.save": ("overhead", FILE_AIM),
                },
                includes="reading, scaling, forward, writing; aezoo also hashes the inputs, waits for the disk, "
                "and writes a stamp",
                rounds=5 if name == "conv-fc" else 9,
            )
    return rows


ROWS = (encode_floats, encode_bytes, encode_file)
