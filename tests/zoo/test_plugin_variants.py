"""Variants that plugins bring: read where they lie, never imported, and never in anyone else's way."""

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import aezoo
from aezoo.errors import PluginWarning
from aezoo.zoo.index import VARIANTS, _index, scan_variants, variants_of, write_index
from tests.raising import raises

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes a package that brings fc-64 under another name, and refuses to be imported."""
    points: list[EntryPoint] = []
    monkeypatch.delenv("AEZOO_PLUGINS")
    monkeypatch.setattr("aezoo.zoo.index.entry_points", lambda group: points if group == VARIANTS else [])
    monkeypatch.syspath_prepend(str(tmp_path))
    ae = aezoo.load("fc-64")

    def make(plugin: str = "mine", variant: str = "mine-64", package: str | None = None) -> Path:
        package = package or f"aezoo_{plugin}"
        root = tmp_path / package / "zoo"
        root.mkdir(parents=True)
        (root.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
        ae.spec = ae.spec.replace({"name": variant})
        aezoo.save(ae, root / variant)
        shutil.copy(repository / "zoo" / "fc-64" / "preview.png", root / variant)
        write_index(root)
        points.append(EntryPoint(plugin, package, VARIANTS))
        forget()
        return root

    yield make
    forget()


def forget() -> None:
    _index.cache_clear()
    scan_variants.cache_clear()


def listed() -> list[str]:
    """Without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginWarning)
        return aezoo.list_variants()


def test_a_plugins_variant_is_listed_looked_up_and_loaded_without_importing_it(install: Install) -> None:
    own = aezoo.list_variants()
    root = install()
    assert listed() == sorted([*own, "mine-64"])
    assert aezoo.get_entry("mine-64")["latents"] == [64]
    assert aezoo.get_spec("mine-64").name == "mine-64"
    ae = aezoo.load("mine-64")
    assert (ae.source.kind, ae.source.index_verified) == ("zoo", True)
    assert Path(str(ae.source.path)) == root / "mine-64"
    assert variants_of("mine") == ["mine-64"]
    assert "aezoo_mine" not in sys.modules


def test_its_bytes_are_those_that_its_index_vouches_for(install: Install) -> None:
    root = install()
    path = root / "mine-64" / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[:-300] + bytes([raw[-300] ^ 1]) + raw[-299:])
    with raises("hash-mismatch"):
        aezoo.load("mine-64")


def test_a_name_that_is_taken_stays_whose_it_was(install: Install) -> None:
    install("first", "twice")
    install("second", "twice")
    install("third", "fc-64")
    with pytest.warns(PluginWarning) as said:
        aezoo.list_variants()
    assert listed()
    assert sorted(str(w.message) for w in said) == [
        "the variants of second (no distribution): 'twice' was left out, the name is taken",
        "the variants of third (no distribution): 'fc-64' was left out, the name is taken",
    ]
    assert "aezoo_first" in str(aezoo.load("twice").source.path)
    assert "aezoo_third" not in str(aezoo.load("fc-64").source.path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root: (root / "index.json").write_text("{"), "JSONDecodeError"),
        (lambda root: (root / "index.json").write_text("{}"), "KeyError: 'variants'"),
        (lambda root: (root / "index.json").unlink(), "FileNotFoundError"),
        (lambda root: shutil.rmtree(root.parent), "CheckpointError: there is no package 'aezoo_mine'"),
    ],
)
def test_a_broken_zoo_is_named_once_and_everything_else_stays(
    install: Install, spoil: Callable[[Path], object], reason: str
) -> None:
    install("good", "good-64")
    spoil(install())
    with pytest.warns(PluginWarning, match="variants of mine") as said:
        names = aezoo.list_variants()
    assert len(said) == 1
    assert f"were left out: {reason}" in str(said[0].message)
    assert "good-64" in names
    assert "fc-64" in names
    assert "mine-64" not in listed()
    assert aezoo.load("good-64").num_latents == 64


def test_a_package_inside_another_is_refused_because_finding_it_would_import_that(install: Install) -> None:
    install(package="outer.inner")
    with pytest.warns(PluginWarning, match=r"there is no package 'outer\.inner'"):
        aezoo.list_variants()


def test_plugins_that_are_left_out_bring_no_variants(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()
    install("other", "other-64")
    monkeypatch.setenv("AEZOO_PLUGINS", "other")
    forget()
    assert "mine-64" not in listed()
    assert "other-64" in listed()
    monkeypatch.setenv("AEZOO_PLUGINS", "")
    forget()
    assert "other-64" not in listed()


def test_a_variant_whose_plugin_lacks_says_what_to_install(install: Install) -> None:
    root = install()
    config = json.loads((root / "mine-64" / "config.json").read_text())
    config["plugins"] = [{"name": "mine", "distribution": "aezoo-mine", "version": "3.1"}]
    (root / "mine-64" / "config.json").write_text(json.dumps(config))
    with pytest.raises(aezoo.CheckpointError, match=r"needs the plugin 'mine'; install aezoo-mine==3\.1"):
        aezoo.load(root / "mine-64")
