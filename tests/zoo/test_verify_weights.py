"""Checks 5 to 7 of a load: the bytes of the weights, the tensors in them, and their values."""

import io
import itertools
import json
import os
import pickle
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aezoo
from aezoo.errors import CheckpointError
from aezoo.zoo.schema import CONFIG, METRICS, TRAINING, WEIGHTS
from aezoo.zoo.variant_files import VariantFiles
from aezoo.zoo.verify import check_tensors, check_values
from tests.examples import small_spec
from tests.hub_server import sha256
from tests.raising import raises
from tests.zoo.folders import (
    BIAS,
    NORM,
    WEIGHT,
    Json,
    edit_config,
    flip,
    pack,
    refused,
    same,
    seal_weights,
    unpack,
)

# -- 5: bytes -----------------------------------------------------------------------------------------


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "is missing" in refused(folder, "missing-file", WEIGHTS)
    (folder / WEIGHTS).mkdir()
    assert "is not a file" in refused(folder, "missing-file", WEIGHTS)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw + b"\0"])
def test_another_size_is_refused(folder: Path, change: Callable[[bytes], bytes]) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(change(whole))
    words = f"has {len(change(whole)):,} bytes, expected {len(whole):,}"
    assert words in refused(folder, "size-mismatch", WEIGHTS)


@pytest.mark.parametrize("place", [0, 8, 200, -1])
def test_one_flipped_bit_is_found_by_the_hash(folder: Path, place: int) -> None:
    raw = bytearray((folder / WEIGHTS).read_bytes())
    expected = sha256(raw)
    raw[place] ^= 1
    (folder / WEIGHTS).write_bytes(raw)
    text = refused(folder, "hash-mismatch", WEIGHTS)
    assert f"has sha256 {sha256(raw)}, expected {expected}; these are not the published bytes" in text


def test_tensors_of_one_shape_cannot_be_swapped(folder: Path) -> None:
    size = (folder / WEIGHTS).stat().st_size
    header, data = unpack(folder)
    header[BIAS], header[NORM] = header[NORM], header[BIAS]
    raw = json.dumps(header, separators=(",", ":")).encode()
    (folder / WEIGHTS).write_bytes(pack(raw.ljust(size - 8 - len(data)), data))
    assert (folder / WEIGHTS).stat().st_size == size
    refused(folder, "hash-mismatch", WEIGHTS)


def test_a_file_larger_than_the_spec_needs_is_refused_before_it_is_read(folder: Path) -> None:
    # Takes no room on the disk, but would in memory.
    os.truncate(folder / WEIGHTS, 2**30)
    edit_config(folder, lambda config: config["weights"].update(bytes=2**30))
    text = refused(folder, "invalid-config")
    assert "weights.bytes: 1,073,741,824 is recorded, the spec needs at most" in text


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def torch_saved(value: object, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize(
    "written",
    [
        *[lambda value, p=p: pickle.dumps(value, p) for p in PROTOCOLS],
        lambda value: torch_saved(value, zipped=True),
        lambda value: torch_saved(value, zipped=False),
    ],
    ids=[*[f"protocol-{p}" for p in PROTOCOLS], "torch-zip", "torch-legacy"],
)
def test_a_renamed_pickle_is_never_opened(
    folder: Path, tmp_path: Path, written: Callable[[object], bytes]
) -> None:
    mark = tmp_path / "ran"
    seal_weights(folder, written(Payload(mark)))
    assert "safetensors" in refused(folder, "not-safetensors", WEIGHTS)
    assert not mark.exists()
    # The payload works, so that its absence above means something.
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()


def test_a_pickle_is_named_as_such_before_its_size_is_compared(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"weight": 1.0}))
    text = refused(folder, "not-safetensors", WEIGHTS)
    assert "is a pickle, not safetensors; it was not opened" in text


def test_a_load_neither_unpickles_nor_maps_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a pickle was opened")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    before = (folder / WEIGHTS).read_bytes()
    ae = aezoo.load(folder)
    with torch.no_grad():
        for parameter in ae.parameters():
            parameter.zero_()
    assert (folder / WEIGHTS).read_bytes() == before


