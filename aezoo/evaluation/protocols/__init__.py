"""Protocols: measurements that take more than one pass over a split, by name."""

from aezoo.errors import NotSupportedError
from aezoo.evaluation.evaluate import Metric
from aezoo.evaluation.protocols.few_label import FewLabel
from aezoo.evaluation.protocols.latents import Activity, Probe, Stability, Unrolling
from aezoo.evaluation.protocols.protocol import Protocol
from aezoo.evaluation.protocols.reconstruction import Noise, OneClass, Subspace
from aezoo.model.autoencoder import Autoencoder
from aezoo.plugins.registry import suggestion

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Activity(), FewLabel(), Noise(), OneClass(), Probe(), Stability(), Subspace(), Unrolling(),
    )
}  # fmt: skip


def run_protocol(name: str, ae: Autoencoder) -> dict[str, Metric]:
    """Runs a protocol on a network whose recipe names its dataset.

    Args:
        name: one of `PROTOCOLS`.
        ae: left as it was.

    Returns:
        Name -> entry of `metrics.json`.

    Raises:
        NotSupportedError: no such protocol, or it means nothing for this network.
        DataError: the data are not to be had.
    """
    if name not in PROTOCOLS:
        raise NotSupportedError(
            f"no protocol {name!r}{suggestion(name, PROTOCOLS)}; known are {', '.join(PROTOCOLS)}"
        )
    protocol = PROTOCOLS[name]
    if reason := protocol.incompatibility(ae):
        raise NotSupportedError(f"the protocol {name} does not apply: {reason}")
    return protocol.run(ae)
