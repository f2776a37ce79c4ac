"""Loading plugins: built-in kinds first, each plugin in isolation, once, and only those that are enabled."""

import contextlib
import importlib
import os
import subprocess
import sys
import threading
from importlib.metadata import EntryPoint
from textwrap import dedent

import pydantic
import pytest
import torch

import aezoo
from aezoo.errors import RegistryError
from aezoo.plugins.builtin import BUILTINS
from aezoo.plugins.hookspecs import HOOKS
from aezoo.plugins.registry import PluginInfo, Registry
from tests.examples import small
from tests.plugins.installed import HEADER, OPEN, Site, good, hook, kind_class, messages


def test_a_plugin_is_listed_with_its_distribution_and_kinds(site: Site) -> None:
    module = site.install("demo", good("demo.double"))
    found = site.registry()
    core, demo = found.list_plugins()
    assert demo == PluginInfo("demo", "aezoo-demo", "1.2.3", 1, (("layer", "demo.double"),))
    assert str(demo) == "demo (aezoo-demo 1.2.3)"
    assert found.plugin_of("layer", "demo.double") == demo
    assert found.get("layer", "demo.double") is sys.modules[module].Mine
    assert (core.name, core.distribution, core.version) == ("aezoo", "aezoo", aezoo.__version__)
    assert found.plugin_of("layer", "topk") == core


def test_built_in_kinds_are_listed_first_and_plugins_by_name(site: Site) -> None:
    for name in ("zeta", "alpha"):
        site.install(name, good(f"{name}.double"))
    found = Registry(find=lambda: sorted(site.find(), key=lambda point: point.name, reverse=True))
    assert [plugin.name for plugin in found.list_plugins()] == ["aezoo", "alpha", "zeta"]


def test_built_in_kinds_have_no_prefix_and_use_the_hooks() -> None:
    found = Registry(find=lambda: ())
    (core,) = found.list_plugins()
    assert {family for family, _ in core.kinds} == set(HOOKS)
    assert [kind for _, kind in core.kinds if "." in kind] == []
    for name in BUILTINS:
        module = importlib.import_module(name)
        assert any(hasattr(module, hook) for hook in HOOKS.values()), name


def test_a_plugin_can_implement_every_hook(site: Site) -> None:
    source = HEADER
    for root in OPEN:
        family = root.family
        source += kind_class(f"demo.{family}", root.__name__, family.title()) + hook(family, family.title())
    site.install("demo", source)
    found = site.registry()
    assert found.list_plugins()[1].kinds == tuple((root.family, f"demo.{root.family}") for root in OPEN)
    for root in OPEN:
        assert found.get(root.family, f"demo.{root.family}").__name__ == root.family.title()


