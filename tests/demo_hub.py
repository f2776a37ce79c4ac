"""The whole round on loopback: push a variant, pull it, load it, verify it. Run by `make demo-hub`.

The client is the real one; the Hub is `tests/hub_server.py`, so that nothing leaves this machine.
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


def run(*arguments: str, **environment: str) -> None:
    """Shows a command, and what it prints."""
    print(f"\n$ {' '.join([*(f'{k}={v}' for k, v in environment.items()), 'aezoo', *arguments])}", flush=True)
    subprocess.run(
        [sys.executable, "-m", "aezoo", *arguments], env=os.environ | environment, check=True, timeout=120
    )


def main() -> None:
    """Push, pull, load from the Hub, load again from the cache."""
    with tempfile.TemporaryDirectory(prefix="aezoo-demo-hub-") as folder, HubServer() as hub:
        here = Path(folder)
        # Read when the client is imported: for the commands below, and for this process.
        os.environ.update(
            HF_ENDPOINT=hub.url,
            HF_HOME=str(here / "hf"),
            HF_TOKEN=hub.token,
            HF_HUB_DISABLE_XET="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1",
            NO_PROXY="127.0.0.1",
        )
        mine = here / NAME
        shutil.copytree(ZOO / NAME, mine)
        (mine / "README.md").unlink()
        run("push", str(mine), "--tag", "v1.0", "--license", "mit")
        address = f"hub:{hub.user}/{NAME}@v1.0"
        run("pull", address, "--to", str(here / "usb-stick"))

        import aezoo

        print(f'\n>>> ae = aezoo.load("{address}")')
        asked = len(hub.requests)
        ae = aezoo.load(address)
        print(
            f"    {len(hub.requests) - asked} requests; commit {ae.source.commit}, sha256 {ae.source.sha256}"
        )
        assert ae.source.commit is not None
        assert ae.source.sha256 == aezoo.load(NAME).source.sha256, "other weights came back"
        address = f"hub:{hub.user}/{NAME}@{ae.source.commit}"

        print(f'\n>>> ae = aezoo.load("{address}")')
        asked = len(hub.requests)
        aezoo.load(address)
        assert len(hub.requests) == asked, "what is cached was asked for"
        print("    0 requests: all of it is cached, and was verified again")


if __name__ == "__main__":
    main()
