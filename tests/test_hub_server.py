"""The stand-in for the Hub does what the real client expects, and its faults what their descriptions say."""

import http.client
import json
import subprocess
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

from tests.hub_server import GIT_ATTRIBUTES, HubServer, git_blob, sha256
from tests.zoo.hub_files import fresh_connections, lines

# The client's upload of large files is deprecated by the HTTP library that it uses.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ann/net"
CARD = b"---\nlibrary_name: aezoo\n---\n# A net\n"
WEIGHTS = bytes(range(256)) * 20
TEXT = b'{"a": 1}' * 10


@pytest.fixture
def hub() -> Iterator[HubServer]:
    fresh_connections()
    with HubServer() as server:
        yield server
        fresh_connections()
    assert server.errors == []


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def stranger(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


@pytest.fixture
def download(hub: HubServer, tmp_path: Path) -> Callable[..., bytes]:
    def download(name: str, revision: str = "main", repo: str = REPO, token: Any = False) -> bytes:
        path = hf_hub_download(
            repo, name, revision=revision, endpoint=hub.url, cache_dir=tmp_path, token=token
        )
        return Path(path).read_bytes()

    return download


def get(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
    """Send one request, without following redirections."""
    address, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, "/" + path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


# -- the client's whole round -------------------------------------------------------------------------


def test_the_client_publishes(hub: HubServer, api: HfApi) -> None:
    assert api.whoami()["name"] == "ann"
    url = api.create_repo(REPO, private=True)
    assert (str(url), url.repo_id) == (f"{hub.url}/{REPO}", REPO)
    assert hub.repositories[REPO].private
    assert hub.files(REPO) == {".gitattributes": GIT_ATTRIBUTES}
    with pytest.raises(HfHubHTTPError) as conflict:
        api.create_repo(REPO)
    assert status_of(conflict) == 409
    assert str(api.create_repo(REPO, exist_ok=True)) == str(url)

    start = api.model_info(REPO).sha
    files = {"model.safetensors": WEIGHTS, "README.md": CARD, "net.json": TEXT, "old.json": b"{}"}
    additions = [CommitOperationAdd(name, raw) for name, raw in files.items()]
    first = api.create_commit(REPO, additions, commit_message="First", parent_commit=start)
    made = hub.repositories[REPO].at()
    assert (made.oid, made.parent, made.message) == (first.oid, start, "First")
    assert first.commit_url == f"{hub.url}/{REPO}/commit/{first.oid}"
    assert hub.files(REPO) == {".gitattributes": GIT_ATTRIBUTES, **files}

    changes = [CommitOperationDelete("old.json"), CommitOperationAdd("net.json", b"new")]
    second = api.create_commit(REPO, changes, commit_message="Second", parent_commit=first.oid)
    assert set(hub.files(REPO)) == {".gitattributes", "README.md", "model.safetensors", "net.json"}
    assert hub.files(REPO, first.oid)["old.json"] == b"{}"
    addition = [CommitOperationAdd("b", b"b")]
    with pytest.raises(HfHubHTTPError) as stale:
        api.create_commit(REPO, addition, commit_message="Third", parent_commit=first.oid)
    assert status_of(stale) == 412
    assert hub.repositories[REPO].branches == {"main": second.oid}

    api.create_tag(REPO, tag="v1", revision=first.oid)
    with pytest.raises(HfHubHTTPError) as twice:
        api.create_tag(REPO, tag="v1")
    assert status_of(twice) == 409
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(REPO, tag="v2", revision="nothing")
    refs = api.list_repo_refs(REPO)
    assert [(ref.name, ref.target_commit) for ref in refs.branches] == [("main", second.oid)]
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first.oid)]


