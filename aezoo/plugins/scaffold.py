"""A plugin to begin with: a package that installs, registers one layer and passes its own tests."""

import re
from importlib.metadata import version
from pathlib import Path

from aezoo.errors import RegistryError
from aezoo.plugins.hookspecs import PLUGIN_API

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "aezoo-{dashed}"
version = "0.1.0"
description = "Kinds for aezoo: {name}.soft_threshold."
readme = "README.md"
license = "MIT"
requires-python = ">=3.11"
dependencies = ["aezoo>={version}"]

[project.optional-dependencies]
dev = ["pytest>=8.3"]

[project.entry-points.aezoo]
{name} = "aezoo_{name}"

[tool.hatch.build.targets.wheel]
packages = ["aezoo_{name}"]
"""

MODULE = '''\
"""Kinds for aezoo, all of which begin with `{name}.`."""

from typing import Annotated, Literal

import aezoo
import torch
from pydantic import Field
from torch import Tensor, nn

AEZOO_PLUGIN_API = {api}
"""The contract that this plugin was written for."""


class SoftThreshold(nn.Module):
    """Takes `threshold` off every value's magnitude, and sets what is smaller to zero."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, h: Tensor) -> Tensor:
        """(batch, *shape) -> (batch, *shape)."""
        return h.sign() * torch.relu(h.abs() - self.threshold)


class SoftThresholdSpec(aezoo.LayerSpec):
    """Soft thresholding, the proximal map of an L1 penalty (Daubechies et al., CPAM 57, 2004)."""

    kind: Literal["{name}.soft_threshold"] = "{name}.soft_threshold"
    threshold: Annotated[float, Field(ge=0)] = 0.1
    """Taken off every magnitude, in units of the input."""

    examples = ({{}}, {{"threshold": 0.5}})

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        return SoftThreshold(self.threshold)


@aezoo.hookimpl
def register_layers(register):
    """Registers the layers of this plugin."""
    register(SoftThresholdSpec)
'''

TEST = '''\
"""The layer does what it says, and keeps aezoo's contract."""

import aezoo
import torch
from aezoo.testing import check_layer, check_plugin

from aezoo_{name} import SoftThresholdSpec


def test_small_values_become_zero() -> None:
    layer = SoftThresholdSpec(threshold=0.5).build((3,))
    assert torch.equal(layer(torch.tensor([[0.25, 1.0, -2.0]])), torch.tensor([[0.0, 0.5, -1.5]]))


def test_the_layer_keeps_the_contract() -> None:
    check_layer(SoftThresholdSpec(), in_shape=(8,))


def test_the_installed_plugin_keeps_the_contract() -> None:
    check_plugin("aezoo-{dashed}")


def test_a_spec_may_use_it() -> None:
    spec = aezoo.get_spec("fc-64").replace({{"encoder.1": {{"kind": "{name}.soft_threshold"}}}})
    assert aezoo.build(spec).num_latents == 784
'''

README = """\
# aezoo-{dashed}

Kinds for aezoo, a declarative model zoo of autoencoders.

| kind | what |
|---|---|
| `{name}.soft_threshold` | a layer: takes `threshold` off every magnitude, and sets what is smaller to zero |

```sh
pip install aezoo-{dashed}
aezoo plugins                    # shows it
aezoo check-plugin aezoo-{dashed}
```

```yaml
encoder:
  - flatten
  - {{kind: linear, out_features: 64}}
  - {{kind: {name}.soft_threshold, threshold: 0.2}}
```
"""

CI = """\
name: tests
on: [push, pull_request]
jobs:
  tests:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{python-version: "3.11"}}
      - run: pip install --editable '.[dev]'
      - run: pytest
      - run: aezoo check-plugin aezoo-{dashed}
"""

GITIGNORE = """\
__pycache__/
*.egg-info/
.pytest_cache/
.venv/
dist/
"""


def new_plugin(name: str, parent: Path = Path()) -> Path:
    """Writes a complete plugin package into a new folder `aezoo-NAME`.

    Args:
        name: the entry point's name, with which every kind begins: lower-case letters, digits and
        underscores;
            a leading `aezoo-` and hyphens are understood.
        parent: where the folder goes.

    Returns:
        The folder: `pip install -e` it, run `pytest` in it.

    Raises:
        RegistryError: a name that cannot be one, or a folder that is there already.
    """
    name = name.removeprefix("aezoo-").replace("-", "_")
    if not NAME.fullmatch(name) or name == "aezoo":
        raise RegistryError(
            f"{name!r} is no plugin's name; write lower-case letters, digits and underscores, a letter first"
        )
    dashed = name.replace("_", "-")
    folder = parent / f"aezoo-{dashed}"
    if folder.exists():
        raise RegistryError(f"{folder} is there already; nothing was written")
    files = {
        "pyproject.toml": PYPROJECT,
        f"aezoo_{name}/__init__.py": MODULE,
        f"aezoo_{name}/py.typed": "",
        f"tests/test_{name}.py": TEST,
        "README.md": README,
        ".github/workflows/tests.yml": CI,
        ".gitignore": GITIGNORE,
    }
    values = {"name": name, "dashed": dashed, "api": PLUGIN_API, "version": version("aezoo")}
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.format(**values) if text is not GITIGNORE else text, "utf-8")
    return folder
