"""The registry: look-ups, and kinds registered in this process."""

import os
import re
import subprocess
import sys
from typing import Any, Literal

import pytest
import torch
from torch import nn

import aezoo
from aezoo.errors import RegistryError
from aezoo.plugins.hookspecs import PLUGIN_API
from aezoo.plugins.registry import SESSION, PluginInfo, family_and_kind, registry
from aezoo.specs.stages import FitStage
from tests.examples import small
from tests.plugins.installed import Site, good

# -- looking up ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "near"),
    [("topkk", " (did you mean 'topk'?)"), ("demo.duble", " (did you mean 'demo.double'?)"), ("xyz", "")],
)
def test_an_unknown_kind_raises_with_the_nearest_and_all_kinds(site: Site, kind: str, near: str) -> None:
    site.install("demo", good("demo.double"))
    found = site.registry()
    text = f"unknown layer {kind!r}{near}; known are {', '.join(found.names('layer'))}"
    assert "demo.double" in text
    for look_up in (found.get, found.plugin_of):
        with pytest.raises(RegistryError, match=f"^{re.escape(text)}$"):
            look_up("layer", kind)


def test_families_have_kinds_of_their_own() -> None:
    with pytest.raises(RegistryError, match="unknown layer 'mse'"):
        registry.get("layer", "mse")
    assert registry.get("loss", "mse") is not registry.get("metric", "mse")


def test_activations_are_known_before_layers_are_imported() -> None:
    script = "import aezoo; aezoo.ActivationSpec.model_validate('relu'); print(aezoo.ActivationSpec.kinds())"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env={**os.environ, "AEZOO_PLUGINS": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(aezoo.ActivationSpec.kinds())


# -- registered in this process -----------------------------------------------------------------------


def halved(scale: float) -> type[aezoo.LossSpec]:
    """A new class of the same kind, as when a notebook cell is run again."""

    class Halved(aezoo.LossSpec):
        kind: Literal["halved"] = "halved"

        def __call__(self, output: Any, context: Any, ae: Any) -> torch.Tensor:
            return scale * output.latents.sum()

    return Halved


@pytest.mark.usefixtures("fresh_registry")
def test_a_registered_kind_can_be_used_in_a_spec() -> None:
    cls = aezoo.register(halved(0.5))
    assert cls.__name__ == "Halved"
    spec = aezoo.VariantSpec.model_validate(small())
    changed = spec.replace({"recipe.penalties": ["halved"]})
    assert type(changed.recipe.penalties[0]) is cls
    assert aezoo.VariantSpec.model_validate_json(changed.model_dump_json()) == changed
    x = torch.rand(2, 1, 6, 6)
    ae = aezoo.build(changed)
    _, terms = aezoo.Objective(changed.recipe)(ae, aezoo.StepContext(x, x, None, 0, 0, torch.Generator()))
    assert terms["halved"] == 0.5 * ae.encode(x).sum()


@pytest.mark.usefixtures("fresh_registry")
def test_registering_again_replaces_the_class() -> None:
    aezoo.register(halved(0.5))
    second = aezoo.register(halved(2.0))
    assert registry.get("loss", "halved") is second
    assert registry.names("loss").count("halved") == 1


@pytest.mark.usefixtures("fresh_registry")
def test_kinds_of_this_process_are_listed_last() -> None:
    assert SESSION not in [plugin.name for plugin in aezoo.list_plugins()]
    aezoo.register(halved(0.5))
    local = PluginInfo(SESSION, None, None, PLUGIN_API, (("loss", "halved"),))
    assert aezoo.list_plugins()[-1] == local
    assert registry.plugin_of("loss", "halved") == local
    assert str(local) == "register()"


@pytest.mark.usefixtures("fresh_registry")
def test_a_built_in_kind_cannot_be_registered_again() -> None:
    class Mse(aezoo.LossSpec):
        kind: Literal["mse"] = "mse"

    core = registry.get("loss", "mse")
    with pytest.raises(RegistryError, match=r"^loss 'mse' is already registered by aezoo$"):
        aezoo.register(Mse)
    assert registry.get("loss", "mse") is core


def test_a_kind_of_a_plugin_cannot_be_registered_again(site: Site) -> None:
    module = site.install("demo", good("demo.double"))

    class Double(aezoo.LayerSpec):
        kind: Literal["demo.double"] = "demo.double"

    found = site.registry()
    with pytest.raises(RegistryError, match=r"^layer 'demo\.double' is already registered by demo$"):
        found.register(Double)
    assert found.get("layer", "demo.double") is sys.modules[module].Mine


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (int, r"int does not belong to an open family \(layer, loss, noise, dataset, callback, metric\)"),
        (nn.Linear, "Linear does not belong to an open family"),
        (FitStage, "FitStage does not belong to an open family"),
        (aezoo.LayerSpec, 'LayerSpec has no kind; give it `kind: Literal\\["name"\\] = "name"`'),
        ("mse", "register takes a class, found 'mse'"),
        (FitStage(epochs=1), r"register takes a class, found FitStage\("),
    ],
)
def test_only_classes_with_a_kind_can_be_registered(given: object, words: str) -> None:
    with pytest.raises(RegistryError, match=f"^{words}"):
        family_and_kind(given)
    if isinstance(given, type):
        with pytest.raises(RegistryError, match=f"^{words}"):
            aezoo.register(given)
