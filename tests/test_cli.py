"""The command line: output, exit codes, and errors in one line."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import aezoo
from aezoo import cli
from aezoo.evaluation.protocols import PROTOCOLS, run_protocol
from aezoo.training.loop import StageRunner
from tests.examples import small

COMMANDS = ("list", "show", "demo", "validate", "schema", "train", "evaluate", "protocols", "plugins")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process and returns exit code, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aezoo", *arguments])
        monkeypatch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def run_json(run: Any) -> Any:
    """Runs a command that must succeed with --json, and returns what it prints."""

    def call(*arguments: str) -> Any:
        code, out, err = run(*arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return call


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """A spec that trains on digits in a second."""
    data = small(
        name="tiny",
        input={"shape": [1, 28, 28], "range": [0, 1]},
        decoder=[{"kind": "linear", "out_features": 784}, {"kind": "unflatten", "shape": [1, 28, 28]}],
        recipe={
            "dataset": "mnist", "reconstruction": "mse", "batch_size": 1000, "threads": 1,
            "stages": [{"kind": "fit", "epochs": 1, "optimizer": {"kind": "adam", "lr": 0.01}}],
        },
    )  # fmt: skip
    path = tmp_path / "tiny" / "spec.yaml"
    path.parent.mkdir()
    path.write_text("# by hand\n" + yaml.safe_dump(data))
    return path


@pytest.fixture
def rolled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of an untrained network for a swiss roll, which needs no data."""
    monkeypatch.chdir(tmp_path)
    dense = {"kind": "linear", "bias": False}
    recipe = {"dataset": {"kind": "swiss_roll", "count": 100}, "reconstruction": "mse", "threads": 1}
    spec = aezoo.VariantSpec.model_validate(
        small(
            name="rolled", input={"shape": [3]}, encoder=[dense | {"out_features": 2}],
            decoder=[dense | {"out_features": 3}], recipe=recipe | {"stages": [{"kind": "fit", "epochs": 1}]},
        )
    )  # fmt: skip
    aezoo.save(aezoo.build(spec), "rolled")
    return "./rolled"


# -- looking up ---------------------------------------------------------------------------------------


