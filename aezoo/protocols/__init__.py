"""Protocols: measurements that take more than one pass over a split, by name."""

from aezoo.autoencoder import Autoencoder
from aezoo.errors import NotSupportedError
from aezoo.evaluation import Metric
from aezoo.protocols.few_label import FewLabel
from aezoo.protocols.latents import Activity, Probe, Stability, Unrolling
from aezoo.protocols.protocol import Protocol
from aezoo.protocols.reconstruction import Noise, OneClass, Subspace
from aezoo.registry import suggestion

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
    if reason := protocol.objection(ae):
        raise NotSupportedError(f"the protocol {name} does not apply: {reason}")
    return protocol.run(ae)
