"""The stand-in for the Hub does what the real client and the faults' descriptions expect of it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests import hub_server
from tests.hub_server import GIT_ATTRIBUTES, HubServer, front_matter, git_blob, sha256

# The client's own way of uploading large files is deprecated by the library it does it with.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ann/net"
CARD = b"---\nlibrary_name: aezoo\ntags:\n- autoencoder\n- mnist\n---\n# A net\n"
WEIGHTS = bytes(range(256)) * 20
TEXT = b'{"a": 1}' * 10


def forget_connections() -> None:
    """Closes the client's connections, which it otherwise keeps for the whole process."""
    close: Callable[[], None] | None = getattr(huggingface_hub, "close_session", None)
    if close is not None:
        close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Where hf_xet is installed, the client would upload with it, whatever the server offers.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    forget_connections()
    with HubServer() as server:
        yield server
        forget_connections()
    assert server.errors == []


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def stranger(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


@pytest.fixture
def download(hub: HubServer, tmp_path: Path) -> Callable[..., bytes]:
    def download(
        name: str, revision: str = "main", repo: str = REPO, token: Any = False, **more: Any
    ) -> bytes:
        path = hf_hub_download(
            repo, name, revision=revision, endpoint=hub.url, cache_dir=tmp_path, token=token, **more
        )
        return Path(path).read_bytes()

    return download


def get(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
    """Asks without following redirections and without ever trying again."""
    address, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, "/" + path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def lines(hub: HubServer) -> list[str]:
    return [f"{request.method} {request.path}" for request in hub.requests]


# -- The client's whole round


def test_the_client_publishes(hub: HubServer, api: HfApi) -> None:
    assert api.whoami()["name"] == "ann"
    url = api.create_repo(REPO, private=True)
    assert (str(url), url.repo_id) == (f"{hub.url}/{REPO}", REPO)
    assert hub.repositories[REPO].private
    with pytest.raises(HfHubHTTPError) as conflict:
        api.create_repo(REPO)
    assert conflict.value.response.status_code == 409
    assert str(api.create_repo(REPO, exist_ok=True)) == str(url)

    start = api.model_info(REPO).sha
    first = api.create_commit(
        REPO,
        [
            CommitOperationAdd("model.safetensors", WEIGHTS),
            CommitOperationAdd("README.md", CARD),
            CommitOperationAdd("spec/net.json", TEXT),
            CommitOperationAdd("spec/old.json", b"{}"),
        ],
        commit_message="First",
        commit_description="More words",
        parent_commit=start,
    )
    made = hub.repositories[REPO].at()
    assert (made.oid, made.parent, made.message, made.description) == (
        first.oid,
        start,
        "First",
        "More words",
    )
    assert first.commit_url == f"{hub.url}/{REPO}/commit/{first.oid}"
    assert hub.files(REPO)["model.safetensors"] == WEIGHTS
    assert hub.validated == [CARD.decode()]

    second = api.create_commit(
        REPO,
        [CommitOperationDelete("spec/", is_folder=True), CommitOperationAdd("net.json", TEXT)],
        commit_message="Second",
        parent_commit=first.oid,
    )
    expected = {".gitattributes", "README.md", "model.safetensors", "net.json"}
    assert set(hub.files(REPO)) == expected
    assert hub.files(REPO, first.oid)["spec/old.json"] == b"{}"
    with pytest.raises(HfHubHTTPError) as stale:
        api.create_commit(
            REPO, [CommitOperationAdd("b", b"b")], commit_message="Third", parent_commit=first.oid
        )
    assert stale.value.response.status_code == 412
    assert hub.repositories[REPO].branches == {"main": second.oid}

    api.create_tag(REPO, tag="v1", revision=first.oid)
    with pytest.raises(HfHubHTTPError) as twice:
        api.create_tag(REPO, tag="v1")
    assert twice.value.response.status_code == 409
    api.create_tag(REPO, tag="v1", exist_ok=True)
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(REPO, tag="v2", revision="nothing")
    refs = api.list_repo_refs(REPO)
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.branches] == [
        ("main", "refs/heads/main", second.oid)
    ]
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first.oid)]

    api.delete_tag(REPO, tag="v1")
    assert hub.repositories[REPO].tags == {}
    api.delete_repo(REPO)
    assert hub.repositories == {}


