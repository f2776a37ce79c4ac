"""The command line: what it prints, and how it refuses."""

import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import aezoo
from aezoo import cli, files, plots
from aezoo.evaluation.protocols import PROTOCOLS, run_protocol
from aezoo.training.train import preview_inputs
from tests.examples import small


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process; gives exit code, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aezoo", *arguments])
        monkeypatch.setenv("COLUMNS", "160")
        # What the variable said when the console was made counts from then on.
        monkeypatch.setattr(cli.out, "width", 160)
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """A spec that trains in a second, on real digits."""
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
    path.write_text("# mine\n" + yaml.safe_dump(data))
    return path


def test_help_names_every_command(run: Any) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for command in ("list", "show", "demo", "validate", "schema", "train", "evaluate", "plugins"):
        assert f" {command} " in out
    assert run("--version") == (0, f"{aezoo.__version__}\n", "")


@pytest.mark.parametrize(
    "command", ["list", "show", "demo", "validate", "schema", "train", "evaluate", "plugins"]
)
def test_every_command_has_a_help(run: Any, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage: aezoo" in out


def test_list_shows_names_and_numbers(run: Any) -> None:
    code, out, _ = run("list", "sparse-*")
    assert code == 0
    assert "sparse-topk16" in out
    assert "fc-64" not in out
    assert f"{aezoo.get_entry('sparse-topk16')['metrics']['mse']:.4g}" in out
    assert "no variant fits 'x*'" in run("list", "x*")[1]
    assert set(json.loads(run("list", "--json")[1])) == set(aezoo.list_variants())


def test_show_prints_layers_metrics_and_hashes(run: Any) -> None:
    code, out, _ = run("show", "conv-fc")
    entry = aezoo.get_entry("conv-fc")
    assert code == 0
    for word in ("encoder.3", "max_pool", "mse.validation", entry["files"]["model.safetensors"]["sha256"]):
        assert word in out
    assert json.loads(run("show", "conv-fc", "--json")[1]) == entry


def test_demo_prints_the_table_and_the_picture(run: Any, tmp_path: Path) -> None:
    picture = tmp_path / "digits.png"
    code, out, err = run("demo", "--out", str(picture))
    assert (code, err) == (0, "")
    for word in ("MSE per pixel", "FVU", "L0", "dead latents", str(picture)):
        assert word in out
    assert picture.stat().st_size > 10_000
    report = json.loads(run("demo", "fc-64", "--out", str(picture), "--json")[1])
    assert report["metrics"]["l0"]["value"] == 64


def test_validate_tells_good_from_bad(run: Any, spec_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(spec_file.read_text().replace("k: 3", "k: 80").replace("name: tiny", "name: T"))
    code, out, err = run("validate", str(spec_file), str(bad))
    assert code == 1
    assert f"{spec_file}: valid; 8 latents" in out
    assert f"{bad}:" in err
    assert "name: 'T' is no variant name" in err
    bad.write_text(spec_file.read_text().replace("k: 3", "k: 80"))
    code, out, err = run("validate", str(bad))
    line = next(i for i, text in enumerate(bad.read_text().splitlines(), 1) if "k: 80" in text)
    assert err == f"{bad}:{line}: encoder.2.k: 80 is more than the 8 features that encoder.1 gives\n"
    code, out, _ = run("validate", str(bad), "--json")
    assert code == 1
    assert json.loads(out)[0]["problems"][0]["path"] == "encoder.2.k"
    assert run("validate", str(spec_file))[0] == 0


def test_schema_is_json(run: Any) -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert json.loads(out) == aezoo.json_schema()


def test_plugins_shows_who_brought_what(run: Any) -> None:
    code, out, _ = run("plugins")
    assert code == 0
    assert "topk" in out
    core = json.loads(run("plugins", "--json")[1])[0]
    assert (core["distribution"], core["version"], core["api"]) == ("aezoo", aezoo.__version__, 1)
    assert {"family": "layer", "kind": "topk"} in core["kinds"]


@pytest.mark.data
def test_train_writes_a_folder_that_loads(run: Any, spec_file: Path) -> None:
    """The README's path: write a spec, check it, train it, load it back."""
    by_hand = spec_file.read_text()
    code, out, err = run("train", str(spec_file), "--set", "recipe.seed=3", "--set", "encoder.2.k=2")
    assert (code, err) == (0, "")  # no progress bar where there is no terminal
    assert f"folder: {spec_file.parent}" in out
    ae = aezoo.load(spec_file.parent)
    assert ae.spec.recipe.seed == 3  # type: ignore[union-attr]
    assert ae.metrics["l0"]["value"] == 2
    assert ae.metrics["mse"]["split"] == "test"
    assert sorted(p.name for p in spec_file.parent.iterdir()) == [
        "README.md", "config.json", "metrics.json", "model.safetensors", "preview.png", "spec.yaml", "training.json",
    ]  # fmt: skip
    assert spec_file.read_text() == by_hand
    code, _, err = run("train", str(spec_file))
    assert code == 1
    assert err.count("\n") == 1
    assert "already holds a trained variant" in err
    code, out, _ = run("evaluate", str(spec_file.parent), "--json")
    assert json.loads(out)["mse"]["value"] == pytest.approx(ae.metrics["mse"]["value"], rel=1e-6)


@pytest.mark.data
def test_train_takes_a_variants_name(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stage = '{"kind": "fit", "epochs": 1, "tie": true}'
    code, out, _ = run(
        "train",
        "fc-64",
        "--set",
        f"recipe.stages=[{stage}]",
        "--set",
        "recipe.refit=false",
        "--out",
        "mine",
        "--json",
    )
    assert code == 0
    report = json.loads(out)
    assert report["folder"] == "mine"
    assert aezoo.load("./mine").metrics == report["metrics"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "fc-46"], 1, "no variant 'fc-46' (did you mean 'fc-64'?)"),
        (["train", "none.yaml"], 1, "none.yaml: No such file"),
        (["train", "nix"], 1, "no variant 'nix'"),
        (
            ["train", "fc-64", "--set", "recipe.batch_size=big"],
            1,
            "recipe.batch_size: expected an integer, found 'big'",
        ),
        (["train", "fc-64", "--set", "recipe.batchsize=1"], 1, "unknown key (did you mean 'batch_size'?)"),
        (["train", "fc-64", "--set", "recipe.batch_size"], 2, "write PATH=VALUE"),
        (["train", "fc-64", "--device", "quantum"], 1, "device quantum is not available"),
        (["evaluate", "fc-64", "--split", "tset"], 1, "no split 'tset'"),
        (["evaluate", "./nowhere"], 1, "nowhere is no folder"),
        (["demo", "nix"], 1, "no variant 'nix'"),
        (["demo", "--out", "/proc/none/x.png"], 1, "could not be written"),
        (["validate"], 2, "Missing argument"),
        (["nix"], 2, "No such command"),
    ],
)
def test_refusals_are_one_clear_line(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = run(*arguments)
    assert found == code, err
    assert words in err
    assert "Traceback" not in err
    assert out == ""
    if code == 1:
        assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# -- protocols ----------------------------------------------------------------------------------------


@pytest.fixture
def rolled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with a network for a swiss roll, which needs no data; nobody trained or measured it."""
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


def metrics_of(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / "metrics.json").read_text("utf-8"))


def test_protocols_lists_each_with_what_it_measures(run: Any) -> None:
    code, out, err = run("protocols")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["protocol", "what", "is", "measured"]
    assert [line.split()[0] for line in lines[1:]] == list(PROTOCOLS)
    for line, protocol in zip(lines[1:], PROTOCOLS.values(), strict=True):
        assert line.rstrip().endswith(protocol.summary)
    code, out, err = run("protocols", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {name: protocol.summary for name, protocol in PROTOCOLS.items()}


def test_help_tells_of_protocols(run: Any) -> None:
    assert " protocols " in run("--help")[1]
    code, out, _ = run("protocols", "--help")
    assert code == 0
    assert "Usage: aezoo protocols" in out
    out = run("evaluate", "--help")[1]
    for option in ("--protocol", "--record", "--split"):
        assert option in out


def test_evaluate_measures_by_a_protocol(run: Any, rolled: str) -> None:
    code, out, err = run("evaluate", rolled, "--protocol", "unrolling", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found == run_protocol("unrolling", aezoo.load(rolled))
    code, out, err = run("evaluate", rolled, "--protocol", "unrolling")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()[1:]]
    # Nothing is published beside it yet.
    assert rows == [[name, f"{entry['value']:.8g}", "-", "10"] for name, entry in found.items()]
    assert metrics_of(rolled) == {}


def test_record_keeps_what_was_measured(run: Any, rolled: str) -> None:
    code, out, err = run("evaluate", rolled, "--protocol", "unrolling", "--record", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert metrics_of(rolled) == found
    code, out, _ = run("evaluate", rolled, "--protocol", "stability", "--record", "--json")
    assert code == 0
    assert metrics_of(rolled) == aezoo.load(rolled).metrics == found | json.loads(out)
    # Measured again, a number stands beside the one that was kept.
    rows = [line.split() for line in run("evaluate", rolled, "--protocol", "unrolling")[1].splitlines()[1:]]
    assert all(now == published for _, now, published, _ in rows)


@pytest.mark.parametrize("options", [[], ["--split", "test"]])
def test_record_keeps_the_metrics_of_the_test_split_too(run: Any, rolled: str, options: list[str]) -> None:
    code, out, err = run("evaluate", rolled, "--record", "--json", *options)
    assert (code, err) == (0, "")
    assert metrics_of(rolled) == json.loads(out)
    assert metrics_of(rolled)["mse"]["split"] == "test"


def test_record_finds_a_folder_in_the_home_folder(
    run: Any, rolled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = run("evaluate", "~/rolled", "--protocol", "stability", "--record")
    assert (code, err) == (0, "")
    assert list(metrics_of(rolled)) == ["latent_change"]


SPLIT_WORDS = "a protocol says itself which splits it reads; leave --split out"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fc-64", "--record"], 2, "--record writes into a folder; give one, such as ./fc-64"),
        (["rolled", "--record"], 2, "--record writes into a folder; give one, such as ./rolled"),
        (["rolled", "--protocol", "stability", "--record"], 2, "give one, such as ./rolled"),
        (["./rolled", "--protocol", "stability", "--split", "test"], 2, SPLIT_WORDS),
        (["fc-64", "--protocol", "nix", "--split", "train"], 2, SPLIT_WORDS),
        (["./rolled", "--record", "--split", "validation"], 2, "--record keeps numbers of the test split"),
        (["./rolled", "--record", "--split", "tset"], 2, "--record keeps numbers of the test split"),
        (["./rolled", "--protocol"], 2, "requires an argument"),
        (["./rolled", "--protocol", "stabilty"], 1, "no protocol 'stabilty' (did you mean 'stability'?)"),
        (["./rolled", "--protocol", "probe", "--record"], 1,
         "the protocol probe does not apply: the dataset has no classes"),
        (["./rolled", "--protocol", "noise"], 1, "the protocol noise does not apply: it is defined for"),
        (["fc-64", "--protocol", "one-class"], 1,
         "the protocol one-class does not apply: the network was trained on every class"),
        (["fc-46", "--protocol", "probe"], 1, "no variant 'fc-46' (did you mean 'fc-64'?)"),
        (["./nowhere", "--protocol", "probe", "--record"], 1, "nowhere is no folder"),
    ],
)  # fmt: skip
def test_evaluate_refuses_in_one_clear_line(
    run: Any, rolled: str, arguments: list[str], code: int, words: str
) -> None:
    found, out, err = run("evaluate", *arguments)
    assert found == code, err
    assert words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert out == ""
    if code == 1:
        assert err.count("\n") == 1
    assert metrics_of(rolled) == {}


def test_a_record_that_cannot_be_written_is_refused_in_one_line(
    run: Any, rolled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    code, out, err = run("evaluate", rolled, "--protocol", "stability", "--record")
    assert (code, out) == (1, "")
    assert "could not be written: No space left on device" in err
    assert err.count("\n") == 1


# -- the preview --------------------------------------------------------------------------------------


def with_noises(rolled: str, *noises: dict[str, Any]) -> aezoo.VariantSpec:
    spec = aezoo.load(rolled).spec
    assert isinstance(spec, aezoo.VariantSpec)
    return spec.replace({"recipe.noises": noises})


def clean(spec: aezoo.VariantSpec) -> torch.Tensor:
    """The validation split, in order."""
    assert spec.recipe.dataset is not None
    samples = spec.recipe.dataset.load("validation")
    return samples.inputs[samples.index]


def test_a_preview_shows_clean_inputs_where_the_recipe_has_no_noise(rolled: str) -> None:
    spec = with_noises(rolled)
    assert torch.equal(preview_inputs(spec, n=4), clean(spec)[:4])


def test_a_preview_shows_inputs_as_the_recipe_corrupts_them(rolled: str) -> None:
    spec = with_noises(rolled, {"kind": "masking", "share": 0.34, "value": 50.0})
    random_state = torch.get_rng_state()
    shown = preview_inputs(spec, n=6)
    assert torch.equal(torch.get_rng_state(), random_state)
    masked = shown == 50
    # A third of three values is one.
    assert masked.sum(1).tolist() == [1] * 6
    assert torch.equal(shown[~masked], clean(spec)[:6][~masked])
    assert torch.equal(preview_inputs(spec, n=6), shown)


def test_a_preview_has_gone_through_every_noise_in_order(rolled: str) -> None:
    all_seven = {"kind": "masking", "share": 1.0, "value": 7.0}
    shown = preview_inputs(with_noises(rolled, {"kind": "gaussian", "std": 1.0}, all_seven))
    assert torch.equal(shown, torch.full((10, 3), 7.0))
    shown = preview_inputs(with_noises(rolled, all_seven, {"kind": "gaussian", "std": 0.5}))
    assert 0 < (shown - 7).abs().max() < 3


def test_train_draws_the_noisy_inputs(run: Any, rolled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []
    monkeypatch.setattr(plots, "reconstructions", lambda ae, x: drawn.append(x))
    monkeypatch.setattr(plots, "png", lambda figure: b"picture")
    spec = with_noises(rolled, {"kind": "gaussian", "std": 0.5})
    Path("noisy.yaml").write_text(aezoo.to_yaml(spec))
    code, _, err = run("train", "noisy.yaml", "--out", "noisy", "--device", "cpu")
    assert code == 0, err
    assert torch.equal(drawn[0], preview_inputs(spec))
    assert not torch.equal(drawn[0], clean(spec))
    assert Path("noisy/preview.png").read_bytes() == b"picture"
