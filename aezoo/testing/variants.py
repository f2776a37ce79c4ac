"""Contract checks of a variant's folder."""

import json
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Generator, Tensor

from aezoo.errors import DataError
from aezoo.evaluation.evaluate import Measurement, evaluate_variant
from aezoo.evaluation.protocols import PROTOCOLS
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.denormals import is_denormal
from aezoo.model.sequential import Exact
from aezoo.specs.variant import VariantSpec
from aezoo.specs.yaml import read_spec
from aezoo.testing.contract import CheckList, Report
from aezoo.testing.determinism import changed_rng, equal, rng_states
from aezoo.zoo.load import folder_of, is_folder, load
from aezoo.zoo.schema import METRICS, SPEC

BATCH_SIZE = 6
METRIC_KEYS = set(get_type_hints(Measurement))
VARIANT_CHECKS: CheckList["VariantFixture"] = CheckList()


def check_variant(name: str | Path) -> Report:
    """Checks a trained variant against the contract.

    Its numbers are computed again if its dataset is available.

    Args:
        name: a variant's name or a folder, as for `aezoo.load`.

    Returns:
        The results.

    Raises:
        ContractError: a check failed; the message says for each what was expected and found.
    """
    return VARIANT_CHECKS.run(VariantFixture(name), Report(f"variant {name}")).raise_on_failure()


class VariantFixture:
    """The variant under test, by name or folder."""

    def __init__(self, name: str | Path) -> None:
        self.name = name

    @property
    def folder(self) -> Path:
        """The folder that its files are in."""
        given = isinstance(self.name, Path) or is_folder(self.name)
        return Path(self.name).expanduser() if given else folder_of(str(self.name))

    def load(self) -> tuple[Autoencoder, Tensor]:
        """The verified network, and a batch of random inputs in its range."""
        ae = load(self.name)
        shape, generator = (BATCH_SIZE, *ae.spec.input.shape), Generator().manual_seed(1)
        if ae.spec.input.range is None:
            return ae, torch.randn(shape, generator=generator)
        low, high = ae.spec.input.range
        return ae, low + (high - low) * torch.rand(shape, generator=generator)


@VARIANT_CHECKS.add("loads", "a folder that loads and is verified", required=True)
def loads(variant: VariantFixture) -> str | None:
    """A name must always mean the same bytes; docs/folders.md lists what a load verifies.

    Failure: `CheckpointError: model.safetensors has sha256 ec91..., expected 778d...`
    Fix: restore the folder, or train and save the variant again.
    """
    variant.load()
    return None


@VARIANT_CHECKS.add("spec-is-trained", "a spec.yaml that is what was trained")
def spec_is_trained(variant: VariantFixture) -> str | None:
    """The spec is what people read and train again; weights of another spec would not be reproduced.

    Failure: `another recipe in config.json`
    Fix: revert spec.yaml or train again. If a kind's default has changed, write the old value into spec.yaml.
    """
    ae, _ = variant.load()
    if not isinstance(ae.spec, VariantSpec):
        return "an architecture without a name and a recipe"
    by_hand = read_spec(variant.folder / SPEC).resolved().model_dump(mode="json")
    trained = ae.spec.model_dump(mode="json")
    differ = [key for key in trained if by_hand.get(key) != trained[key]]
    return f"another {', '.join(differ)} in config.json" if differ else None


@VARIANT_CHECKS.add("decode-encode", "decode(encode(x)) to equal forward(x).x_hat, or to raise ValueError")
def decode_encode(variant: VariantFixture) -> str | None:
    """Latents are stored and decoded later; they must mean what they meant in the forward pass.

    Failure: `a different reconstruction`
    Fix: declare in `needs` everything that a decoder layer reads besides the latents.
    """
    ae, x = variant.load()
    with torch.no_grad():
        out, latents = ae(x), ae.encode(x)
        if not equal(latents, out.latents):
            return "different latents from encode than from forward"
        try:
            x_hat = ae.decode(latents)
        except ValueError as error:
            return None if ae.decoder.needs else f"an error: {error}"
    return None if equal(x_hat, out.x_hat) else "a different reconstruction"


