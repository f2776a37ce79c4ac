"""The Hub and this machine: disks, environment variables, tokens, certificates, and several processes."""

import contextlib
import errno
import os
import resource
import select
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import aezoo
from aezoo.errors import HubError
from aezoo.zoo.schema import CONFIG, WEIGHTS
from tests.hub_server import HubServer, sha256
from tests.raising import raises
from tests.zoo.hub_files import REPO, Files, Rejection, assert_is, fresh_connections, in_cache, lines

# -- the disk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file/hub", 300 * "x", "/proc/nothing"])
def test_a_cache_that_cannot_be_created(
    hub: HubServer, files: Files, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(REPO, files)
    (tmp_path / "file").write_bytes(b"mine")
    cache = tmp_path / place
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    with raises("cache") as caught:
        aezoo.load(f"hub:{REPO}@{commit}")
    for word in (f"{REPO}@{commit}: {CONFIG}", f"{cache} cannot be written", "HF_HOME"):
        assert word in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert (tmp_path / "file").read_bytes() == b"mine"
    monkeypatch.delenv("HF_HUB_CACHE")
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), files)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_read_only_cache_is_read(
    hub: HubServer,
    rejects: Rejection,
    files: Files,
    others: Files,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is simulated, since root may write anywhere."""
    hub.repositories[REPO].tags["v1"] = hub.repositories[REPO].branches["main"]
    aezoo.load(f"hub:{REPO}@v1")

    def forbidden(path: Any, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "makedirs", forbidden)
    assert_is(aezoo.load(f"hub:{REPO}@v1"), files)
    commit = hub.add(REPO, others)
    words = (f"{REPO}@{commit}: {CONFIG}", "cannot be written", os.strerror(code), "HF_HOME")
    rejects(f"hub:{REPO}@{commit}", "cache", *words, cause=OSError)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let files of this process grow to this size only; a larger one fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_full_disk(hub: HubServer, rejects: Rejection, others: Files, name: str, tmp_path: Path) -> None:
    others = {CONFIG: others[CONFIG], WEIGHTS: others[WEIGHTS]}
    assert len(others[CONFIG]) < len(others[WEIGHTS])
    commit = hub.add("ann/other", others)
    with largest_file(len(others[name]) - 1):
        words = f"ann/other@{commit}: {name}: the disk under {tmp_path / 'hf' / 'hub'} is full"
        rejects(f"hub:ann/other@{commit}", "cache", words, cause=OSError)
    assert not in_cache(tmp_path, commit, name, "ann/other").exists()
    assert not list((tmp_path / "hf").rglob("*.incomplete"))
    assert_is(aezoo.load(f"hub:ann/other@{commit}"), others)


# -- environment variables ----------------------------------------------------------------------------


def test_the_endpoint_is_read_on_every_call(
    hub: HubServer, files: Files, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, files)
    assert_is(aezoo.load(f"hub:{REPO}@main"), files)
    with HubServer() as mirror:
        mirror.add(REPO, others)
        monkeypatch.setenv("HF_ENDPOINT", f"{mirror.url}/")
        asked = len(hub.requests)
        assert_is(aezoo.load(f"hub:{REPO}@main"), others)
    assert lines(hub, asked) == []


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HOME": "{0}/other"}, "other/hub"),
        ({"HF_HOME": "{0}/other", "HF_HUB_CACHE": "{0}/cache"}, "cache"),
        ({"HOME": "{0}", "HF_HOME": "~/other"}, "other/hub"),
        ({"PLACE": "{0}", "HF_HUB_CACHE": "$PLACE/cache"}, "cache"),
    ],
)
def test_the_cache_folder_is_read_on_every_call(
    hub: HubServer,
    files: Files,
    variables: dict[str, str],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = f"hub:{REPO}@{hub.add(REPO, files)}"
    aezoo.load(address)
    before = sorted((tmp_path / "hf").rglob("*"))
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.format(tmp_path))
    monkeypatch.chdir(tmp_path)
    ae = aezoo.load(address)
    assert_is(ae, files)
    assert Path(str(ae.source.path)).is_relative_to(tmp_path / place)
    assert (tmp_path / place / "models--ann--small").is_dir()
    assert sorted((tmp_path / "hf").rglob("*")) == before


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("on", True), ("TRUE", True), ("0", False), ("", False)]
)
def test_offline_mode_is_read_on_every_call(
    hub: HubServer, files: Files, value: str, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, files)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    if offline:
        with raises("not-cached"):
            aezoo.load(f"hub:{REPO}@main")
    else:
        assert_is(aezoo.load(f"hub:{REPO}@main"), files)
    assert bool(hub.requests) != offline


def test_the_token_goes_to_the_hub_only(ann: HubServer, files: Files) -> None:
    ann.add(REPO, files, private=True)
    # The download is repeated, which must not send the token either.
    ann.fault("corrupt", match=f"GET .*{WEIGHTS}", times=1)
    assert_is(aezoo.load(f"hub:{REPO}@main"), files)
    by_port = {port: [r for r in ann.requests if r.port == port] for port in ("hub", "cdn")}
    assert len(by_port["cdn"]) == 2
    assert all(r.headers["authorization"] == f"Bearer {ann.token}" for r in by_port["hub"])
    assert not [r for r in by_port["cdn"] if ann.token in f"{r.headers} {r.path}"]


# -- certificates -------------------------------------------------------------------------------------

CERTIFICATES = Path(__file__).parents[1] / "certificates"
"""Valid until 2100; the authority's private key was not kept."""


class Encrypted(socketserver.ThreadingTCPServer):
    """The Hub by HTTPS, with a certificate that a private authority signed."""

    daemon_threads = True

    def __init__(self, hub: HubServer) -> None:
        address = urlsplit(hub.url)
        self.target = (str(address.hostname), int(address.port or 0))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(CERTIFICATES / "server.pem")
        super().__init__(("127.0.0.1", 0), Forwarding)
        self.url = f"https://127.0.0.1:{self.server_address[1]}"


class Forwarding(socketserver.BaseRequestHandler):
    """Forwards bytes in both directions, until one side closes."""

    server: Encrypted

    def handle(self) -> None:
        # A client that does not trust the certificate closes the connection.
        with (
            contextlib.suppress(OSError),
            self.server.context.wrap_socket(self.request, server_side=True) as client,
            socket.create_connection(self.server.target) as hub,
        ):
            while True:
                ready = [client] if client.pending() else select.select([client, hub], [], [])[0]
                for side in ready:
                    if not (data := side.recv(65536)):
                        return
                    (hub if side is client else client).sendall(data)


@pytest.fixture
def encrypted(hub: HubServer, connections: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Encrypted]:
    with Encrypted(hub) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        fresh_connections()
        server.shutdown()
        thread.join()


def test_an_untrusted_certificate(hub: HubServer, files: Files, encrypted: Encrypted) -> None:
    hub.add(REPO, files)
    with raises("unreachable") as caught:
        aezoo.load(f"hub:{REPO}@main")
    for word in (f"{encrypted.url} cannot be reached", "certificate", "SSL_CERT_FILE"):
        assert word in str(caught.value)
    assert caught.value.__cause__ is not None
    assert hub.requests == []


@pytest.mark.usefixtures("encrypted")
def test_a_custom_certificate_authority(
    hub: HubServer, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):  # the latter for older clients
        monkeypatch.setenv(variable, str(CERTIFICATES / "authority.pem"))
    hub.add(REPO, files)
    assert_is(aezoo.load(f"hub:{REPO}@main"), files)


@pytest.mark.usefixtures("encrypted")
def test_a_missing_certificate_file(
    hub: HubServer, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, files)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    with pytest.raises(HubError, match=r"SSL_CERT_FILE names .*nothing\.pem, which does not exist") as caught:
        aezoo.load(f"hub:{REPO}@main")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


# -- processes ----------------------------------------------------------------------------------------

WORKER = """
import os, sys
import aezoo
print("ready", flush=True)
for line in sys.stdin:
    os.environ["HF_HOME"], address = line.split()
    try:
        print(aezoo.load(address).source.sha256, flush=True)
    except BaseException as error:
        print(repr(error), flush=True)
"""


@contextlib.contextmanager
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process that loads addresses into caches, as it is told."""
    command = [sys.executable, "-W", "error", "-c", WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert answer(process) == "ready"
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], home: Path, address: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{home} {address}\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
def test_two_processes_load_into_one_empty_cache(hub: HubServer, files: Files, tmp_path: Path) -> None:
    commit = hub.add(REPO, files)
    # So that their downloads overlap.
    hub.fault("delay", delay=0.02)
    with worker() as one, worker() as two:
        for round in range(8):
            address = f"hub:{REPO}@{'main' if round % 2 else commit}"
            for process in (one, two):
                tell(process, tmp_path / str(round), address)
            assert [answer(one), answer(two)] == 2 * [sha256(files[WEIGHTS])]
            assert not list((tmp_path / str(round)).rglob("*.incomplete"))


@pytest.mark.slow
def test_a_process_that_is_killed_in_a_download_leaves_a_usable_cache(
    hub: HubServer, files: Files, tmp_path: Path
) -> None:
    address = f"hub:{REPO}@{hub.add(REPO, files)}"
    delay = hub.fault("delay", match=f"GET .*{WEIGHTS}", delay=60)
    with worker() as process:
        tell(process, tmp_path / "hf", address)
        while not delay.fired:
            time.sleep(0.01)
        process.kill()
    assert list((tmp_path / "hf").rglob("*.incomplete"))
    hub.faults.clear()
    start = time.monotonic()
    assert_is(aezoo.load(address), files)
    assert time.monotonic() - start < 5
