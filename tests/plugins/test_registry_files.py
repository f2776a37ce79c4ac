"""Kinds registered from a Python file or a notebook cell: used, saved, and required on load."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import aezoo
from aezoo.plugins.registry import registry
from tests.examples import small, small_spec
from tests.raising import raises

pytestmark = pytest.mark.usefixtures("fresh_registry")

LOSS = '''
from typing import Literal
import aezoo

@aezoo.register
class CubicSpec(aezoo.LossSpec):
    """Cubed absolute difference."""
    kind: Literal["cubic"] = "cubic"
    role = "reconstruction"

    def __call__(self, output, batch, ae):
        return (output.x_hat - batch.target).abs().pow(3).mean()
'''
HOOK = """
from typing import Literal
import aezoo
from torch import nn

class ShiftSpec(aezoo.LayerSpec):
    kind: Literal["shift"] = "shift"

    def build(self, in_shape):
        return nn.Identity()

@aezoo.hookimpl
def register_layers(register):
    register(ShiftSpec)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_loss.py"
    path.write_text(LOSS)
    return path


def digits(n: int = 40) -> Tensor:
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def cubic_spec() -> aezoo.VariantSpec:
    stages = [{"kind": "fit", "epochs": 1}]
    return small_spec(recipe={"reconstruction": "cubic", "stages": stages, "threads": 1})


# -- files --------------------------------------------------------------------------------------------


def test_a_file_registers_its_kinds(file: Path) -> None:
    assert aezoo.load_plugin_file(file) == (("loss", "cubic"),)
    ae = aezoo.train(cubic_spec(), digits(), progress=False)
    assert set(ae.history[0]["train"]) == {"loss", "cubic"}


def test_a_file_can_implement_the_hooks_of_a_plugin(tmp_path: Path) -> None:
    path = tmp_path / "layers.py"
    path.write_text(HOOK)
    assert aezoo.load_plugin_file(str(path)) == (("layer", "shift"),)
    assert registry.plugin_of("layer", "shift").name == "register()"


def test_running_a_file_again_replaces_its_classes(file: Path) -> None:
    aezoo.load_plugin_file(file)
    first = registry.get("loss", "cubic")
    file.write_text(LOSS.replace("pow(3)", "pow(4)"))
    assert aezoo.load_plugin_file(file) == (("loss", "cubic"),)
    assert registry.get("loss", "cubic") is not first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "{path} registers nothing; decorate each class with @aezoo.register"),
        (LOSS + "\n1 / 0\n", "{path}:14: ZeroDivisionError: division by zero"),
        ("x = 1\ny = 1 / 0\n", "{path}:2: ZeroDivisionError: division by zero"),
        ("x = 1\nx ==\n", "{path}:2: SyntaxError: invalid syntax"),
        ("import not_there_at_all\n", "{path}:1: ModuleNotFoundError: No module named 'not_there_at_all'"),
        (
            LOSS.replace('"cubic"', '"mse"'),
            "{path}:5: RegistryError: loss 'mse' is already registered by aezoo",
        ),
        (
            LOSS.replace('kind: Literal["cubic"] = "cubic"', "x: int = 1"),
            "{path}:5: RegistryError: CubicSpec has no kind; give it",
        ),
    ],
    ids=["nothing", "raises at the end", "raises", "syntax", "import", "taken", "no kind"],
)
def test_a_failing_file_is_reported_with_its_line(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    before, modules = registry.names("loss"), set(sys.modules)
    with pytest.raises(aezoo.RegistryError) as caught:
        aezoo.load_plugin_file(file)
    assert str(caught.value).startswith(words.format(path=file))
    assert "\n" not in str(caught.value)
    assert registry.names("loss") == before
    assert not [name for name in set(sys.modules) - modules if name.startswith("aezoo_file_")]


@pytest.mark.parametrize("name", ["not-there.py", "notes.txt", "."])
def test_only_python_files_are_accepted(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(aezoo.RegistryError, match="expected a Python file"):
        aezoo.load_plugin_file(tmp_path / name)


# -- saved with a registered kind -------------------------------------------------------------------


def test_loading_a_folder_warns_about_kinds_without_a_distribution(file: Path, tmp_path: Path) -> None:
    aezoo.load_plugin_file(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = aezoo.save(aezoo.train(cubic_spec(), digits(), progress=False), tmp_path / "small")
    assert json.loads((folder / "config.json").read_text())["unpackaged"] == ["loss:cubic"]
    with pytest.warns(aezoo.DiagnosticWarning, match="^unpackaged: .*: loss:cubic$"):
        aezoo.load(folder)
    del registry._claims["loss", "cubic"]  # pyright: ignore[reportPrivateUsage]
    with raises("missing-plugin", match="needs the loss 'cubic', which was registered in a notebook"):
        aezoo.load(folder)


def test_a_kind_registered_in_a_cell_can_be_used(tmp_path: Path) -> None:
    class HalfSpec(aezoo.NoiseSpec):
        kind: Literal["half"] = "half"

        def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
            return x / 2

    aezoo.register(HalfSpec)
    recipe = small()["recipe"] | {"noises": ["half"], "threads": 1}
    ae = aezoo.train(small_spec(recipe=recipe), digits(), progress=False)
    assert ae.spec.recipe.noises == (HalfSpec(),)  # pyright: ignore[reportAttributeAccessIssue]
    assert "half" in json.dumps(aezoo.json_schema())


# -- on the command line ------------------------------------------------------------------------------


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aezoo", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path, file: Path) -> Path:
    spec: dict[str, Any] = cubic_spec().model_dump(mode="json") if registry.run_file(file) else {}
    spec["recipe"]["dataset"] = {"kind": "array", "path": "data.npy"}
    (tmp_path / "spec.json.yaml").write_text(json.dumps(spec))
    np.save(tmp_path / "data.npy", digits().numpy())
    return tmp_path


@pytest.mark.slow
def test_the_command_line_accepts_a_plugin_file(folder: Path) -> None:
    without = run("validate", "spec.json.yaml", cwd=folder)
    assert without.returncode == 1
    assert "unknown loss 'cubic'" in without.stderr
    with_file = run("validate", "spec.json.yaml", "--plugin", "my_loss.py", cwd=folder)
    assert (with_file.returncode, with_file.stderr) == (0, "")
    trained = run("train", "spec.json.yaml", "--plugin", "./my_loss.py", "--out", "mine", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    again = run("evaluate", "./mine", "--split", "validation", "--plugin", "my_loss.py", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "advice: unpackaged: mine uses kinds" in again.stderr
    lost = run("evaluate", "./mine", cwd=folder)
    assert (lost.returncode, lost.stdout) == (1, "")
    assert "register it before loading" in lost.stderr


def test_a_failing_plugin_file_is_one_line_on_the_command_line(folder: Path) -> None:
    (folder / "my_loss.py").write_text("1 / 0\n")
    result = run("validate", "spec.json.yaml", "--plugin", "my_loss.py", cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "my_loss.py:1: ZeroDivisionError: division by zero\n"