def test_the_upload_carries_no_token_to_the_other_port(hub: HubServer, api: HfApi) -> None:
    api.create_repo(REPO)
    hub.requests.clear()
    api.create_commit(
        REPO, [CommitOperationAdd("model.safetensors", WEIGHTS)], commit_message="First", parent_commit=None
    )
    assert lines(hub) == [
        f"POST /api/models/{REPO}/preupload/main",
        f"POST /{REPO}.git/info/lfs/objects/batch",
        f"PUT /upload/{REPO}/{sha256(WEIGHTS)}",
        f"POST /{REPO}.git/info/lfs/objects/verify",
        f"POST /api/models/{REPO}/commit/main",
    ]
    upload = hub.requests[2]
    assert (upload.port, upload.status, "authorization" in upload.headers) == ("cdn", 200, False)
    refused = get(f"{hub.cdn_url}/upload/{REPO}/{sha256(b'a')}", "PUT", b"a", Authorization="Bearer x")
    assert refused[0] == 400
    assert get(f"{hub.cdn_url}/upload/{REPO}/{sha256(b'a')}", "PUT", b"b")[0] == 400

    # What is stored already is not sent again, under whatever name.
    hub.requests.clear()
    api.create_commit(REPO, [CommitOperationAdd("copy.safetensors", WEIGHTS)], commit_message="Second")
    assert "PUT" not in {request.method for request in hub.requests}
    assert hub.files(REPO)["copy.safetensors"] == WEIGHTS


def test_a_large_file_of_another_kind_and_a_file_on_disk_go_to_the_other_port(
    hub: HubServer, api: HfApi, tmp_path: Path
) -> None:
    api.create_repo(REPO)
    large, empty = tmp_path / "large.bin", tmp_path / "empty.safetensors"
    large.write_bytes(b"x" * 1_000_001)
    empty.write_bytes(b"")
    additions = [CommitOperationAdd(path.name, path) for path in (large, empty)]
    api.create_commit(REPO, additions, commit_message="First")
    siblings = {
        sibling.rfilename: sibling for sibling in api.model_info(REPO, files_metadata=True).siblings or []
    }
    assert (siblings["large.bin"].lfs is None, siblings["empty.safetensors"].lfs is None) == (False, True)


def test_what_did_not_change_is_not_committed_by_the_client_but_would_be_by_the_server(
    hub: HubServer, api: HfApi
) -> None:
    oid = hub.add(REPO, {"a.txt": b"a", "model.safetensors": WEIGHTS})
    same = [CommitOperationAdd("a.txt", b"a"), CommitOperationAdd("model.safetensors", WEIGHTS)]
    assert api.create_commit(REPO, same, commit_message="Again", parent_commit="0" * 40).oid == oid
    header = {"key": "header", "value": {"summary": "Nothing", "parentCommit": oid}}
    status, _, body = get(
        f"{hub.url}/api/models/{REPO}/commit/main",
        "POST",
        json.dumps(header).encode(),
        Authorization=f"Bearer {hub.token}",
    )
    made = json.loads(body)["commitOid"]
    assert (status, made != oid, hub.repositories[REPO].at().oid) == (200, True, made)
    assert hub.files(REPO) == hub.files(REPO, oid)


def test_commits_that_cannot_be_made(hub: HubServer, api: HfApi) -> None:
    hub.add(REPO, {"a.txt": b"a"}, tag="v1")
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        api.create_commit(REPO, [CommitOperationDelete("b.txt")], commit_message="Gone")
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(REPO, [CommitOperationAdd("b", b"b")], commit_message="To a tag", revision="v1")
    header = {"key": "header", "value": {"summary": "A large file that is not there"}}
    file = {"key": "lfsFile", "value": {"path": "b", "algo": "sha256", "oid": "0" * 64, "size": 1}}
    body = f"{json.dumps(header)}\n{json.dumps(file)}\n".encode()
    url = f"{hub.url}/api/models/{REPO}/commit/main"
    assert get(url, "POST", body, Authorization=f"Bearer {hub.token}")[0] == 400
    assert len(hub.repositories[REPO].commits) == 2


