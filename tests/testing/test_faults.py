"""Every fault that was written down before the contract checks were, planted; the checks must find it."""

import importlib
import json
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml

import aezoo
from aezoo.errors import PluginWarning
from aezoo.model.layers.activations import LeakyReluSpec
from aezoo.plugins.registry import GROUP, Registry
from aezoo.specs.base import RegisteredSpec
from aezoo.testing import (
    ContractError,
    Finding,
    Report,
    check_callback,
    check_dataset,
    check_layer,
    check_loss,
    check_noise,
    check_plugin,
    check_variant,
)
from aezoo.testing.report import Checks
from tests.examples import LAYER_CASES, LOSSES, NOISES
from tests.testing.faulty import FAULTY, GOOD, KeepSpec, OneTooMany

LISTED: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text("utf-8"))
ZOO = Path(__file__).parents[2] / "zoo"

# Fault -> the check that is meant to find it, and those that may find it as well. Any other that fails shows a
# component that is broken otherwise, or a check that cries wolf.
MEANT: dict[str, tuple[str, ...]] = {
    "layer/dense-in-eval": ("sparsity",),
    "layer/dense-in-training": ("sparsity",),
    "layer/one-too-many": ("sparsity",),
    "layer/one-too-few": ("sparsity",),
    "layer/magnitude-for-value": ("sparsity",),
    "layer/value-for-magnitude": ("sparsity",),
    "layer/wrong-mean": ("sparsity",),
    "layer/scaled-survivors": ("sparsity",),
    "layer/state-between-batches": (
        "eval-deterministic", "rows", "copying", "gradient-correct",
    ),
    "layer/learns-in-eval": ("eval-keeps-state",),
    "layer/random-in-eval": (
        "eval-deterministic", "eval-random-state", "rows", "state-round-trip", "copying", "gradient-correct",
    ),
    "layer/draws-in-eval": ("eval-random-state",),
    "layer/seeds-the-world": ("train-repeatable",),
    # A build runs the layer on the meta device, in evaluation.
    "layer/seeds-the-world in evaluation": ("eval-random-state", "init"),
    "layer/numpy-random": ("train-repeatable",),
    "layer/init-ignores-seed": ("init",),
    "layer/writes-its-input": ("input-intact", "eval-deterministic", "gradient-reaches", "gradient-correct"),
    "layer/writes-its-input in evaluation": ("input-intact", "eval-deterministic", "gradient-correct"),
    "layer/writes-its-input-in-training": ("input-intact", "gradient-reaches"),
    "layer/mixes-rows": ("rows",),
    "layer/unsaved-buffer": ("build",),
    "layer/plain-tensor": ("build",),
    "layer/plain-tensor in a list": ("state-round-trip",),
    "layer/hidden-counter": ("state-round-trip",),
    "layer/left-on-meta": ("no-meta-left",),
    "layer/unused-parameter": ("gradient-reaches",),
    "layer/detached": ("gradient-reaches", "gradient-correct"),
    "layer/wrong-gradient": ("gradient-correct",),
    "layer/meta-lies": ("meta-shape", "hostile-shapes"),
    "layer/needs-real-values": ("build",),
    "layer/undeclared-aux": ("aux",),
    "layer/single-precision": ("precision", "gradient-correct"),
    "layer/not-finite-at-zero": ("finite",),
    "layer/wrong-reach": ("reach",),
    "layer/restless-after-step": ("after-step",),
    "layer/not-copyable": ("copying",),
    "layer/tied-inside": ("own-memory",),
    "spec/lossy-round-trip": ("spec-round-trip",),
    "spec/unpicklable-spec": ("spec-pickling",),
    "spec/unbounded-field": ("bounds",),
    "spec/mutable-default": ("spec-defaults",),
    "loss/sum-for-mean": ("rows-averaged",),
    "loss/constant-for-count": ("rows-averaged",),
    "loss/weighs-itself": ("unweighted",),
    "loss/writes-the-output": ("batch-intact", "gradient-reaches", "finite-when-perfect"),
    "loss/writes-the-target": ("batch-intact",),
    "loss/not-a-scalar": (
        "scalar", "rows-averaged", "unweighted", "gradient-reaches", "finite-when-perfect",
    ),
    "loss/no-gradient": ("gradient-reaches",),
    "loss/global-noise": (
        "random-state", "rows-averaged", "unweighted", "repeatable", "state-round-trip",
    ),
    "loss/remembers": ("repeatable", "state-round-trip"),
    "loss/unsaved-state": ("state-round-trip",),
    "loss/raises-in-incompatibility": ("incompatibility",),
    "loss/negative-infinity": ("finite-when-perfect",),
    "noise/ignores-generator": ("generator", "repeatable"),
    "noise/reseeds-generator": ("generator-goes-on", "generator"),
    "noise/reseeds-generator by one of its own": ("generator",),
    "noise/in-place": ("batch-intact",),
    "noise/other-shape": ("same-shape",),
    "noise/other-dtype": ("same-shape",),
    "noise/not-finite": ("finite",),
    "noise/writes-elsewhere": ("repeatable",),
    "noise/writes-elsewhere in the class": ("repeatable", "generator"),
    "dataset/leaks-test": ("splits-disjoint",),
    "dataset/leaks-train": ("splits-disjoint",),
    "dataset/restless": ("loads-alike",),
    "dataset/has-lies": ("splits", "loads-alike", "splits-disjoint", "finite", "labels"),
    "dataset/raw-error": ("absent-split",),
    "dataset/not-finite": ("finite",),
    "dataset/labels-shift": ("labels",),
    "callback/forgets": ("resumes",),
    "callback/clock": ("repeatable", "resumes"),
    "callback/clock in the morning": ("repeatable",),
    "callback/clock in the local morning": ("repeatable",),
    "callback/unreadable-state": ("state", "resumes"),
    "callback/moves-random-state": ("random-state",),
    "callback/moves-random-state of Python": ("repeatable", "resumes"),
    "variant/other-spec": ("spec-is-trained",),
    "variant/changed-default": ("spec-is-trained",),
    "variant/flipped-bit": ("loads",),
    "variant/null-without-reason": ("metrics",),
    "variant/number-made-up": ("numbers",),
    "plugin/bare-kind": ("loads",),
    "plugin/no-contract": ("loads",),
    "plugin/newer-contract": ("loads",),
    "plugin/misspelt-hook": ("loads",),
    "plugin/raises-at-import": ("loads",),
}  # fmt: skip

