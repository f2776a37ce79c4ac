"""The built-in datasets."""

from aezoo.plugins.builtin import register_defined
from aezoo.plugins.hookspecs import Register, hookimpl


@hookimpl
def register_datasets(register: Register) -> None:
    """Registers the datasets that the modules of this package define."""
    register_defined(__name__, "dataset", register)