def test_a_spec_accepts_kinds_of_plugins_loaded_after_its_class(
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


# -- plugins that fail --------------------------------------------------------------------------------

# The source of each, without the header, and words of the reason.
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
        ("RegistryError: Stranger does not belong to an open family", "layer, loss, noise"),
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
def test_a_failing_plugin_is_reported_once_and_the_others_work(
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


def test_every_failing_plugin_is_reported(site: Site) -> None:
    for name in ("one", "two"):
        site.install(name, "raise ValueError")
    one, two = messages(site.registry().load)
    assert one.startswith("plugin one (aezoo-one 1.2.3) was left out: ValueError")
    assert two.startswith("plugin two (aezoo-two 1.2.3) was left out: ValueError")


@pytest.mark.parametrize(
    ("statement", "api"), [("AEZOO_PLUGIN_API = 1\n1 / 0", None), ("AEZOO_PLUGIN_API = 2", 2)]
)
def test_a_failing_plugin_is_listed_with_its_contract_if_it_was_read(
    site: Site, statement: str, api: int | None
) -> None:
    site.install("broken", statement)
    found = site.registry()
    messages(found.load)
    assert found.list_plugins()[1].api == api


def test_an_entry_point_name_of_two_distributions_runs_neither(site: Site) -> None:
    modules = [site.install("demo", good("demo.double"), distribution) for distribution in ("one", "two")]
    found = site.registry()
    (message,) = messages(found.load)
    assert message.startswith("plugin demo (")
    assert "RegistryError: entry point 'demo' is claimed by one and two; uninstall one" in message
    assert not set(modules) & set(sys.modules)
    assert "demo.double" not in found.names("layer")


def test_the_entry_point_name_aezoo_is_reserved(site: Site) -> None:
    site.install("aezoo", good("aezoo.double"), "impostor")
    (message,) = messages(site.registry().load)
    assert message.startswith("plugin aezoo (impostor 1.2.3) was left out: RegistryError")
    assert "reserved for the library" in message


def test_a_kind_of_two_plugins_raises_when_it_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
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
        RegistryError,
        match=r"layer 'duo\.sub\.x' is claimed by duo and duo\.sub; leave one of them out with AEZOO_PLUGINS",
    ):
        found.get("layer", "duo.sub.x")
    assert [kind for kind in found.names("layer") if "." in kind] == ["duo.own", "duo.sub.own"]
    assert found.get("layer", "duo.own").kind_name == "duo.own"
    monkeypatch.setenv("AEZOO_PLUGINS", "duo")
    selected = site.registry()
    assert selected.plugin_of("layer", "duo.sub.x").name == "duo"


# -- when and which plugins are loaded ----------------------------------------------------------------


def test_plugins_are_loaded_once_on_the_first_look_up(site: Site) -> None:
    log = site.folder / "log"
    log_it = (
        f"\nfrom pathlib import Path\nwith Path({str(log)!r}).open('a') as log:\n    log.write('imported ')"
    )
    module = site.install("demo", good("demo.double") + log_it)
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
def test_an_interrupted_load_is_repeated(site: Site, entry: str) -> None:
    flag = site.folder / "interrupt"
    flag.touch()
    stop = "from pathlib import Path\nif Path(__file__).with_name('interrupt').exists():\n"
    module = site.install("demo", stop + "    raise KeyboardInterrupt" + good("demo.double"))
    found = Registry((*BUILTINS, module), lambda: ()) if entry == "built-in" else site.registry()
    with pytest.raises(KeyboardInterrupt):
        found.load()
    flag.unlink()
    assert found.plugin_of("layer", "topk").name == "aezoo"
    assert found.get("layer", "demo.double") is sys.modules[module].Mine


def test_warnings_as_errors_do_not_stop_loading(site: Site) -> None:
    site.install("broken", "1 / 0")
    site.install("zeta", good("zeta.double"))
    found = site.registry()
    with pytest.raises(aezoo.PluginWarning, match="plugin broken"):
        found.load()
    assert "zeta.double" in found.names("layer")
    assert [plugin.name for plugin in found.list_plugins()] == ["aezoo", "broken", "zeta"]


def test_a_second_thread_waits_for_the_first_look_up(site: Site) -> None:
    site.install("demo", good("demo.double"))
    loading, proceed = threading.Event(), threading.Event()
    seen: list[object] = []

    def find() -> list[EntryPoint]:
        loading.set()
        assert proceed.wait(60)
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
    # Long enough for a look-up that does not wait.
    second.join(0.2)
    proceed.set()
    for thread in (first, second):
        thread.join(60)
    assert seen == [found.get("layer", "demo.double")]


@pytest.mark.parametrize(
    ("selected", "loaded"),
    [
        (None, ["alpha", "zeta"]),
        ("zeta", ["zeta"]),
        (" zeta , alpha,", ["alpha", "zeta"]),
        ("", []),
    ],
)
def test_the_environment_variable_selects_plugins(
    site: Site, monkeypatch: pytest.MonkeyPatch, selected: str | None, loaded: list[str]
) -> None:
    modules = {name: site.install(name, good(f"{name}.double")) for name in ("alpha", "zeta")}
    if selected is not None:
        monkeypatch.setenv("AEZOO_PLUGINS", selected)
    found = site.registry()
    assert messages(found.load) == []
    assert [plugin.name for plugin in found.list_plugins()] == ["aezoo", *loaded]
    assert [name for name, module in modules.items() if module in sys.modules] == loaded


@pytest.mark.parametrize(
    ("word", "near"), [("zetta", " (did you mean 'zeta'?)"), ("quite_other", "")], ids=["near", "far"]
)
def test_an_unknown_name_in_the_environment_variable_is_reported(
    site: Site, monkeypatch: pytest.MonkeyPatch, word: str, near: str
) -> None:
    for name in ("alpha", "zeta"):
        site.install(name, good(f"{name}.double"))
    monkeypatch.setenv("AEZOO_PLUGINS", f"alpha,{word}")
    found = site.registry()
    assert messages(found.load) == [f"AEZOO_PLUGINS names {word!r}, which is not installed{near}"]
    assert [plugin.name for plugin in found.list_plugins()] == ["aezoo", "alpha"]


def test_the_backport_importlib_metadata_changes_nothing(site: Site) -> None:
    # It answers importlib.metadata's questions with classes of its own, once anything has imported it.
    pytest.importorskip("importlib_metadata")
    site.install("demo", good("demo.double"), "one")
    found = site.registry()
    assert messages(found.load) == []
    (plugin,) = [plugin for plugin in found.list_plugins() if plugin.name == "demo"]
    assert (plugin.distribution, plugin.version, plugin.error) == ("one", "1.2.3", None)