def test_weights_behind_a_link_are_verified(folder: Path, tmp_path: Path) -> None:
    # The Hub's cache links to files outside of the folder.
    blob, before = tmp_path / "blob", aezoo.load(folder)
    (folder / WEIGHTS).rename(blob)
    (folder / WEIGHTS).symlink_to(blob)
    assert same(aezoo.load(folder), before)
    flip(blob)
    assert "not the published bytes" in refused(folder, "hash-mismatch", WEIGHTS)
    blob.unlink()
    assert "is missing" in refused(folder, "missing-file", WEIGHTS)
    blob.symlink_to(folder / WEIGHTS)
    assert "cannot be read" in refused(folder, "missing-file", WEIGHTS)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, METRICS, TRAINING])
def test_a_pipe_is_refused_without_waiting(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)

    def stop(number: int, frame: object) -> None:
        pytest.fail("waits for a writer of the pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(5)
    try:
        assert "is not a file; a regular file is expected" in refused(folder, "missing-file", name)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# -- 6: tensors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [896, 1021, 1152, 1280, 1408, 19280])
def test_a_header_of_any_length_is_read(folder: Path, length: int) -> None:
    # The file begins with this length: 1152 is the start of a pickle of protocol 4, 19280 is "PK".
    header, data = unpack(folder)
    raw = json.dumps(header, separators=(",", ":")).encode()
    assert len(raw) <= 1021
    before = aezoo.load(folder)
    seal_weights(folder, pack(raw.ljust(length), data))
    assert same(aezoo.load(folder), before)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"1234567", "header"),
        (struct.pack("<Q", 100) + b"{}", ""),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "its header is larger than 4,000,000 bytes"),
        (pack(b"{'a': 1}", b""), "is not valid JSON"),
        (pack(b"[]", b""), "expected an object, found list"),
        (pack(b'{"a": NaN}', b""), "NaN is not a finite number"),
        (pack(b'{"a": {}, "a": {}}', b""), "duplicate key 'a'"),
        (pack(b'{"\xff": 1}', b""), "is not valid JSON"),
        (pack(b'{"a":' + b"[" * 100_000, b""), "is not valid JSON"),
        (pack(b'{"a":' + b"1" * 10_000 + b"}", b""), "is not valid JSON"),
    ],
    ids=["short", "long", "longest", "quotes", "list", "nan", "twice", "utf-8", "deep", "digits"],
)
def test_an_invalid_header_is_refused(folder: Path, raw: bytes, words: str) -> None:
    seal_weights(folder, raw)
    text = refused(folder, "not-safetensors", WEIGHTS)
    assert "is not valid safetensors: " in text
    assert words in text


Lie = Callable[[Json, bytes], tuple[Json, bytes]]


def entry(name: str, **values: Any) -> Lie:
    return lambda header, data: (header | {name: header[name] | values}, data)


def without(name: str, key: str) -> Lie:
    return lambda header, data: (
        header | {name: {k: v for k, v in header[name].items() if k != key}},
        data,
    )


def extra(more: bytes, dtype: str, shape: list[int]) -> Lie:
    """One tensor more, at the end."""

    def lie(header: Json, data: bytes) -> tuple[Json, bytes]:
        places = [len(data), len(data) + len(more)]
        tensor = {"dtype": dtype, "shape": shape, "data_offsets": places}
        return header | {"more": tensor}, data + more

    return lie


def moved(by: int, keep: int) -> Lie:
    """Every tensor from the byte `keep` on lies `by` bytes further on."""

    def lie(header: Json, data: bytes) -> tuple[Json, bytes]:
        found: Json = {}
        for name, value in header.items():
            places = value.get("data_offsets", [0, 0])
            found[name] = value
            if name != "__metadata__" and places[0] >= keep:
                found[name] = value | {"data_offsets": [place + by for place in places]}
        return found, data[:keep] + b"\0" * by + data[keep:]

    return lie


def renamed(header: Json, data: bytes) -> tuple[Json, bytes]:
    about = header["__metadata__"]["aezoo"].replace("small", "other")
    return header | {"__metadata__": {"aezoo": about}}, data