def test_help_lists_every_command(run: Any) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert [command for command in COMMANDS if f" {command} " not in out] == []
    assert run("--version") == (0, f"{aezoo.__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(run: Any, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Usage: aezoo {command}" in out
    if command == "evaluate":
        assert [option for option in ("--protocol", "--record", "--split") if option not in out] == []


def test_list_shows_names_and_metrics(run: Any, run_json: Any) -> None:
    code, out, _ = run("list", "sparse-*")
    assert code == 0
    assert "sparse-topk16" in out
    assert "fc-64" not in out
    assert f"{aezoo.get_entry('sparse-topk16')['metrics']['mse']:.4g}" in out
    assert "no variant matches 'x*'" in run("list", "x*")[1]
    assert set(run_json("list")) == set(aezoo.list_variants())


def test_show_prints_layers_metrics_and_hashes(run: Any, run_json: Any) -> None:
    code, out, _ = run("show", "conv-fc")
    entry = aezoo.get_entry("conv-fc")
    assert code == 0
    for word in ("encoder.3", "max_pool", "mse.validation", entry["files"]["model.safetensors"]["sha256"]):
        assert word in out
    assert run_json("show", "conv-fc") == entry


def test_demo_prints_a_table_and_writes_a_picture(run: Any, run_json: Any, tmp_path: Path) -> None:
    picture = tmp_path / "digits.png"
    code, out, err = run("demo", "--out", str(picture))
    assert (code, err) == (0, "")
    for word in ("MSE per pixel", "FVU", "L0", "dead latents", str(picture)):
        assert word in out
    assert picture.stat().st_size > 10_000
    assert run_json("demo", "fc-64", "--out", str(picture))["metrics"]["l0"]["value"] == 64


def test_validate_reports_every_file(run: Any, spec_file: Path, tmp_path: Path) -> None:
    assert run("validate", str(spec_file))[0] == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text(spec_file.read_text().replace("k: 3", "k: 80").replace("name: tiny", "name: T"))
    code, out, err = run("validate", str(spec_file), str(bad))
    assert code == 1
    assert f"{spec_file}: valid; 8 latents" in out
    assert f"{bad}:" in err
    assert "name: 'T' is not a variant name" in err
    bad.write_text(spec_file.read_text().replace("k: 3", "k: 80"))
    line = next(i for i, text in enumerate(bad.read_text().splitlines(), 1) if "k: 80" in text)
    err = run("validate", str(bad))[2]
    assert err == f"{bad}:{line}: encoder.2.k: 80 is more than the 8 features that encoder.1 gives\n"
    code, out, _ = run("validate", str(bad), "--json")
    assert code == 1
    assert json.loads(out)[0]["problems"][0]["path"] == "encoder.2.k"


def test_schema_prints_the_json_schema(run: Any) -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert json.loads(out) == aezoo.json_schema()


def test_plugins_lists_registered_kinds(run: Any, run_json: Any) -> None:
    code, out, _ = run("plugins")
    assert code == 0
    assert "topk" in out
    core = run_json("plugins")[0]
    assert (core["distribution"], core["version"], core["api"]) == ("aezoo", aezoo.__version__, 1)
    assert {"family": "layer", "kind": "topk"} in core["kinds"]


# -- train --------------------------------------------------------------------------------------------


@pytest.mark.data
def test_train_writes_a_folder_that_loads_and_is_evaluated(run: Any, run_json: Any, spec_file: Path) -> None:
    folder, by_hand = spec_file.parent, spec_file.read_text()
    code, out, err = run("train", str(spec_file), "--set", "recipe.seed=3", "--set", "encoder.2.k=2")
    assert code == 0
    assert err.startswith("training, stage 0: epoch 1 of ")  # lines instead of a bar without a terminal
    assert f"folder: {folder}" in out
    ae = aezoo.load(folder)
    assert ae.spec.recipe.seed == 3  # type: ignore[union-attr]
    assert ae.metrics["l0"]["value"] == 2
    assert ae.metrics["mse"]["split"] == "test"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "metrics.json", "model.safetensors", "preview.png", "spec.yaml", "training.json",
    ]  # fmt: skip
    assert spec_file.read_text() == by_hand
    code, _, err = run("train", str(spec_file))
    assert code == 1
    assert err.count("\n") == 1
    assert "already holds a trained variant" in err
    found = run_json("evaluate", str(folder))
    assert found["mse"]["value"] == pytest.approx(ae.metrics["mse"]["value"], rel=1e-6)


@pytest.mark.data
def test_train_takes_the_name_of_a_variant(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stages = 'recipe.stages=[{"kind": "fit", "epochs": 1, "tie": true}]'
    changes = ("--set", stages, "--set", "recipe.refit=false")
    code, out, _ = run("train", "fc-64", *changes, "--out", "mine", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["folder"] == "mine"
    ae = aezoo.load("./mine")
    assert ae.metrics == report["metrics"]
    # The published name belongs to the published recipe.
    assert ae.spec.name == "mine"  # type: ignore[union-attr]


def test_ctrl_c_exits_with_130_and_resume_continues(
    run: Any, rolled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []
    train_epoch = StageRunner.train_epoch

    def interrupted(self: StageRunner) -> dict[str, float]:
        epochs.append(self.state.epoch)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return train_epoch(self)

    monkeypatch.setattr(StageRunner, "train_epoch", interrupted)
    arguments = ("train", f"{rolled}/spec.yaml", "--set", "recipe.stages.0.epochs=3", "--out", "mine")
    code, out, err = run(*arguments)
    assert (code, out) == (130, "")
    assert "mine holds the weights so far, not measured; pass --resume to continue" in err
    assert "Traceback" not in err
    assert_error(*run(*arguments), 1, ".mine.resume found from an interrupted run; pass --resume")
    assert run(*arguments, "--resume")[0] == 0
    assert epochs == [0, 1, 1, 2]
    assert aezoo.load("./mine").metrics["mse"]["value"] is not None
    assert sorted(path.name for path in Path().iterdir()) == ["mine", "rolled"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "fc-46"], 1, "no variant 'fc-46' (did you mean 'fc-64'?)"),
        (["train", "none.yaml"], 1, "none.yaml: No such file"),
        (["train", "nix"], 1, "no variant 'nix'"),
        (["train", "fc-64", "--set", "recipe.batch_size=big"], 1,
         "recipe.batch_size: expected an integer, found 'big'"),
        (["train", "fc-64", "--set", "recipe.batchsize=1"], 1, "unknown key (did you mean 'batch_size'?)"),
        (["train", "fc-64", "--set", "recipe.batch_size"], 2, "write PATH=VALUE"),
        (["train", "fc-64", "--device", "quantum"], 1, "device quantum is not available"),
        (["evaluate", "fc-64", "--split", "tset"], 1, "no split 'tset'"),
        (["evaluate", "./nowhere"], 1, "nowhere/config.json is missing"),
        (["demo", "nix"], 1, "no variant 'nix'"),
        (["demo", "--out", "/proc/none/x.png"], 1, "could not be written"),
        (["validate"], 2, "Missing argument"),
        (["nix"], 2, "No such command"),
    ],
)  # fmt: skip
def test_errors_are_one_clear_line(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = run(*arguments)
    assert_error(found, out, err, code, words)
    assert list(tmp_path.iterdir()) == []


def assert_error(found: int, out: str, err: str, code: int, words: str) -> None:
    assert found == code, err
    assert words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert out == ""
    if code == 1:
        assert err.count("\n") == 1


# -- evaluate -----------------------------------------------------------------------------------------


def metrics_of(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / "metrics.json").read_text("utf-8"))


