"""A declarative model zoo of autoencoders.

    import aezoo

    ae = aezoo.load("sparse-topk16")
    out = ae(ae.transforms()(image))       # Output(x_hat, latents, aux)

Names are imported on first use, so that `import aezoo` and looking things up need no torch. `__init__.pyi`
tells type checkers the same.
"""

import importlib

_ROOMS = {
    "autoencoder": ("Autoencoder", "Batch", "Output", "Source"),
    "builder": ("build",),
    "checkpoint": ("save",),
    "demonstration": ("demo", "sample_digits"),
    "documents": ("json_schema", "read_spec", "to_yaml"),
    "errors": (
        "AdviceWarning",
        "AezooError",
        "CheckpointError",
        "DataError",
        "HubError",
        "LayerError",
        "MissingExtraError",
        "NotSupportedError",
        "PluginWarning",
        "RegistryError",
        "SpecError",
        "TrainingError",
        "TrainingInterrupted",
        "UnknownVariantError",
    ),
    "evaluation": ("Meter", "Metric", "NotMeasured", "evaluate"),
    "families": ("Spec",),
    "fitting": ("Callback", "TrainingState"),
    "hookspecs": ("PLUGIN_API", "hookimpl"),
    "plots": ("reconstructions",),
    "protocols": ("run_protocol",),
    "publishing": ("pull", "push"),
    "registry": ("contributors", "load_plugin_file", "register"),
    "samples": ("Rows", "Samples", "pairs"),
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
    "stack": ("Exact", "Mean", "Stack"),
    "trainable": ("validate",),
    "training": ("train",),
    "transforms": ("Transforms",),
    "zoo": ("get_entry", "get_spec", "list_variants", "load"),
}
_PLACES = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("aezoo")
    if name not in _PLACES:
        raise AttributeError(f"module 'aezoo' has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"aezoo.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*_PLACES, "__version__"])