# What the library accepts, and the comparison with the spec refuses.
MISMATCHES: dict[str, tuple[Lie, str]] = {
    "no tensors": (lambda header, data: ({}, b""), "tensor 'decoder.0.linear.bias' is missing"),
    "extra tensor": (extra(b"more", "U8", [4]), "tensor 'more' is not in the spec"),
    "other shape": (
        entry(WEIGHT, shape=[36, 5]),
        f"tensor '{WEIGHT}' is float32 [36, 5], the spec gives float32 [5, 36]",
    ),
    "flat shape": (entry(WEIGHT, shape=[180]), "is float32 [180], the spec gives float32 [5, 36]"),
    "empty huge shape": (extra(b"", "U8", [0, 2**60]), "tensor 'more' is not in the spec"),
    "other dtype": (entry(BIAS, dtype="I32"), f"'{BIAS}' is int32 [5], the spec gives float32 [5]"),
    "other variant": (renamed, 'these are weights of {\'aezoo\': \'{"name":"other"'),
    "no metadata": (
        lambda header, data: ({k: v for k, v in header.items() if k != "__metadata__"}, data),
        "these are weights of None, expected",
    ),
}
# What the library refuses itself, in its own words.
INVALID: dict[str, Lie] = {
    "missing tensor": lambda header, data: ({k: v for k, v in header.items() if k != BIAS}, data),
    "huge shape": entry(WEIGHT, shape=[2**60, 2**60]),
    "shape beyond torch": extra(b"", "U8", [0, 2**63]),
    "strides beyond torch": extra(b"", "U8", [0, *[2**62] * 3]),
    "negative shape": entry(WEIGHT, shape=[-5, -36]),
    "no shape": without(WEIGHT, "shape"),
    "unknown dtype": entry(BIAS, dtype="F9"),
    "dtype beyond torch": extra(b"more", "F4", [8]),
    "no dtype": without(BIAS, "dtype"),
    "no entry": lambda header, data: (header | {BIAS: 5}, data),
    "overlap": lambda header, data: (header | {BIAS: header[NORM]}, data),
    "gap": moved(by=8, keep=8),
    "gap at the start": moved(by=8, keep=0),
    "trailing bytes": lambda header, data: (header, data + b"\0" * 8),
    "data cut off": lambda header, data: (header, data[:-4]),
    "no data": lambda header, data: (header, b""),
    "huge offsets": entry(NORM, data_offsets=[2**62, 2**62 + 20]),
    "negative offsets": entry(BIAS, data_offsets=[-20, 0]),
    "reversed offsets": entry(BIAS, data_offsets=[20, 0]),
    "short offsets": entry(BIAS, data_offsets=[0, 19]),
    "true offsets": entry(BIAS, data_offsets=[False, True]),
    "fractional offsets": entry(BIAS, data_offsets=[0.0, 20.0]),
    "three offsets": entry(BIAS, data_offsets=[0, 20, 40]),
    "no offsets": without(BIAS, "data_offsets"),
    "offsets as text": entry(BIAS, data_offsets="02"),
    "metadata that is no text": lambda header, data: (header | {"__metadata__": {"aezoo": 1}}, data),
}


@pytest.mark.parametrize(("lie", "words"), MISMATCHES.values(), ids=MISMATCHES)
def test_other_tensors_than_the_spec_gives_are_refused(folder: Path, lie: Lie, words: str) -> None:
    seal_weights(folder, pack(*lie(*unpack(folder))))
    assert words in refused(folder, "tensor-mismatch", WEIGHTS)


@pytest.mark.parametrize("lie", INVALID.values(), ids=INVALID)
def test_a_header_that_lies_is_refused(folder: Path, lie: Lie) -> None:
    seal_weights(folder, pack(*lie(*unpack(folder))))
    assert "is not valid safetensors: " in refused(folder, "not-safetensors", WEIGHTS)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    """In a file that is valid without it."""
    header, data = unpack(folder)
    name = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])
    begin, _ = header.pop(name)["data_offsets"]
    seal_weights(folder, pack(header, data[:begin]))
    assert f"tensor '{name}' is missing" in refused(folder, "tensor-mismatch", WEIGHTS)


def test_the_order_in_a_header_does_not_matter(folder: Path) -> None:
    # Proves as well that what `pack` writes is read, or the tests above could pass for another reason.
    before = aezoo.load(folder)
    header, data = unpack(folder)
    seal_weights(folder, pack(dict(reversed(header.items())), data))
    assert same(aezoo.load(folder), before)


