"""Weights' files: whatever is wrong with one is refused by its own error, and nothing in it runs."""

import hashlib
import io
import json
import os
import pickle
import signal
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aezoo
from aezoo.errors import CheckpointError
from aezoo.jsonio import strict_json
from aezoo.zoo.weights import as_stored, check_hash, read_tensors, refuse_nonfinite
from tests.examples import small_spec
from tests.raising import raises

Header = dict[str, Any]
BIAS, WEIGHT = "encoder.1.linear.bias", "encoder.1.linear.weight"
# As large as `BIAS`, so that one can stand in the other's place.
NORM = "encoder.1.norm.weight"


def network(name: str = "small") -> aezoo.Autoencoder:
    encoder = [
        {"kind": "flatten"},
        {"kind": "linear", "out_features": 5, "norm": "batch_norm"},
        {"kind": "topk", "k": 3},
    ]
    return aezoo.build(small_spec(name=name, encoder=encoder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return aezoo.save(network(), tmp_path / "small")


def file_of(folder: Path) -> Path:
    return folder / "model.safetensors"


def packed(header: Header | bytes, data: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def unpacked(raw: bytes) -> tuple[Header, bytes]:
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def seal(folder: Path, raw: bytes) -> None:
    """Puts other weights there and vouches for them, so that only their content can be refused."""
    file_of(folder).write_bytes(raw)
    config = json.loads((folder / "config.json").read_text())
    config["weights"] |= {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    (folder / "config.json").write_text(json.dumps(config))


def refused(folder: Path, code: str) -> str:
    """What the refusal says; it names the file."""
    with raises(code) as caught:
        aezoo.load(folder)
    assert str(file_of(folder)) in str(caught.value)
    return str(caught.value)


# -- size and hash ------------------------------------------------------------------------------------


def test_missing_weights(folder: Path) -> None:
    file_of(folder).unlink()
    assert "is missing" in refused(folder, "missing-file")


def test_a_folder_in_the_place_of_the_weights(folder: Path) -> None:
    file_of(folder).unlink()
    file_of(folder).mkdir()
    assert "cannot be read" in refused(folder, "missing-file")


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw + b"\0"])
def test_another_size(folder: Path, change: Callable[[bytes], bytes]) -> None:
    whole = file_of(folder).read_bytes()
    file_of(folder).write_bytes(change(whole))
    found = len(change(whole))
    assert f"has {found:,} bytes, expected {len(whole):,}" in refused(folder, "size-mismatch")


@pytest.mark.parametrize("place", [0, 8, 200, -1])
def test_one_flipped_bit_is_found_by_the_hash(folder: Path, place: int) -> None:
    raw = bytearray(file_of(folder).read_bytes())
    expected = hashlib.sha256(raw).hexdigest()
    raw[place] ^= 1
    file_of(folder).write_bytes(raw)
    text = refused(folder, "hash-mismatch")
    assert expected in text
    assert hashlib.sha256(raw).hexdigest() in text


def test_tensors_of_one_shape_cannot_change_places(folder: Path) -> None:
    header, data = unpacked(file_of(folder).read_bytes())
    header[BIAS], header[NORM] = header[NORM], header[BIAS]
    swapped = packed(json.dumps(header, separators=(",", ":")).encode().ljust(len_of(folder)), data)
    assert len(swapped) == file_of(folder).stat().st_size
    file_of(folder).write_bytes(swapped)
    refused(folder, "hash-mismatch")


def len_of(folder: Path) -> int:
    return struct.unpack("<Q", file_of(folder).read_bytes()[:8])[0]


# -- not safetensors ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "written",
    [
        *[lambda value, p=p: pickle.dumps(value, p) for p in range(pickle.HIGHEST_PROTOCOL + 1)],
        lambda value: torch_saved(value, zipped=True),
        lambda value: torch_saved(value, zipped=False),
    ],
    ids=[*[f"protocol-{p}" for p in range(pickle.HIGHEST_PROTOCOL + 1)], "torch-zip", "torch-legacy"],
)
def test_a_renamed_pickle_is_never_opened(
    folder: Path, tmp_path: Path, written: Callable[[object], bytes]
) -> None:
    mark = tmp_path / "ran"
    seal(folder, written(Payload(mark)))
    assert "not safetensors" in refused(folder, "not-safetensors")
    assert not mark.exists()
    # It does run where someone unpickles it, so that its absence above means something.
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()


def test_a_pickle_is_called_one_whatever_its_size(folder: Path) -> None:
    file_of(folder).write_bytes(pickle.dumps({"weight": 1.0}))
    assert "is a pickle, not safetensors; it was not opened" in refused(folder, "not-safetensors")


@pytest.mark.parametrize("length", [896, 1021, 1152, 1280, 1408, 19280])
def test_a_header_of_any_length_is_read(folder: Path, length: int) -> None:
    # The file begins with this length: 1152 is what a pickle of protocol 4 begins with, 19280 is "PK".
    header, data = unpacked(file_of(folder).read_bytes())
    raw = json.dumps(header, separators=(",", ":")).encode()
    assert len(raw) <= 896
    before = aezoo.load(folder)
    seal(folder, packed(raw.ljust(length), data))
    x = torch.rand(2, 1, 6, 6)
    assert torch.equal(aezoo.load(folder)(x).x_hat, before(x).x_hat)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"1234567", "too short"),
        (struct.pack("<Q", 100) + b"{}", "a header of 100 bytes does not fit"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "a header of 18,446,744,073,709,551,615 bytes does not fit"),
        (packed(b"{'a': 1}", b""), "is not JSON"),
        (packed(b"[]", b""), "expected an object, found list"),
        (packed(b'{"a": NaN}', b""), "NaN is no JSON number"),
        (packed(b'{"a": {}, "a": {}}', b""), "the key 'a' stands there twice"),
        (packed(b'{"\xff": 1}', b""), "is not JSON"),
        (packed(b'{"a":' + b"[" * 100_000, b""), "is not JSON"),
        (packed(b'{"a":' + b"1" * 10_000 + b"}", b""), "is not JSON"),
    ],
    ids=["short", "long", "longest", "quotes", "list", "nan", "twice", "utf-8", "deep", "digits"],
)
def test_a_header_that_is_none(folder: Path, raw: bytes, words: str) -> None:
    seal(folder, raw)
    assert words in refused(folder, "not-safetensors")


