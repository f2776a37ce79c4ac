"""A declarative model zoo of autoencoders.

    import aezoo

    ae = aezoo.load("sparse-topk16")
    out = ae(ae.transforms()(image))       # Output(x_hat, latents, aux)

Public names are listed in `__init__.pyi` and imported on first use, so that `import aezoo` and looking
variants up do not import torch.
"""

from typing import Any, cast

import lazy_loader  # pyright: ignore[reportMissingTypeStubs]

_get_public, __dir__, __all__ = cast(Any, lazy_loader).attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("aezoo")
    return _get_public(name)