@VARIANT_CHECKS.add("sparsity", "no more non-zero latents than sparsity() says")
def sparsity(variant: VariantFixture) -> str | None:
    """Cards and metrics rely on the promise.

    Failure: `17 where 16 are declared`
    Fix: correct the layer; `check_layer` finds the mistake in it.
    """
    ae, x = variant.load()
    promise = ae.sparsity()
    if not isinstance(promise, Exact):
        return None
    with torch.no_grad():
        most = int((ae.encode(x).flatten(1) != 0).sum(1).max())
    return None if most <= promise.k else f"{most} where {promise.k} are declared"


@VARIANT_CHECKS.add("eval-random-state", "evaluation to leave global random states unchanged")
def eval_random_state(variant: VariantFixture) -> str | None:
    """Measuring a network must not change the program around it.

    Failure: `PyTorch's global random state changed`
    Fix: correct the layer that draws in evaluation.
    """
    ae, x = variant.load()
    before = rng_states()
    with torch.no_grad():
        ae(x)
    return changed_rng(before)


@VARIANT_CHECKS.add("no-meta-left", "every tensor to have values")
def no_meta_left(variant: VariantFixture) -> str | None:
    """A load builds the network on the meta device, then fills it from the file.

    Failure: `encoder.0.later on the meta device`
    Fix: let the layer register all its tensors in `__init__`.
    """
    ae, _ = variant.load()
    left = [name for name, tensor in ae.state_dict().items() if tensor.is_meta]
    return f"{', '.join(left)} on the meta device" if left else None


@VARIANT_CHECKS.add("denormals", "no denormal weights")
def denormals(variant: VariantFixture) -> str | None:
    """Some CPUs compute many times slower with numbers below 1.2e-38; `aezoo.save` stores them as zero.

    Failure: `1,119 in encoder.1.linear.weight`
    Fix: load and save the variant again.
    """
    ae, _ = variant.load()
    for name, tensor in ae.state_dict().items():
        if found := int(is_denormal(tensor).sum()):
            return f"{found:,} in {name}"
    return None


@VARIANT_CHECKS.add("metrics", "numbers with a definition, or null with a reason")
def metrics(variant: VariantFixture) -> str | None:
    """A number without its definition, dataset and split means nothing.

    Failure: `mse with the value None and the reason None`
    Fix: measure the variant again with `aezoo evaluate` instead of editing metrics.json.
    """
    entries: dict[str, dict[str, Any]] = json.loads((variant.folder / METRICS).read_text("utf-8"))
    for name, entry in entries.items():
        if set(entry) != METRIC_KEYS:
            return f"{name} with {', '.join(sorted(entry))}"
        if (entry["value"] is None) != bool(entry["reason"]):
            return f"{name} with the value {entry['value']} and the reason {entry['reason']!r}"
        if not entry["definition"]:
            return f"{name} without a definition"
    return None if entries else "no numbers"


@VARIANT_CHECKS.add("numbers", "published numbers that the weights and the data give again")
def numbers(variant: VariantFixture) -> str | None:
    """Anyone can recompute a published number by one command. Skipped if the dataset is not available.

    Failure: `mse 0.005 published, 0.0050851598 computed`
    Fix: publish what `aezoo evaluate` computes; a metric of a plugin needs that plugin.
    """
    ae, _ = variant.load()
    dataset = ae.spec.recipe.dataset if isinstance(ae.spec, VariantSpec) else None
    if dataset is None or not dataset.has("test"):
        return None
    try:
        computed = evaluate_variant(ae, "test")
    except DataError:
        return None
    for name, entry in computed.items():
        published, value = ae.metrics.get(name, {}).get("value"), entry["value"]
        if published is None or value is None:
            continue
        if abs(value - published) > 1e-5 * max(abs(published), 1e-9):
            return f"{name} {published:.8g} published, {value:.8g} computed"
    known = {*computed, *(name for protocol in PROTOCOLS.values() for name in protocol.gives)}
    for name, entry in ae.metrics.items():
        if name not in known and (entry.get("source"), entry.get("split")) == ("computed", "test"):
            return f"{name}, which no installed metric computes"
    return None