# -- a header that lies -------------------------------------------------------------------------------

Lie = Callable[[Header, bytes], tuple[Header, bytes]]


def entry(name: str, **values: Any) -> Lie:
    def lie(header: Header, data: bytes) -> tuple[Header, bytes]:
        return header | {name: header[name] | values}, data

    return lie


def without(name: str, key: str) -> Lie:
    def lie(header: Header, data: bytes) -> tuple[Header, bytes]:
        return header | {name: {k: v for k, v in header[name].items() if k != key}}, data

    return lie


def moved(by: int, keep: int) -> Lie:
    """Every tensor from the byte `keep` on lies `by` bytes further on."""

    def lie(header: Header, data: bytes) -> tuple[Header, bytes]:
        found: Header = {}
        for name, value in header.items():
            places = value.get("data_offsets", [0, 0])
            found[name] = value
            if name != "__metadata__" and places[0] >= keep:
                found[name] = value | {"data_offsets": [place + by for place in places]}
        return found, data[:keep] + b"\0" * by + data[keep:]

    return lie


LIES: dict[str, tuple[Lie, str]] = {
    "missing tensor": (
        lambda header, data: ({k: v for k, v in header.items() if k != BIAS}, data),
        rf"tensor '{BIAS}' is missing \(1 of 9 are\)",
    ),
    "no tensors": (lambda header, data: ({}, b""), r"is missing \(9 of 9 are\)"),
    "extra tensor": (
        lambda header, data: (
            header | {"more": {"dtype": "U8", "shape": [4], "data_offsets": [len(data), len(data) + 4]}},
            data + b"more",
        ),
        "tensor 'more' is none that the spec asks for",
    ),
    "other shape": (entry(WEIGHT, shape=[36, 5]), rf"'{WEIGHT}' is .*\[36, 5\].*, expected .*\[5, 36\]"),
    "flat shape": (entry(WEIGHT, shape=[180]), r"\[180\].*, expected .*\[5, 36\]"),
    "empty huge shape": (entry(WEIGHT, shape=[0, 2**60]), r"\[0, 1152921504606846976\].*, expected"),
    "huge shape": (entry(WEIGHT, shape=[2**60, 2**60]), r"\[1152921504606846976, .*, expected"),
    "no shape": (without(WEIGHT, "shape"), "'shape': None.*, expected"),
    "other dtype": (entry(BIAS, dtype="I32"), f"'{BIAS}' is .*'I32'.*, expected .*'F32'"),
    "unknown dtype": (entry(BIAS, dtype="F9"), "'F9'.*, expected .*'F32'"),
    "no dtype": (without(BIAS, "dtype"), "'dtype': None.*, expected .*'F32'"),
    "no entry": (lambda header, data: (header | {BIAS: 5}, data), f"'{BIAS}' is .*None.*, expected"),
    "overlap": (
        lambda header, data: (header | {BIAS: header[NORM]}, data),
        r"begins at [\d,]+, expected [\d,]+",
    ),
    "gap": (moved(by=8, keep=8), r"begins at 16, expected 8"),
    "gap at the start": (moved(by=8, keep=0), r"begins at 8, expected 0"),
    "trailing bytes": (lambda header, data: (header, data + b"\0" * 8), r"the tensors end at [\d,]+ of"),
    "data cut off": (lambda header, data: (header, data[:-4]), r"the tensors end at [\d,]+ of"),
    "no data": (lambda header, data: (header, b""), r"the tensors end at [\d,]+ of"),
    "huge offsets": (entry(NORM, data_offsets=[2**62, 2**62 + 20]), "begins at 4,611,686,018,427,387,904"),
    "negative offsets": (entry(BIAS, data_offsets=[-20, 0]), "begins at -20, expected 0"),
    "offsets turned round": (entry(BIAS, data_offsets=[20, 0]), "takes -20 bytes, expected 20"),
    "short offsets": (entry(BIAS, data_offsets=[0, 19]), "takes 19 bytes, expected 20"),
    "true offsets": (entry(BIAS, data_offsets=[False, True]), r"no two offsets but \[False, True\]"),
    "fractional offsets": (entry(BIAS, data_offsets=[0.0, 20.0]), r"no two offsets but \[0.0, 20.0\]"),
    "three offsets": (entry(BIAS, data_offsets=[0, 20, 40]), r"no two offsets but \[0, 20, 40\]"),
    "no offsets": (without(BIAS, "data_offsets"), "no two offsets but None"),
    "offsets as text": (entry(BIAS, data_offsets="02"), "no two offsets but '02'"),
}


