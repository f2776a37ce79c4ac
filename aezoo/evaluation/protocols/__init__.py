"""Protocols: measurements that take more than one pass over a split."""

from collections.abc import Mapping
from types import MappingProxyType

from aezoo.errors import NotSupportedError
from aezoo.evaluation.evaluate import Measurement
from aezoo.evaluation.metric import full_float32
from aezoo.evaluation.protocols.activity import Activity
from aezoo.evaluation.protocols.clustering import Clustering
from aezoo.evaluation.protocols.few_label import FewLabel
from aezoo.evaluation.protocols.image_quality import ImageQuality
from aezoo.evaluation.protocols.neighbors import Neighbors
from aezoo.evaluation.protocols.noise import Noise
from aezoo.evaluation.protocols.one_class import OneClass
from aezoo.evaluation.protocols.probe import FullProbe, Probe
from aezoo.evaluation.protocols.protocol import Protocol
from aezoo.evaluation.protocols.stability import Stability
from aezoo.evaluation.protocols.subspace import Subspace
from aezoo.evaluation.protocols.unrolling import Unrolling
from aezoo.model.autoencoder import Autoencoder, require_autoencoder
from aezoo.model.denormals import flush_denormals
from aezoo.plugins.registry import suggestion

# Read-only: protocols are no plugin family, and a plugin that is refused must not leave one behind.
PROTOCOLS: Mapping[str, type[Protocol]] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Activity,
            Clustering,
            FewLabel,
            ImageQuality,
            Neighbors,
            Noise,
            OneClass,
            Probe,
            FullProbe,
            Stability,
            Subspace,
            Unrolling,
        )
    }
)


def run_protocol(name: str, ae: Autoencoder) -> dict[str, Measurement]:
    """Runs a protocol on a network whose recipe names its dataset.

    Args:
        name: name of a protocol; `aezoo protocols` lists them.
        ae: left unchanged.

    Returns:
        Name of the value -> entry of `metrics.json`.

    Raises:
        NotSupportedError: there is no such protocol, or it does not apply to the network.
        DataError: the dataset or one of its splits is not available.
    """
    require_autoencoder(ae)
    if name not in PROTOCOLS:
        raise NotSupportedError(
            f"no protocol {name!r}{suggestion(name, PROTOCOLS)}; known are {', '.join(PROTOCOLS)}"
        )
    protocol = PROTOCOLS[name]
    if reason := protocol.incompatibility(ae):
        raise NotSupportedError(f"the protocol {name} does not apply: {reason}")
    with flush_denormals(), full_float32(ae):
        return protocol(ae).run()
