"""A declarative model zoo of autoencoders.

    import aezoo

    ae = aezoo.load("sparse-topk16")
    out = ae(ae.transforms()(image))       # Output(x_hat, latents, aux)

Names are imported on first use, so that `import aezoo` and looking things up need no torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aezoo.autoencoder import (
        Autoencoder as Autoencoder,
        Batch as Batch,
        Exact as Exact,
        Mean as Mean,
        Output as Output,
        Stack as Stack,
    )
    from aezoo.builder import build as build, validate as validate
    from aezoo.checkpoint import save as save
    from aezoo.datasets import Rows as Rows, Samples as Samples
    from aezoo.demo import demo as demo, sample_digits as sample_digits
    from aezoo.documents import json_schema as json_schema, read_spec as read_spec, to_yaml as to_yaml
    from aezoo.errors import (
        AezooError as AezooError,
        CheckpointError as CheckpointError,
        DataError as DataError,
        LayerError as LayerError,
        PluginWarning as PluginWarning,
        RegistryError as RegistryError,
        SpecError as SpecError,
        TrainingError as TrainingError,
        UnknownVariantError as UnknownVariantError,
    )
    from aezoo.evaluation import Meter as Meter, NotMeasured as NotMeasured, evaluate as evaluate
    from aezoo.families import Spec as Spec
    from aezoo.hookspecs import PLUGIN_API as PLUGIN_API, hookimpl as hookimpl
    from aezoo.plots import reconstructions as reconstructions
    from aezoo.registry import contributors as contributors, register as register
    from aezoo.specs import (
        ActivationSpec as ActivationSpec,
        AutoencoderSpec as AutoencoderSpec,
        CallbackSpec as CallbackSpec,
        DatasetSpec as DatasetSpec,
        LayerSpec as LayerSpec,
        LossSpec as LossSpec,
        MetricSpec as MetricSpec,
        NoiseSpec as NoiseSpec,
        RecipeSpec as RecipeSpec,
        TensorSpec as TensorSpec,
        VariantSpec as VariantSpec,
    )
    from aezoo.training import Callback as Callback, TrainingState as TrainingState, train as train
    from aezoo.transforms import Transforms as Transforms
    from aezoo.zoo import get_entry as get_entry, get_spec as get_spec, list_variants as list_variants, load as load

_ROOMS = {
    "autoencoder": ("Autoencoder", "Batch", "Exact", "Mean", "Output", "Stack"),
    "builder": ("build", "validate"),
    "checkpoint": ("save",),
    "datasets": ("Rows", "Samples"),
    "demo": ("demo", "sample_digits"),
    "documents": ("json_schema", "read_spec", "to_yaml"),
    "errors": (
        "AezooError",
        "CheckpointError",
        "DataError",
        "LayerError",
        "PluginWarning",
        "RegistryError",
        "SpecError",
        "TrainingError",
        "UnknownVariantError",
    ),
    "evaluation": ("Meter", "NotMeasured", "evaluate"),
    "families": ("Spec",),
    "hookspecs": ("PLUGIN_API", "hookimpl"),
    "plots": ("reconstructions",),
    "registry": ("register", "contributors"),
    "specs": (
        "ActivationSpec",
        "AutoencoderSpec",
        "CallbackSpec",
        "DatasetSpec",
        "LayerSpec",
        "LossSpec",
        "MetricSpec",
        "NoiseSpec",
        "RecipeSpec",
        "TensorSpec",
        "VariantSpec",
    ),
    "training": ("Callback", "TrainingState", "train"),
    "transforms": ("Transforms",),
    "zoo": ("get_entry", "get_spec", "list_variants", "load"),
}
_PLACES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [*_PLACES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("aezoo")
    if name not in _PLACES:
        raise AttributeError(f"module 'aezoo' has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"aezoo.{_PLACES[name]}"), name)
    # `aezoo.demo` and `aezoo.registry` are modules too: the function wins over the submodule.
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