def test_model_info_tells_of_the_files(hub: HubServer, stranger: HfApi) -> None:
    oid = hub.add(
        REPO, {"README.md": CARD, "model.safetensors": WEIGHTS, "spec/net.json": TEXT}, tag="v1.0/a"
    )
    info = stranger.model_info(REPO, files_metadata=True)
    assert (info.id, info.sha, info.private, info.gated) == (REPO, oid, False, False)
    assert (info.tags, info.library_name) == (["aezoo", "autoencoder", "mnist"], "aezoo")
    assert info.last_modified is not None
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert set(siblings) == {".gitattributes", "README.md", "model.safetensors", "spec/net.json"}
    small, large = siblings["spec/net.json"], siblings["model.safetensors"]
    assert (small.size, small.blob_id, small.lfs) == (len(TEXT), git_blob(TEXT), None)
    assert large.size == len(WEIGHTS)
    assert large.lfs is not None
    assert (large.lfs.size, large.lfs.sha256) == (len(WEIGHTS), sha256(WEIGHTS))
    assert large.blob_id != git_blob(WEIGHTS)

    bare = stranger.model_info(REPO, revision="v1.0/a")
    assert bare.sha == oid
    assert {sibling.size for sibling in bare.siblings or []} == {None}
    assert stranger.model_info(REPO, revision=oid).sha == oid
    tree = {entry.path: entry for entry in stranger.list_repo_tree(REPO)}
    assert set(tree) == {".gitattributes", "README.md", "model.safetensors", "spec"}
    assert [entry.path for entry in stranger.list_repo_tree(REPO, "spec")] == ["spec/net.json"]
    assert len(list(stranger.list_repo_tree(REPO, recursive=True))) == 5
    (entry,) = stranger.get_paths_info(REPO, ["model.safetensors", "nothing"])
    assert entry == tree["model.safetensors"]


def test_git_agrees_with_the_ids(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(TEXT)
    asked = ["git", "hash-object", str(file)]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == git_blob(TEXT)


def test_the_client_downloads(hub: HubServer, download: Callable[..., bytes]) -> None:
    oid = hub.add(REPO, {"net.json": TEXT, "a folder/ü.safetensors": WEIGHTS}, tag="v1")
    hub.add(REPO, {"net.json": b"{}"})
    assert download("net.json", "v1") == TEXT
    assert download("net.json", "main") == b"{}"
    assert download("net.json", oid) == TEXT
    assert download("a folder/ü.safetensors", oid) == WEIGHTS
    assert [request.status for request in hub.requests] == [200, 200, 200, 200, 302, 200]
    assert [request.port for request in hub.requests] == ["hub"] * 5 + ["cdn"]
    hub.requests.clear()
    assert download("net.json", oid) == TEXT
    assert download("a folder/ü.safetensors", oid) == WEIGHTS
    assert hub.requests == []
    # A tag may have moved, so that the client asks for it, but has the file already.
    assert download("net.json", "v1") == TEXT
    assert lines(hub) == [f"HEAD /{REPO}/resolve/v1/net.json"]


def test_branches_and_tags_with_slashes(hub: HubServer, download: Callable[..., bytes]) -> None:
    hub.add(REPO, {"net.json": b"1"}, branch="try/1", tag="v/1")
    hub.add(REPO, {"net.json": None}, branch="try/1")
    assert download("net.json", "v/1") == b"1"
    with pytest.raises(EntryNotFoundError):
        download("net.json", "try/1")


def test_what_is_missing_raises_the_clients_own_exceptions(
    hub: HubServer, api: HfApi, stranger: HfApi, download: Callable[..., bytes], tmp_path: Path
) -> None:
    oid = hub.add(REPO, {"net.json": TEXT})
    with pytest.raises(EntryNotFoundError) as entry:
        download("nothing.json")
    assert entry.value.response.headers["X-Repo-Commit"] == oid
    assert (tmp_path / "models--ann--net" / ".no_exist" / oid / "nothing.json").exists()
    with pytest.raises(RevisionNotFoundError):
        download("net.json", "nothing")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="nothing")
    for token, status in ((False, 401), (hub.token, 404)):
        with pytest.raises(RepositoryNotFoundError) as missing:
            download("net.json", repo="ann/nothing", token=token)
        assert missing.value.response.status_code == status
    with pytest.raises(RepositoryNotFoundError):
        stranger.model_info("ann/nothing")
    with pytest.raises(RepositoryNotFoundError):
        api.create_commit("ann/nothing", [CommitOperationAdd("b", b"b")], commit_message="Nowhere")
    assert get(f"{hub.url}/api/nothing")[0] == 404


def test_private(hub: HubServer, api: HfApi, stranger: HfApi, download: Callable[..., bytes]) -> None:
    hub.add(REPO, {"net.json": TEXT, "model.safetensors": WEIGHTS}, private=True)
    with pytest.raises(RepositoryNotFoundError):
        download("net.json")
    with pytest.raises(RepositoryNotFoundError):
        stranger.model_info(REPO)
    with pytest.raises(HfHubHTTPError) as wrong:
        download("net.json", token="hf_wrong")
    assert wrong.value.response.status_code == 401
    assert not isinstance(wrong.value, RepositoryNotFoundError)
    assert download("net.json", token=hub.token) == TEXT
    assert download("model.safetensors", token=hub.token) == WEIGHTS
    assert "authorization" not in hub.requests[-1].headers
    assert api.model_info(REPO).private


