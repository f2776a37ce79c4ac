"""A stand-in for the Hugging Face Hub on loopback, with faults on demand, for the real client to talk to.

In a test: `with HubServer() as hub: hub.add("ann/net", {"a.txt": b"a"}); hf_hub_download(..., endpoint=hub.url)`.

It keeps everything in memory and never offers Xet. Where hf_xet is installed, set HF_HUB_DISABLE_XET=1 before
huggingface_hub is imported, since that client uploads by Xet unasked.
"""

from .faults import Fault, Kind, Reply, Request
from .repository import GIT_ATTRIBUTES, Repository, git_blob, sha256
from .server import HubServer

__all__ = [
    "GIT_ATTRIBUTES", "Fault", "HubServer", "Kind", "Reply", "Repository", "Request", "git_blob", "sha256",
]  # fmt: skip
