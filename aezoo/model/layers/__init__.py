"""The built-in layers, each spec next to the module that it builds."""

from aezoo.plugins.builtin import register_defined
from aezoo.plugins.hookspecs import Register, hookimpl


@hookimpl
def register_layers(register: Register) -> None:
    """Registers the layers that the modules of this package define."""
    register_defined(__name__, "layer", register)
