"""Contract checks of a variant's folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor

from aezoo.errors import DataError
from aezoo.evaluation.evaluate import Measurement, evaluate_variant
from aezoo.evaluation.protocols import PROTOCOLS
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.sequential import Exact
from aezoo.specs.variant import VariantSpec
from aezoo.specs.yaml import read_spec
from aezoo.testing.determinism import random_states, same, whose_moved
from aezoo.testing.report import Checks, Examination, Report
from aezoo.zoo.load import folder_of, is_folder, load
from aezoo.zoo.schema import METRICS, SPEC

ROWS = 6
KEYS = set(get_type_hints(Measurement))


def check_variant(name: str | Path) -> Report:
    """Checks a trained variant against the contract.

    Numbers are computed again where its dataset is at hand.

    Args:
        name: a variant's name, or a folder, spelled as for `aezoo.load`.

    Returns:
        What was checked.

    Raises:
        ContractError: something is not kept.
    """
    return ExaminedVariant(name).report().settled()


class ExaminedVariant(Examination):
    """One variant under examination."""

    CHECKS = {
        "loads": "a folder that loads, verified",
        "spec-is-trained": "spec.yaml to be what was trained",
        "decode-encode": "decode(encode(x)) to be forward(x).x_hat, or a clean refusal",
        "sparsity": "as many non-zero latents as sparsity() says",
        "eval-random-state": "evaluation to leave global random states alone",
        "no-meta-left": "every tensor to have values",
        "metrics": "numbers with their definition, or null with a reason",
        "numbers": "published numbers that the weights and the data give again",
    }  # fmt: skip
    FIRST = frozenset({"loads"})

    def __init__(self, name: str | Path) -> None:
        self.name = name
        folder = isinstance(name, Path) or is_folder(name)
        self.folder = Path(name).expanduser() if folder else folder_of(str(name))
        self.checks = Checks(f"variant {name}", {})

    def report(self) -> Report:
        """Runs every check."""
        return self.examine()

    def _ae(self) -> Autoencoder:
        return load(self.name)

    def _x(self, ae: Autoencoder) -> Tensor:
        shape = (ROWS, *ae.spec.input.shape)
        generator = torch.Generator().manual_seed(1)
        if ae.spec.input.range is None:
            return torch.randn(shape, generator=generator)
        low, high = ae.spec.input.range
        return low + (high - low) * torch.rand(shape, generator=generator)

    def _loads(self) -> str | None:
        self._ae()
        return None

    def _spec_is_trained(self) -> str | None:
        ae = self._ae()
        if not isinstance(ae.spec, VariantSpec):
            return "an architecture without a name and a recipe"
        by_hand = read_spec(self.folder / SPEC).resolved()
        if by_hand == ae.spec:
            return None
        written, trained = by_hand.model_dump(mode="json"), ae.spec.model_dump(mode="json")
        differ = [key for key in trained if written.get(key) != trained[key]]
        return f"another {', '.join(differ)} in config.json"

    def _decode_encode(self) -> str | None:
        ae = self._ae()
        x = self._x(ae)
        with torch.no_grad():
            out = ae(x)
            if not same(ae.encode(x), out.latents):
                return "other latents from encode than from forward"
            try:
                x_hat = ae.decode(ae.encode(x))
            except ValueError as error:
                return None if ae.decoder.needs else f"a refusal: {error}"
        return None if same(x_hat, out.x_hat) else "another reconstruction"

    def _sparsity(self) -> str | None:
        ae = self._ae()
        promise = ae.sparsity()
        if not isinstance(promise, Exact):
            return None
        with torch.no_grad():
            counts = (ae.encode(self._x(ae)).flatten(1) != 0).sum(1)
        most = int(counts.max())
        return None if most <= promise.k else f"{most} where {promise.k} are declared"

    def _eval_random_state(self) -> str | None:
        ae = self._ae()
        x, before = self._x(ae), random_states()
        with torch.no_grad():
            ae(x)
        return whose_moved(before)

    def _no_meta_left(self) -> str | None:
        left = [name for name, tensor in self._ae().state_dict().items() if tensor.is_meta]
        return f"{', '.join(left)} on the meta device" if left else None

    def _metrics(self) -> str | None:
        metrics: dict[str, dict[str, Any]] = json.loads((self.folder / METRICS).read_text("utf-8"))
        for name, entry in metrics.items():
            if set(entry) != KEYS:
                return f"{name} with {', '.join(sorted(entry))}"
            if (entry["value"] is None) != bool(entry["reason"]):
                return f"{name} is {entry['value']} for the reason {entry['reason']!r}"
            if not entry["definition"]:
                return f"{name} without a definition"
        return None if metrics else "none"

    def _numbers(self) -> str | None:
        ae = self._ae()
        dataset = ae.spec.recipe.dataset if isinstance(ae.spec, VariantSpec) else None
        if dataset is None or not dataset.has("test"):
            return None
        try:
            found = evaluate_variant(ae, "test")
        except DataError:
            return None  # not at hand here
        for name, entry in found.items():
            published = ae.metrics.get(name, {}).get("value")
            value = entry["value"]
            if published is None or value is None:
                continue
            if abs(value - published) > 1e-5 * max(abs(published), 1e-9):
                return f"{name} is {published:.8g} there, {value:.8g} when it is computed"
        return self._unknown(ae, found)

    @staticmethod
    def _unknown(ae: Autoencoder, found: Mapping[str, Measurement]) -> str | None:
        """What is said to be computed but that nothing here computes."""
        known = {*found, *(name for protocol in PROTOCOLS.values() for name in protocol.gives)}
        for name, entry in ae.metrics.items():
            if name not in known and (entry.get("source"), entry.get("split")) == ("computed", "test"):
                return f"{name}, which is none of the measures here"
        return None
