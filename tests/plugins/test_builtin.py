"""Built-in kinds: every concrete class that a package defines is registered."""

import ast
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aezoo.data import noises
from aezoo.plugins.builtin import register_defined
from tests.plugins.installed import HEADER, kind_class


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of two modules; the second imports the kinds of the first."""
    name = "aezoo_some_kinds"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    first = (
        HEADER
        + kind_class("zeta")
        + "class _Base(aezoo.LayerSpec): ...\n"
        + kind_class("noisy", "NoiseSpec", "N")
    )
    (tmp_path / name / "first.py").write_text(first)
    second = HEADER + f"from {name}.first import *\n" + kind_class("alpha", name="Other")
    (tmp_path / name / "second.py").write_text(second)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def defined(name: str, family: str) -> list[str]:
    found: list[type[Any]] = []
    register_defined(name, family, found.append)
    return [cls.kind_name for cls in found]


def test_the_kinds_of_a_package_are_registered_once_and_sorted(package: str) -> None:
    assert defined(package, "layer") == ["alpha", "zeta"]
    assert defined(package, "noise") == ["noisy"]
    assert defined(package, "loss") == []
    assert defined(f"{package}.second", "layer") == ["alpha"]
    for module in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[module]


def test_the_built_in_noise_of_the_extending_page_works(repository: Path) -> None:
    found = re.findall(r"```python\n(.*?)```", (repository / "docs" / "extending.md").read_text(), re.DOTALL)
    source, example = found[-2:]
    names: dict[str, Any] = dict(vars(noises))
    exec(source, names)
    x = torch.tensor([[0.26, 0.74]])
    rounded: list[Any] = []
    for options in ast.literal_eval("{" + example + "}")["quantization"]:
        noise = names["QuantizationSpec"].model_validate(options)
        rounded.append(noise(x, torch.Generator()).tolist())
    assert rounded == [[[pytest.approx(0.3), pytest.approx(0.7)]], [[0.5, 0.5]]]
