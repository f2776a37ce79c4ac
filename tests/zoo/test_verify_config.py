"""Checks 1 to 4 of a load: the config's bytes, its fields, its plugins, and the network it describes."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import aezoo
from aezoo.errors import CheckpointError
from aezoo.plugins.registry import PluginInfo, Registration, registry
from aezoo.zoo.schema import CONFIG, METRICS, TRAINING, WEIGHTS
from aezoo.zoo.variant_files import VariantFiles
from aezoo.zoo.verify import load, load_spec
from tests.examples import small
from tests.hub_server import sha256
from tests.raising import raises
from tests.zoo.folders import (
    ENCODER,
    Json,
    architecture,
    batch,
    config_of,
    edit_config,
    network,
    pack,
    refused,
    seal_weights,
    unpack,
)

# -- 1: bytes -----------------------------------------------------------------------------------------


def test_a_missing_folder_or_config_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "is missing" in refused(tmp_path / "nowhere", "missing-file")
    (folder / CONFIG).unlink()
    assert "is missing" in refused(folder, "missing-file")
    (folder / CONFIG).mkdir()
    assert "is not a file" in refused(folder, "missing-file")


def test_a_config_has_a_size_limit(folder: Path) -> None:
    raw = (folder / CONFIG).read_bytes()
    (folder / CONFIG).write_bytes(raw.ljust(4_000_000))
    assert aezoo.load(folder).num_latents == 5
    (folder / CONFIG).write_bytes(raw.ljust(4_000_001))
    assert "is larger than 4,000,000 bytes" in refused(folder, "invalid-config")


PINNED = (CONFIG, WEIGHTS, METRICS, TRAINING)


def pins(folder: Path, **changes: str) -> dict[str, str]:
    return {name: sha256((folder / name).read_bytes()) for name in PINNED} | changes


def test_the_published_bytes_are_loaded(folder: Path) -> None:
    source = load(VariantFiles(folder, pins(folder))).source
    assert source.index_verified
    assert source.hashes == pins(folder)


@pytest.mark.parametrize("name", PINNED)
def test_other_bytes_than_the_published_ones_are_refused(folder: Path, name: str) -> None:
    # Those of the weights are compared with the config's record, before the weights are read.
    text = refused(
        folder, "hash-mismatch", CONFIG if name == WEIGHTS else name, pins(folder) | {name: "0" * 64}
    )
    assert "0" * 64 in text
    assert sha256((folder / name).read_bytes()) in text


@pytest.mark.parametrize("name", PINNED)
def test_published_files_must_exist(folder: Path, name: str) -> None:
    pinned = pins(folder)
    (folder / name).unlink()
    assert "is missing" in refused(folder, "missing-file", name, pinned)


def test_a_consistent_exchange_of_weights_and_config_is_refused(folder: Path, tmp_path: Path) -> None:
    other = aezoo.save(network(seed=2), tmp_path / "other")
    assert aezoo.load(other).num_latents == 5
    text = refused(other, "hash-mismatch", pinned={WEIGHTS: pins(folder)[WEIGHTS]})
    assert "the index names" in text


def test_the_spec_is_read_without_the_weights(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).unlink()
    expected = network().spec.resolved()
    assert load_spec(VariantFiles(folder)) == expected
    pin = sha256((folder / CONFIG).read_bytes())
    assert load_spec(VariantFiles(folder, {CONFIG: pin})) == expected
    with raises("hash-mismatch", match="0000"):
        load_spec(VariantFiles(folder, {CONFIG: "0" * 64}))
    with raises("not-a-variant", match="an architecture without name and recipe"):
        load_spec(VariantFiles(architecture(tmp_path / "bare")))


# -- 2: fields ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[:-10], "is not valid JSON"),
        (lambda raw: b"name: small", "is not valid JSON"),
        (lambda raw: b"[" + raw + b"]", "expected an object, found list"),
        (lambda raw: b'{"latents": 5,' + raw[1:], "duplicate key 'latents'"),
        (lambda raw: raw.replace(b'"latents": 5', b'"latents": NaN'), "NaN is not a finite number"),
        (lambda raw: raw.replace(b'"weight": 1.0', b'"weight": 1e999'), "1e999 is not a finite number"),
        # Half of a surrogate pair, which UTF-8 cannot encode.
        (lambda raw: raw.replace(b"A small", rb"\ud800 small"), "surrogates"),
    ],
    ids=["cut", "yaml", "list", "twice", "nan", "overflow", "surrogate"],
)
def test_a_config_is_strict_json(folder: Path, change: Callable[[bytes], bytes], words: str) -> None:
    raw = (folder / CONFIG).read_bytes()
    assert change(raw) != raw
    (folder / CONFIG).write_bytes(change(raw))
    assert words in refused(folder, "invalid-config")


@pytest.mark.parametrize("version", [None, True, 0, -1, 1.0, "1", [1]])
def test_a_schema_version_is_a_whole_number(folder: Path, version: object) -> None:
    edit_config(folder, lambda config: config.update(schema_version=version))
    text = refused(folder, "invalid-config")
    assert f"schema_version: expected a whole number, found {version!r}" in text


def test_a_folder_of_a_newer_aezoo_is_refused_first(folder: Path) -> None:
    # A newer config may hold anything; the version is what explains it.
    edit_config(folder, lambda config: config.update(schema_version=2, novelty=True, weights=None))
    text = refused(folder, "schema-version")
    assert "has schema version 2, this aezoo reads up to 1; upgrade aezoo" in text


def set_k(config: Json, k: object = 2) -> None:
    config["spec"]["encoder"][2]["k"] = k


def test_a_changed_spec_is_refused(folder: Path) -> None:
    recorded = config_of(folder)["spec_sha256"]
    edit_config(folder, set_k, seal=False)
    text = refused(folder, "invalid-config")
    assert f"spec_sha256 says {recorded}" in text
    edit_config(folder, lambda _: None)
    assert f"spec has sha256 {config_of(folder)['spec_sha256']}, " in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("schema_version"), "schema_version: expected a whole number, found None"),
        (lambda c: c.update(author="me"), "author: unknown key; known are schema_version"),
        (lambda c: c.update(parameter=1), "parameter: unknown key (did you mean 'parameters'?)"),
        (lambda c: c["weights"].update(url="x"), "weights.url: unknown key; known are file, sha256, bytes"),
        (lambda c: c["weights"].update(bytes=True), "weights.bytes: expected an integer, found True"),
        (lambda c: c["weights"].update(bytes=0), "weights.bytes: expected greater than or equal to 1"),
        (lambda c: c["weights"].update(sha256="0" * 63), "weights.sha256"),
        (lambda c: c["weights"].update(sha256="0" * 64 + "\n"), "weights.sha256"),
        (lambda c: c.pop("weights"), "weights: missing"),
        (lambda c: c.update(shapes=[]), "shapes: "),
        (lambda c: c["shapes"]["encoder.1"].update(output=[0]), "shapes.encoder.1.output.0: "),
        (lambda c: c.update(fitted=["target_mean", "variance"]), "fitted.1: expected 'target_mean'"),
        (lambda c: c.update(spec=None), "spec: expected an object"),
        (lambda c: c.update(spec=[]), "spec: expected an object"),
        (lambda c: c.update(spec="small"), "spec: expected an object"),
        (lambda c: c["spec"].update(author="me"), "author: unknown key"),
        (lambda c: c["spec"].update(name="Small Net"), "'Small Net' is not a variant name"),
        (lambda c: set_k(c, 0), "encoder.2.k: expected greater than or equal to 1, found 0"),
        (lambda c: set_k(c, "3"), "encoder.2.k: expected an integer, found '3'"),
        (lambda c: set_k(c, 6), "encoder.2.k: 6 is more than the 5 features"),
        (
            lambda c: c["spec"]["encoder"][2].update(kind="topkk"),
            "encoder.2.kind: unknown layer 'topkk' (did you mean 'topk'?)",
        ),
    ],
)
def test_a_config_that_aezoo_never_writes_is_refused(
    folder: Path, change: Callable[[Json], object], words: str
) -> None:
    edit_config(folder, change)
    assert words in refused(folder, "invalid-config")


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "sub/model.safetensors", "other.safetensors", "", "."]
)
def test_weights_lie_in_the_folder_under_their_own_name(folder: Path, name: str) -> None:
    edit_config(folder, lambda config: config["weights"].update(file=name))
    assert "weights.file: expected 'model.safetensors'" in refused(folder, "invalid-config")


@pytest.mark.parametrize("name", ["../small", "small/../../x", "/etc/passwd", "..", "a\\b", "~root", "C:"])
def test_a_name_that_is_a_path_is_refused(folder: Path, name: str) -> None:
    edit_config(folder, lambda config: config["spec"].update(name=name))
    assert "name: " in refused(folder, "invalid-config")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b"[]", "expected an object, found list"),
        (b'{"mse": NaN}', "NaN is not a finite number"),
        (b"mse: 1", "is not valid JSON"),
        (b'{"mse": 0.25}', "mse: expected an object, found float"),
    ],
)
def test_invalid_metrics_are_refused(folder: Path, written: bytes, words: str) -> None:
    (folder / METRICS).write_bytes(written)
    assert words in refused(folder, "invalid-config", METRICS)


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


JUNK = st.sampled_from(
    [None, True, False, -1, 0, 1, 2**31, 2**63, 1.5, 1e300, "", "linear", "layer:x", [], [0], [2**40], {}]
)


@given(data=st.data(), junk=JUNK, seal=st.booleans())
@settings(max_examples=150, deadline=None)
def test_junk_anywhere_in_a_config_loads_or_raises_a_checkpoint_error(
    made: Path, data: st.DataObject, junk: object, seal: bool
) -> None:
    victim = made / "plain" / "small"
    whole = (victim / CONFIG).read_bytes()
    *parents, last = data.draw(st.sampled_from(list(leaves(config_of(victim)))))

    def change(config: Json) -> None:
        node: Any = config
        for key in parents:
            node = node[key]
        node[last] = junk

    try:
        with contextlib.suppress(CheckpointError):
            edit_config(victim, change, seal=seal)
            assert aezoo.load(victim)(batch()).x_hat.shape == (4, 1, 6, 6)
    finally:
        (victim / CONFIG).write_bytes(whole)


# -- 3: plugins ---------------------------------------------------------------------------------------

PLUGIN = {"name": "sae", "distribution": "aezoo-sae", "version": "1.2.0"}


class Shift(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h + 1


class ShiftSpec(aezoo.LayerSpec):
    """A layer that belongs to no distribution."""

    kind: Literal["shift"] = "shift"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return Shift()


class PluginShiftSpec(ShiftSpec):
    kind: Literal["sae.shift"] = "sae.shift"


class EnergySpec(aezoo.LossSpec):
    """A penalty that belongs to no distribution."""

    kind: Literal["energy"] = "energy"

    def __call__(self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        return output.latents.square().mean()


def test_a_missing_plugin_is_named_before_the_spec_is_read(folder: Path) -> None:
    def need(config: Json) -> None:
        config["plugins"] = [PLUGIN]
        config["spec"]["encoder"][2] = {"kind": "sae.batch_topk", "k": 3}

    edit_config(folder, need)
    text = refused(folder, "missing-plugin")
    assert "needs the plugin 'sae'; install aezoo-sae==1.2.0" in text


@pytest.mark.usefixtures("fresh_registry")
def test_the_plugins_of_a_spec_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry._claims["layer", "sae.shift"] = [Registration(PluginShiftSpec, "sae")]
    who = PluginInfo("sae", "aezoo-sae", "1.2.0", 1, (("layer", "sae.shift"),))
    monkeypatch.setattr(registry, "_plugins", [*registry._plugins, who])
    nested = {"kind": "residual", "layers": [{"kind": "sae.shift"}]}
    folder = aezoo.save(network(encoder=[*ENCODER, nested]), tmp_path / "sae")
    assert config_of(folder)["plugins"] == [PLUGIN]
    assert config_of(folder)["unpackaged"] == []
    assert aezoo.load(folder).num_latents == 5
    edit_config(folder, lambda config: config.update(plugins=[]))
    assert "plugins: the layer 'sae.shift' of the plugin 'sae' is used, but not listed" in refused(
        folder, "invalid-config"
    )
    edit_config(folder, lambda config: config.update(plugins=[PLUGIN | {"distribution": "other-sae"}]))
    text = refused(folder, "missing-plugin")
    assert "the installed one is of aezoo-sae; install other-sae==1.2.0 instead" in text
    edit_config(folder, lambda config: config.update(plugins=[PLUGIN]))
    monkeypatch.setattr(registry, "_plugins", registry._plugins[:-1])
    del registry._claims["layer", "sae.shift"]
    assert "install aezoo-sae==1.2.0" in refused(folder, "missing-plugin")


@pytest.mark.parametrize("field", ["name", "distribution", "version"])
@pytest.mark.parametrize("text", ["x; curl evil | sh", "", "-e .", "a\nb", "../x", "$(id)"])
def test_a_plugin_is_named_by_a_valid_name(folder: Path, field: str, text: str) -> None:
    edit_config(folder, lambda config: config.update(plugins=[PLUGIN | {field: text}]))
    assert f"plugins.0.{field}" in refused(folder, "invalid-config")


def test_the_error_of_a_broken_plugin_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = PluginInfo("sae", "aezoo-sae", "1.2.0", None, (), "ImportError: No module named 'einops'")
    monkeypatch.setattr(registry, "_plugins", [*registry._plugins, broken])
    edit_config(folder, lambda config: config.update(plugins=[PLUGIN]))
    text = refused(folder, "missing-plugin")
    assert "No module named 'einops'" in text
    assert "install aezoo" not in text


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    ("cls", "what"), [(ShiftSpec, "layer 'shift'"), (EnergySpec, "loss 'energy'")], ids=["layer", "loss"]
)
def test_an_unpackaged_kind_must_be_registered_before_loading(
    tmp_path: Path, cls: type[aezoo.Spec], what: str
) -> None:
    aezoo.register(ShiftSpec)
    aezoo.register(EnergySpec)
    recipe = small()["recipe"] | {"penalties": ["energy"]}
    folder = aezoo.save(network(encoder=[*ENCODER, {"kind": "shift"}], recipe=recipe), tmp_path / "own")
    assert config_of(folder)["unpackaged"] == ["layer:shift", "loss:energy"]
    assert config_of(folder)["plugins"] == []
    assert aezoo.load(folder).num_latents == 5
    del registry._claims[cls.family, cls.kind_name]
    text = refused(folder, "missing-plugin")
    assert f"needs the {what}, which was registered in a notebook or script" in text
    assert "register it before loading" in text
    aezoo.register(cls)
    assert aezoo.load(folder).num_latents == 5


@pytest.mark.parametrize("name", ["layer", "activation:relu", "module:os", ":topk", "layer:topk.x"])
def test_an_invalid_unpackaged_kind_is_refused(folder: Path, name: str) -> None:
    edit_config(folder, lambda config: config.update(unpackaged=[name]))
    assert "register it before loading" in refused(folder, "missing-plugin")


# -- 4: the network -----------------------------------------------------------------------------------


def change_shape(path: str, **shapes: list[int]) -> Callable[[Json], None]:
    def change(config: Json) -> None:
        config["shapes"][path] = config["shapes"].get(path, {"input": [5], "output": [5]}) | shapes

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_shape("encoder.0", input=[36]), "encoder.0: recorded shapes do not follow from (1, 6, 6)"),
        (change_shape("encoder.1", output=[6]), "encoder.2: recorded shapes do not follow from (6,)"),
        (change_shape("encoder.2", output=[4]), "decoder.0: recorded shapes do not follow from (4,)"),
        (change_shape("decoder.0", output=[35]), "decoder.1.shape: [1, 6, 6] holds 36 values, not the 35"),
        (change_shape("decoder.1", output=[36]), "decoder.1: gives (36,), which is not the input's shape"),
        (lambda c: c["shapes"].pop("encoder.2"), "encoder.2: recorded shapes do not follow from (5,)"),
        (lambda c: c.update(shapes={}), "encoder.0: recorded shapes do not follow from (1, 6, 6)"),
        (change_shape("encoder.3"), "encoder.3"),
        (change_shape("encoder.1.layers.0"), "encoder.1.layers.0"),
        (lambda c: c.update(latents=64), "latents: 64 is recorded, the spec gives 5"),
        (lambda c: c.update(parameters=7), "parameters: 7 is recorded, the spec gives 411"),
    ],
)
def test_recorded_sizes_follow_from_the_spec(
    folder: Path, change: Callable[[Json], None], words: str
) -> None:
    edit_config(folder, change)
    assert words in refused(folder, "invalid-config")


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (2, "encoder.0: gives (1, 12, 12), (1, 6, 6) is recorded"),
        (1500, "encoder.0: gives (1, 9000, 9000), (1, 6, 6) is recorded"),
        (10_000, "encoder.0: gives 3,600,000,000 values for one sample, more than 2,147,483,648"),
    ],
)
def test_recorded_shapes_are_those_that_the_layers_give(scale: int, words: str, tmp_path: Path) -> None:
    # Recorded shapes that fit one another are believed until the layers have run, on an empty batch.
    small: list[Json] = [
        {"kind": "upsample", "scale_factor": 1},
        {"kind": "avg_pool", "kernel_size": 1},
        *ENCODER,
    ]
    folder = aezoo.save(network(encoder=small), tmp_path / "small")

    def lie(config: Json) -> None:
        config["spec"]["encoder"][0]["scale_factor"] = scale
        config["spec"]["encoder"][1]["kernel_size"] = min(scale, 6)

    edit_config(folder, lie)
    config = config_of(folder)
    header, data = unpack(folder)
    header["__metadata__"] = {
        "aezoo": json.dumps({"name": "small", "spec_sha256": config["spec_sha256"]}, separators=(",", ":"))
    }
    seal_weights(folder, pack(header, data))
    assert words in refused(folder, "invalid-config")


def test_too_many_parameters_are_refused_before_the_weights_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / WEIGHTS).unlink()
    words = "411 parameters are more than the 410 allowed"
    assert words in refused(folder, "invalid-config", max_parameters=410)
    with raises("invalid-config", match=words):
        aezoo.load(folder, max_parameters=410)
    monkeypatch.setenv("AEZOO_MAX_PARAMETERS", "410")
    assert words in refused(folder, "invalid-config")


def linear(width: int, **fields: Any) -> Json:
    data = {"kind": "linear", "out_features": width, **fields}
    return aezoo.LayerSpec.model_validate(data).model_dump(mode="json")


def nested_layers(depth: int, repeat: int) -> Callable[[Json], None]:
    def change(config: Json) -> None:
        layer = linear(36, repeat=repeat)
        for _ in range(depth):
            layer = {"kind": "residual", "layers": [layer], "repeat": repeat, "activation": None}
        config["spec"]["encoder"][1] = layer

    return change


def ten_thousand_layers(config: Json) -> None:
    config["spec"]["encoder"] = [config["spec"]["encoder"][0], *[linear(36)] * 10_000]


def too_many_shapes(config: Json) -> None:
    config["shapes"] |= {f"encoder.{i}": {"input": [5], "output": [5]} for i in range(3, 20_000)}


def wide_layer(config: Json) -> None:
    width = 2_000_000_000
    config["spec"]["encoder"][1]["out_features"] = width
    config["shapes"]["encoder.1"]["output"] = [width]
    config["shapes"]["encoder.2"] = {"input": [width], "output": [width]}
    config["shapes"]["decoder.0"]["input"] = [width]


def wide_layers(config: Json) -> None:
    width = 2**31 - 1
    config["spec"]["encoder"][1:] = [linear(width)]
    config["spec"]["decoder"] = [linear(width), linear(36), config["spec"]["decoder"][1]]
    sizes = {
        "encoder.0": ([1, 6, 6], [36]), "encoder.1": ([36], [width]), "decoder.0": ([width], [width]),
        "decoder.1": ([width], [36]), "decoder.2": ([36], [1, 6, 6]),
    }  # fmt: skip
    config["shapes"] = {path: {"input": i, "output": o} for path, (i, o) in sizes.items()}


def huge_samples(config: Json) -> None:
    # Pooling has no parameters, so that the parameter limit does not apply.
    shape = [2_147_483_647] * 3
    pool = {"kind": "max_pool", "kernel_size": 1, "stride": None, "padding": 0, "ceil_mode": False}
    config["spec"]["input"]["shape"] = shape
    config["spec"]["encoder"] = config["spec"]["decoder"] = [{**pool, "repeat": 1}]
    config["shapes"] = {path: {"input": shape, "output": shape} for path in ("encoder.0", "decoder.0")}


HOSTILE: dict[str, tuple[Callable[[Json], Any], str]] = {
    "10,000 layers": (ten_thousand_layers, "encoder: expected at most 1000 entries, found 10001"),
    "10**6 layers": (nested_layers(1, 1000), "1,001,002 layers"),
    "10**30 layers": (nested_layers(9, 1000), "1,001,000 layers"),
    "300 levels": (nested_layers(300, 1), "nested"),
    "20,000 shapes": (too_many_shapes, "shapes are recorded for a layer that the spec does not have"),
    "10**11 parameters": (wide_layer, "parameters are more than the 1,000,000,000 allowed"),
    "10**18 parameters": (wide_layers, "linear cannot be built"),
    "10**28 values": (huge_samples, "shape"),
    "2**53 bytes": (
        lambda config: config["weights"].update(bytes=2**53),
        "weights.bytes: 9,007,199,254,740,992 is recorded, the spec needs at most",
    ),
}


@pytest.mark.parametrize(("change", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_config_that_asks_for_too_much_is_refused_at_once(
    folder: Path, change: Callable[[Json], Any], words: str
) -> None:
    edit_config(folder, change)
    begin = time.process_time()
    assert words in refused(folder, "invalid-config")
    assert time.process_time() - begin < 5


MEASURE = """
import resource, sys, aezoo
aezoo.load(sys.argv[1])  # takes the memory of everything that is imported on first use
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in sys.argv[2:]:
    try:
        aezoo.load(folder)
    except aezoo.CheckpointError as error:
        print(error.code)