def test_the_upload_carries_no_token_to_the_other_port(hub: HubServer, api: HfApi) -> None:
    api.create_repo(REPO)
    hub.requests.clear()
    api.create_commit(REPO, [CommitOperationAdd("model.safetensors", WEIGHTS)], commit_message="First")
    assert lines(hub) == [
        f"POST /api/models/{REPO}/preupload/main",
        f"POST /{REPO}.git/info/lfs/objects/batch",
        f"PUT /upload/{REPO}/{sha256(WEIGHTS)}",
        f"POST /{REPO}.git/info/lfs/objects/verify",
        f"POST /api/models/{REPO}/commit/main",
    ]
    upload = hub.requests[2]
    assert (upload.port, upload.status, "authorization" in upload.headers) == ("cdn", 200, False)
    url = f"{hub.cdn_url}/upload/{REPO}/{sha256(b'a')}"
    assert get(url, "PUT", b"a", Authorization="Bearer x")[0] == 400
    assert get(url, "PUT", b"b")[0] == 400

    # What is stored already is not sent again under another name.
    hub.requests.clear()
    api.create_commit(REPO, [CommitOperationAdd("copy.safetensors", WEIGHTS)], commit_message="Second")
    assert "PUT" not in {request.method for request in hub.requests}
    assert hub.files(REPO)["copy.safetensors"] == WEIGHTS


def test_the_client_makes_no_commit_without_changes(hub: HubServer, api: HfApi) -> None:
    oid = hub.add(REPO, {"a.txt": b"a", "model.safetensors": WEIGHTS})
    same = [CommitOperationAdd("a.txt", b"a"), CommitOperationAdd("model.safetensors", WEIGHTS)]
    assert api.create_commit(REPO, same, commit_message="Again", parent_commit="0" * 40).oid == oid


def test_commits_that_cannot_be_made(hub: HubServer, api: HfApi) -> None:
    hub.add(REPO, {"a.txt": b"a"}, tag="v1")
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        api.create_commit(REPO, [CommitOperationDelete("b.txt")], commit_message="Gone")
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(REPO, [CommitOperationAdd("b", b"b")], commit_message="To a tag", revision="v1")
    header = {"key": "header", "value": {"summary": "A large file that does not exist"}}
    file = {"key": "lfsFile", "value": {"path": "b", "algo": "sha256", "oid": "0" * 64, "size": 1}}
    body = f"{json.dumps(header)}\n{json.dumps(file)}\n".encode()
    url = f"{hub.url}/api/models/{REPO}/commit/main"
    assert get(url, "POST", body, Authorization=f"Bearer {hub.token}")[0] == 400
    assert len(hub.repositories[REPO].commits) == 2


def test_model_info_lists_the_files(hub: HubServer, stranger: HfApi, tmp_path: Path) -> None:
    large = b"x" * 1_000_001
    files = {"model.safetensors": WEIGHTS, "net.json": TEXT, "large.bin": large, "empty.safetensors": b""}
    oid = hub.add(REPO, files, tag="v1.0/a")
    info = stranger.model_info(REPO, files_metadata=True)
    assert (info.id, info.sha, info.private, info.gated) == (REPO, oid, False, False)
    found = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert set(found) == {".gitattributes", *files}
    assert {name for name, sibling in found.items() if sibling.lfs} == {"model.safetensors", "large.bin"}
    (tmp_path / "file").write_bytes(TEXT)
    git = subprocess.run(["git", "hash-object", str(tmp_path / "file")], capture_output=True, check=True)
    small, weights = found["net.json"], found["model.safetensors"]
    assert (small.size, small.blob_id) == (len(TEXT), git.stdout.decode().strip())
    assert weights.lfs is not None
    assert (weights.size, weights.lfs.sha256) == (len(WEIGHTS), sha256(WEIGHTS))
    assert weights.blob_id != git_blob(WEIGHTS)
    for revision in ("v1.0/a", oid):
        assert stranger.model_info(REPO, revision=revision).sha == oid
    assert {sibling.size for sibling in stranger.model_info(REPO).siblings or []} == {None}


def test_the_client_downloads(hub: HubServer, download: Callable[..., bytes]) -> None:
    oid = hub.add(REPO, {"net.json": TEXT, "a folder/ü.safetensors": WEIGHTS}, tag="v/1")
    hub.add(REPO, {"net.json": b"{}"})
    assert download("net.json", "v/1") == TEXT
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
    assert download("net.json", "v/1") == TEXT
    assert lines(hub) == [f"HEAD /{REPO}/resolve/v%2F1/net.json"]