def test_gated(hub: HubServer, stranger: HfApi, download: Callable[..., bytes]) -> None:
    hub.add(REPO, {"net.json": TEXT}, gated=True)
    for token, status in ((False, 401), (hub.token, 403)):
        with pytest.raises(GatedRepoError) as gated:
            download("net.json", token=token)
        assert gated.value.response.status_code == status
    assert stranger.model_info(REPO).gated == "manual"
    hub.repositories[REPO].granted = True
    assert download("net.json", token=hub.token) == TEXT


def test_only_the_token_writes_and_only_where_it_may(hub: HubServer, api: HfApi, stranger: HfApi) -> None:
    with pytest.raises(HfHubHTTPError) as unknown:
        stranger.create_repo(REPO)
    assert unknown.value.response.status_code == 401
    with pytest.raises(HfHubHTTPError) as foreign:
        api.create_repo("bob/net")
    assert foreign.value.response.status_code == 403
    hub.orgs.append("bob")
    api.create_repo("bob/net")
    assert api.whoami()["orgs"][0]["name"] == "bob"
    hub.role = "read"
    with pytest.raises(HfHubHTTPError) as reader:
        api.create_commit("bob/net", [CommitOperationAdd("b", b"b")], commit_message="Forbidden")
    assert reader.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub.url, token="hf_wrong").whoami()


def test_no_fault_means_headers_as_on_the_hub(hub: HubServer) -> None:
    oid = hub.add(REPO, {"net.json": TEXT, "model.safetensors": WEIGHTS})
    for method in ("HEAD", "GET"):
        status, headers, body = get(f"{hub.url}/{REPO}/resolve/main/net.json", method)
        assert (status, headers["X-Repo-Commit"], headers["ETag"]) == (200, oid, f'"{git_blob(TEXT)}"')
        assert (headers["Content-Length"], body) == (str(len(TEXT)), TEXT if method == "GET" else b"")
        status, headers, _ = get(f"{hub.url}/{REPO}/resolve/main/model.safetensors", method)
        assert (status, headers["X-Repo-Commit"]) == (302, oid)
        assert headers["X-Linked-Etag"] == f'"{sha256(WEIGHTS)}"'
        assert headers["X-Linked-Size"] == str(len(WEIGHTS))
        assert "X-Xet-Hash" not in headers
        large = get(headers["Location"], method)
        assert large[2] == (WEIGHTS if method == "GET" else b"")
    assert get(headers["Location"], Authorization=f"Bearer {hub.token}")[0] == 400


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=2-4", 206, TEXT[2:5]),
        ("bytes=70-", 206, TEXT[70:]),
        ("bytes=-5", 206, TEXT[-5:]),
        ("bytes=70-1000", 206, TEXT[70:]),
        ("bytes=80-", 416, b""),
        ("lines=1-2", 200, TEXT),
    ],
)
def test_ranges(hub: HubServer, asked: str, status: int, part: bytes) -> None:
    hub.add(REPO, {"net.json": TEXT})
    got, headers, body = get(f"{hub.url}/{REPO}/resolve/main/net.json", Range=asked)
    assert (got, body) == (status, part)
    if status != 200:
        assert headers["Content-Range"].endswith(f"/{len(TEXT)}")


# -- Faults


@pytest.fixture
def small(hub: HubServer) -> str:
    """The address of a small file."""
    hub.add(REPO, {"net.json": TEXT, "model.safetensors": WEIGHTS})
    return f"{hub.url}/{REPO}/resolve/main/net.json"


@pytest.fixture
def large(hub: HubServer, small: str) -> str:
    """The address that a large file is redirected to."""
    return get(f"{hub.url}/{REPO}/resolve/main/model.safetensors")[1]["Location"]


