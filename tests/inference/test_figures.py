"""`aezoo plot`: what it draws of a variant, from which data, and what it refuses."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import aezoo
from aezoo import cli, plots
from aezoo.inference.figures import KINDS, applicable_kinds
from aezoo.zoo.demo import sample_digits

ROOT = Path(__file__).parent.parent.parent
NAMES = sorted(path.parent.name for path in ROOT.glob("zoo/*/config.json"))
PLUGINS = sorted(ROOT.glob("plugins/*/*/zoo/*/config.json"))
EVERYWHERE = {"reconstructions", "latents", "l0", "activations", "layers"}


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["plot", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fc-64", {"dictionary", "embedding", "walk", "class-errors", "history"}),
        ("vae-2", {"embedding", "walk", "samples", "manifold", "class-errors", "history"}),
        ("anomaly-3", {"embedding", "walk", "class-errors", "roc", "history"}),
        ("pca-32", {"dictionary", "embedding", "walk", "class-errors"}),
        ("conv-unpool-max", {"embedding", "class-errors", "history"}),
        ("swissroll-2", {"embedding", "walk", "manifold", "class-errors", "history"}),
    ],
)
def test_kinds_that_apply(name: str, expected: set[str]) -> None:
    assert set(applicable_kinds(aezoo.load(name))) == EVERYWHERE | expected


def test_the_command_knows_every_kind() -> None:
    from typing import get_args

    from aezoo.cli.inference import FigureKind

    assert set(get_args(FigureKind)) == set(KINDS)
    _, text = run("--help")
    assert [kind for kind in KINDS if kind not in text] == []


@pytest.mark.parametrize(
    ("name", "kind", "n"),
    [
        ("denoise-gaussian", "reconstructions", 12), ("sparse-topk16", "dictionary", 300), ("vae-2", "manifold", 0),
        ("deep-2", "manifold", 300), ("anomaly-3", "roc", 300), ("fc-64", "history", 0),
        *(pytest.param("vae-16", kind, None, marks=pytest.mark.slow) for kind in KINDS if kind not in ("dictionary", "manifold", "roc")),
    ],
)  # fmt: skip
def test_a_figure_is_written(name: str, kind: str, n: int | None, tmp_path: Path) -> None:
    path = tmp_path / "new" / "figure.png"
    code, text = run(name, kind, "-o", path)
    assert code == 0
    assert text.startswith(f"{path}: {kind}")
    assert n is None or (f"{n:,} samples, digits that ship with aezoo" in text) == (n > 0)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_that_applies_to_a_variant_is_drawn(name: str, tmp_path: Path) -> None:
    ae = aezoo.load(name)
    for kind in applicable_kinds(ae):
        for dark in (False, True):
            path = tmp_path / f"{kind}-{dark}.png"
            if name == "swissroll-2" and kind == "class-errors":
                with pytest.raises(aezoo.DataError, match="found labels that are not whole numbers"):
                    aezoo.plot_to_file(ae, kind, path)
                continue
            aezoo.plot_to_file(ae, kind, path, n=100, dark=dark)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("config", PLUGINS, ids=lambda path: path.parent.name)
def test_every_kind_that_applies_to_a_variant_of_a_plugin_is_drawn(config: Path, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    # In a process of its own, in which plugins are loaded.
    script = (
        "import sys, aezoo\nfrom aezoo.inference.figures import applicable_kinds\nae = aezoo.load(sys.argv[1])\n"
        "for kind in applicable_kinds(ae):\n    aezoo.plot_to_file(ae, kind, f'{sys.argv[2]}/{kind}.png', n=40)\n"
        "print(*applicable_kinds(ae))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "AEZOO_PLUGINS"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(config.parent), str(tmp_path)], text=True,
        capture_output=True, env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= EVERYWHERE
    assert {path.stem for path in tmp_path.glob("*.png")} == set(done.stdout.split())


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_the_format_is_that_of_the_suffix(suffix: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for path in (first, second):
        aezoo.plot_to_file("fc-64", "layers", path)
    head = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix.lower()]
    assert first.read_bytes().startswith(head)
    assert first.read_bytes() == second.read_bytes()


def test_the_options_reach_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    draw = plots.embedding
    monkeypatch.setattr(plots, "embedding", lambda *a, **k: seen.append((a, k)) or draw(*a, **k))
    path = tmp_path / "e.png"
    options = ["-n", 50, "--seed", 3, "--method", "pca", "--dimensions", 3, "--dark", "--force"]
    path.write_bytes(b"old")
    assert run("fc-64", "embedding", "-o", path, *options)[0] == 0
    ((latents, labels), given) = seen[0]
    assert latents.shape == (50, 64)
    assert torch.equal(labels, sample_digits().labels[:50])
    assert given == {"method": "pca", "dimensions": 3, "seed": 3, "title": "fc-64"}
    corner = Image.open(io.BytesIO(path.read_bytes())).convert("RGB").getpixel((0, 0))
    assert max(np.atleast_1d(corner)) < 64


def test_noises_are_applied_to_the_samples_of_a_dataset_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    draw = plots.reconstructions
    monkeypatch.setattr(plots, "reconstructions", lambda *a, **k: seen.append(k["noisy"]) or draw(*a, **k))
    digits = sample_digits().inputs[:3].numpy()
    np.save(tmp_path / "digits.npy", digits)
    for data in (None, str(tmp_path / "digits.npy"), None):
        aezoo.plot_to_file("denoise-gaussian", "reconstructions", tmp_path / "d.png", data, force=True)
    assert seen[1] is None
    assert torch.equal(seen[0], seen[2])
    assert seen[0].shape == (12, 1, 28, 28)


def write_images(folder: Path) -> str:
    folder.mkdir()
    for number, image in enumerate(sample_digits().inputs[:5].numpy()):
        Image.fromarray(image).save(folder / f"{number}.png")
    return str(folder)


DATA: dict[str, tuple[str, Any]] = {
    "a folder": ("reconstructions", lambda path: write_images(path / "images")),
    "a folder as an embedding": ("embedding", lambda path: write_images(path / "images")),
    "labelled samples": ("class-errors", lambda _: sample_digits()[:20]),
    "an array": ("latents", lambda _: sample_digits().inputs[:20].numpy()),
}


@pytest.mark.parametrize("what", DATA)
def test_data_of_ones_own(what: str, tmp_path: Path) -> None:
    kind, make = DATA[what]
    data = make(tmp_path)
    found = aezoo.plot_to_file("fc-64", kind, tmp_path / "out.png", data)
    assert found.n == (5 if "folder" in what else 20 if kind != "reconstructions" else 12)


@pytest.mark.data
def test_a_split_has_labels_of_all_classes(tmp_path: Path) -> None:
    found = aezoo.plot_to_file("anomaly-3", "roc", tmp_path / "roc.svg", "mnist:test", n=500)
    assert (found.n, found.data) == (500, "mnist:test")


@pytest.mark.slow
def test_a_table_and_a_series(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    recipe = {"reconstruction": "mse", "batch_size": 8, "stages": [{"kind": "fit", "epochs": 1}]}
    for shape in ((5,), (2, 20)):
        n = int(np.prod(shape))
        spec = aezoo.VariantSpec.model_validate({
            "name": "mine", "summary": "Mine.", "input": {"shape": shape}, "recipe": recipe,
            "encoder": ["flatten", {"kind": "linear", "out_features": 2}],
            "decoder": [{"kind": "linear", "out_features": n}, {"kind": "unflatten", "shape": shape}],
        })  # fmt: skip
        data = torch.randn(40, *shape, generator=generator)
        ae = aezoo.train(spec, data, progress=False)
        for kind in applicable_kinds(ae):
            path = tmp_path / f"{kind}-{len(shape)}.png"
            if kind == "class-errors" or (kind == "manifold"):
                with pytest.raises(aezoo.AezooError):
                    aezoo.plot_to_file(ae, kind, path, data)
                continue
            aezoo.plot_to_file(ae, kind, path, data)
            assert Image.open(io.BytesIO(path.read_bytes())).format == "PNG"
        with pytest.raises(aezoo.DataError, match="the recipe names no dataset"):
            aezoo.plot_to_file(ae, "latents", tmp_path / "none.png")


REFUSED = {
    "kind": (("fc-64", "manifold"), {}, aezoo.NotSupportedError, r"manifold does not apply to this network: it needs two latents, the network has 64; these kinds do: reconstructions, latents,"),
    "roc": (("fc-64", "roc"), {}, aezoo.NotSupportedError, "it was trained on every class"),
    "samples": (("fc-64", "samples"), {}, aezoo.NotSupportedError, "it has no prior"),
    "history": (("pca-32", "history"), {}, aezoo.NotSupportedError, "it was not trained by epochs"),
    "dictionary": (("deep-64", "dictionary"), {}, aezoo.NotSupportedError, "its decoder is not a single linear layer"),
    "walk": (("conv-unpool-max", "walk"), {}, aezoo.NotSupportedError, "its decoder needs"),
    "odd walk": (("fc-64", "walk"), {"n": 3}, aezoo.DataError, "n: expected an even number"),
    "unknown": (("fc-64", "histogram"), {}, aezoo.DataError, "kind: expected reconstructions, latents,.*found 'histogram'"),
    "n": (("fc-64", "latents"), {"n": 0}, aezoo.DataError, "n: expected a whole number of at least 1, found 0"),
    "many": (("fc-64", "latents"), {"n": 10_001}, aezoo.DataError, "n: expected at most 10,000 samples in a figure"),
    "seed": (("fc-64", "latents"), {"seed": -1}, aezoo.DataError, "seed: expected a whole number of at least 0"),
    "dimensions": (("fc-64", "embedding"), {"dimensions": 4}, aezoo.DataError, "dimensions: expected 2, 3, found 4"),
    "no file": (("fc-64", "latents", None, "nowhere.npy"), {}, aezoo.DataError, "nowhere.npy"),
    "no labels": (("fc-64", "class-errors", None, sample_digits().inputs[:4]), {}, aezoo.DataError, "expected samples with labels of classes, found none"),
    "no variant": (("fc-46", "latents"), {}, aezoo.UnknownVariantError, "fc-46"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    (name, kind, *rest), options, error, words = REFUSED[what]
    data = rest[1] if rest else None
    with pytest.raises(error, match=words) as raised:
        aezoo.plot_to_file(name, kind, tmp_path / "out.png", data, **options)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_files_are_replaced_only_if_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"old")
    with pytest.raises(aezoo.CheckpointError, match="exists; pass force=True"):
        aezoo.plot_to_file("fc-64", "layers", path)
    assert path.read_bytes() == b"old"
    with pytest.raises(aezoo.DataError, match=r"expected .png, .svg, .pdf, found '.gif'"):
        aezoo.plot_to_file("fc-64", "layers", tmp_path / "out.gif")
    aezoo.plot_to_file("fc-64", "layers", path, force=True)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [found.name for found in tmp_path.iterdir()] == ["out.png"]
