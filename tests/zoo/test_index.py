"""The index: looking variants up, those that plugins provide, and writing it."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

import aezoo
from aezoo.errors import PluginWarning
from aezoo.zoo.index import (
    INDEX,
    VARIANTS,
    core_variants,
    forget_index,
    read_index,
    variants_of,
    zoo_root,
)
from aezoo.zoo.schema import WEIGHTS
from aezoo.zoo.write_index import write_index
from tests.raising import raises
from tests.zoo.folders import edit_config, flip, network

# -- looking up ---------------------------------------------------------------------------------------


def test_a_checkout_uses_its_own_zoo(repository: Path) -> None:
    assert zoo_root() == repository / "zoo"


def test_variants_are_listed_by_pattern() -> None:
    names = aezoo.list_variants()
    assert {"conv-fc", "fc-64", "sparse-topk16", "sparse-topk5"} <= set(names)
    assert aezoo.list_variants("sparse-*") == [name for name in names if name.startswith("sparse-")]
    assert aezoo.list_variants("nothing-*") == []


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (None, "missing-file", "cannot be read: No such file"),
        ("{", "invalid-config", "is not valid JSON"),
        ("[]", "invalid-config", "expected an object"),
        ('{"variants": []}', "not-a-variant", "is not an index: it has no 'variants'"),
        ("{}", "not-a-variant", "is not an index"),
    ],
)
def test_an_invalid_index_is_refused(tmp_path: Path, text: str | None, code: str, words: str) -> None:
    if text is not None:
        (tmp_path / INDEX).write_text(text)
    with raises(code, match=rf"index\.json.*{words}"):
        read_index(tmp_path)


# -- variants of plugins ------------------------------------------------------------------------------

Install = Callable[..., Path]


@pytest.fixture
def install(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Creates a package with a variant, which raises when it is imported; returns its zoo folder."""
    points: list[EntryPoint] = []
    monkeypatch.delenv("AEZOO_PLUGINS")
    monkeypatch.setattr(
        "aezoo.zoo.index.installed_entry_points", lambda group: (points if group == VARIANTS else [], [])
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(plugin: str = "mine", variant: str = "mine-5", package: str | None = None) -> Path:
        package = package or f"aezoo_{plugin}"
        zoo = tmp_path / package / "zoo"
        aezoo.save(network(name=variant), zoo / variant)
        (zoo.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
        write_index(zoo)
        points.append(EntryPoint(plugin, package, VARIANTS))
        forget_index()
        return zoo

    yield make
    forget_index()


def listed() -> list[str]:
    """The variants, listed without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginWarning)
        return aezoo.list_variants()


def test_a_plugins_variant_is_listed_and_loaded_without_importing_the_plugin(install: Install) -> None:
    zoo = install()
    assert listed() == ["mine-5", "other", "small"]
    assert (variants_of("mine"), core_variants()) == (["mine-5"], ["other", "small"])
    assert aezoo.get_entry("mine-5")["latents"] == [5]
    assert aezoo.get_spec("mine-5").name == "mine-5"
    source = aezoo.load("mine-5").source
    assert (source.kind, source.index_verified, source.path) == ("zoo", True, str(zoo / "mine-5"))
    assert "aezoo_mine" not in sys.modules
    flip(zoo / "mine-5" / WEIGHTS)
    with raises("hash-mismatch"):
        aezoo.load("mine-5")


def test_a_name_that_is_taken_keeps_its_meaning(install: Install) -> None:
    install("first", "twice")
    install("second", "twice")
    install("third", "small")
    with pytest.warns(PluginWarning) as caught:
        aezoo.list_variants()
    assert listed()
    assert sorted(str(w.message) for w in caught) == [
        "the variants of second (no distribution): 'twice' was left out, the name is taken",
        "the variants of third (no distribution): 'small' was left out, the name is taken",
    ]
    assert "aezoo_first" in str(aezoo.load("twice").source.path)
    assert "aezoo_third" not in str(aezoo.load("small").source.path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda zoo: (zoo / INDEX).write_text("{"), "is not valid JSON"),
        (lambda zoo: (zoo / INDEX).write_text("{}"), "is not an index"),
        (lambda zoo: (zoo / INDEX).unlink(), "cannot be read: No such file"),
        (lambda zoo: rmtree(zoo.parent), "there is no package 'aezoo_mine'"),
    ],
)
def test_a_broken_zoo_is_reported_once_and_others_work(
    install: Install, spoil: Callable[[Path], object], reason: str
) -> None:
    install("good", "good-5")
    spoil(install())
    with pytest.warns(PluginWarning, match="variants of mine .* were left out") as caught:
        names = aezoo.list_variants()
    assert [reason in str(w.message) for w in caught] == [True]
    assert names == listed() == ["good-5", "other", "small"]
    assert aezoo.load("good-5").num_latents == 5


def test_a_nested_package_is_refused_because_finding_it_would_import_its_parent(install: Install) -> None:
    install(package="outer.inner")
    with pytest.warns(PluginWarning, match=r"there is no package 'outer\.inner'"):
        aezoo.list_variants()


def test_disabled_plugins_provide_no_variants(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    install("second", "second-5")
    for enabled, names in (("second", ["other", "second-5", "small"]), ("", ["other", "small"])):
        monkeypatch.setenv("AEZOO_PLUGINS", enabled)
        forget_index()
        assert listed() == names


def test_a_variant_whose_plugin_is_missing_names_the_package_to_install(install: Install) -> None:
    folder = install() / "mine-5"
    plugin = {"name": "mine", "distribution": "aezoo-mine", "version": "3.1"}
    edit_config(folder, lambda config: config.update(plugins=[plugin]))
    with raises("missing-plugin", match=r"needs the plugin 'mine'; install aezoo-mine==3\.1"):
        aezoo.load(folder)


# -- writing ------------------------------------------------------------------------------------------


def index_of(root: Path) -> dict[str, Any]:
    return json.loads((root / INDEX).read_text())


def test_a_new_index_keeps_license_and_published_commits(root: Path) -> None:
    index = index_of(root)
    index["variants"]["small"] |= {"repository": "aezoo/small", "commit": "a" * 40}
    (root / INDEX).write_text(json.dumps(index))
    forget_index()
    write_index(root)
    entry = aezoo.get_entry("small")
    assert (entry["repository"], entry["commit"]) == ("aezoo/small", "a" * 40)
    assert index_of(root) == index
    assert index["license"] == "mit"


def test_a_folder_under_another_name_than_its_variants_is_not_indexed(root: Path) -> None:
    (root / "small").rename(root / "smaller")
    with raises("not-a-variant", match="smaller holds 'small', expected 'smaller'"):
        write_index(root)


def test_command_index(root: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("index", root, "--license", "apache-2.0") == (0, f"{root / INDEX}\n", "")
    assert index_of(root)["license"] == "apache-2.0"
