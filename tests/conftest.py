"""Common fixtures. Every test runs with the types and shapes of every call checked by beartype and jaxtyping."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Installed plugins have tests of their own.
os.environ["AEZOO_PLUGINS"] = ""
# Tests use a Hub server on loopback or none at all. The Hub client reads these variables when it is imported.
os.environ.update(
    HF_ENDPOINT="http://127.0.0.1:9",
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_TOKEN_PATH=str(Path(__file__).parent / "nobody-is-logged-in"),
    NO_PROXY="127.0.0.1",
)
for variable in ("AEZOO_ZOO", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
    os.environ.pop(variable, None)

AEZOO = Path(__file__).parent.parent / "aezoo"
# Pydantic checks the specs; beartype does not support its protocols and `Self`.
UNCHECKED = {"__init__", "specs"}
install_import_hook(
    [
        f"aezoo.{path.stem}"
        for path in AEZOO.iterdir()
        if path.stem not in UNCHECKED and not path.name.startswith("_")
    ]
    + ["aezoo.specs.yaml", "aezoo.specs.schema"],
    "beartype.beartype",
)

import torch  # noqa: E402

from aezoo.data.datasets.files import data_root  # noqa: E402
from aezoo.plugins.registry import registry  # noqa: E402
from tests.hub_server import HubServer  # noqa: E402

# Small networks gain nothing from threads, and parallel test processes would compete for cores.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any((data_root() / "MNIST" / "raw").glob("*-ubyte")):
        return
    if os.environ.get("CI"):
        raise pytest.UsageError(f"no MNIST in {data_root()}; set AEZOO_DATA, so that no test is skipped")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason=f"no MNIST in {data_root()}; set AEZOO_DATA"))


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Restores the registry after the test."""
    registry.load()
    before = {key: list(claims) for key, claims in registry._claims.items()}
    yield
    registry._claims.clear()
    registry._claims.update(before)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub server on loopback, with an empty cache and no token."""
    monkeypatch.setattr("aezoo.zoo.hub_client.WAITS", (0.0, 0.0))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    assert not server.errors


@pytest.fixture
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).parent.parent
