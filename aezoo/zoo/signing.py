"""Signatures of variants: who published them, by OpenSSF model signing.

A signature (`model.sig`) covers every file of a variant but its card, whose text may be edited on the Hub.
Keys are elliptic-curve keys in PEM files, so that signing and verifying need no network connection. A push
makes the signature, which is a file of the repository; `model_signing verify key` reads it, too.
"""

import hashlib
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aezoo.errors import CheckpointError, optional
from aezoo.files import read_limited
from aezoo.zoo.schema import ALL_FILES, CARD, CONFIG, SIGNATURE, WEIGHTS
from aezoo.zoo.variant_files import VariantFiles, check_path

PASSWORD = "AEZOO_KEY_PASSWORD"  # noqa: S105 - the name of a variable
"""Environment variable with the password of an encrypted private key."""
SIGNED = tuple(name for name in ALL_FILES if name != CARD)
"""The files that a signature covers, where they exist."""
MAX_KEY_BYTES = 100_000


def sign(contents: Mapping[str, bytes], private_key: str | os.PathLike[str], present: bytes | None) -> bytes:
    """Signs the files of a variant.

    Args:
        contents: file -> bytes; the card is not signed.
        private_key: a PEM file with an elliptic-curve key; the variable `AEZOO_KEY_PASSWORD` holds its
            password, if it has one.
        present: the published signature, which is returned if it is one of these files by this key.

    Raises:
        CheckpointError: the key cannot be read, or is of another kind.
        MissingExtraError: model-signing is not installed.
    """
    signing = _library("signing")
    path = _key_file(private_key, "private key")
    password = os.environ.get(PASSWORD) or None
    with _folder_of(contents) as folder, _key_errors(path, "private key"):
        public = folder.parent / "public.pem"
        public.write_bytes(_public_key(path, password))
        if present is not None:
            try:
                _verify(folder, present, public)
            except CheckpointError:
                pass
            else:
                return present
        signature = folder.parent / SIGNATURE
        # It passes the password on to a function that takes bytes.
        secret: Any = password.encode() if password else None
        config = signing.Config().use_elliptic_key_signer(private_key=path, password=secret)
        config.sign(folder, signature)
        return signature.read_bytes()


def check_key(private_key: str | os.PathLike[str]) -> None:
    """Checks a private key before anything is uploaded.

    Raises:
        CheckpointError: it cannot be read, or is of another kind.
        MissingExtraError: model-signing is not installed.
    """
    sign({CONFIG: b"{}"}, private_key, None)


def check_signature(files: VariantFiles, public_key: str | os.PathLike[str]) -> None:
    """Verifies the signature of a variant, and pins the hash of every file that it covers.

    The bytes that were verified are those that a later read must find.

    Args:
        files: of the variant.
        public_key: a PEM file with an elliptic-curve key.

    Raises:
        CheckpointError: with the code `unsigned` if there is no signature, `bad-signature` if it is not one
            of these files by this key; or the key cannot be read.
        HubError: a file could not be downloaded.
        MissingExtraError: model-signing is not installed.
    """
    _library("verifying")
    key = _key_file(public_key, "public key")
    where = f"{files.repository}@{files.commit}" if files.repository else str(files.folder)
    if not files.has(SIGNATURE):
        raise CheckpointError("unsigned", f"{where} has no {SIGNATURE}, but {key} is to have signed it")
    contents = {name: _bytes_of(files, name) for name in SIGNED if files.has(name)}
    with _folder_of(contents) as folder, _key_errors(key, "public key"):
        try:
            _verify(folder, files.read(SIGNATURE), key)
        except CheckpointError as error:
            raise CheckpointError(error.code, f"{where}: {error}") from error
    files.pinned_hashes |= {name: hashlib.sha256(raw).hexdigest() for name, raw in contents.items()}


def _bytes_of(files: VariantFiles, name: str) -> bytes:
    return files.path(name).read_bytes() if name == WEIGHTS else files.read(name)


def _verify(folder: Path, signature: bytes, public_key: Path) -> None:
    path = folder.parent / "given.sig"
    path.write_bytes(signature)
    config = _library("verifying").Config().use_elliptic_key_verifier(public_key=public_key)
    try:
        config.verify(folder, path)
    except CheckpointError:
        raise
    except Exception as error:  # it raises what its parsers raise
        if isinstance(error, OSError):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        text = f"{SIGNATURE} is not a signature of these files by {public_key.name}: {reason}"
        raise CheckpointError("bad-signature", text) from error


@contextmanager
def _folder_of(contents: Mapping[str, bytes]) -> Generator[Path]:
    """Context manager with a temporary folder that holds the signed files and nothing else."""
    with tempfile.TemporaryDirectory(prefix="aezoo-") as place:
        folder = Path(place) / "variant"
        folder.mkdir()
        for name in SIGNED:
            if name in contents:
                (folder / name).write_bytes(contents[name])
        yield folder


@contextmanager
def _key_errors(path: Path, what: str) -> Generator[None]:
    """Turns errors of reading a key into one line."""
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        hint = f"expected a PEM file with an elliptic-curve {what}"
        if what == "private key":
            hint = f"{hint}, whose password, if any, is in {PASSWORD}"
        raise CheckpointError("missing-file", f"{path}: {hint}: {reason}") from error


def _key_file(given: str | os.PathLike[str], what: str) -> Path:
    path = check_path(Path(given), "missing-file")
    try:
        raw = read_limited(path, MAX_KEY_BYTES)
    except OSError as error:
        raise CheckpointError("missing-file", f"{path} cannot be read: {error.strerror}") from error
    if what.upper().encode() not in raw.upper():
        raise CheckpointError("missing-file", f"{path} is not a PEM file with a {what}")
    return path


def _public_key(private_key: Path, password: str | None) -> bytes:
    serialization = optional("cryptography.hazmat.primitives.serialization", "model-signing", "sign")
    secret = password.encode() if password else None
    curves = optional("cryptography.hazmat.primitives.asymmetric.ec", "model-signing", "sign")
    key: Any = serialization.load_pem_private_key(private_key.read_bytes(), secret)
    if not isinstance(key, curves.EllipticCurvePrivateKey):
        raise ValueError(f"found a key of another kind, {type(key).__name__}")
    return bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _library(module: str) -> Any:
    return optional(f"model_signing.{module}", "model-signing", "sign")
