"""The files of the live page, as `docs/live/build.py` writes them."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import aezoo

ROOT = Path(__file__).resolve().parents[1]
LIVE = ROOT / "docs" / "live"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module, with a folder of its own for npm's packages and for what is kept between builds."""
    location = importlib.util.spec_from_file_location("live_build", LIVE / "build.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    monkeypatch.setitem(sys.modules, location.name, module)
    location.loader.exec_module(module)
    here = tmp_path / "live"
    here.mkdir()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(LIVE / name, here)
    monkeypatch.setattr(module, "HERE", here)
    monkeypatch.setattr(module, "RUNTIME", here / "node_modules" / "onnxruntime-web" / "dist")
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    return module


def test_without_npm_one_line_says_what_to_install(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.main([str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        "docs/live/build.py: npm was not found, which the live page needs; install Node.js 18 or later with npm\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_failure_of_npm_is_one_line(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code E404' >&2\necho 'npm error not found' >&2\nexit 3\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.main([str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "with status 3: npm error code E404 npm error not found" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]])
def test_usage(build: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(arguments) == 2
    assert capsys.readouterr().err == "usage: python docs/live/build.py OUT\n"


@pytest.mark.parametrize("name", ["swissroll-2", "colorize"])
def test_only_networks_for_digits_are_taken(build: ModuleType, name: str) -> None:
    with pytest.raises(aezoo.NotSupportedError, match=f"{name}: the live page expects gray images"):
        build._network(name)


def test_installed_packages_are_installed_again_only_for_another_lock_file(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []

    def run(*arguments: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(arguments)
        (build.HERE / "node_modules").mkdir(exist_ok=True)
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(build.shutil, "which", lambda name: f"/{name}")
    monkeypatch.setattr(build.subprocess, "run", run)
    build.install()
    build.install()
    assert len(calls) == 1
    lock = build.HERE / "package-lock.json"
    lock.write_text(lock.read_text() + "\n")
    build.install()
    assert len(calls) == 2


def test_the_lock_file_names_no_host_and_pins_every_package() -> None:
    lock = json.loads((LIVE / "package-lock.json").read_text("utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert "node_modules/onnxruntime-web" in packages
    for name, entry in packages.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry, name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv-strided", "sparse-topk16", "overcomplete-topk", "vae-2"])
def test_encoder_and_decoder_agree_with_aezoo(build: ModuleType, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    entry, cut = build._network(name)
    digits = aezoo.sample_digits().inputs[:20].view(-1, 1, 28, 28)
    ae = aezoo.load(name)
    with torch.no_grad():
        latents = ae.encode(ae.transforms()(digits))
        expected = ae.decode(latents)
    encoder = onnxruntime.InferenceSession(cut.encoder, providers=["CPUExecutionProvider"])
    decoder = onnxruntime.InferenceSession(cut.decoder, providers=["CPUExecutionProvider"])
    found = dict(
        zip(
            [output.name for output in encoder.get_outputs()],
            encoder.run(None, {"input": digits.numpy()}),
            strict=True,
        )
    )
    assert torch.allclose(torch.from_numpy(found["latents"]), latents, atol=1e-4)
    (images,) = decoder.run(None, {"latents": found["latents"]})
    assert torch.allclose(torch.from_numpy(images), expected, atol=1e-4)
    assert entry["bytes"] == len(cut.encoder) + len(cut.decoder)
    assert ("pre_activations" in found) == (entry["k"] is not None)
    if entry["k"] is not None:
        chosen = torch.from_numpy(found["pre_activations"]).topk(entry["k"]).values
        assert torch.allclose(chosen, latents.topk(entry["k"]).values, atol=1e-4)
    # From the cache, the bytes are the same.
    assert build._cut(name) == cut
    low, high = torch.tensor(entry["low"]), torch.tensor(entry["high"])
    margin = 1e-3 * latents.abs().max()
    assert bool((latents.flatten(1) >= low - margin).all() and (latents.flatten(1) <= high + margin).all())


@pytest.mark.slow
def test_weights_in_half_precision_take_half_the_space(build: ModuleType) -> None:
    entry, _ = build._network("overcomplete-topk")
    ae = aezoo.load("overcomplete-topk")
    assert entry["bytes"] < 2.1 * sum(parameter.numel() for parameter in ae.parameters())