unit = 2**20 if sys.platform == "darwin" else 2**10
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // unit)
"""


def test_hostile_folders_take_no_memory(ae: aezoo.Autoencoder, folder: Path, tmp_path: Path) -> None:
    # In another process: the peak of this one may have been higher before.
    folders: list[Path] = []
    for name, (change, _) in HOSTILE.items():
        folders.append(aezoo.save(ae, tmp_path / name.replace(" ", "-")))
        edit_config(folders[-1], change)
    huge = aezoo.save(ae, tmp_path / "huge")
    # Takes no room on the disk, but would in memory.
    os.truncate(huge / WEIGHTS, 2**29)
    edit_config(huge, lambda config: config["weights"].update(bytes=2**29))
    command = [sys.executable, "-c", MEASURE, *map(str, (folder, *folders, huge))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    *errors, megabytes = done.stdout.split()
    assert errors == ["invalid-config"] * (len(HOSTILE) + 1)
    assert int(megabytes) < 100


# -- links and pipes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG, METRICS, TRAINING])
def test_only_a_link_of_the_hubs_cache_is_followed(folder: Path, tmp_path: Path, name: str) -> None:
    # The Hub's cache links from snapshots/COMMIT/ to blobs/.
    pinned, blob = pins(folder), tmp_path / "blobs" / "blob"
    snapshot = tmp_path / "snapshots" / "commit"
    snapshot.parent.mkdir()
    blob.parent.mkdir()
    folder = folder.rename(snapshot)
    (folder / name).rename(blob)
    (folder / name).symlink_to(blob)
    assert load(VariantFiles(folder, pinned)).source.hashes == pinned
    elsewhere = blob.rename(tmp_path / "elsewhere")
    (folder / name).unlink()
    (folder / name).symlink_to(elsewhere)
    assert "is a symbolic link" in refused(folder, "missing-file", name, pinned)


def test_a_load_opens_no_path_that_a_recipe_names(tmp_path: Path) -> None:
    # A pipe, whose reader would wait forever.
    os.mkfifo(tmp_path / "pipe")
    pipe = str(tmp_path / "pipe")
    recipe = small()["recipe"] | {"dataset": {"kind": "array", "path": pipe}, "init_from": pipe}
    loaded = aezoo.load(aezoo.save(network(recipe=recipe), tmp_path / "small"))
    assert loaded.spec.recipe.init_from == pipe  # type: ignore[attr-defined]