@pytest.mark.parametrize(("lie", "words"), LIES.values(), ids=LIES)
def test_a_header_that_lies(folder: Path, lie: Lie, words: str) -> None:
    header, data = unpacked(file_of(folder).read_bytes())
    seal(folder, packed(*lie(header, data)))
    with raises("tensor-mismatch", match=words):
        aezoo.load(folder)
    refused(folder, "tensor-mismatch")


def test_the_same_without_a_lie_is_read(folder: Path) -> None:
    # Else every test above could pass because `packed` writes something that nobody reads.
    before = aezoo.load(folder).state_dict()
    header, data = unpacked(file_of(folder).read_bytes())
    seal(folder, packed(dict(reversed(header.items())), data))
    after = aezoo.load(folder).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


METADATA = {"aezoo": "who"}


def sample() -> tuple[bytes, dict[str, tuple[torch.dtype, tuple[int, ...]]]]:
    header = {
        "__metadata__": METADATA,
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [8, 16]},
        "b": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]},
    }
    wanted: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "a": (torch.float32, (2, 1)),
        "b": (torch.int64, ()),
    }
    return packed(header, bytes(range(16))), wanted


JUNK = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"-", b"1e9", b"null", b"true", b'"', b"{}", b"[]", b",", b"\0", b"9" * 30]),
)


