"""Signatures: made by a push, verified by a load, refused if anything but the card has changed."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import aezoo
from aezoo.errors import CheckpointError
from aezoo.zoo.save import record_metrics
from aezoo.zoo.schema import CARD, CONFIG, FILES, METRICS, PREVIEW, SIGNATURE, TRAINING, WEIGHTS
from tests.hub_server import HubServer
from tests.zoo.conftest import Run
from tests.zoo.folders import contents, metric, same
from tests.zoo.hub_files import REPO, commits, on_hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning", "ignore:.*unpinned")


def write_keys(folder: Path, name: str, password: str = "") -> tuple[Path, Path]:
    """A new pair of keys: the files of the private and of the public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    how = (
        serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    )
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "ann")


def refused(folder: object, public: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as error:
        aezoo.load(folder, public_key=public)  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(error.value)
    return error.value


def test_a_signed_variant_loads_with_its_key_only(
    ann: HubServer, pushable: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    published = aezoo.push(pushable, sign=private)
    assert set(on_hub(ann)) - {".gitattributes"} == {*FILES, SIGNATURE}
    address = f"hub:{REPO}@{published.commit}"
    assert same(aezoo.load(address, public_key=public), aezoo.load(pushable))
    _, other = write_keys(tmp_path, "eve")
    error = refused(address, other)
    assert error.code == "bad-signature"
    assert str(error).startswith(f"{REPO}@{published.commit}: {SIGNATURE} is not a signature")
    # Without a key, a signature is not asked for.
    assert same(aezoo.load(address), aezoo.load(pushable))
    # The folder itself, which is not signed, has no signature.
    assert not (pushable / SIGNATURE).exists()
    assert refused(pushable, public).code == "unsigned"


def test_the_environment_names_the_key_for_the_hub(
    ann: HubServer,
    pushable: Path,
    keys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
) -> None:
    private, public = keys
    commit = aezoo.push(pushable, sign=private).commit
    monkeypatch.setenv("AEZOO_PUBLIC_KEY", str(public))
    assert aezoo.load(f"hub:{REPO}@{commit}").source.commit == commit
    args = ("encode", f"hub:{REPO}@{commit}", "x.npy", "-o", tmp_path / "l.npy", "--quiet")
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((2, 1, 6, 6), dtype=np.uint8))
    assert run(*args)[0] == 0
    # Folders, and the variants of this installation, are not from the Hub.
    assert aezoo.load(pushable) is not None
    monkeypatch.setenv("AEZOO_PUBLIC_KEY", str(write_keys(tmp_path, "eve")[1]))
    code, out, err = run(*args, "--force")
    assert (code, out, err.count("\n")) == (1, "", 1)
    with pytest.raises(CheckpointError, match="not a signature of these files"):
        aezoo.pull(f"hub:{REPO}@{commit}", tmp_path / "zoo")


@pytest.fixture
def pulled(ann: HubServer, pushable: Path, keys: tuple[Path, Path], tmp_path: Path) -> Path:
    commit = aezoo.push(pushable, sign=keys[0]).commit
    return aezoo.pull(f"hub:{REPO}@{commit}", tmp_path / "pulled")


def rewrite(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b" ")


CHANGES: dict[str, Callable[[Path], object]] = {
    **{f"{name} is changed": rewrite(name) for name in (CONFIG, METRICS, TRAINING, "spec.yaml", PREVIEW)},
    **{f"{name} is missing": lambda folder, name=name: (folder / name).unlink() for name in (METRICS, PREVIEW)},
    "the signature is empty": lambda folder: (folder / SIGNATURE).write_bytes(b""),
    "the signature is no signature": lambda folder: (folder / SIGNATURE).write_bytes(b"{}"),
    "the signature is another's": lambda folder: (folder / SIGNATURE).write_bytes(
        (folder / SIGNATURE).read_bytes().replace(b"A", b"B", 40)
    ),
}  # fmt: skip


def test_what_was_pulled_is_verified_without_a_network(pulled: Path, keys: tuple[Path, Path]) -> None:
    assert {path.name for path in pulled.iterdir()} == {*FILES, SIGNATURE}
    ae = aezoo.load(pulled, public_key=keys[1])
    assert ae.source.hashes[WEIGHTS] == ae.source.sha256
    rewrite(CARD)(pulled)
    aezoo.load(pulled, public_key=keys[1])
    # The tool of model signing accepts the same signature.
    command = [
        sys.executable,
        "-m",
        "model_signing",
        "verify",
        "key",
        "--ignore_unsigned_files",
        "--signature",
    ]
    done = subprocess.run(
        [*command, pulled / SIGNATURE, "--public_key", keys[1], pulled],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_refused(pulled: Path, keys: tuple[Path, Path], change: str) -> None:
    CHANGES[change](pulled)
    assert refused(pulled, keys[1]).code == "bad-signature"


def test_weights_of_another_network_are_refused(pulled: Path, keys: tuple[Path, Path]) -> None:
    ae = aezoo.load(pulled)
    next(ae.parameters()).data.mul_(1.5)
    other = aezoo.save(ae, pulled.parent / "other")
    for name in (CONFIG, WEIGHTS, METRICS, TRAINING):
        shutil.copy(other / name, pulled / name)
    aezoo.load(pulled)
    assert refused(pulled, keys[1]).code == "bad-signature"
    # A new folder has no signature of the old one.
    aezoo.save(ae, pulled, overwrite=True)
    assert not (pulled / SIGNATURE).exists()


def test_a_second_push_keeps_what_is_signed_already(
    ann: HubServer, pushable: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    aezoo.push(pushable, sign=keys[0], tag="v1")
    assert aezoo.push(pushable, sign=keys[0], tag="v1").changed == ()
    assert aezoo.push(pushable).changed == ()
    before = on_hub(ann)[SIGNATURE]
    # Another key signs anew; changed numbers without a key leave no signature of the old ones.
    private, public = write_keys(tmp_path, "bob")
    assert aezoo.push(pushable, sign=private).changed == (SIGNATURE,)
    assert on_hub(ann)[SIGNATURE] != before
    record_metrics(pushable, {"mse": metric(0.5)})
    assert SIGNATURE in aezoo.push(pushable).changed
    assert SIGNATURE not in on_hub(ann)
    assert refused(f"hub:{REPO}@{commits(ann)[-1]}", public).code == "unsigned"


def test_a_key_with_a_password(
    ann: HubServer, pushable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = write_keys(tmp_path, "ann", password="secret")
    with pytest.raises(CheckpointError, match="AEZOO_KEY_PASSWORD"):
        aezoo.push(pushable, sign=private)
    assert not ann.repositories
    monkeypatch.setenv("AEZOO_KEY_PASSWORD", "secret")
    commit = aezoo.push(pushable, sign=private).commit
    aezoo.load(f"hub:{REPO}@{commit}", public_key=public)


def test_what_is_no_key_is_refused_before_anything_is_sent(
    ann: HubServer, pushable: Path, keys: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    other = rsa.generate_private_key(65537, 2048)
    rsa_key = tmp_path / "rsa.pem"
    rsa_key.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    text = tmp_path / "text.pem"
    text.write_text("no key")
    broken = tmp_path / "broken.pem"
    broken.write_bytes(keys[0].read_bytes()[:80] + b"\n-----END PRIVATE KEY-----\n")
    for path in (tmp_path / "missing.pem", text, broken, rsa_key, keys[1], tmp_path):
        for extra in ((), ("--dry-run", "--org", "ann")):
            code, out, err = run("push", pushable, "--sign", path, *extra)
            assert (code, out, err.count("\n")) == (1, "", 1), (path, err)
            assert path.name in err
    assert not ann.repositories
    for path in (tmp_path / "missing.pem", text, keys[0], tmp_path):
        with pytest.raises(CheckpointError) as error:
            aezoo.load(pushable, public_key=path)
        assert "\n" not in str(error.value)


def test_a_missing_library_is_named(
    pushable: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    monkeypatch.setitem(sys.modules, "model_signing.verifying", None)
    before = contents(pushable)
    with pytest.raises(aezoo.MissingExtraError, match=r"pip install 'aezoo\[sign\]'"):
        aezoo.load(pushable, public_key=keys[1])
    assert contents(pushable) == before
