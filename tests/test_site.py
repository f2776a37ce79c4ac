"""The site: its extensions, its Python reference, and the check of its links. `tests/browser` opens the built site."""

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import aezoo

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of docs/_ext or docs/."""
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


# -- the Python reference -----------------------------------------------------------------------------


def documented() -> set[str]:
    """Names that the pages of the reference document, without those of whole modules."""
    pages = "".join(path.read_text("utf-8") for path in DOCS.glob("reference/api/*.md"))
    return set(re.findall(r"^\.\. auto(?:function|class|exception|data):: (\S+)$", pages, flags=re.MULTILINE))


def test_every_public_name_is_in_the_reference_once() -> None:
    expected = {f"aezoo.{name}" for name in aezoo.__all__ if not name.startswith("__")}
    assert documented() == expected


def test_every_page_of_the_reference_is_listed() -> None:
    listed = (DOCS / "reference" / "api" / "index.md").read_text("utf-8")
    for path in DOCS.glob("reference/api/*.md"):
        assert path.stem == "index" or f"\n{path.stem}\n" in listed


@pytest.mark.parametrize("name", sorted(aezoo.__all__))
def test_every_public_name_has_a_docstring(name: str) -> None:
    thing = getattr(aezoo, name)
    assert isinstance(thing, str | int) or (thing.__doc__ or "").strip(), name


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["(batch, *input shape)"], [r"(batch, \*input shape)"]),
        (["`*.png` and a*b"], ["``*.png`` and a*b"]),
        (["A plugin is:", "", "    import x"], ["A plugin is::", "", "    import x"]),
        (["Args:", "    x: a sample."], ["Args:", "    x: a sample."]),
        (["Reads:", "text"], ["Reads:", "text"]),
    ],
)
def test_docstrings_become_valid_markup(extension: Any, lines: list[str], expected: list[str]) -> None:
    extension("aezoo_pages").change_docstring(None, "function", "f", None, None, lines)
    assert lines == expected


def test_a_colon_in_the_sentence_of_an_attribute_is_kept(extension: Any) -> None:
    pages = extension("aezoo_pages")
    lines = ["Target of each pair: the pair's own input."]
    pages.change_docstring(None, "attribute", "a.b", None, None, lines)
    lines[:] = ["the pair's own input.", "", ":type: Target of each pair"]  # what Napoleon makes of it
    pages.keep_attribute(None, "attribute", "a.b", None, None, lines)
    assert lines == ["Target of each pair: the pair's own input."]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[x](../zoo/fc-64/spec.yaml)", "[x](/gallery/fc-64.md)"),
        ("[x](../../zoo/conv-fc.fashion/README.md)", "[x](/gallery/conv-fc.fashion.md)"),
        ("[x](../README.md#install)", "[x](/index.md)"),
        ("[x](../plugins/aezoo-sae/README.md)", "[x](/plugins/sae.md)"),
        ("[x](../CONTRIBUTING.md)", "[x](/contributing.md)"),
        ("[x](training.md)", "[x](training.md)"),
    ],
)
def test_links_of_the_repository_lead_to_pages(extension: Any, link: str, expected: str) -> None:
    source = [link]
    extension("aezoo_pages").change(None, "concepts", source)
    assert source == [expected]


# -- variants -----------------------------------------------------------------------------------------


def test_every_variant_has_a_task_a_kind_and_a_recipe_in_words(extension: Any) -> None:
    words = extension("recipe_words")
    found = [one for one in extension("variants").variants() if one.plugin == "aezoo"]
    assert {one.name for one in found} >= set(aezoo.list_variants())
    for one in found:
        assert one.tasks, one.name
        assert one.architecture in ("fully connected", "convolutional", "principal components")
        sentences = words.recipe_in_words(one.spec.recipe)
        assert all(re.fullmatch(r"[A-Z].*\.", sentence) for sentence in sentences), sentences
        text = " ".join(sentences)
        assert "None" not in text
        assert text.count("Stage ") == (len(one.spec.recipe.stages) if len(one.spec.recipe.stages) > 1 else 0)
        for part in (*one.spec.recipe.penalties, *one.spec.recipe.noises, one.spec.recipe.reconstruction):
            assert f"`{part.kind_name}`" in text


def test_recipe_in_words_states_what_differs_from_the_defaults(extension: Any) -> None:
    recipe = aezoo.RecipeSpec.model_validate(
        {
            "reconstruction": "mse",
            "penalties": [{"kind": "l1_latents", "weight": 0.5, "warmup_epochs": 2}],
            "init_from": "fc-64",
            "autocast": "bf16",
            "weights_dtype": "float16",
            "refit": True,
            "threads": 1,
            "stages": [
                {
                    "kind": "fit",
                    "epochs": 9,
                    "freeze": ["encoder.1"],
                    "early_stop": {"patience": 3},
                    "optimizer": {"kind": "sgd", "lr": 0.1, "weight_decay": 0.01},
                    "schedule": "plateau",
                }
            ],
        }
    )
    text = " ".join(extension("recipe_words").recipe_in_words(recipe))
    for expected in (
        "plus 0.5 times `l1_latents` (warmed up over 2 epochs)",
        "initial weights are those of `fc-64`",
        "at most 9 epochs (early stopping after 3 without improvement)",
        "stochastic gradient descent",
        "learning rate of 0.1, reduced when the validation loss stops improving, with a weight decay of 0.01",
        "Frozen: `encoder.1`",
        "for as many epochs as the first round chose",
        "bfloat16",
        "float16",
    ):
        assert expected in text, text


# -- links --------------------------------------------------------------------------------------------


def site_with(tmp_path: Path, body: str) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text('<h1 id="top">x</h1>')
    (tmp_path / "a" / "page.html").write_text(body)
    return tmp_path


@pytest.mark.parametrize(
    "body",
    [
        '<a href="../index.html#top">x</a>',
        '<a href="#here" id="here">x</a>',
        '<a href="https://example.org">x</a>',
        '<img src="data:image/png;base64,AA">',
        '<link rel="canonical" href="https://example.org/">',
        '<a href="..">x</a>',
        '<a href="?task=denoising">x</a>',
    ],
)
def test_good_links(extension: Any, tmp_path: Path, body: str) -> None:
    assert extension("check_links").problems(site_with(tmp_path, body)) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="none.html">x</a>', "has no file"),
        ('<a href="../index.html#bottom">x</a>', "has no such element"),
        ('<a href="#bottom">x</a>', "has no such element"),
        ('<a href="/index.html">x</a>', "begins at the root of the server"),
        ('<a href="../../outside.html">x</a>', "leaves the site"),
        ('<img src="https://example.org/a.png">', "is fetched from another host"),
        ('<script src="//example.org/a.js"></script>', "is fetched from another host"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "is fetched from another host"),
        (
            "<style>body { background: url(https://example.org/a.png) }</style>",
            "is fetched from another host",
        ),
        ("<p style=\"background: url('none.png')\">x</p>", "has no file"),
    ],
)
def test_wrong_links(extension: Any, tmp_path: Path, body: str, problem: str) -> None:
    (line,) = extension("check_links").problems(site_with(tmp_path, body))
    assert problem in line
    assert line.startswith("a/page.html: ")


def test_check_links_says_that_there_is_no_site(
    extension: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extension("check_links").main(str(tmp_path)) == 2
    assert "no index.html" in capsys.readouterr().err
