"""The gallery and the pages of variants in a browser."""

import json
import re
from typing import Any

import pytest

import aezoo
from tests.browser.conftest import SITE, Pages

pytestmark = pytest.mark.slow


def shown(page: Any) -> list[str]:
    """Names of the cards that are visible, in order."""
    return page.locator(".gallery-card:visible").evaluate_all("cards => cards.map(card => card.dataset.name)")


def numbers(page: Any, key: str) -> list[float | None]:
    """A number of each visible card, in order."""
    texts = page.locator(".gallery-card:visible").evaluate_all(
        "cards => cards.map(card => card.dataset.numbers)"
    )
    return [json.loads(text).get(key) for text in texts]


def test_every_variant_has_a_card_and_a_page(pages: Pages) -> None:
    page = pages.open("gallery/index.html")
    found = shown(page)
    assert set(found) >= set(aezoo.list_variants())
    assert page.get_by_role("status").inner_text() == f"{len(found)} variants"
    for name in found:
        assert (SITE / "gallery" / f"{name}.html").is_file()


def test_search_takes_words_in_any_order_and_says_when_nothing_matches(pages: Pages) -> None:
    page = pages.open("gallery/index.html")
    search = page.locator("#gallery-search")
    search.fill("strided CONV")
    assert "conv-strided" in shown(page)
    assert all("conv" in name for name in shown(page))
    search.fill("1312.5663")
    assert "sparse-topk16" in shown(page)
    search.fill("no such thing [(*\\")
    assert shown(page) == []
    assert "No variant matches" in page.get_by_role("status").inner_text()
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("document.querySelectorAll('.gallery-card:not([hidden])').length > 10")
    assert "?" not in page.url


@pytest.mark.parametrize("order", ["smallest first", "largest first"])
@pytest.mark.parametrize("key", ["mse", "parameters", "auroc", "psnr"])
def test_sort_by_any_number_with_missing_ones_last(pages: Pages, key: str, order: str) -> None:
    page = pages.open("gallery/index.html")
    page.get_by_label("Sort by", exact=True).select_option(key)
    page.get_by_label("Order", exact=True).select_option(label=order)
    values = numbers(page, key)
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=order == "largest first")
    assert values == known + [None] * (len(values) - len(known))
    assert len(known) > 5
    chosen = page.locator(".gallery-card:visible .chosen").count()
    assert chosen == len(values)


@pytest.mark.parametrize(
    ("facet", "value", "name"),
    [
        ("Task", "denoising", "denoise-mask"),
        ("Dataset", "fashion_mnist", "conv-fc.fashion"),
        ("Kind", "convolutional", "conv-fc"),
        ("Plugin", "aezoo-sae", "sae-gated"),
    ],
)
def test_filters(pages: Pages, facet: str, value: str, name: str) -> None:
    page = pages.open("gallery/index.html")
    everything = len(shown(page))
    page.get_by_label(facet, exact=True).select_option(value)
    assert name in shown(page)
    assert len(shown(page)) < everything
    assert re.fullmatch(
        rf"{len(shown(page))} of {everything} variants", page.get_by_role("status").inner_text()
    )


def test_a_link_keeps_search_filters_and_order(pages: Pages) -> None:
    page = pages.open("gallery/index.html")
    page.locator("#gallery-search").fill("fully connected")
    page.get_by_label("Task", exact=True).select_option("sparse coding")
    page.get_by_label("Sort by", exact=True).select_option("fvu")
    page.get_by_label("Order", exact=True).select_option(label="largest first")
    again = pages.open(page.url.removeprefix(pages.site))
    assert shown(again) == shown(page)
    assert len(shown(again)) > 2
    assert again.locator("#gallery-search").input_value() == "fully connected"
    assert again.get_by_label("Order", exact=True).input_value() == "down"


def test_an_address_with_unknown_values_shows_everything(pages: Pages) -> None:
    page = pages.open("gallery/index.html?task=telepathy&sort=<script>&order=sideways&unknown=1")
    assert len(shown(page)) >= len(aezoo.list_variants())


def test_copy_link_answers_with_and_without_a_clipboard(pages: Pages) -> None:
    page = pages.open("gallery/index.html?search=vae")
    button = page.locator("#gallery-link")
    button.click()
    page.wait_for_function("document.getElementById('gallery-link').textContent != 'Copy link'")
    page = pages.open("gallery/index.html?search=vae", permissions=["clipboard-read", "clipboard-write"])
    page.locator("#gallery-link").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_the_keyboard_reaches_controls_and_cards(pages: Pages) -> None:
    page = pages.open("gallery/index.html")
    page.locator("#gallery-search").focus()
    page.keyboard.type("vae-2")
    for _ in range(8):
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "vae-2"
    page.keyboard.press("Enter")
    page.wait_for_url("**/vae-2.html")


def test_reads_without_javascript(pages: Pages) -> None:
    page = pages.open("gallery/index.html", java_script_enabled=False)
    assert page.locator(".gallery-card:visible").count() >= len(aezoo.list_variants())
    assert not page.locator("#gallery-controls").is_visible()
    page.get_by_role("link", name="vae-2", exact=True).first.click()
    assert page.locator("h1").inner_text().startswith("vae-2")
    # Without a theme that was chosen, one of each pair of pictures is shown.
    assert page.locator("img.only-light.preview:visible").count() >= 1
    assert page.locator("img.only-dark.preview:visible").count() == 0


@pytest.mark.parametrize(
    "path", ["index.html", "gallery/index.html", "gallery/conv-fc.html", "reference/api/load.html"]
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(pages: Pages, path: str, scheme: Any) -> None:
    page = pages.open(path, width=360, height=740, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("document.documentElement.dataset.theme") == scheme


@pytest.mark.parametrize("name", ["sparse-topk16", "pca-32", "colorize", "swissroll-2", "vq"])
def test_page_of_a_variant_shows_its_pictures_and_its_report(pages: Pages, name: str) -> None:
    page = pages.open(f"gallery/{name}.html")
    for picture in page.locator("img.preview:visible").all():
        picture.scroll_into_view_if_needed()
        page.wait_for_function(
            "image => image.complete && image.naturalWidth > 100", arg=picture.element_handle()
        )
    page.get_by_text("The spec", exact=True).click()
    assert "encoder:" in page.locator(".highlight-yaml:visible").inner_text()
    report = page.get_by_role("link", name="The report")
    if report.count():
        report.click()
        page.wait_for_url(f"**/{name}.report.html")
        assert name in page.title()