# What raises, and is found by that. A check that raises by itself has found nothing.
RAISING = {
    "layer/unsaved-buffer", "layer/plain-tensor", "layer/plain-tensor in a list", "layer/needs-real-values",
    "layer/not-copyable", "layer/not-copyable for pickle alone", "spec/unpicklable-spec",
    "loss/raises-in-incompatibility", "dataset/has-lies", "dataset/raw-error", "callback/unreadable-state",
    "variant/flipped-bit", "plugin/bare-kind", "plugin/no-contract", "plugin/newer-contract",
    "plugin/misspelt-hook", "plugin/raises-at-import",
}  # fmt: skip


# -- variants -----------------------------------------------------------------------------------------


def _in_metrics(name: str, **changes: Any) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def spoil(folder: Path, patch: pytest.MonkeyPatch) -> None:
        path = folder / "metrics.json"
        metrics = json.loads(path.read_text("utf-8"))
        metrics[name] = {**metrics.get(name, metrics["mse"]), **changes}
        path.write_text(json.dumps(metrics))

    return spoil


def _other_spec(folder: Path, patch: pytest.MonkeyPatch) -> None:
    path = folder / "spec.yaml"
    written = path.read_text("utf-8")
    assert "lr: 3e-3" in written
    path.write_text(written.replace("lr: 3e-3", "lr: 2e-3"))


def _changed_default(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeakyReluSpec.model_fields["negative_slope"], "default", 0.2)
    LeakyReluSpec.model_rebuild(force=True)


def _flipped_bit(folder: Path, patch: pytest.MonkeyPatch) -> None:
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1000] ^= 1
    path.write_bytes(raw)


VARIANTS: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "other-spec": _other_spec,
    "changed-default": _changed_default,
    "flipped-bit": _flipped_bit,
    "null-without-reason": _in_metrics("mse", value=None, reason=None),
    "null-without-reason but an empty one": _in_metrics("mse", value=None, reason=""),
    "number-made-up": _in_metrics("mse", value=0.005),
    "number-made-up of another measure": _in_metrics("psnr", value=40.0),
}