@pytest.mark.parametrize(
    ("fitted", "words"),
    [([], "'target_mean' is not in the spec"), (["target_mean", "input_shift"], "'input_shift' is missing")],
)
def test_fitted_tensors_are_those_that_the_config_lists(folder: Path, fitted: list[str], words: str) -> None:
    edit_config(folder, lambda config: config.update(fitted=fitted))
    assert words in refused(folder, "tensor-mismatch", WEIGHTS)


METADATA = {"aezoo": "who"}
EXPECTED: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
    "a": (torch.float32, (2, 1)),
    "b": (torch.int64, ()),
}
WHOLE = pack(
    {
        "__metadata__": METADATA,
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [8, 16]},
        "b": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]},
    },
    bytes(range(16)),
)
JUNK = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"-", b"1e9", b"null", b"true", b'"', b"{}", b"[]", b",", b"\0", b"9" * 30]),
)


@given(place=st.integers(0, 165), cut=st.integers(0, 12), junk=JUNK)
@example(place=0, cut=0, junk=b"")
@settings(max_examples=300, deadline=None)
def test_damage_anywhere_gives_the_expected_tensors_or_a_clear_error(
    place: int, cut: int, junk: bytes
) -> None:
    raw = WHOLE[:place] + junk + WHOLE[place + cut :]
    # Most damage to the header changes its length; with the right length it reaches the later checks.
    for damaged in (raw, struct.pack("<Q", max(0, len(raw) - 24)) + raw[8:]):
        try:
            tensors = check_tensors(VariantFiles(Path("x")), damaged, EXPECTED, METADATA)
        except CheckpointError:
            continue
        assert {k: (t.dtype, tuple(t.shape)) for k, t in tensors.items()} == EXPECTED


@pytest.mark.parametrize("before", range(0, 64, 8))
def test_the_place_of_tensors_in_the_file_changes_no_bit_of_the_output(tmp_path: Path, before: int) -> None:
    # Sums over memory that begins elsewhere may be taken in another order.
    shape = (1, 9)
    layers = ["flatten", {"kind": "linear", "out_features": 1}, {"kind": "linear", "out_features": 9}]
    spec = small_spec(input={"shape": shape}, encoder=layers, decoder=[{"kind": "unflatten", "shape": shape}])
    ae = aezoo.build(spec).eval()
    folder = aezoo.save(ae, tmp_path / "small")
    header, data = unpack(folder)
    raw = json.dumps(header, separators=(",", ":")).encode()
    seal_weights(folder, pack(raw.ljust(len(raw) + -len(raw) % 8 + before), data))
    loaded = aezoo.load(folder)
    for row in torch.rand(64, *shape, generator=torch.Generator().manual_seed(0)).split(1):
        assert torch.equal(loaded(row).x_hat, ae(row).x_hat)


def test_loaded_tensors_do_not_overlap_in_memory(folder: Path) -> None:
    tensors = aezoo.load(folder).state_dict().values()
    places = sorted((t.data_ptr(), t.data_ptr() + t.nbytes) for t in tensors)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(places))
    # Even where a product would be the same, an unaligned operand is slower.
    assert all(begin % 64 == 0 for begin, _ in places)


# -- 7: values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [BIAS, "encoder.1.norm.running_var", "decoder.0.linear.weight"])
def test_a_weight_that_is_not_finite_is_refused(folder: Path, name: str, value: float) -> None:
    header, data = unpack(folder)
    begin = header[name]["data_offsets"][0]
    seal_weights(folder, pack(header, data[:begin] + struct.pack("<ff", value, value) + data[begin + 8 :]))
    assert f"{name} has 2 values that are NaN or infinite" in refused(folder, "not-finite", WEIGHTS)


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ([1.0, float("nan")], "1 value"),
        ([float("inf"), float("-inf"), 0.0], "2 values"),
        ([3e38, 3e38, float("inf")], "1 value"),
    ],
)
def test_values_that_are_not_finite_are_counted(values: list[float], bad: str) -> None:
    with raises("not-finite", match=f"^x: w has {bad}"):
        check_values({"ok": torch.ones(1), "w": torch.tensor(values)}, "x: ")


def test_finite_values_pass_also_where_their_sum_is_infinite() -> None:
    half, whole = torch.full((3,), 60_000.0, dtype=torch.float16), torch.tensor([2**62, 2**62])
    sums = {"float32": torch.tensor([3e38, 3e38]), "float16": half, "int64": whole}
    check_values({**sums, "bool": torch.tensor([True, True]), "empty": torch.empty(0)})
