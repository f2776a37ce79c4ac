"""What a plugin does when it is imported, and what lies in its distribution, affects nothing else."""

import contextlib
import importlib.metadata
import json
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aezoo
from aezoo.errors import CheckpointError, PluginWarning, RegistryError
from aezoo.plugins.isolation import preserved_settings, stdout_to_stderr
from aezoo.plugins.registry import GROUP, Registry, installed_entry_points
from aezoo.specs.base import CLOSED
from aezoo.zoo.index import all_variants, forget_index, read_index
from tests.parts import in_parts
from tests.plugins.installed import HEADER, Site, good, hook, kind_class, messages

# Statement at import -> the setting that it changes.
CHANGES = {
    "import torch; torch.set_default_dtype(torch.float64)": "PyTorch's default dtype",
    "import torch; torch.set_default_device('meta')": "PyTorch's default device",
    "import torch; torch.set_grad_enabled(False)": "PyTorch's grad mode",
    "import torch; torch.manual_seed(3)": "PyTorch's random state",
    "import torch; torch.set_num_threads(torch.get_num_threads() + 1)": "PyTorch's number of threads",
    "import torch; torch.use_deterministic_algorithms(True)": "PyTorch's deterministic algorithms",
    "import torch; torch.set_float32_matmul_precision('medium')": "PyTorch's precision of matrix products",
    "import torch; torch.backends.cudnn.benchmark = True": "cuDNN's setting 'benchmark'",
    "import torch; torch.set_autocast_enabled('cpu', True)": "autocast on cpu",
    "import torch; torch.autograd.set_detect_anomaly(True)": "PyTorch's anomaly detection",
    "import torch; torch.nn.modules.module.register_module_forward_hook(print)": "hooks of all modules",
    "import numpy; numpy.random.seed(3)": "NumPy's random state",
    "import numpy; numpy.seterr(all='raise')": "NumPy's handling of errors",
    "import random; random.seed(3)": "Python's random state",
    "import sys; sys.setrecursionlimit(54321)": "the recursion limit",
    "import sys; sys.excepthook = print": "how exceptions are shown",
    "import sys; sys.stderr = sys.__stdout__": "standard error",
    "import sys; sys.argv.append('x')": "the command-line arguments",
    "import warnings; warnings.simplefilter('ignore')": "the warning filters",
    "import warnings; warnings.resetwarnings()": "the warning filters",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)": "signal handlers",
    "import os; os.chdir('/')": "the current folder",
    "import os; os.umask(0o007)": "the file mode mask",
    "import os; os.environ['OURS'] = '1'": "the environment variables",
    "import os; del os.environ['PATH']": "the environment variables",
    "import locale; locale.setlocale(locale.LC_ALL, 'C.UTF-8')": "the locale",
    "import logging; logging.disable()": "the root logger",
    "import gc; gc.disable()": "garbage collection",
    "import builtins; builtins.open = None": "Python's built-in functions",
    "from aezoo.specs.base import CLOSED; CLOSED.clear()": "the closed families of aezoo",
}