@contextmanager
def _copied() -> Generator[tuple[Path, pytest.MonkeyPatch]]:
    """A folder of a trained variant to be spoilt; afterwards everything is as it was."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        folder = Path(place) / "fc-64"
        shutil.copytree(ZOO / "fc-64", folder)
        try:
            yield folder, patch
        finally:
            patch.undo()
            LeakyReluSpec.model_rebuild(force=True)


# -- plugins ------------------------------------------------------------------------------------------

PLUGIN = '''
from typing import Literal
import aezoo
from torch import nn
AEZOO_PLUGIN_API = 1

class SameSpec(aezoo.LayerSpec):
    """Changes nothing."""
    kind: Literal["faulty.same"] = "faulty.same"

    def build(self, in_shape):
        return nn.Identity()

@aezoo.hookimpl
def register_layers(register):
    register(SameSpec)
'''

# What takes the place of what, and what a person must read.
PLUGINS: dict[str, tuple[str, str, str]] = {
    "bare-kind": ('"faulty.same"', '"same"', "layer 'same' must be called 'faulty.same'"),
    "no-contract": ("AEZOO_PLUGIN_API = 1", "", "states no contract; add AEZOO_PLUGIN_API = 1"),
    "newer-contract": ("AEZOO_PLUGIN_API = 1", "AEZOO_PLUGIN_API = 2", "needs plugin contract 2"),
    "misspelt-hook": ("register_layers", "register_leyers", "unknown hook 'register_leyers'"),
    "raises-at-import": ("AEZOO_PLUGIN_API = 1", "1 / 0", "ZeroDivisionError: division by zero"),
}


def _plugin_reports(source: str, name: str = "faulty", narrowed: str = "faulty") -> list[Report]:
    """Checks a plugin as if it were installed."""
    point = EntryPoint("faulty", "aezoo_faulty_plugin", GROUP)
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        (Path(place) / f"{point.value}.py").write_text(source)
        patch.syspath_prepend(place)
        patch.setenv("AEZOO_PLUGINS", narrowed)
        patch.setattr(sys, "dont_write_bytecode", True)
        importlib.invalidate_caches()
        found = Registry(find=lambda: [point])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PluginWarning)
                found.load()
            for module in ("aezoo.testing.plugins", "aezoo.testing.specs"):
                patch.setattr(f"{module}.registry", found)
            patch.setattr("aezoo.specs.base.registry", found)
            patch.setattr("aezoo.testing.plugins.entry_points", lambda group: [point])
            return check_plugin(name)
        finally:
            sys.modules.pop(point.value, None)


# -- everything that is planted -----------------------------------------------------------------------


def check(spec: RegisteredSpec) -> Report:
    """The check of a component's family."""
    if isinstance(spec, aezoo.LayerSpec):
        return check_layer(spec, spec.example_shape)
    checks: dict[str, Callable[[Any], Report]] = {
        "loss": check_loss,
        "noise": check_noise,
        "dataset": check_dataset,
        "callback": check_callback,
    }
    return checks[spec.family](spec)


def _check_variant(name: str) -> Report:
    with _copied() as (folder, patch):
        VARIANTS[name](folder, patch)
        return check_variant(folder)


PLANTED: dict[str, Callable[[], object]] = {
    **{f"{group}/{name}": lambda spec=spec: check(spec) for group, all_ in FAULTY.items() for name, spec in all_.items()},
    **{f"variant/{name}": lambda name=name: _check_variant(name) for name in VARIANTS},
    **{
        f"plugin/{name}": lambda old=old, new=new: _plugin_reports(PLUGIN.replace(old, new))
        for name, (old, new, _) in PLUGINS.items()
    },
}  # fmt: skip
"""Group and fault -> its check; several entries may plant one fault, told apart by what follows it."""


def fault_of(planted: str) -> str:
    """What the list calls a planted fault."""
    return planted.replace(",", " ").split()[0]


@cache
def findings(planted: str) -> tuple[Finding, ...]:
    """What the check of a planted fault finds; none where it passes."""
    try:
        PLANTED[planted]()
    except ContractError as error:
        return tuple(error.report.findings)
    return ()