@given(place=st.integers(0, 165), cut=st.integers(0, 12), junk=JUNK)
@example(place=0, cut=0, junk=b"")
@settings(max_examples=200, deadline=None)
def test_damage_anywhere_gives_the_wanted_tensors_or_a_clear_error(place: int, cut: int, junk: bytes) -> None:
    whole, wanted = sample()
    raw = bytearray(whole[:place] + junk + whole[place + cut :])
    # Most damage to the header changes its length; with the right length it reaches the later checks.
    for fixed in (raw, bytearray(struct.pack("<Q", max(0, len(raw) - 24))) + raw[8:]):
        with tempfile.TemporaryDirectory() as parent:
            path = Path(parent) / "x"
            path.write_bytes(fixed)
            digest = hashlib.sha256(fixed).hexdigest()
            try:
                tensors = read_tensors(path, len(fixed), digest, wanted, METADATA)
            except CheckpointError:
                continue
        assert {k: (t.dtype, tuple(t.shape)) for k, t in tensors.items()} == wanted


# -- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [BIAS, "encoder.1.norm.running_var", "decoder.0.linear.weight"])
def test_a_weight_that_is_no_number_is_not_loaded(folder: Path, name: str, value: float) -> None:
    header, data = unpacked(file_of(folder).read_bytes())
    begin = header[name]["data_offsets"][0]
    seal(folder, packed(header, data[:begin] + struct.pack("<ff", value, value) + data[begin + 8 :]))
    assert f"{name} has 2 values that are NaN or infinite" in refused(folder, "not-finite")


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ([1.0, float("nan")], "1 value"),
        ([float("inf"), float("-inf"), 0.0], "2 values"),
        ([3e38, 3e38, float("inf")], "1 value"),
    ],
)
def test_values_that_are_no_numbers_are_counted(values: list[float], bad: str) -> None:
    with raises("not-finite", match=f"^w has {bad}"):
        refuse_nonfinite("w", torch.tensor(values))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([3e38, 3e38]),
        torch.full((3,), 60_000.0, dtype=torch.float16),
        torch.tensor([2**62, 2**62]),
        torch.tensor([True, True]),
        torch.empty(0),
    ],
    ids=["sum overflows", "half", "integers", "bool", "empty"],
)
def test_finite_values_are_let_pass(tensor: torch.Tensor) -> None:
    refuse_nonfinite("w", tensor)


@pytest.mark.parametrize(
    ("given_as", "stored_as"),
    [
        (torch.float64, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.int64, torch.int64),
        (torch.bool, torch.bool),
    ],
)
def test_tensors_are_stored_as_contiguous_copies(given_as: torch.dtype, stored_as: torch.dtype) -> None:
    live = torch.nn.Buffer(torch.arange(6).reshape(2, 3).to(given_as).t())
    stored = as_stored(live)
    assert stored.dtype == stored_as
    assert stored.is_contiguous()
    assert torch.equal(stored, live.to(stored_as))
    live.zero_()
    assert stored.any()


def test_stored_tensors_carry_no_gradient() -> None:
    assert not as_stored(torch.nn.Parameter(torch.ones(2))).requires_grad


# -- nothing is unpickled -----------------------------------------------------------------------------


def test_a_load_neither_unpickles_nor_maps_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a pickle was opened")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    before = file_of(folder).read_bytes()
    ae = aezoo.load(folder)
    with torch.no_grad():
        for parameter in ae.parameters():
            parameter.zero_()
    assert file_of(folder).read_bytes() == before


# -- JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"{} {}", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands there twice"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": [-Infinity]}', "-Infinity is no JSON number"),
        (b'{"a": 1e999}', "1e999 is no JSON number"),
        (b"[1]", "expected an object, found list"),
        (b"null", "expected an object, found NoneType"),
        (b'{"a":' * 100_000, "is not JSON"),
    ],
    ids=["empty", "open", "two", "utf-16", "twice", "nan", "infinity", "overflow", "list", "null", "deep"],
)
def test_json_is_strict(raw: bytes, words: str) -> None:
    with raises("invalid-config", match=r"^x\.json") as caught:
        strict_json(raw, Path("x.json"))
    assert words in str(caught.value)