def test_the_client_raises_its_own_exceptions(
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
        assert status_of(missing) == status
    with pytest.raises(RepositoryNotFoundError):
        stranger.model_info("ann/nothing")
    with pytest.raises(RepositoryNotFoundError):
        api.create_commit("ann/nothing", [CommitOperationAdd("b", b"b")], commit_message="Nowhere")
    assert get(f"{hub.url}/api/nothing")[0] == 404


def test_private_and_gated_repositories(
    hub: HubServer, api: HfApi, stranger: HfApi, download: Callable[..., bytes]
) -> None:
    hub.add(REPO, {"net.json": TEXT, "model.safetensors": WEIGHTS}, private=True)
    with pytest.raises(RepositoryNotFoundError):
        download("net.json")
    with pytest.raises(RepositoryNotFoundError):
        stranger.model_info(REPO)
    with pytest.raises(HfHubHTTPError) as wrong:
        download("net.json", token="hf_wrong")
    assert status_of(wrong) == 401
    assert not isinstance(wrong.value, RepositoryNotFoundError)
    assert download("net.json", token=hub.token) == TEXT
    assert download("model.safetensors", token=hub.token) == WEIGHTS
    assert "authorization" not in hub.requests[-1].headers
    assert api.model_info(REPO).private

    hub.add("ann/gated", {"net.json": TEXT}, gated=True)
    for token, status in ((False, 401), (hub.token, 403)):
        with pytest.raises(GatedRepoError) as gated:
            download("net.json", repo="ann/gated", token=token)
        assert status_of(gated) == status
    assert stranger.model_info("ann/gated").gated == "manual"
    hub.repositories["ann/gated"].granted = True
    assert download("net.json", repo="ann/gated", token=hub.token) == TEXT


def test_only_the_token_writes_and_only_where_it_may(hub: HubServer, api: HfApi, stranger: HfApi) -> None:
    with pytest.raises(HfHubHTTPError) as unknown:
        stranger.create_repo(REPO)
    with pytest.raises(HfHubHTTPError) as foreign:
        api.create_repo("bob/net")
    hub.orgs.append("bob")
    api.create_repo("bob/net")
    assert api.whoami()["orgs"][0]["name"] == "bob"
    hub.role = "read"
    with pytest.raises(HfHubHTTPError) as reader:
        api.create_commit("bob/net", [CommitOperationAdd("b", b"b")], commit_message="Forbidden")
    assert [status_of(error) for error in (unknown, foreign, reader)] == [401, 403, 403]
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub.url, token="hf_wrong").whoami()


# -- faults -------------------------------------------------------------------------------------------


@pytest.fixture
def small(hub: HubServer) -> str:
    """The address of a small file."""
    hub.add(REPO, {"net.json": TEXT, "model.safetensors": WEIGHTS})
    return f"{hub.url}/{REPO}/resolve/main/net.json"


@pytest.fixture
def large(hub: HubServer, small: str) -> str:
    """The address that a large file is redirected to."""
    return get(small.replace("net.json", "model.safetensors"))[1]["Location"]


def test_headers_without_a_fault(hub: HubServer, small: str, large: str) -> None:
    oid = hub.repositories[REPO].at().oid
    for method in ("HEAD", "GET"):
        status, headers, body = get(small, method)
        assert (status, headers["X-Repo-Commit"], headers["ETag"]) == (200, oid, f'"{git_blob(TEXT)}"')
        assert (headers["Content-Length"], body) == (str(len(TEXT)), TEXT if method == "GET" else b"")
        status, headers, _ = get(small.replace("net.json", "model.safetensors"), method)
        assert (status, headers["X-Repo-Commit"]) == (302, oid)
        assert headers["X-Linked-Etag"] == f'"{sha256(WEIGHTS)}"'
        assert headers["X-Linked-Size"] == str(len(WEIGHTS))
        assert "X-Xet-Hash" not in headers
        assert get(large, method)[2] == (WEIGHTS if method == "GET" else b"")
    assert get(large, Authorization=f"Bearer {hub.token}")[0] == 400


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
    with pytest.raises(ValueError, match="'no-answer' is not one of drop, lost"):
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