needs_data = [
    pytest.param(name, marks=pytest.mark.data) if name.startswith("variant/number-made-up") else name
    for name in PLANTED
]


@pytest.mark.parametrize("planted", needs_data)
def test_a_fault_is_found_by_the_check_that_is_meant_to(planted: str) -> None:
    meant, *others = MEANT.get(planted) or MEANT[fault_of(planted)]
    found = {finding.check: finding.found for finding in findings(planted)}
    assert meant in found
    assert set(found) <= {meant, *others}
    assert bool(re.match(r"\w+Error: ", found[meant])) == (planted in RAISING)


def test_all_that_is_listed_is_planted_and_nothing_else() -> None:
    listed = [f"{group}/{name}" for group, faults in LISTED.items() for name in faults]
    assert len(listed) >= 40
    assert sorted({fault_of(name) for name in PLANTED}) == sorted(listed)
    assert {fault_of(name) for name in MEANT} == set(listed)
    assert set(MEANT) <= {*PLANTED, *listed}


@pytest.mark.data
def test_95_of_100_faults_are_found() -> None:
    faults = {fault_of(name) for name in PLANTED}
    missed = {fault_of(name) for name in PLANTED if not findings(name)}
    share = 1 - len(missed) / len(faults)
    assert share >= 0.95, f"{len(missed)} of {len(faults)} are missed: {', '.join(sorted(missed))}"


@pytest.mark.parametrize("name", PLUGINS)
def test_the_report_of_a_plugin_says_what_to_mend(name: str) -> None:
    (finding,) = findings(f"plugin/{name}")
    assert PLUGINS[name][2] in finding.found
    assert "\n" not in finding.found


# -- what is good passes ------------------------------------------------------------------------------

ORIGINALS = [spec for specs in GOOD.values() for spec in specs]


@pytest.mark.parametrize("spec", ORIGINALS, ids=[f"{s.kind_name}-{i}" for i, s in enumerate(ORIGINALS)])
def test_the_originals_of_the_faults_are_good(spec: RegisteredSpec) -> None:
    assert check(spec).findings == []
    assert check(spec).exempt == {}


def test_the_original_of_the_faulty_plugins_is_good() -> None:
    plugin, layer = _plugin_reports(PLUGIN)
    assert (plugin.subject, plugin.passed, plugin.findings) == ("plugin faulty", ["loads", "brings"], [])
    assert layer.subject == "layer faulty.same on (8,)"
    assert layer.findings == []
    assert "sparsity" in layer.passed


@pytest.mark.parametrize(
    ("name", "narrowed", "words"),
    [
        ("faulty", "", "AEZOO_PLUGINS leaves the plugin 'faulty' out"),
        ("nowhere", "faulty", "no installed plugin is called 'nowhere'; there are: faulty"),
    ],
)
def test_a_plugin_that_is_not_there_is_no_plugin_that_passes(name: str, narrowed: str, words: str) -> None:
    with pytest.raises(aezoo.RegistryError, match=f"^{words}"):
        _plugin_reports(PLUGIN, name, narrowed)


@pytest.mark.parametrize(
    ("layers", "in_shape"),
    LAYER_CASES,
    ids=[f"{layers[-1].kind_name}-{i}" for i, (layers, _) in enumerate(LAYER_CASES)],
)
def test_layers_of_aezoo_pass(layers: tuple[aezoo.LayerSpec, ...], in_shape: tuple[int, ...]) -> None:
    assert check_layer(layers[-1], in_shape, before=layers[:-1]).kept


def examples(family: dict[str, list[dict[str, Any]]]) -> list[Any]:
    return [
        pytest.param({"kind": kind, **options}, id=f"{kind}-{number}")
        for kind, cases in family.items()
        for number, options in enumerate(cases)
    ]


@pytest.mark.parametrize("data", examples(LOSSES))
def test_losses_of_aezoo_pass(data: dict[str, Any]) -> None:
    assert check_loss(aezoo.LossSpec.model_validate(data)).kept


@pytest.mark.parametrize("data", examples(NOISES))
def test_noises_of_aezoo_pass(data: dict[str, Any]) -> None:
    assert check_noise(aezoo.NoiseSpec.model_validate(data)).kept


