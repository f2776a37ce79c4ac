"""Environments of the libraries that the benchmarks compare aezoo with, made on first use.

    python tests/benchmarks/peer_environments.py sae-lens pythae     # makes two of them now; all without names

`peers/NAME.txt` has what is installed for NAME, and `peers/NAME.no-deps.txt` what is installed without its
requirements. Environments are folders of `.venv-bench` under the project's root; they are made again when those
files, `constraints.txt`, the version of Python or that of PyTorch change. Delete `.venv-bench` to try a failed
installation again.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

BENCHMARKS = Path(__file__).parent
ROOT = BENCHMARKS.parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
ENVIRONMENTS = ROOT / ".venv-bench"
PEERS = ("sae-lens", "dictionary-learning", "pythae", "lightning", "scikit-learn")
TIMEOUT = 1200.0
"""Seconds for one installation."""


def environment(name: str) -> Path | None:
    """The interpreter of a peer's environment, which is made if it does not exist yet.

    Returns:
        The path; None if the environment cannot be made, for the reason that `failure` returns.
    """
    python = ENVIRONMENTS / name / "bin" / "python"
    if _record(name).get("key") != _key(name):
        print(f"making the environment of {name}, once", file=sys.stderr)
        _write(name, _make(name))
    return None if failure(name) is not None else python


def failure(name: str) -> str | None:
    """Why the environment of a peer could not be made, in one line; None if it was."""
    reason = _record(name).get("failure", "not installed yet")
    return None if reason is None else str(reason)


def _record(name: str) -> dict[str, Any]:
    file = ENVIRONMENTS / f"{name}.json"
    return cast(dict[str, Any], json.loads(file.read_text())) if file.exists() else {}


def _write(name: str, failure: str | None) -> None:
    record = {"key": _key(name), "failure": failure}
    (ENVIRONMENTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")


def _requirements(name: str) -> list[Path]:
    return [BENCHMARKS / "peers" / f"{name}{suffix}.txt" for suffix in ("", ".no-deps")]


def _key(name: str) -> str:
    """Hash of all that decides what is installed."""
    files = [path for path in (*_requirements(name), CONSTRAINTS) if path.exists()]
    parts = [path.read_text() for path in files]
    return hashlib.sha256("\0".join([*parts, sys.version, version("torch")]).encode()).hexdigest()


def _make(name: str) -> str | None:
    """Makes an environment and returns why it could not be, or None."""
    folder = ENVIRONMENTS / name
    shutil.rmtree(folder, ignore_errors=True)
    ENVIRONMENTS.mkdir(exist_ok=True)
    # The same build of PyTorch as aezoo's, such as 2.13.0+cpu: another one would not be comparable, and one with
    # CUDA is several GB.
    build = ENVIRONMENTS / "torch.txt"
    build.write_text(f"torch=={version('torch')}\n")
    steps = [[sys.executable, "-m", "venv", str(folder)]]
    install = [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    install += ["--constraint", str(CONSTRAINTS), "--constraint", str(build)]
    usual, without = _requirements(name)
    steps.append([*install, "--requirement", str(usual)])
    if without.exists():
        steps.append([*install, "--no-deps", "--requirement", str(without)])
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"the installation took more than {TIMEOUT:.0f} s"
        if done.returncode:
            return _reason(done.stdout + done.stderr)
    return None


def _reason(output: str) -> str:
    """The first error of a command's output, or else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    reason = (errors or lines[-1:] or ["the installation failed"])[0]
    return reason.partition(" (from versions")[0][:200]


def main() -> None:
    """Makes the environments that are named, or all."""
    for name in sys.argv[1:] or PEERS:
        print(f"{name}: {environment(name) or failure(name)}")


if __name__ == "__main__":
    main()
