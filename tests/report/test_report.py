"""Reports: their numbers, against others that are worked out by hand, and the page, in a parser and a browser."""

import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

import aezoo
from aezoo.data.transforms import Scaler
from aezoo.errors import CheckpointError, DataError
from aezoo.inference.sources import open_source
from aezoo.model.autoencoder import eval_mode
from aezoo.report import analysis
from aezoo.report.analysis import Units, analyse
from tests.parts import in_parts
from tests.zoo.conftest import Run, run

__all__ = ["run"]

N = 300


def samples(*shape: int, n: int = N) -> Tensor:
    return torch.rand(n, *shape, generator=Generator().manual_seed(0))


def vectors(latents: int = 5, *layers: dict[str, Any], values: int = 6, **spec: Any) -> aezoo.Autoencoder:
    return aezoo.build(aezoo.AutoencoderSpec.model_validate({
        "input": {"shape": [values]},
        "encoder": [{"kind": "linear", "out_features": latents}, *layers],
        "decoder": [{"kind": "linear", "out_features": values}],
    } | spec), seed=1)  # fmt: skip


def images(channels: int = 1) -> aezoo.Autoencoder:
    """A convolutional code of three channels, whose decoder needs what the encoder's pooling emits."""
    return aezoo.build(aezoo.AutoencoderSpec.model_validate({
        "input": {"shape": [channels, 8, 8], "range": [0, 1]},
        "encoder": [{"kind": "conv", "out_channels": 3, "kernel_size": 3, "padding": 1}, {"kind": "max_pool", "kernel_size": 2, "switches": "a"}],
        "decoder": [{"kind": "max_unpool", "kernel_size": 2, "switches": "a"}, {"kind": "conv", "out_channels": channels, "kernel_size": 3, "padding": 1}],
    }), seed=1)  # fmt: skip


def units_of(ae: aezoo.Autoencoder, x: Tensor) -> Units:
    return analyse(ae, open_source(ae, x))


@torch.no_grad()
def without(ae: aezoo.Autoencoder, x: Tensor, index: int, value: object) -> Tensor:
    """Outputs when a unit is set to a value, one sample at a time."""
    outputs: list[Tensor] = []
    with eval_mode(ae):
        for one in x:
            aux: dict[str, Tensor] = {}
            latents = ae.encoder(one[None], aux)
            latents[0, index] = value  # pyright: ignore[reportArgumentType]
            outputs.append(ae.decode(latents, aux))
    return torch.cat(outputs)


# -- numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["dense", "sparse", "channels"])
@torch.no_grad()
def test_what_the_output_loses_is_what_it_loses(make: str) -> None:
    ae = {"dense": vectors, "sparse": lambda: vectors(7, {"kind": "topk", "k": 2}), "channels": images}[
        make
    ]()
    x = samples(*ae.spec.input.shape)
    found = units_of(ae, x)
    latents, x_hat = ae.encode(x), ae(x).x_hat
    assert found.sparse == (make == "sparse")
    assert found.ablated == N
    assert found.loss is not None
    for index in range(latents.shape[1]):
        value = 0.0 if found.sparse else latents[:, index].mean(0)
        changed = without(ae, x, index, value)
        assert float(found.change[index]) == pytest.approx(float((changed - x_hat).square().mean()), rel=1e-4)
        loss = float((changed - x).square().mean() - (x_hat - x).square().mean())
        assert float(found.loss[index]) == pytest.approx(loss, rel=1e-3, abs=1e-7)
    assert found.mse == pytest.approx(float((x_hat - x).square().mean()), rel=1e-5)