@pytest.mark.parametrize("every", [1, 3])
def test_callbacks_of_aezoo_pass(every: int) -> None:
    data = {"kind": "resample_dead", "every": every}
    assert check_callback(aezoo.CallbackSpec.model_validate(data)).kept


@pytest.mark.parametrize(
    "data",
    [{"kind": "swiss_roll", "count": 200}, {"kind": "photo_patches", "count": 100, "size": 8}],
    ids=["swiss_roll", "photo_patches"],
)
def test_datasets_of_aezoo_pass(data: dict[str, Any]) -> None:
    assert check_dataset(aezoo.DatasetSpec.model_validate(data)).kept


@pytest.mark.data
@pytest.mark.parametrize("name", ["fc-64", "sparse-topk16"])
def test_variants_of_aezoo_pass(name: str) -> None:
    report = check_variant(name)
    assert report.kept
    assert "numbers" in report.passed


# -- reports ------------------------------------------------------------------------------------------


class ExemptSpec(KeepSpec):
    """Keeps one more, and says why."""

    module = OneTooMany
    exempt = {"sparsity": "one latent carries the length of the code"}


def test_a_finding_says_the_check_what_was_expected_what_was_found_and_where_to_read() -> None:
    (finding,) = findings("layer/one-too-many")
    assert finding == Finding(
        check="sparsity",
        expected="as many non-zero latents as sparsity() says",
        found="4 in training, where 3 are declared",
        read="docs/plugins.md#sparsity",
    )
    assert str(finding) == (
        "sparsity: expected as many non-zero latents as sparsity() says; "
        "found 4 in training, where 3 are declared (docs/plugins.md#sparsity)"
    )


@pytest.mark.parametrize("planted", ["layer/detached", "loss/not-a-scalar", "dataset/has-lies"])
def test_every_finding_is_complete_and_of_one_line(planted: str) -> None:
    assert len(findings(planted)) > 1
    for finding in findings(planted):
        assert finding.read == f"docs/plugins.md#{finding.check}"
        for words in (finding.check, finding.expected, finding.found):
            assert words == " ".join(words.split())
            assert words


def test_the_error_is_an_assertion_and_one_of_aezoos_and_says_everything() -> None:
    with pytest.raises(ContractError) as caught:
        check(FAULTY["layer"]["detached"])
    error = caught.value
    assert isinstance(error, AssertionError)
    assert isinstance(error, aezoo.AezooError)
    assert str(error) == str(error.report)
    first, *rest = str(error).splitlines()
    count = f"{len(error.report.passed)} checks passed, {len(error.report.findings)} failed"
    assert first == f"layer faulty.centre on (8,): {count}"
    assert rest == [f"  {finding}" for finding in error.report.findings]


def test_an_exemption_is_printed_with_its_reason_and_its_check_is_not_run() -> None:
    report = check_layer(ExemptSpec(), (8,))
    assert report.kept
    assert report.exempt == {"sparsity": "one latent carries the length of the code"}
    assert "sparsity" not in report.passed
    assert str(report).splitlines()[1:] == [
        "  exempt from sparsity: one latent carries the length of the code"
    ]


def test_what_is_exempt_is_not_looked_at() -> None:
    looked: list[str] = []
    checks = Checks("something", {"first": "it need not"})
    for name in ("first", "second"):
        checks.run(name, "anything", lambda name=name: looked.append(name))
    assert looked == ["second"]
    assert checks.report == Report("something", passed=["second"], exempt={"first": "it need not"})


def test_a_check_that_raises_has_failed_and_the_others_still_run() -> None:
    checks = Checks("something", {})
    checks.run("first", "nothing unusual", lambda: [][1])
    checks.run("second", "nothing unusual", lambda: None)
    (finding,) = checks.report.findings
    assert finding == Finding(
        "first", "nothing unusual", "IndexError: list index out of range", "docs/plugins.md#first"
    )
    assert checks.report.passed == ["second"]
    assert not checks.report.kept


def test_a_report_that_is_kept_is_given_back() -> None:
    report = Report("something", passed=["first"])
    assert report.settled() is report
    assert str(report) == "something: 1 checks passed"