def test_json_that_is_well_formed() -> None:
    text = '{"a": [1, 2.5, true, null, "ä"], "b": {"a": {}}}'
    assert strict_json(text.encode(), Path("x.json")) == json.loads(text)


def test_bytes_with_the_right_hash_are_let_pass() -> None:
    check_hash(Path("x"), b"abc", hashlib.sha256(b"abc").hexdigest())
    with raises("hash-mismatch", match="not the published bytes"):
        check_hash(Path("x"), b"abd", hashlib.sha256(b"abc").hexdigest())


def test_weights_of_another_spec_are_not_loaded(folder: Path) -> None:
    """Same names and shapes, right hash: only what the file says about itself tells them apart."""
    header, data = unpacked(file_of(folder).read_bytes())
    header["__metadata__"] = {"aezoo": header["__metadata__"]["aezoo"].replace("small", "other")}
    seal(folder, packed(header, data))
    message = refused(folder, "tensor-mismatch")
    assert "these are weights of" in message
    assert "other" in message


def test_weights_that_do_not_say_whose_they_are_are_not_loaded(folder: Path) -> None:
    header, data = unpacked(file_of(folder).read_bytes())
    del header["__metadata__"]
    seal(folder, packed(header, data))
    assert "these are weights of None, expected" in refused(folder, "tensor-mismatch")


# -- files that are none, or lie elsewhere ------------------------------------------------------------


def test_weights_behind_a_link_are_those_whose_hash_is_right(folder: Path, tmp_path: Path) -> None:
    # Caches of downloads link to files outside of the folder: the bytes count, not where they lie.
    blob = tmp_path / "blob"
    before = aezoo.load(folder).state_dict()
    file_of(folder).rename(blob)
    file_of(folder).symlink_to(blob)
    after = aezoo.load(folder).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    raw = blob.read_bytes()
    blob.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert "not the published bytes" in refused(folder, "hash-mismatch")
    blob.unlink()
    assert "is missing" in refused(folder, "missing-file")
    blob.symlink_to(file_of(folder))
    assert "cannot be read" in refused(folder, "missing-file")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "metrics.json", "training.json"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    path = folder / name
    path.unlink()
    os.mkfifo(path)

    def stop(number: int, frame: object) -> None:
        pytest.fail("waits for whoever writes to the pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(5)
    try:
        with raises("missing-file", match=r"cannot be read: .*regular file") as caught:
            aezoo.load(folder)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("before", range(0, 64, 8))
def test_where_tensors_lie_in_the_file_changes_no_bit_of_the_output(tmp_path: Path, before: int) -> None:
    # Sums over memory that begins elsewhere may be taken in another order.
    shape = (1, 9)
    layers = ["flatten", {"kind": "linear", "out_features": 1}, {"kind": "linear", "out_features": 9}]
    spec = small_spec(input={"shape": shape}, encoder=layers, decoder=[{"kind": "unflatten", "shape": shape}])
    ae = aezoo.build(spec).eval()
    folder = aezoo.save(ae, tmp_path / "small")
    header, data = unpacked(file_of(folder).read_bytes())
    raw = json.dumps(header, separators=(",", ":")).encode()
    seal(folder, packed(raw.ljust(len(raw) + -len(raw) % 8 + before), data))
    x = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0))
    loaded = aezoo.load(folder)
    for row in x.split(1):
        assert torch.equal(loaded(row).x_hat, ae(row).x_hat)


def test_a_file_larger_than_the_spec_asks_for_is_refused_before_it_is_read(folder: Path) -> None:
    # It takes no room on the disk, and would take all of it in memory.
    size = 2**30
    os.truncate(file_of(folder), size)
    config = json.loads((folder / "config.json").read_text())
    config["weights"]["bytes"] = size
    (folder / "config.json").write_text(json.dumps(config))
    with raises("invalid-config", match=rf"weights\.bytes: {size:,} is recorded, the spec asks for"):
        aezoo.load(folder)
