"""Plugins as they are installed: a module, and the metadata that names it."""

import contextlib
import importlib
import inspect
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import pydantic
import pytest
import torch
from torch import nn

import aezoo
from aezoo.errors import Problem, RegistryError
from aezoo.plugins import hookspecs
from aezoo.plugins.hookspecs import HOOKS, PLUGIN_API, PROJECT
from aezoo.plugins.registry import BUILTINS, GROUP, SESSION, PluginInfo, Registry, family_and_kind, registry
from aezoo.specs.base import RegisteredSpec
from aezoo.specs.stages import FitStage, OptimizerSpec, ScheduleSpec, StageSpec
from tests.examples import small


@pytest.fixture(autouse=True)
def every_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is left out here, as all are elsewhere."""
    monkeypatch.delenv("AEZOO_PLUGINS", raising=False)


OPEN = (
    aezoo.LayerSpec,
    aezoo.LossSpec,
    aezoo.NoiseSpec,
    aezoo.DatasetSpec,
    aezoo.CallbackSpec,
)
FAMILIES = (*OPEN, aezoo.Metric)
CLOSED = (aezoo.ActivationSpec, OptimizerSpec, ScheduleSpec, StageSpec)

HEADER = """
from typing import Literal
import aezoo
AEZOO_PLUGIN_API = 1
"""


def kind_class(kind: str, base: str = "LayerSpec", name: str = "Mine") -> str:
    """The source of a class with a kind."""
    return dedent(f"""
        class {name}(aezoo.{base}):
            kind: Literal[{kind!r}] = {kind!r}
            def build(self, *_):
                from torch import nn
                return nn.Identity()
    """)


def hook(family: str, *names: str) -> str:
    """The source of the hook that registers the classes of these names."""
    body = "".join(f"    register({name})\n" for name in names) or "    ...\n"
    return f"\n@aezoo.hookimpl\ndef {HOOKS[family]}(register):\n{body}"


def good(kind: str) -> str:
    """The source of a plugin that brings one layer."""
    return HEADER + kind_class(kind) + hook("layer", "Mine")


class Site:
    """A folder on `sys.path` into which distributions are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: set[str] = set()
        self.names: set[str] = set()

    def install(self, name: str, source: str, distribution: str | None = None) -> str:
        """Lays a distribution of one module down as pip does; returns the module's name."""
        distribution = distribution or f"aezoo-{name}"
        module = distribution.replace("-", "_").replace(".", "_")
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{module}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.3\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}\n")
        importlib.invalidate_caches()
        self.modules.add(module)
        self.names.add(name)
        return module

    def find(self) -> list[EntryPoint]:
        """The entry points installed here, whatever else the environment holds."""
        return [point for point in entry_points(group=GROUP) if point.name in self.names]

    def registry(self, builtins: Iterable[str] = BUILTINS) -> Registry:
        """A registry that finds what is installed here."""
        return Registry(builtins, self.find)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.delenv("AEZOO_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(tmp_path)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)


def messages(load: Callable[[], object]) -> list[str]:
    """What a call warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    assert all(warning.category is aezoo.PluginWarning for warning in caught)
    return [str(warning.message) for warning in caught]


# -- plugins that work --------------------------------------------------------------------------------


def test_a_plugin_is_shown_with_its_distribution_version_contract_and_kinds(site: Site) -> None:
    module = site.install("demo", good("demo.double"))
    found = site.registry()
    core, demo = found.list_plugins()
    assert demo == PluginInfo("demo", "aezoo-demo", "1.2.3", 1, (("layer", "demo.double"),))
    assert str(demo) == "demo (aezoo-demo 1.2.3)"
    assert found.contributor("layer", "demo.double") == demo
    assert found.get("layer", "demo.double") is sys.modules[module].Mine
    assert (core.name, core.distribution, core.version) == ("aezoo", "aezoo", aezoo.__version__)
    assert found.contributor("layer", "topk") == core


def test_built_ins_come_first_and_plugins_by_name(site: Site) -> None:
    for name in ("zeta", "alpha"):
        site.install(name, good(f"{name}.double"))
    found = Registry(find=lambda: sorted(site.find(), key=lambda point: point.name, reverse=True))
    assert [contributor.name for contributor in found.list_plugins()] == ["aezoo", "alpha", "zeta"]


def test_built_in_kinds_are_bare_and_come_through_the_hooks() -> None:
    found = Registry(find=lambda: ())
    (core,) = found.list_plugins()
    assert {family for family, _ in core.kinds} == set(HOOKS)
    assert [kind for _, kind in core.kinds if "." in kind] == []
    for name in BUILTINS:
        module = importlib.import_module(name)
        assert any(hasattr(module, hook) for hook in HOOKS.values()), name


def test_a_plugin_of_every_hook_brings_a_kind_to_every_family(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HEADER
    for root in FAMILIES:
        family = root.family
        source += kind_class(f"demo.{family}", root.__name__, family.title()) + hook(family, family.title())
    site.install("demo", source)
    found = site.registry()
    monkeypatch.setattr("aezoo.specs.base.registry", found)
    assert found.list_plugins()[1].kinds == tuple((root.family, f"demo.{root.family}") for root in FAMILIES)
    for root in OPEN:
        assert f"demo.{root.family}" in root.kinds()
        assert root.of_kind(f"demo.{root.family}").__name__ == root.family.title()


def test_every_hook_is_documented_and_belongs_to_a_family() -> None:
    hooks = {name: f for name, f in vars(hookspecs).items() if hasattr(f, f"{PROJECT}_spec")}
    assert list(hooks) == list(HOOKS.values())
    assert list(HOOKS) == [root.family for root in FAMILIES]
    for root in FAMILIES:
        documentation = inspect.getdoc(hooks[HOOKS[root.family]]) or ""
        assert f"`aezoo.{root.__name__}`" in documentation


def test_a_variant_takes_a_layer_of_a_plugin_that_came_after_its_class(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = {"kind": "demo.double"}
    nested = {"kind": "residual", "layers": [layer]}
    data = small(encoder=[{"kind": "flatten"}, layer, nested])
    with pytest.raises(pydantic.ValidationError, match=r"unknown layer 'demo\.double'"):
        aezoo.VariantSpec.model_validate(data)
    module = site.install("demo", good("demo.double"))
    monkeypatch.setattr("aezoo.specs.base.registry", site.registry())
    spec = aezoo.VariantSpec.model_validate(data)
    assert type(spec.encoder[1]) is sys.modules[module].Mine
    assert aezoo.VariantSpec.model_validate_json(spec.model_dump_json()) == spec
    assert aezoo.build(spec)(torch.rand(2, 1, 6, 6)).x_hat.shape == (2, 1, 6, 6)


# -- plugins that do not ------------------------------------------------------------------------------

# The source of each, without the header, and what a person must read to mend it.
BROKEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "misspelt hook": (
        kind_class("broken.x") + hook("layer", "Mine") + hook("loss").replace("losses", "loses"),
        ("unknown hook 'register_loses'",),
    ),
    "wrong argument": (
        kind_class("broken.x") + hook("layer", "Mine") + hook("noise").replace("(register)", "(registrar)"),
        ("register_noises", "registrar"),
    ),
    "hook without its mark": (
        kind_class("broken.x") + hook("layer", "Mine").replace("@aezoo.hookimpl", ""),
        ("RegistryError", "aezoo.hookimpl"),
    ),
    "raises after registering": (
        kind_class("broken.x") + hook("layer", "Mine") + "    raise RuntimeError('out of luck')",
        ("RuntimeError: out of luck",),
    ),
    "raises in a later hook": (
        kind_class("broken.x") + hook("layer", "Mine") + hook("metric") + "    1 / 0",
        ("ZeroDivisionError: division by zero",),
    ),
    "raises at import": ("raise OSError('no such device')", ("OSError: no such device",)),
    "exits at import": ("raise SystemExit('goodbye')", ("SystemExit: goodbye",)),
    "needs what is not installed": ("import no_such_module", ("ModuleNotFoundError", "no_such_module")),
    "is not Python": ("def", ("SyntaxError",)),
    "registers another class": (
        "class Stranger: ..." + hook("layer", "Stranger"),
        ("RegistryError: Stranger belongs to no open family", "layer, loss, noise"),
    ),
    "registers the family itself": (
        hook("layer", "aezoo.LayerSpec"),
        ("RegistryError: LayerSpec has no kind", '`kind: Literal["name"] = "name"`'),
    ),
    "registers in another family's hook": (
        kind_class("broken.x", "NoiseSpec") + hook("layer", "Mine"),
        ("RegistryError: register_layers was given Mine, which is a noise",),
    ),
    "registers a class without a kind": (
        "class Mine(aezoo.LossSpec): ..." + hook("loss", "Mine"),
        ("RegistryError: Mine has no kind", '`kind: Literal["name"] = "name"`'),
    ),
    "registers a malformed class": (
        "class Mine(aezoo.LossSpec):\n    kind: str = 'broken.x'" + hook("loss", "Mine"),
        ('TypeError: Mine: write kind as `kind: Literal["name"] = "name"`',),
    ),
    "registers a kind twice": (
        kind_class("broken.x") + kind_class("broken.x", name="Again") + hook("layer", "Mine", "Again"),
        ("RegistryError", "layer 'broken.x' twice"),
    ),
    "kind without the prefix": (
        kind_class("double") + hook("layer", "Mine"),
        ("RegistryError: layer 'double' must be called 'broken.double'",),
    ),
    "kind with another's prefix": (
        kind_class("alpha.double") + hook("layer", "Mine"),
        ("RegistryError: layer 'alpha.double' must be called 'broken.",),
    ),
    "contract missing": (
        "del AEZOO_PLUGIN_API",
        ("RegistryError: module aezoo_broken states no contract", "AEZOO_PLUGIN_API = 1"),
    ),
    "contract is no number": (
        "AEZOO_PLUGIN_API = '1'",
        ("RegistryError: module aezoo_broken states no contract", "AEZOO_PLUGIN_API = 1"),
    ),
    "contract newer": (
        "AEZOO_PLUGIN_API = 2" + kind_class("broken.x") + hook("layer", "Mine"),
        ("RegistryError: needs plugin contract 2", f"this aezoo {aezoo.__version__} has 1"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_named_once_and_everything_else_works(
    site: Site, body: str, words: tuple[str, ...]
) -> None:
    site.install("alpha", good("alpha.double"))
    site.install("broken", HEADER + body)
    site.install("zeta", good("zeta.double"))
    found = site.registry()
    (message,) = messages(found.load)
    assert message.startswith("plugin broken (aezoo-broken 1.2.3) was left out: ")
    assert "\n" not in message
    for text in words:
        assert text in message
    refused = next(c for c in found.list_plugins() if c.name == "broken")
    assert refused.kinds == ()
    assert refused.error is not None
    assert message.endswith(refused.error)
    bare = Registry(find=lambda: ())
    for family in HOOKS:
        extra = ("alpha.double", "zeta.double") if family == "layer" else ()
        assert found.names(family) == tuple(sorted((*bare.names(family), *extra)))


def test_each_of_two_broken_plugins_is_named(site: Site) -> None:
    for name in ("one", "two"):
        site.install(name, "raise ValueError")
    one, two = messages(site.registry().load)
    assert one.startswith("plugin one (aezoo-one 1.2.3) was left out: ValueError")
    assert two.startswith("plugin two (aezoo-two 1.2.3) was left out: ValueError")


@pytest.mark.parametrize(
    ("statement", "api"), [("AEZOO_PLUGIN_API = 1\n1 / 0", None), ("AEZOO_PLUGIN_API = 2", 2)]
)
def test_a_refused_plugin_is_shown_with_the_contract_that_could_be_read(
    site: Site, statement: str, api: int | None
) -> None:
    site.install("broken", statement)
    found = site.registry()
    messages(found.load)
    assert found.list_plugins()[1].api == api


def test_two_distributions_of_one_entry_point_name_are_both_named_and_neither_runs(site: Site) -> None:
    modules = [site.install("demo", good("demo.double"), distribution) for distribution in ("one", "two")]
    found = site.registry()
    (message,) = messages(found.load)
    assert message.startswith("plugin demo (")
    assert "RegistryError: entry point 'demo' is claimed by one and two; uninstall one" in message
    assert not set(modules) & set(sys.modules)
    assert "demo.double" not in found.names("layer")


def test_the_entry_point_name_aezoo_is_refused(site: Site) -> None:
    site.install("aezoo", good("aezoo.double"), "impostor")
    (message,) = messages(site.registry().load)
    assert message.startswith("plugin aezoo (impostor 1.2.3) was left out: RegistryError")
    assert "the library's own" in message


def test_a_kind_claimed_twice_raises_where_it_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("duo", "duo.sub"):
        site.install(
            name,
            HEADER
            + kind_class("duo.sub.x", name="Shared")
            + kind_class(f"{name}.own")
            + hook("layer", "Shared", "Mine"),
        )
    found = site.registry()
    assert messages(found.load) == []
    with pytest.raises(
        RegistryError, match=r"layer 'duo\.sub\.x' is claimed by duo and duo\.sub; AEZOO_PLUGINS"
    ):
        found.get("layer", "duo.sub.x")
    assert [kind for kind in found.names("layer") if "." in kind] == ["duo.own", "duo.sub.own"]
    assert found.get("layer", "duo.own").kind_name == "duo.own"
    monkeypatch.setenv("AEZOO_PLUGINS", "duo")
    narrowed = site.registry()
    assert narrowed.contributor("layer", "duo.sub.x").name == "duo"


# -- when and what is loaded --------------------------------------------------------------------------


def test_plugins_are_loaded_once_on_the_first_look_up(site: Site) -> None:
    log = site.folder / "log"
    says_so = (
        f"\nfrom pathlib import Path\nwith Path({str(log)!r}).open('a') as log:\n    log.write('imported ')"
    )
    module = site.install("demo", good("demo.double") + says_so)
    asked: list[list[EntryPoint]] = []

    def find() -> list[EntryPoint]:
        asked.append(site.find())
        return asked[-1]

    found = Registry(find=find)
    assert not asked
    assert module not in sys.modules
    for _ in range(2):
        found.get("layer", "topk")
        found.names("loss")
        found.list_plugins()
    assert len(asked) == 1
    assert log.read_text() == "imported "


def test_importing_aezoo_runs_no_plugin_and_the_default_registry_finds_it(site: Site) -> None:
    module = site.install("demo", good("demo.double"))
    script = f"""
        import sys
        import aezoo.specs
        aezoo.LayerSpec, aezoo.register
        assert {module!r} not in sys.modules
        from aezoo.plugins.registry import Registry
        Registry(builtins=()).load()
        assert {module!r} in sys.modules
        assert "torch" not in sys.modules
    """
    environment = {
        **os.environ, "AEZOO_PLUGINS": "demo",
        "PYTHONPATH": os.pathsep.join([str(site.folder), *filter(None, sys.path)]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_plugin_that_looks_up_while_it_is_imported_finds_the_built_ins(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("demo", "import aezoo\nassert 'topk' in aezoo.LayerSpec.kinds()" + good("demo.double"))
    monkeypatch.setattr("aezoo.specs.base.registry", site.registry())
    assert "demo.double" in aezoo.LayerSpec.kinds()


@pytest.mark.parametrize("entry", ["built-in", "plugin"])
def test_an_interrupted_load_starts_over(site: Site, entry: str) -> None:
    flag = site.folder / "interrupt"
    flag.touch()
    stop = "from pathlib import Path\nif Path(__file__).with_name('interrupt').exists():\n"
    module = site.install("demo", stop + "    raise KeyboardInterrupt" + good("demo.double"))
    found = Registry((*BUILTINS, module), lambda: ()) if entry == "built-in" else site.registry()
    with pytest.raises(KeyboardInterrupt):
        found.load()
    flag.unlink()
    assert found.contributor("layer", "topk").name == "aezoo"
    assert found.get("layer", "demo.double") is sys.modules[module].Mine


def test_a_warning_turned_into_an_error_leaves_nothing_half_loaded(site: Site) -> None:
    site.install("broken", "1 / 0")
    site.install("zeta", good("zeta.double"))
    found = site.registry()
    with pytest.raises(aezoo.PluginWarning, match="plugin broken"):
        found.load()
    assert "zeta.double" in found.names("layer")
    assert [contributor.name for contributor in found.list_plugins()] == ["aezoo", "broken", "zeta"]


def test_a_second_thread_waits_for_the_first_look_up(site: Site) -> None:
    site.install("demo", good("demo.double"))
    loading, go_on = threading.Event(), threading.Event()
    seen: list[object] = []

    def find() -> list[EntryPoint]:
        loading.set()
        assert go_on.wait(60)
        return site.find()

    def look_up() -> None:
        with contextlib.suppress(RegistryError):
            seen.append(found.get("layer", "demo.double"))

    found = Registry(find=find)
    first = threading.Thread(target=found.load)
    second = threading.Thread(target=look_up)
    first.start()
    assert loading.wait(60)
    second.start()
    # Long enough for a look-up that does not wait to come back empty-handed.
    second.join(0.2)
    go_on.set()
    for thread in (first, second):
        thread.join(60)
    assert seen == [found.get("layer", "demo.double")]


@pytest.mark.parametrize(
    ("narrowed", "loaded"),
    [
        (None, ["alpha", "zeta"]),
        ("zeta", ["zeta"]),
        (" zeta , alpha,", ["alpha", "zeta"]),
        ("", []),
    ],
)
def test_the_environment_narrows_what_runs(
    site: Site, monkeypatch: pytest.MonkeyPatch, narrowed: str | None, loaded: list[str]
) -> None:
    modules = {name: site.install(name, good(f"{name}.double")) for name in ("alpha", "zeta")}
    if narrowed is not None:
        monkeypatch.setenv("AEZOO_PLUGINS", narrowed)
    found = site.registry()
    assert messages(found.load) == []
    assert [contributor.name for contributor in found.list_plugins()] == ["aezoo", *loaded]
    assert [name for name, module in modules.items() if module in sys.modules] == loaded


@pytest.mark.parametrize(
    ("word", "near"), [("zetta", " (did you mean 'zeta'?)"), ("quite_other", "")], ids=["near", "far"]
)
def test_an_unknown_name_in_the_environment_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch, word: str, near: str
) -> None:
    for name in ("alpha", "zeta"):
        site.install(name, good(f"{name}.double"))
    monkeypatch.setenv("AEZOO_PLUGINS", f"alpha,{word}")
    found = site.registry()
    assert messages(found.load) == [f"AEZOO_PLUGINS names {word!r}, which is not installed{near}"]
    assert [contributor.name for contributor in found.list_plugins()] == ["aezoo", "alpha"]


# -- looking up ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "near"),
    [("topkk", " (did you mean 'topk'?)"), ("demo.duble", " (did you mean 'demo.double'?)"), ("xyz", "")],
)
def test_an_unknown_kind_is_answered_with_the_nearest_and_all(site: Site, kind: str, near: str) -> None:
    site.install("demo", good("demo.double"))
    found = site.registry()
    text = f"unknown layer {kind!r}{near}; known are {', '.join(found.names('layer'))}"
    assert "demo.double" in text
    for look_up in (found.get, found.contributor):
        with pytest.raises(RegistryError, match=f"^{re.escape(text)}$"):
            look_up("layer", kind)


def test_an_unknown_kind_in_a_spec_is_named_with_its_path() -> None:
    spec = aezoo.VariantSpec.model_validate(small())
    with pytest.raises(aezoo.SpecError) as caught:
        spec.replace({"encoder.2.kind": "topkk", "encoder.1.activation": "reluu"})
    (activation, layer) = sorted(caught.value.problems, key=lambda problem: problem.path)
    assert isinstance(layer, Problem)
    assert layer.path == "encoder.2.kind"
    assert layer.message.startswith("unknown layer 'topkk' (did you mean 'topk'?); known are ")
    assert activation.path == "encoder.1.activation.kind"
    assert activation.message.startswith("unknown activation 'reluu' (did you mean 'relu'?); known are ")


def test_a_kind_belongs_to_its_family_alone() -> None:
    with pytest.raises(RegistryError, match="unknown layer 'mse'"):
        registry.get("layer", "mse")
    assert registry.get("loss", "mse") is not registry.get("metric", "mse")


def test_activations_are_known_before_any_layer_was_looked_up() -> None:
    script = "import aezoo; aezoo.ActivationSpec.model_validate('relu'); print(aezoo.ActivationSpec.kinds())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "AEZOO_PLUGINS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(aezoo.ActivationSpec.kinds())


# -- from a notebook ----------------------------------------------------------------------------------


def halved(scale: float) -> type[aezoo.LossSpec]:
    """What running a notebook's cell gives: each time a new class of the same kind."""

    class Halved(aezoo.LossSpec):
        kind: Literal["halved"] = "halved"

        def __call__(self, output: Any, batch: Any, ae: Any) -> torch.Tensor:
            return scale * output.latents.sum()

    return Halved


@pytest.mark.usefixtures("fresh_registry")
def test_a_registered_class_works_at_once_in_a_spec() -> None:
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
def test_register_decorates() -> None:
    @aezoo.register
    class Same(aezoo.LayerSpec):
        kind: Literal["same"] = "same"

        def build(self, in_shape: tuple[int, ...]) -> nn.Module:
            return nn.Identity()

    assert Same().kind == "same"
    assert aezoo.LayerSpec.model_validate("same") == Same()


@pytest.mark.usefixtures("fresh_registry")
def test_registering_again_replaces() -> None:
    aezoo.register(halved(0.5))
    second = aezoo.register(halved(2.0))
    assert registry.get("loss", "halved") is second
    assert registry.names("loss").count("halved") == 1


@pytest.mark.usefixtures("fresh_registry")
def test_what_was_registered_here_is_shown_last() -> None:
    assert SESSION not in [contributor.name for contributor in aezoo.list_plugins()]
    aezoo.register(halved(0.5))
    local = PluginInfo(SESSION, None, None, PLUGIN_API, (("loss", "halved"),))
    assert aezoo.list_plugins()[-1] == local
    assert registry.contributor("loss", "halved") == local
    assert str(local) == "register()"


@pytest.mark.usefixtures("fresh_registry")
def test_a_core_kind_cannot_be_registered() -> None:
    class Mse(aezoo.LossSpec):
        kind: Literal["mse"] = "mse"

    core = registry.get("loss", "mse")
    with pytest.raises(RegistryError, match=r"^loss 'mse' is already taken by aezoo$"):
        aezoo.register(Mse)
    assert registry.get("loss", "mse") is core


def test_a_plugins_kind_cannot_be_registered(site: Site) -> None:
    module = site.install("demo", good("demo.double"))

    class Double(aezoo.LayerSpec):
        kind: Literal["demo.double"] = "demo.double"

    found = site.registry()
    with pytest.raises(RegistryError, match=r"^layer 'demo\.double' is already taken by demo$"):
        found.register(Double)
    assert found.get("layer", "demo.double") is sys.modules[module].Mine


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (int, r"int belongs to no open family \(layer, loss, noise, dataset, callback, metric\)"),
        (nn.Linear, "Linear belongs to no open family"),
        (FitStage, "FitStage belongs to no open family"),
        (aezoo.LayerSpec, 'LayerSpec has no kind; give it `kind: Literal\\["name"\\] = "name"`'),
        ("mse", "register takes a class, found 'mse'"),
        (FitStage(epochs=1), r"register takes a class, found FitStage\("),
    ],
)
def test_what_is_no_kind_is_refused(given: object, words: str) -> None:
    with pytest.raises(RegistryError, match=f"^{words}"):
        family_and_kind(given)
    if isinstance(given, type):
        with pytest.raises(RegistryError, match=f"^{words}"):
            aezoo.register(given)


