"""Losses: reconstruction terms and penalties."""

from aezoo.plugins.builtin import register_defined
from aezoo.plugins.hookspecs import Register, hookimpl


@hookimpl
def register_losses(register: Register) -> None:
    """Registers the losses that the modules of this package define."""
    register_defined(__name__, "loss", register)
