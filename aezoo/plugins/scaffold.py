"""A template for plugins: a package that registers one layer and passes its own tests."""

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
description = "aezoo plugin: {name}.soft_threshold."
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
"""An aezoo plugin; its kinds begin with `{name}.`."""

from typing import Annotated, Literal

import aezoo
import torch
from pydantic import Field
from torch import Tensor, nn

AEZOO_PLUGIN_API = {api}
"""Version of the plugin contract for which this module was written."""


class SoftThreshold(nn.Module):
    """Subtracts `threshold` from the magnitude of every value; smaller values become 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, h: Tensor) -> Tensor:
        """(batch, *shape) -> (batch, *shape)."""
        return h.sign() * torch.relu(h.abs() - self.threshold)


class SoftThresholdSpec(aezoo.LayerSpec):
    """Soft thresholding, the proximal operator of an L1 penalty (Daubechies et al., CPAM 57, 2004)."""

    kind: Literal["{name}.soft_threshold"] = "{name}.soft_threshold"
    threshold: Annotated[float, Field(ge=0)] = 0.1
    """Subtracted from every magnitude, in units of the input."""

    examples = ({{}}, {{"threshold": 0.5}})

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """Builds the module: (batch, *in_shape) -> (batch, *in_shape)."""
        return SoftThreshold(self.threshold)


@aezoo.hookimpl
def register_layers(register):
    """Registers the layers of this plugin."""
    register(SoftThresholdSpec)
'''

PLUGIN_TEST = '''\
"""Every kind that the package registers keeps aezoo's contract."""

import aezoo
from aezoo.testing import check_plugin


def test_the_plugin_is_loaded() -> None:
    (plugin,) = (plugin for plugin in aezoo.list_plugins() if plugin.name == "{name}")
    assert plugin.error is None
    assert plugin.kinds


def test_the_plugin_passes_the_contract_checks() -> None:
    check_plugin("aezoo-{dashed}")
'''

LAYER_TEST = '''\
"""Tests of the layer `{name}.soft_threshold`."""

import aezoo
import torch

from aezoo_{name} import SoftThresholdSpec


def test_small_values_become_zero() -> None:
    layer = SoftThresholdSpec(threshold=0.5).build((3,))
    assert torch.equal(layer(torch.tensor([[0.25, 1.0, -2.0]])), torch.tensor([[0.0, 0.5, -1.5]]))


def test_the_layer_can_be_used_in_a_spec() -> None:
    spec = aezoo.get_spec("fc-64").replace({{"encoder.1": {{"kind": "{name}.soft_threshold"}}}})
    assert aezoo.build(spec).num_latents == 784
'''

README = """\
# aezoo-{dashed}

A plugin for aezoo, a declarative model zoo of autoencoders.

| layer | fields | description |
|---|---|---|
| `{name}.soft_threshold` | `threshold` (0.1) | subtracts `threshold` from every magnitude, down to 0 |

```sh
pip install aezoo-{dashed}
aezoo plugins                    # lists it
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
      # Where pip finds aezoo: PyPI, or the repository variable AEZOO, such as git+https://HOST/OWNER/aezoo.
      - run: pip install "${{{{ vars.AEZOO || 'aezoo' }}}}"
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
        name: name of the entry point and prefix of the kinds: lower-case letters, digits and underscores. A
            leading `aezoo-` is removed, and hyphens become underscores.
        parent: folder in which the new folder is created.

    Returns:
        The new folder, ready for `pip install --editable` and `pytest`.

    Raises:
        RegistryError: the name is invalid, or the folder exists.
    """
    name = name.removeprefix("aezoo-").replace("-", "_")
    if not NAME.fullmatch(name) or name == "aezoo":
        expected = "lower-case letters, digits and underscores, beginning with a letter"
        raise RegistryError(f"{name!r} is not a plugin name; expected {expected}")
    dashed = name.replace("_", "-")
    folder = parent / f"aezoo-{dashed}"
    if folder.exists():
        raise RegistryError(f"{folder} already exists; nothing was written")
    files = {
        "pyproject.toml": PYPROJECT,
        f"aezoo_{name}/__init__.py": MODULE,
        f"aezoo_{name}/py.typed": "",
        f"tests/test_plugin_{name}.py": PLUGIN_TEST,
        "tests/test_soft_threshold.py": LAYER_TEST,
        "README.md": README,
        ".github/workflows/tests.yml": CI,
        ".gitignore": GITIGNORE,
    }
    values = {"name": name, "dashed": dashed, "api": PLUGIN_API, "version": version("aezoo")}
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.format(**values), "utf-8")
    return folder