@torch.no_grad()
def test_statistics_are_those_of_the_latents() -> None:
    ae = vectors(7, {"kind": "topk", "k": 2})
    x = samples(6, n=700)
    found, latents = units_of(ae, x), ae.encode(x)
    assert torch.allclose(found.density, (latents != 0).double().mean(0))
    assert torch.allclose(found.mean, latents.double().mean(0), atol=1e-6)
    assert torch.allclose(found.sd, latents.double().std(0, correction=0), atol=1e-5)
    assert torch.equal(found.low, latents.amin(0))
    assert torch.equal(found.high, latents.amax(0))
    assert found.dead.tolist() == [i for i in range(7) if not latents[:, i].any()]
    for index in range(7):
        order = latents[:, index].argsort(descending=True, stable=True)[:8]
        assert found.top[index].tolist() == order.tolist()
        active = latents[:, index][latents[:, index] != 0].double().numpy()
        if len(active):
            assert found.quantiles[index].numpy() == pytest.approx(
                np.quantile(active, analysis.QUANTILES), rel=1e-5
            )
            assert float(found.mean_active[index]) == pytest.approx(active.mean(), rel=1e-5)


@torch.no_grad()
def test_a_dense_code_shows_both_ends() -> None:
    ae = vectors()
    x = samples(6)
    found, latents = units_of(ae, x), ae.encode(x)
    order = latents[:, 2].argsort(descending=True, stable=True)
    assert found.top[2, :4].tolist() == order[:4].tolist()
    assert set(found.top[2, 4:].tolist()) == set(order[-4:].tolist())


@torch.no_grad()
def test_what_a_unit_adds_and_walks() -> None:
    linear, deep = vectors(), vectors(decoder=[
        {"kind": "linear", "out_features": 4, "activation": "tanh"}, {"kind": "linear", "out_features": 6},
    ])  # fmt: skip
    x = samples(6)
    which = torch.tensor([1, 3])
    made, words = analysis.atoms(linear, units_of(linear, x), which)
    assert torch.equal(made, linear.decoder[0].linear.weight.T[which])
    assert words == "the weights from the latent to the output"
    found = units_of(deep, x)
    made, words = analysis.atoms(deep, found, which)
    assert words.endswith("from the mean code by one standard deviation")
    for row, index in zip(made, which, strict=True):
        raised = found.mean_code.clone()
        raised[index] += found.sd[index].float()
        assert torch.allclose(
            row, (deep.decode(raised[None]) - deep.decode(found.mean_code[None]))[0], atol=1e-5
        )
    walked = analysis.walks(deep, found, which, None)
    code = found.mean_code.clone()
    code[3] = found.quantiles[3, 4].float()
    assert torch.allclose(walked[1, 4], deep.decode(code[None])[0], atol=1e-6)


