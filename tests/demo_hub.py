"""The whole round against a Hub on loopback: push a variant, pull it, load it, verify it; `make demo-hub`.

The client is the real one; the Hub is `tests/hub_server`, so that nothing leaves this machine.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hub_server import HubServer

NAME = "sparse-topk16"
ZOO = Path(__file__).parent.parent / "zoo"


def run(*arguments: str) -> None:
    """Print a command, run it, and show its output."""
    print(f"\n$ aezoo {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "aezoo", *arguments], check=True, timeout=120)


def main() -> None:
    """Push, pull, load from the Hub, load again from the cache."""
    with tempfile.TemporaryDirectory(prefix="aezoo-demo-hub-") as folder, HubServer() as hub:
        # The client reads them when it is imported: in the commands below, and in this process.
        os.environ.update(
            HF_ENDPOINT=hub.url,
            HF_HOME=str(Path(folder) / "hf"),
            HF_TOKEN=hub.token,
            HF_HUB_DISABLE_XET="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1",
            NO_PROXY="127.0.0.1",
        )
        mine = Path(folder) / NAME
        shutil.copytree(ZOO / NAME, mine)
        (mine / "README.md").unlink()
        run("push", str(mine), "--tag", "v1.0", "--license", "mit")
        address = f"hub:{hub.user}/{NAME}@v1.0"
        run("pull", address, "--to", str(Path(folder) / "usb-stick"))

        import aezoo

        print(f'\n>>> ae = aezoo.load("{address}")')
        asked = len(hub.requests)
        source = aezoo.load(address).source
        print(f"    {len(hub.requests) - asked} requests; commit {source.commit}, sha256 {source.sha256}")
        assert source.commit is not None
        assert source.sha256 == aezoo.load(NAME).source.sha256, "other weights came back"

        address = f"hub:{hub.user}/{NAME}@{source.commit}"
        print(f'\n>>> ae = aezoo.load("{address}")')
        asked = len(hub.requests)
        aezoo.load(address)
        assert len(hub.requests) == asked, "a cached file was requested"
        print("    0 requests: every file was in the cache, and was verified again")


if __name__ == "__main__":
    main()