# -- malformed classes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (str, "bad"),
        (Literal["bad"], "other"),
        (Literal["bad"], ...),
        (Literal["bad", "worse"], "bad"),
        (Literal["bad"] | None, None),
        (Literal[3], 3),
    ],
    ids=["no literal", "another default", "no default", "two words", "optional", "no word"],
)
def test_a_kind_that_is_not_one_word_is_refused_at_definition(annotation: Any, default: Any) -> None:
    with pytest.raises(TypeError, match=r'^Bad: write kind as `kind: Literal\["name"\] = "name"`$'):
        pydantic.create_model("Bad", __base__=aezoo.LayerSpec, kind=(annotation, default))


@pytest.mark.parametrize("config", [{"extra": "allow"}, {"extra": "ignore"}, {"frozen": False}], ids=str)
def test_an_open_or_changeable_spec_is_refused_at_definition(config: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"^Bad: a spec stays extra='forbid' and frozen=True$"):
        pydantic.create_model(
            "Bad", __base__=aezoo.LayerSpec, __cls_kwargs__=config, kind=(Literal["bad"], "bad")
        )


def test_a_closed_family_takes_no_kinds_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    members = dict(aezoo.ActivationSpec.members or {})
    monkeypatch.setattr(aezoo.ActivationSpec, "members", dict(members))
    with pytest.raises(TypeError, match=r"Relu: activation is a closed family"):

        class Relu(aezoo.ActivationSpec):
            kind: Literal["relu"] = "relu"

    assert aezoo.ActivationSpec.members == members


@pytest.mark.parametrize("family", [*OPEN, *CLOSED])
def test_a_family_is_abstract(family: type[RegisteredSpec]) -> None:
    text = f"^{family.__name__} is abstract; use one of its kinds$"
    for make in (family, family.model_construct):
        with pytest.raises(TypeError, match=text):
            make()


def test_a_class_without_its_methods_is_abstract() -> None:
    class Unfinished(aezoo.LayerSpec):
        kind: Literal["unfinished"] = "unfinished"

    with pytest.raises(TypeError, match=r"abstract class Unfinished .*build"):
        Unfinished()