def test_protocols_are_listed_with_what_they_measure(run: Any, run_json: Any) -> None:
    code, out, err = run("protocols")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["protocol", "what", "is", "measured"]
    assert [line.split()[0] for line in lines[1:]] == list(PROTOCOLS)
    for line, protocol in zip(lines[1:], PROTOCOLS.values(), strict=True):
        assert line.rstrip().endswith(protocol.summary)
    assert run_json("protocols") == {name: protocol.summary for name, protocol in PROTOCOLS.items()}


def test_evaluate_runs_a_protocol(run: Any, run_json: Any, rolled: str) -> None:
    found = run_json("evaluate", rolled, "--protocol", "unrolling")
    assert found == run_protocol("unrolling", aezoo.load(rolled))
    code, out, err = run("evaluate", rolled, "--protocol", "unrolling")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert rows == [[name, f"{entry['value']:.8g}", "-", "10"] for name, entry in found.items()]
    assert metrics_of(rolled) == {}


def test_record_adds_to_the_metrics_of_the_folder(run: Any, run_json: Any, rolled: str) -> None:
    unrolling = run_json("evaluate", rolled, "--protocol", "unrolling", "--record")
    assert metrics_of(rolled) == unrolling
    stability = run_json("evaluate", rolled, "--protocol", "stability", "--record")
    assert metrics_of(rolled) == aezoo.load(rolled).metrics == unrolling | stability
    rows = [line.split() for line in run("evaluate", rolled, "--protocol", "unrolling")[1].splitlines()[1:]]
    assert all(now == published for _, now, published, _ in rows)


@pytest.mark.parametrize("options", [[], ["--split", "test"]])
def test_record_adds_the_metrics_of_the_test_split(run_json: Any, rolled: str, options: list[str]) -> None:
    found = run_json("evaluate", rolled, "--record", *options)
    assert metrics_of(rolled) == found
    assert metrics_of(rolled)["mse"]["split"] == "test"


def test_record_expands_the_home_folder(
    run: Any, rolled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = run("evaluate", "~/rolled", "--protocol", "stability", "--record")
    assert (code, err) == (0, "")
    assert list(metrics_of(rolled)) == ["latent_change"]


SPLIT_WORDS = "a protocol chooses its own splits; omit --split"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fc-64", "--record"], 2, "--record needs a folder, such as ./fc-64"),
        (["rolled", "--record"], 2, "--record needs a folder, such as ./rolled"),
        (["rolled", "--protocol", "stability", "--record"], 2, "--record needs a folder, such as ./rolled"),
        (["./rolled", "--protocol", "stability", "--split", "test"], 2, SPLIT_WORDS),
        (["fc-64", "--protocol", "nix", "--split", "train"], 2, SPLIT_WORDS),
        (["./rolled", "--record", "--split", "validation"], 2, "--record is for the test split"),
        (["./rolled", "--record", "--split", "tset"], 2, "--record is for the test split"),
        (["./rolled", "--protocol"], 2, "requires an argument"),
        (["./rolled", "--protocol", "stabilty"], 1, "no protocol 'stabilty' (did you mean 'stability'?)"),
        (["./rolled", "--protocol", "probe", "--record"], 1,
         "the protocol probe does not apply: the dataset has no classes"),
        (["./rolled", "--protocol", "noise"], 1, "the protocol noise does not apply: it is defined for"),
        (["fc-64", "--protocol", "one-class"], 1,
         "the protocol one-class does not apply: the network was trained on every class"),
        (["fc-46", "--protocol", "probe"], 1, "no variant 'fc-46' (did you mean 'fc-64'?)"),
        (["./nowhere", "--protocol", "probe", "--record"], 1, "nowhere/config.json is missing"),
    ],
)  # fmt: skip
def test_errors_of_evaluate_are_one_clear_line(
    run: Any, rolled: str, arguments: list[str], code: int, words: str
) -> None:
    assert_error(*run("evaluate", *arguments), code, words)
    assert metrics_of(rolled) == {}