def test_a_fault_strikes_what_it_matches_as_often_as_it_is_told(
    hub: HubServer, small: str, large: str
) -> None:
    fault = hub.fault("status", match=r"GET .*\.json", after=1, times=2, status=500)
    assert get(small, "HEAD")[0] == get(large)[0] == 200
    assert [get(small)[0] for _ in range(5)] == [200, 500, 500, 200, 200]
    assert (fault.seen, fault.fired) == (5, 2)
    always = hub.fault("status", port="cdn", status=500)
    assert [get(large)[0], get(large)[0], get(small)[0]] == [500, 500, 200]
    hub.faults.remove(always)
    assert get(large)[0] == 200
    with pytest.raises(ValueError, match="'no-answer' is none of drop, lost"):
        hub.fault("no-answer")  # type: ignore[arg-type]


def test_drop(hub: HubServer, small: str, large: str) -> None:
    for url in (small, large, f"{hub.url}/api/models/{REPO}"):
        hub.fault("drop", times=1)
        with pytest.raises(http.client.RemoteDisconnected):
            get(url)
        assert hub.requests[-1].status == 0
        assert get(url)[0] == 200


def test_drop_undoes_nothing_and_lost_does_it(hub: HubServer, api: HfApi) -> None:
    api.create_repo(REPO)
    for kind, commits in (("drop", 1), ("lost", 2)):
        hub.fault(kind, match="POST .*/commit/", times=1)
        with pytest.raises(Exception, match=r"(?i)disconnected|closed"):
            api.create_commit(REPO, [CommitOperationAdd("a", b"a")], commit_message="Lost")
        assert len(hub.repositories[REPO].commits) == commits


def test_delay(hub: HubServer, small: str) -> None:
    hub.fault("delay", delay=0.3, times=1)
    start = time.monotonic()
    assert get(small)[2] == TEXT
    assert time.monotonic() - start >= 0.3


def test_delay_and_other_faults_go_together(hub: HubServer, small: str) -> None:
    hub.fault("delay", delay=0.1)
    hub.fault("status", status=504)
    start = time.monotonic()
    assert get(small)[0] == 504
    assert time.monotonic() - start >= 0.1


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_status(hub: HubServer, small: str, large: str, method: str) -> None:
    hub.fault("status", status=429, retry_after=1)
    for url in (small, large, f"{hub.url}/api/models/{REPO}"):
        status, headers, body = get(url, method)
        assert (status, headers["Retry-After"]) == (429, "1")
        assert bool(body) == (method == "GET")