def test_delay_goes_with_other_faults(hub: HubServer, small: str) -> None:
    hub.fault("delay", delay=0.1)
    start = time.monotonic()
    assert get(small)[2] == TEXT
    hub.fault("status", status=504)
    assert get(small)[0] == 504
    assert time.monotonic() - start >= 0.2


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_status(hub: HubServer, small: str, large: str, method: str) -> None:
    hub.fault("status", status=429, retry_after=1)
    for url in (small, large, f"{hub.url}/api/models/{REPO}"):
        status, headers, body = get(url, method)
        assert (status, headers["Retry-After"]) == (429, "1")
        assert bool(body) == (method == "GET")


def test_truncate_and_short(hub: HubServer, small: str, large: str) -> None:
    for url, content in ((small, TEXT), (large, WEIGHTS)):
        half = content[: len(content) // 2]
        hub.fault("truncate", times=1)
        with pytest.raises(http.client.IncompleteRead) as cut:
            get(url)
        assert (cut.value.partial, cut.value.expected) == (half, len(content) - len(half))
        hub.fault("short", times=1)
        _, headers, body = get(url)
        assert (headers["Content-Length"], body) == (str(len(half)), half)
    hub.fault("short")
    head = get(small.replace("net.json", "model.safetensors"), "HEAD")[1]
    assert head["X-Linked-Size"] == str(len(WEIGHTS) // 2)


def test_corrupt(hub: HubServer, small: str, large: str) -> None:
    for url in (small, large):
        _, good, content = get(url)
        hub.fault("corrupt", times=1)
        _, bad, body = get(url)
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


# -- faults as the client sees them -------------------------------------------------------------------


def test_the_client_refuses_answers_without_a_commit_or_json(
    hub: HubServer, small: str, api: HfApi, download: Callable[..., bytes]
) -> None:
    hub.fault("no-commit-header")
    assert get(small, "HEAD")[1]["X-Repo-Commit"] is None
    with pytest.raises(LocalEntryNotFoundError, match="X-Repo-Commit"):
        download("net.json")
    hub.fault("garbage-json", match="/api/models/")
    with pytest.raises(json.JSONDecodeError):
        api.model_info(REPO)


def test_the_client_resumes_a_truncated_download(
    hub: HubServer, small: str, download: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only whole pieces of this many bytes are kept, and none of this file with the usual 10 MB.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 256)
    hub.fault("truncate", match="GET", port="cdn", times=1)
    assert download("model.safetensors") == WEIGHTS
    assert hub.requests[-1].headers["range"] == f"bytes={len(WEIGHTS) // 2}-"
    assert hub.requests[-1].status == 206
    status, headers, _ = get(small, Range=f"bytes={len(TEXT)}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(TEXT)}")


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


def test_the_client_falls_back_on_its_cache(
    hub: HubServer, small: str, download: Callable[..., bytes]
) -> None:
    assert download("net.json") == TEXT
    hub.fault("status", status=500)
    assert download("net.json") == TEXT
    hub.faults.clear()
    hub.fault("status", match="HEAD .*safetensors", times=1, status=503)
    assert download("model.safetensors") == WEIGHTS


# -- the server itself --------------------------------------------------------------------------------


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


def test_many_commits_at_once(hub: HubServer, api: HfApi) -> None:
    api.create_repo(REPO)
    body = json.dumps({"key": "header", "value": {"summary": "One of many"}}).encode()
    url, token = f"{hub.url}/api/models/{REPO}/commit/main", {"Authorization": f"Bearer {hub.token}"}
    threads = [threading.Thread(target=get, args=(url, "POST", body), kwargs=token) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    repository, oid, history = hub.repositories[REPO], hub.repositories[REPO].at().oid, []
    while oid:
        history.append(oid)
        oid = repository.commits[oid].parent
    assert len(history) == len(set(history)) == len(repository.commits) == 17
