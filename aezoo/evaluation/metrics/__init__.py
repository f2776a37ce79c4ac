"""The built-in metrics."""

from aezoo.plugins.builtin import register_defined
from aezoo.plugins.hookspecs import Register, hookimpl


@hookimpl
def register_metrics(register: Register) -> None:
    """Registers the metrics that the modules of this package define."""
    register_defined(__name__, "metric", register)