def test_truncate(hub: HubServer, small: str, large: str) -> None:
    hub.fault("truncate")
    for url, content in ((small, TEXT), (large, WEIGHTS)):
        with pytest.raises(http.client.IncompleteRead) as cut:
            get(url)
        assert cut.value.partial == content[: len(content) // 2]
        assert cut.value.expected == len(content) - len(content) // 2


def test_short(hub: HubServer, small: str, large: str) -> None:
    hub.fault("short")
    for url, content in ((small, TEXT), (large, WEIGHTS)):
        _, headers, body = get(url)
        assert (headers["Content-Length"], body) == (str(len(content) // 2), content[: len(content) // 2])
    head = get(small.replace("net.json", "model.safetensors"), "HEAD")[1]
    assert head["X-Linked-Size"] == str(len(WEIGHTS) // 2)


def test_corrupt(hub: HubServer, small: str, large: str) -> None:
    for url in (small, large):
        _, good, content = get(url)
        fault = hub.fault("corrupt")
        _, bad, body = get(url)
        hub.faults.remove(fault)
        assert len(body) == len(content)
        assert sum(a != b for a, b in zip(body, content, strict=True)) == 1
        assert (bad["ETag"], bad["X-Repo-Commit"]) == (good["ETag"], good["X-Repo-Commit"])


def test_longer(hub: HubServer, small: str, large: str) -> None:
    redirecting = small.replace("net.json", "model.safetensors")
    hub.fault("longer")
    assert get(small, "HEAD")[1]["Content-Length"] == str(2 * len(TEXT) + 1)
    assert get(redirecting, "HEAD")[1]["X-Linked-Size"] == str(2 * len(WEIGHTS) + 1)
    with pytest.raises(http.client.IncompleteRead) as cut:
        get(large)
    assert cut.value.partial == WEIGHTS
    hub.faults.clear()
    hub.fault("longer", size=10**12)
    assert get(redirecting, "HEAD")[1]["X-Linked-Size"] == str(10**12)


def test_no_commit_header(hub: HubServer, small: str, download: Callable[..., bytes]) -> None:
    hub.fault("no-commit-header")
    assert get(small, "HEAD")[1]["X-Repo-Commit"] is None
    with pytest.raises(LocalEntryNotFoundError, match="X-Repo-Commit"):
        download("net.json")


def test_garbage_json(hub: HubServer, small: str, api: HfApi) -> None:
    hub.fault("garbage-json", match="/api/models/")
    with pytest.raises(json.JSONDecodeError):
        api.model_info(REPO)


# -- Faults as the client sees them


def test_the_client_resumes_what_was_truncated(
    hub: HubServer, small: str, download: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only whole pieces of this many bytes are kept, and with the usual 10 MB none of this file would be.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 256)
    hub.fault("truncate", match="GET", port="cdn", times=1)
    assert download("model.safetensors") == WEIGHTS
    assert hub.requests[-1].headers["range"] == f"bytes={len(WEIGHTS) // 2}-"
    assert hub.requests[-1].status == 206


def test_the_client_notices_a_wrong_length_and_nothing_else(
    hub: HubServer, small: str, download: Callable[..., bytes]
) -> None:
    hub.fault("short", match="GET", times=1)
    with pytest.raises(OSError, match="Consistency check failed"):
        download("net.json")
    hub.fault("longer", match="HEAD", times=1)
    with pytest.raises(OSError, match="Consistency check failed"):
        download("net.json")
    hub.fault("corrupt", match="GET", times=1)
    wrong = download("net.json")
    assert (len(wrong), wrong == TEXT) == (len(TEXT), False)


def test_the_client_falls_back_on_what_it_has(
    hub: HubServer, small: str, download: Callable[..., bytes]
) -> None:
    assert download("net.json") == TEXT
    hub.fault("status", status=500)
    assert download("net.json") == TEXT
    hub.faults.clear()
    hub.fault("status", match="HEAD .*safetensors", times=1, status=503)
    assert download("model.safetensors") == WEIGHTS


# -- The server itself


def test_stopping_leaves_nothing_open() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = threading.active_count()
        with HubServer() as hub:
            hub.add(REPO, {"a": b"a"})
            kept = http.client.HTTPConnection(hub.url.removeprefix("http://"))
            for _ in range(2):
                kept.request("GET", f"/{REPO}/resolve/main/a")
                assert kept.getresponse().read() == b"a"
            hub.fault("delay", delay=60)
            kept.request("GET", f"/{REPO}/resolve/main/a")
            while not hub.faults[0].seen:
                time.sleep(0.01)
            start = time.monotonic()
        assert time.monotonic() - start < 2
        kept.close()
        assert threading.active_count() == before
        with pytest.raises(urllib.error.URLError):
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(hub.url, timeout=5)


def test_many_at_once(hub: HubServer, api: HfApi) -> None:
    api.create_repo(REPO)
    body = json.dumps({"key": "header", "value": {"summary": "One of many"}}).encode()
    url, token = f"{hub.url}/api/models/{REPO}/commit/main", f"Bearer {hub.token}"
    threads = [
        threading.Thread(target=get, args=(url, "POST", body), kwargs={"Authorization": token})
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    repository, oid, history = hub.repositories[REPO], hub.repositories[REPO].at().oid, []
    while oid:
        history.append(oid)
        oid = repository.commits[oid].parent
    assert len(history) == len(set(history)) == len(repository.commits) == 17
    assert all(len(oid) == 40 and int(oid, 16) for oid in history)


def test_a_new_repository_has_attributes(hub: HubServer) -> None:
    oid = hub.add(REPO, {"a": b"a"})
    assert hub.files(REPO) == {".gitattributes": GIT_ATTRIBUTES, "a": b"a"}
    assert hub.files(REPO, hub.repositories[REPO].commits[oid].parent or "") == {
        ".gitattributes": GIT_ATTRIBUTES
    }


def test_front_matter() -> None:
    assert front_matter("# No front matter") == front_matter("---\nunfinished: x") == {}
    text = "---\na: 'word'\nlist:\n  - one\n  - \"two\"\nnested:\n  - type: x\nb:\n---\nc: d\n"
    assert front_matter(text) == {"a": "word", "list": ["one", "two"], "nested": "", "b": ""}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_as_a_program(how: signal.Signals) -> None:
    program = subprocess.Popen(
        [sys.executable, "-W", "error", str(Path(hub_server.__file__)), "--user", "bob", "--token", "hf_bob"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    try:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        status, _, body = get(f"{url}/api/whoami-v2", Authorization="Bearer hf_bob")
        assert (status, json.loads(body)["name"]) == (200, "bob")
    finally:
        program.send_signal(how)
        with program:
            try:
                out, err = program.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                program.kill()
                raise
    assert (program.returncode, out, err) == (0, "", "")