def test_a_record_that_cannot_be_written_is_an_error(
    run: Any, rolled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    found = run("evaluate", rolled, "--protocol", "stability", "--record")
    assert_error(*found, 1, "could not be written: No space left on device")


# -- evaluate says when data or numbers are not those of the variant ----------------------------------


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a variant that was trained on `t.npy`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", np.random.default_rng(0).normal(size=(60, 3)))
    spec = small_vector_variant(dataset={"kind": "array", "path": "t.npy", "scale": "standard", "test": 0.3})
    return aezoo.save(aezoo.train(spec, progress=False), "kept")


def small_vector_variant(**recipe: Any) -> aezoo.VariantSpec:
    return aezoo.VariantSpec.model_validate({
        "name": "kept",
        "summary": "Three values.",
        "input": {"shape": [3]},
        "encoder": [{"kind": "linear", "out_features": 2}],
        "decoder": [{"kind": "linear", "out_features": 3}],
        "recipe": {"reconstruction": "mse", "threads": 1, "stages": [{"kind": "fit", "epochs": 1}]} | recipe,
    })  # fmt: skip


def test_evaluate_succeeds_on_the_data_of_the_training(run: Any, trained: Path) -> None:
    for options in (
        [],
        ["--split", "validation"],
        ["--split", "train"],
        ["--protocol", "stability"],
        ["--json"],
    ):
        code, _, err = run("evaluate", f"./{trained}", *options)
        assert (code, err) == (0, ""), options


@pytest.mark.parametrize("options", [[], ["--split", "validation"], ["--json"], ["--protocol", "stability"]])
def test_evaluate_fails_on_other_data(run: Any, trained: Path, options: list[str]) -> None:
    np.save("t.npy", 50 + np.load("t.npy"))
    code, out, err = run("evaluate", f"./{trained}", *options)
    assert code == 1
    split = "validation" if "--split" in options else "test"
    assert f"advice: other-data: the {split} split is not the one of the training: found " in err
    assert out
    assert "Traceback" not in err


def test_evaluate_fails_on_other_numbers(run: Any, trained: Path) -> None:
    path = trained / "metrics.json"
    metrics = json.loads(path.read_text())
    value = metrics["mse"]["value"]
    metrics["mse"]["value"] = 0.5 * value
    metrics["fvu.validation"]["value"] = None
    path.write_text(json.dumps(metrics))
    code, out, err = run("evaluate", f"./{trained}")
    assert (code, err) == (1, f"mse: {0.5 * value:.8g} published, {value:.8g} computed now\n")
    assert f"{value:.8g}"[:6] in out
    assert run("evaluate", f"./{trained}", "--split", "validation")[0] == 0
    metrics["mse"]["value"] = value * (1 + 1e-7)  # another number of threads
    path.write_text(json.dumps(metrics))
    assert run("evaluate", f"./{trained}")[0] == 0


def test_evaluate_does_not_record_numbers_of_other_data(run: Any, trained: Path) -> None:
    before = (trained / "metrics.json").read_bytes()
    np.save("t.npy", 50 + np.load("t.npy"))
    code, _, err = run("evaluate", f"./{trained}", "--record")
    assert (code, err.splitlines()[-1]) == (
        1,
        "nothing was recorded: these numbers are not those of the variant's own data",
    )
    assert (trained / "metrics.json").read_bytes() == before