# -- the page -----------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags, attributes, text, and balance of a page."""

    VOID = {"meta", "input", "br", "img", "line", "rect", "polyline"}

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text("utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def write(ae: aezoo.Autoencoder | str, folder: Path, data: object = None) -> tuple[aezoo.Report, Page]:
    found = aezoo.write_report(ae, folder / "report.html", data, force=True)
    return found, Page(found.path)


def check(page: Page, path: Path) -> None:
    """What every page must be: without requests, and accessible."""
    text = path.read_text("utf-8")
    assert page.all("meta")[1]["content"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    for tag in ("link", "iframe", "object", "base", "form", "img", "a"):
        assert page.all(tag) == []
    assert not any(key in ("src", "href") or key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert re.findall(r"url\((?!\"data:image/png;base64,)", text) == []
    assert "@import" not in text
    assert len(page.all("script")) == 2
    pictures = [a for tag in ("i", "svg") for a in page.all(tag) if a.get("role") == "img"]
    assert pictures
    assert all(picture["aria-label"] for picture in pictures)


def test_a_page_is_the_same_each_time_and_complete(tmp_path: Path) -> None:
    ae = vectors(7, {"kind": "topk", "k": 2})
    x = samples(6)
    found, page = write(ae, tmp_path, x)
    first = found.path.read_bytes()
    assert len(first) == found.bytes
    check(page, found.path)
    alive = 7 - found.dead
    assert (found.latents, found.detailed, found.n) == (7, alive, N)
    cards = page.all("article")
    assert len(cards) == alive
    order = [float(card["data-importance"] or "") for card in cards]
    assert order == sorted(order, reverse=True)
    units = units_of(ae, x)
    numbers = json.loads(re.findall(r'id="numbers">(.*?)</script>', first.decode())[0])["rows"]
    assert [row[0] for row in numbers] == list(range(7))
    assert [row[1] for row in numbers] == pytest.approx(units.density.tolist(), rel=1e-4)
    assert write(ae, tmp_path, x)[0].path.read_bytes() == first


@pytest.mark.parametrize("kind", ["gray", "colour", "series", "wide", "table"])
def test_every_kind_of_sample_is_drawn(kind: str, tmp_path: Path) -> None:
    if kind in ("gray", "colour"):
        ae = images(1 if kind == "gray" else 3)
        x: Any = samples(*ae.spec.input.shape, n=40)
    elif kind == "series":
        decoder = [{"kind": "linear", "out_features": 60}, {"kind": "unflatten", "shape": [2, 30]}]
        encoder = [{"kind": "flatten"}, {"kind": "linear", "out_features": 3}]
        ae = vectors(input={"shape": [2, 30]}, encoder=encoder, decoder=decoder)
        x = samples(2, 30, n=40)
    elif kind == "wide":
        ae, x = vectors(values=50), samples(50, n=40)
    else:
        ae = vectors(values=3)
        ae.columns = ("<script>alert(1)</script>", 'a "b" & c', "x\u202ey")
        ae.scaler = Scaler(torch.tensor([100.0, 0.0, 5.0]), torch.tensor([50.0, 1.0, 2.0]))
        x = dict(zip(ae.columns, (samples(3, n=40) * 10).T.numpy(), strict=True))
    found, page = write(ae, tmp_path, x)
    check(page, found.path)
    text = found.path.read_text("utf-8")
    if kind == "table":
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert html.escape('a "b" & c') in text
        # Heights are standardized, numbers are in the units of the data.
        stated = [
            float(value) for value in re.findall(r"alert\(1\)&lt;/script&gt;: ([-\d.e+]+)</title>", text)
        ]
        assert max(map(abs, stated)) > 10
    tag = {"gray": "i", "colour": "i", "series": "polyline", "wide": "polyline", "table": "rect"}[kind]
    assert len(page.all(tag)) > 20
    if kind == "series":
        assert len(page.all("polyline")) == 2 * len([a for a in page.all("svg") if a.get("role") == "img"])


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    text = '</title><script>alert("x")</script>\u202e'
    spec = {
        "name": "mine", "summary": text, "input": {"shape": [4]},
        "encoder": [{"kind": "linear", "out_features": 2}], "decoder": [{"kind": "linear", "out_features": 4}],
        "recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1}]},
    }  # fmt: skip
    ae = aezoo.build(aezoo.VariantSpec.model_validate(spec))
    ae.metrics = {
        text: {"value": None, "reason": text, "definition": text, "split": text, "source": "computed"}
    }
    folder = tmp_path / "<b>"
    folder.mkdir()
    np.save(folder / "x.npy", samples(4, n=9).numpy())
    found, page = write(ae, tmp_path, str(folder / "x.npy"))
    check(page, found.path)
    assert "alert(" in found.path.read_text("utf-8")
    assert "<script>alert" not in found.path.read_text("utf-8")
    assert "<b>/x.npy" not in found.path.read_text("utf-8")


@pytest.mark.slow
def test_sixteen_thousand_latents_fit_into_a_page(tmp_path: Path) -> None:
    # A sparse code of 16,384 latents, none of which is more than a row of the table, but for the most important.
    ae = vectors(16_384, {"kind": "topk", "k": 32}, values=64)
    found, page = write(ae, tmp_path, samples(64, n=400))
    assert found.latents == 16_384
    assert found.detailed == 512 == len(page.all("article"))
    assert found.bytes < 15_000_000
    numbers = json.loads(re.findall(r'id="numbers">(.*?)</script>', found.path.read_text("utf-8"))[0])["rows"]
    assert len(numbers) == 16_384
    assert f"<h2>{found.dead:,} dead</h2>" in found.path.read_text("utf-8")


def test_bad_input_writes_nothing(tmp_path: Path) -> None:
    ae = vectors()
    with pytest.raises(DataError, match=r"expected \.html"):
        aezoo.write_report(ae, tmp_path / "report.txt", samples(6))
    with pytest.raises(DataError, match="names no dataset"):
        aezoo.write_report(ae, tmp_path / "report.html")
    with pytest.raises(DataError, match=r"expected samples of shape \[6\]"):
        aezoo.write_report(ae, tmp_path / "report.html", samples(5))
    (tmp_path / "old.html").write_text("kept")
    with pytest.raises(CheckpointError, match="--force"):
        aezoo.write_report(ae, tmp_path / "old.html", samples(6))
    assert (tmp_path / "old.html").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.html"]


def test_one_sample_and_a_network_in_training_mode(tmp_path: Path) -> None:
    ae = vectors(3, {"kind": "linear", "out_features": 3, "dropout": 0.5, "norm": "batch_norm"})
    ae.train()
    found, page = write(ae, tmp_path, samples(6, n=1))
    check(page, found.path)
    assert ae.training
    assert all(module.training for module in ae.modules())


@pytest.mark.data
def test_the_command(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("report", "swissroll-2", "-o", "r.html", "--quiet")
    assert (code, err) == (0, "")
    assert out.startswith("r.html: 2 latents, 2 with pictures, 1,000 samples, ")
    assert "swiss_roll:validation" in Path("r.html").read_text("utf-8")
    assert run("report", "swissroll-2", "-o", "r.html", "--quiet")[0] == 1
    code, out, _ = run(
        "report", "swissroll-2", "-o", "r.html", "--on", "swiss_roll:test", "--force", "--json"
    )
    assert json.loads(out)["detailed"] == 2


@pytest.mark.data
@pytest.mark.parametrize("name", in_parts(aezoo.list_variants(), 20))
def test_every_variant_has_a_report(name: str, tmp_path: Path) -> None:
    ae = aezoo.load(name)
    found, page = write(ae, tmp_path)
    check(page, found.path)
    assert found.bytes < 15_000_000
    assert found.detailed + found.dead <= found.latents


# -- in a browser -------------------------------------------------------------------------------------

SCRIPT = """
<script>
const out = {};
const $ = (id) => document.getElementById(id);
const visible = () => [...document.querySelectorAll("article")].filter((a) => !a.hidden).map((a) => Number(a.dataset.index));
out.first = visible();
$("next").click(); out.second = visible();
$("sort").value = "index"; $("sort").dispatchEvent(new Event("input")); out.byIndex = visible();
$("find").value = "5, 40"; $("find").dispatchEvent(new Event("input")); out.found = visible();
out.rows = $("all").tBodies[0].rows.length;
const heads = $("all").tHead.querySelectorAll("button");
heads[1].click(); out.densest = Number($("all").tBodies[0].rows[0].cells[1].textContent);
heads[1].click(); out.rarest = Number($("all").tBodies[0].rows[0].cells[1].textContent);
$("down").click(); out.range = $("range").textContent;
out.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const pre = document.createElement("pre"); pre.id = "out"; pre.textContent = JSON.stringify(out); document.body.append(pre);
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("chromium") is None and not os.environ.get("CI"), reason="chromium is not installed"
)
def test_sorting_and_paging_in_a_browser(tmp_path: Path) -> None:
    ae = vectors(60, {"kind": "topk", "k": 20})
    found, _ = write(ae, tmp_path, samples(6))
    page = tmp_path / "driven.html"
    page.write_text(found.path.read_text("utf-8").replace("</body>", f"{SCRIPT}</body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,800"]
    options = [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run(
        [*command, *options, page.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr
    (text,) = re.findall(r'<pre id="out">(.*?)</pre>', done.stdout)
    out = json.loads(html.unescape(text))
    units = units_of(ae, samples(6))
    alive = [
        i for i in units.importance.sort(descending=True, stable=True).indices.tolist() if units.density[i]
    ]
    assert out["first"] == alive[:24]
    assert out["second"] == alive[24:48]
    assert out["byIndex"] == sorted(alive)[:24]
    assert out["found"] == [index for index in (5, 40) if index in alive]
    assert out["rows"] == 50
    assert out["densest"] == pytest.approx(float(units.density.max()), rel=1e-3)
    assert out["rarest"] == pytest.approx(float(units.density.min()), rel=1e-3)
    assert out["range"] == "51 to 60 of 60"
    assert out["wide"] is False