def settings() -> Any:
    """The values of what CHANGES change."""
    return (
        torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
        torch.get_rng_state().tolist(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark, torch.is_autocast_enabled("cpu"),
        np.random.get_state()[1].tolist(), np.geterr(), sys.getrecursionlimit(), sys.excepthook,  # pyright: ignore
        sys.stderr, list(sys.argv), list(warnings.filters), Path.cwd(), os.environ.get("PATH"), os.environ.get("OURS"), open,
        {family: list(kinds) for family, kinds in CLOSED.items()},
    )  # fmt: skip


def test_a_precision_that_was_chosen_by_the_newer_setting_is_kept() -> None:
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this PyTorch has one setting")
    try:
        # PyTorch refuses to read the older setting from now on.
        matmul.fp32_precision = "tf32"
        with preserved_settings() as changed:
            pass
        assert changed == []
        with preserved_settings() as changed:
            matmul.fp32_precision = "ieee"
        assert changed == ["PyTorch's precision of matrix products"]
        assert matmul.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("ending", ["", "\n1 / 0"], ids=["loaded", "refused"])
@pytest.mark.parametrize(("statement", "name"), in_parts(CHANGES.items(), 2))
def test_what_a_plugin_changes_at_import_is_restored_and_reported(
    site: Site, statement: str, name: str, ending: str
) -> None:
    if (
        "C.UTF-8" in statement
        and subprocess.run(["locale", "-a"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no locales")
    site.install("demo", good("demo.double") + statement + ending)
    found = site.registry()
    Registry(find=lambda: ()).load()  # imports the modules that define the closed families
    before = settings()
    *refused, changed = messages(found.load)
    assert settings() == before
    assert changed == f"plugin demo (aezoo-demo 1.2.3) changed {name} when it was imported; restored"
    assert ("demo.double" in found.names("layer")) == (not ending)
    assert len(refused) == bool(ending)


def test_numbers_that_are_drawn_are_put_back_without_a_warning(site: Site) -> None:
    site.install("demo", good("demo.double") + "import random\nrandom.random()")
    before = random.getstate()
    with preserved_settings() as changed:
        random.random()
    assert random.getstate() == before
    assert changed == []
    assert messages(site.registry().load) == []


def test_filters_for_the_warnings_of_one_module_are_not_reported() -> None:
    before = list(warnings.filters)
    with preserved_settings() as changed:
        warnings.filterwarnings("ignore", message="ours is slow")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="ours")
    assert changed == []
    assert list(warnings.filters) == before


def test_a_setting_that_cannot_be_restored_does_not_keep_others_from_it(tmp_path: Path) -> None:
    here = Path.cwd()
    folder = tmp_path / "gone"
    folder.mkdir()
    os.chdir(folder)
    try:
        with preserved_settings() as changed:
            os.chdir(tmp_path)
            folder.rmdir()
            torch.set_default_dtype(torch.float64)
        assert torch.get_default_dtype() == torch.float32
        assert "PyTorch's default dtype" in changed
    finally:
        os.chdir(here)


PRINTS = """
import os, sys
print("printed")
sys.__stdout__.write("to the original stream")
os.write(1, b"to the descriptor")
os.system("echo by another program")
"""


def test_nothing_that_a_plugin_prints_reaches_standard_output(site: Site) -> None:
    body = """
    @classmethod
    def __get_pydantic_json_schema__(cls, schema, handler):
        print("asked for the schema")
        return super().__get_pydantic_json_schema__(schema, handler)
"""
    layer = kind_class("demo.double").rstrip() + body
    site.install("demo", HEADER + layer + hook("layer", "Mine") + PRINTS)
    path = os.pathsep.join([str(site.folder), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "aezoo", "schema"], check=False, capture_output=True, text=True,
        env={**os.environ, "AEZOO_PLUGINS": "demo", "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "demo.double" in json.dumps(json.loads(done.stdout))
    for text in ("printed", "to the original stream", "to the descriptor", "by another program", "asked for"):
        assert text in done.stderr


def test_standard_output_is_restored_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(ValueError), stdout_to_stderr():
        print("inside")
        raise ValueError
    print("outside")
    found = capfd.readouterr()
    assert found.out == "outside\n"
    assert "inside" in found.err


def test_a_file_of_ones_own_is_isolated_too(tmp_path: Path, fresh_registry: object) -> None:
    file = tmp_path / "mine.py"
    kinds = kind_class("mine").replace("class Mine", "@aezoo.register\nclass Mine")
    file.write_text(f"{HEADER}import torch\ntorch.set_default_dtype(torch.float64)\n{kinds}")
    with pytest.warns(PluginWarning, match=r"mine\.py changed PyTorch's default dtype; restored"):
        assert aezoo.load_plugin_file(file) == (("layer", "mine"),)
    assert torch.get_default_dtype() == torch.float32
    file.write_text("raise SystemExit(3)")
    with pytest.raises(RegistryError, match=r"mine\.py:1: SystemExit: 3"):
        aezoo.load_plugin_file(file)


# -- refused as a whole -------------------------------------------------------------------------------


def test_a_plugin_that_registers_in_its_module_is_refused_and_leaves_nothing(site: Site) -> None:
    own = kind_class("stray").replace("class Mine", "@aezoo.register\nclass Stray")
    site.install("demo", good("demo.double") + own)
    found = site.registry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aezoo.plugins.registry.registry", found)
        (message,) = messages(found.load)
    assert "a plugin registers its kinds by hooks" in message
    assert [kind for kind in found.names("layer") if kind in ("stray", "demo.double")] == []


def test_a_plugin_cannot_add_a_protocol(site: Site) -> None:
    add = "\nfrom aezoo.evaluation.protocols import PROTOCOLS\nPROTOCOLS['ours'] = PROTOCOLS['noise']"
    site.install("demo", good("demo.double") + add)
    (message,) = messages(site.registry().load)
    assert "TypeError" in message
    from aezoo.evaluation.protocols import PROTOCOLS

    assert "ours" not in PROTOCOLS


@pytest.mark.parametrize("kind", ["demo.[/x]", "demo.a b", "demo.\x1b[31m", "demo.../x", "demo."])
def test_a_kind_that_is_no_word_is_refused(site: Site, kind: str) -> None:
    site.install("demo", good(kind))
    (message,) = messages(site.registry().load)
    assert message.startswith("plugin demo (aezoo-demo 1.2.3) was left out: RegistryError: layer 'demo.")
    assert message.isprintable()


# -- distributions ------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str, bytes]] = {
    "entry without a value": ("entry_points.txt", b"[aezoo]\nodd\n"),
    "latin-1 entry points": ("entry_points.txt", b"[aezoo]\nodd = m\xfcnchen\n"),
    "entry outside a group": ("entry_points.txt", b"odd = odd\n[aezoo]\nodd\n"),
    "not text": ("entry_points.txt", bytes(range(256))),
    "latin-1 author": (
        "METADATA",
        b"Metadata-Version: 2.1\nName: aezoo-odd\nVersion: 1\nAuthor: J\xfcrgen\n",
    ),
    "no name": ("METADATA", b"Metadata-Version: 2.1\n"),
    "no metadata": ("METADATA", b""),
    "name with control characters": ("METADATA", b"Name: a\x1b[31m\nVersion: 1\n"),
    "entry that is no module": ("entry_points.txt", b"[aezoo]\nodd = !!!\n"),
    "entry with markup": ("entry_points.txt", b"[aezoo]\n[/x] = odd\nodd[/x] = odd\n"),
    "entry that is a path": ("entry_points.txt", b"[aezoo]\n../../odd = odd\n"),
}


@pytest.mark.parametrize(("file", "content"), BROKEN.values(), ids=BROKEN)
def test_an_odd_distribution_is_named_and_everything_else_works(
    site: Site, file: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("demo", good("demo.double"))
    site.install("odd", good("odd.double"))
    info = site.folder / "aezoo_odd-1.2.3.dist-info"
    (info / file).write_bytes(content)
    monkeypatch.setattr(
        "aezoo.plugins.registry.distributions",
        lambda: importlib.metadata.distributions(path=[str(site.folder)]),
    )
    found = Registry()
    said = messages(found.load)
    assert said
    assert all("odd" in message and message.isprintable() for message in said)
    assert "demo.double" in found.names("layer")
    assert "odd.double" not in found.names("layer")
    monkeypatch.setenv("AEZOO_PLUGINS", "")
    bare = Registry()
    assert messages(bare.load) == []
    assert "topk" in bare.names("layer")
    assert installed_entry_points(GROUP) == ([], [])


def index_of(**changes: Any) -> bytes:
    name, (_, entry) = next(iter(all_variants().items()))
    del name
    return json.dumps({"license": "MIT", "variants": {"odd": {**entry, **changes}}}).encode()


INDICES: dict[str, Callable[[], bytes]] = {
    "a list": lambda: b"[]",
    "null": lambda: b"null",
    "no variants": lambda: b"{}",
    "variants in a list": lambda: b'{"variants": []}',
    "an entry as text": lambda: b'{"variants": {"odd": "text"}}',
    "an entry without keys": lambda: b'{"variants": {"odd": {}}}',
    "a name that is a path": lambda: b'{"variants": {"../../odd": {}}}',
    "a name with markup": lambda: b'{"variants": {"[/x]": {}}}',
    "nested deeply": lambda: b'{"variants": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not JSON": lambda: b"\xff\xfe",
    "text for a number": lambda: index_of(parameters="[/x]"),
    "a metric that is text": lambda: index_of(metrics={"mse": "[/x]"}),
    "a file without a hash": lambda: index_of(files={"config.json": {"bytes": 3}}),
    "control characters": lambda: index_of(summary="a\x1b[31mb"),
    "control characters in a key": lambda: index_of(metrics={"a\x1b[31mb": 1.0}),
}


@pytest.fixture
def odd_zoo(site: Site, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `zoo` folder of a distribution with variants; the installed plugins are hidden."""
    site.install("odd", good("odd.double"))
    (site.folder / "odd_package" / "zoo").mkdir(parents=True)
    (site.folder / "odd_package" / "__init__.py").write_text("1 / 0  # must not be imported")
    points = site.folder / "aezoo_odd-1.2.3.dist-info" / "entry_points.txt"
    points.write_text("[aezoo.variants]\nodd = odd_package\n")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "aezoo-" not in p])
    forget_index()
    return site.folder / "odd_package" / "zoo"


@pytest.mark.parametrize("content", INDICES.values(), ids=INDICES)
def test_an_odd_index_is_named_and_everything_else_works(
    odd_zoo: Path, content: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        text = content()
    (odd_zoo / "index.json").write_bytes(text)
    forget_index()
    try:
        said = [m for m in messages(all_variants) if "odd" in m]
        assert len(said) == 1
        assert said[0].startswith("the variants of odd (aezoo-odd 1.2.3) were left out: ")
        assert said[0].isprintable()
        assert "fc-64" in all_variants()
        assert not {"odd", "[/x]", "../../odd"} & set(all_variants())
        forget_index()
        monkeypatch.setenv("AEZOO_PLUGINS", "")
        assert messages(all_variants) == []
    finally:
        forget_index()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_an_index_that_is_a_pipe_is_not_waited_for(odd_zoo: Path) -> None:
    os.mkfifo(odd_zoo / "index.json")
    try:
        (message,) = (m for m in messages(all_variants) if "odd" in m)
        assert "not a regular file" in message
    finally:
        forget_index()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("name", ["METADATA", "entry_points.txt"])
def test_metadata_that_are_a_pipe_are_not_waited_for(odd_zoo: Path, site: Site, name: str) -> None:
    path = site.folder / "aezoo_odd-1.2.3.dist-info" / name
    path.unlink()
    os.mkfifo(path)
    (message,) = (m for m in messages(all_variants) if "odd" in m)
    assert f"{name} is not a file" in message


def test_an_index_of_any_size_is_not_read(odd_zoo: Path) -> None:
    with (odd_zoo / "index.json").open("wb") as file:
        file.truncate(2**31)
    try:
        (message,) = (m for m in messages(all_variants) if "odd" in m)
        assert "larger than 32 MB" in message
    finally:
        forget_index()
    with pytest.raises(CheckpointError, match="larger than"):
        read_index(odd_zoo)


def test_built_in_kinds_that_an_import_adds_are_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    from aezoo.specs import base

    closed = {family: dict(kinds) for family, kinds in base.CLOSED.items()}
    activations = closed.pop("activation")
    monkeypatch.setattr(base, "CLOSED", closed)

    class Foreign:
        pass

    with preserved_settings() as changed:
        closed["activation"] = dict(activations)
    assert not changed
    assert closed["activation"] == activations
    with preserved_settings() as changed:
        closed["activation"]["relu"] = Foreign  # type: ignore[assignment]
        closed["activation"]["mine"] = Foreign  # type: ignore[assignment]
    assert changed == ["the closed families of aezoo"]
    assert closed["activation"] == activations
