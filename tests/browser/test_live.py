"""The live page in a browser: what it computes against Python, and what a reader does on it."""

import functools
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import aezoo
from tests.browser.conftest import SITE, Pages, missing
from tests.browser.test_accessibility import findings

pytestmark = pytest.mark.slow

LIVE = "live/index.html"
PANELS = ("latents", "walk", "manifold", "sparsity", "noise", "anomalies")
NETWORKS = (
    *("vae-16", "fc-64", "sparse-topk16", "overcomplete-topk", "conv-fc", "conv-strided", "vae-2"),
    *("denoise-gaussian", "denoise-mask", "denoise-32"),
    *(f"anomaly-{digit}" for digit in range(10)),
)
TOLERANCE = 1e-4

Floats = NDArray[np.float32]


@pytest.fixture(autouse=True)
def built() -> None:
    if not (SITE / "live" / "app" / "networks.json").is_file():
        missing("the live page is not built; run make docs")


@pytest.fixture(scope="module")
def shared(browser: Any, site: str) -> Iterator[Any]:
    """One page for tests that only compute."""
    pages = Pages(browser, site)
    page = pages.open(LIVE)
    page.wait_for_function("window.aezooLive")
    yield page
    pages.close()
    assert pages.problems == []


def opened(pages: Pages, panel: str = "latents", **options: Any) -> Any:
    """The page with an experiment whose first result is shown."""
    page = pages.open(f"{LIVE}#{panel}", **options)
    page.wait_for_function("window.aezooLive")
    settled(page)
    return page


def settled(page: Any) -> None:
    """Waits until the experiment that is shown has nothing left to do."""
    page.wait_for_function(
        "() => { const panel = Object.values(aezooLive.panels).find((panel) => !panel.element.hidden);"
        " return panel.idle && !panel.element.hasAttribute('aria-busy'); }"
    )


def load(name: str) -> Any:
    return _load(name)


@functools.cache
def _load(name: str) -> Any:
    return aezoo.load(name)


def encoded(name: str, image: NDArray[np.uint8]) -> torch.Tensor:
    ae = load(name)
    with torch.no_grad():
        return ae.encode(ae.transforms()(torch.from_numpy(image).view(1, 28, 28)))


def decoded(name: str, latents: Any) -> Floats:
    ae = load(name)
    with torch.no_grad():
        values = torch.as_tensor(latents, dtype=torch.float32).view(-1, *ae.latent_shape)
        return ae.decode(values).numpy().reshape(-1, 784)


def close(found: Any, expected: Any) -> bool:
    """Within the tolerance, relative to the largest value where that is above 1."""
    a, b = (np.asarray(values, dtype=np.float64).ravel() for values in (found, expected))
    assert a.shape == b.shape
    return float(np.abs(a - b).max()) <= TOLERANCE * max(1.0, float(np.abs(b).max()))


def image(page: Any) -> NDArray[np.uint8]:
    """The image that the experiments see."""
    return np.array(page.evaluate("[...aezooLive.source.image]"), dtype=np.uint8)


def canvas(page: Any, selector: str) -> NDArray[np.uint8]:
    """Gray values of a canvas."""
    values = page.evaluate(
        "selector => { const canvas = document.querySelector(selector);"
        " const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
        " return [...data].filter((_, i) => i % 4 === 0); }",
        selector,
    )
    return np.array(values, dtype=np.uint8)


def shows(page: Any, selector: str, values: Floats) -> bool:
    """Whether a canvas shows an image, to the nearest byte."""
    expected = np.clip(values.ravel(), 0, 1) * 255
    return float(np.abs(canvas(page, selector).astype(float) - expected).max()) <= 0.5 + 255 * TOLERANCE


def latents(page: Any, which: str = "latents") -> Floats:
    return np.array(page.evaluate(f"[...aezooLive.panels['live-panel-latents'].{which}]"), dtype=np.float32)


def number(page: Any, panel: str, part: str) -> float:
    return float(page.locator(f"#live-panel-{panel} [data-part='{part}']").inner_text().split()[-1])


def draw(page: Any, points: list[tuple[float, float]], selector: str = "#live-sheet") -> None:
    """Draws a line with the mouse; points are shares of the canvas."""
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()
    settled(page)


SEVEN = [(0.25, 0.2), (0.7, 0.2), (0.45, 0.85)]


# -- agreement with Python -----------------------------------------------------------------------------------


def sample_images() -> list[NDArray[np.uint8]]:
    digits = aezoo.sample_digits().inputs.numpy().reshape(-1, 784)
    random = np.random.default_rng(0).integers(0, 256, 784, dtype=np.uint8)
    return [*digits[:8], np.zeros(784, np.uint8), np.full(784, 255, np.uint8), random]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_with_python(shared: Any, name: str) -> None:
    for number, pixels in enumerate(sample_images()):
        found = shared.evaluate(
            "async ([name, pixels]) => { const found = await aezooLive.run(name, pixels);"
            " return [[...found.latents], [...found.reconstruction]]; }",
            [name, pixels.tolist()],
        )
        expected = encoded(name, pixels)
        assert close(found[0], expected), f"latents of image {number}"
        assert close(found[1], decoded(name, expected)), f"reconstruction of image {number}"


def test_the_page_lists_the_networks_that_are_tested() -> None:
    described = json.loads((SITE / "live" / "app" / "networks.json").read_text("utf-8"))
    assert set(described["networks"]) == set(NETWORKS)


def test_sample_digits_are_those_of_aezoo(shared: Any) -> None:
    digits = aezoo.sample_digits()
    assert digits.labels is not None
    shared.evaluate("aezooLive.source.pick(123)")
    assert (image(shared) == digits.inputs[123].numpy().ravel()).all()
    assert shared.locator("#live-source-status").inner_text() == f"Test image 123: a {digits.labels[123]}."


# -- the image -------------------------------------------------------------------------------------------------


def test_drawing_makes_a_centred_image_that_is_encoded(pages: Pages) -> None:
    page = opened(pages)
    page.click("#live-clear")
    settled(page)
    assert image(page).max() == 0
    draw(page, SEVEN)
    drawn = image(page).reshape(28, 28).astype(float)
    assert drawn.max() > 200
    axis = np.arange(28)
    assert (drawn.sum(1) @ axis / drawn.sum()) == pytest.approx(14, abs=0.5)
    assert (drawn.sum(0) @ axis / drawn.sum()) == pytest.approx(14, abs=0.5)
    rows = np.flatnonzero(drawn.max(1) > 40)
    assert 19 <= rows[-1] - rows[0] + 1 <= 22  # MNIST's box has 20 pixels
    assert (canvas(page, "#live-preview") == image(page)).all()
    name = page.input_value("#live-latents-network")
    assert close(latents(page), encoded(name, image(page)))


def test_drawings_of_digits_are_recognized_by_their_detector(pages: Pages) -> None:
    page = opened(pages, "anomalies")
    page.click("#live-clear")
    draw(page, SEVEN)
    assert page.locator("#live-panel-anomalies tr.best").get_attribute("data-network") == "anomaly-7"
    page.click("#live-clear")
    draw(page, [(0.52, 0.15), (0.48, 0.85)])
    assert page.locator("#live-panel-anomalies tr.best").get_attribute("data-network") == "anomaly-1"


def test_without_centring_the_drawing_stays_where_it_is(pages: Pages) -> None:
    page = opened(pages)
    page.click("#live-clear")
    page.uncheck("#live-centre")
    draw(page, [(0.1, 0.1), (0.3, 0.1)])
    drawn = image(page).reshape(28, 28)
    assert drawn[:8].max() > 200
    assert drawn[8:].max() == 0


def test_undo_gives_back_each_earlier_image(pages: Pages) -> None:
    page = opened(pages)
    page.uncheck("#live-centre")
    before = image(page)
    draw(page, [(0.1, 0.9), (0.3, 0.9)])
    assert (image(page) != before).any()
    page.click("#live-undo")
    settled(page)
    assert (image(page) == before).all()


def test_drawing_with_keys_alone(pages: Pages) -> None:
    page = opened(pages)
    page.focus("#live-sheet")
    page.keyboard.press("Delete")
    settled(page)
    assert image(page).max() == 0
    page.keyboard.press("Space")
    for _ in range(8):
        page.keyboard.press("ArrowDown")
    settled(page)
    assert image(page).max() > 200
    drawn = image(page)
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert (image(page) == drawn).all()


def test_touching_draws(pages: Pages) -> None:
    page = opened(pages, width=360, height=740, has_touch=True, is_mobile=True)
    page.tap("#live-clear")
    settled(page)
    page.tap("#live-sheet")
    settled(page)
    assert image(page).max() > 200


def test_test_images_follow_one_another(pages: Pages) -> None:
    page = opened(pages)
    button = page.locator("#live-digits button").nth(4)
    seen = set()
    for _ in range(3):
        button.click()
        settled(page)
        seen.add(image(page).tobytes())
        assert page.locator("#live-source-status").inner_text().endswith("a 4.")
    assert len(seen) == 3


# -- uploads -----------------------------------------------------------------------------------------------------


def png(pixels: NDArray[np.uint8], mode: str | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "PNG")
    return file.getvalue()


def upload(page: Any, name: str, content: bytes, kind: str = "image/png") -> str:
    """Uploads a file and returns what the page says."""
    before = page.evaluate("aezooLive.source.answered")
    page.set_input_files("#live-upload", {"name": name, "mimeType": kind, "buffer": content})
    page.wait_for_function("before => aezooLive.source.answered > before", arg=before)
    settled(page)
    return page.locator("#live-source-status").inner_text()


def test_a_small_gray_picture_is_used_as_it_is(pages: Pages) -> None:
    page = opened(pages)
    page.uncheck("#live-centre")
    digit = aezoo.sample_digits().inputs[5].numpy()
    assert upload(page, "digit.png", png(digit)) == "digit.png is shown."
    assert (image(page) == digit.ravel()).all()


def ring(paper: int, ink: int, size: int = 300) -> NDArray[np.uint8]:
    y, x = np.mgrid[:size, :size] / size - 0.5
    radius = np.hypot(x, y)
    return np.where((radius > 0.25) & (radius < 0.35), ink, paper).astype(np.uint8)


def rgba(ink: int) -> NDArray[np.uint8]:
    shape = ring(0, 255)
    return np.dstack([np.full_like(shape, ink)] * 3 + [shape])


SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200"><circle cx="100" cy="100" r="60"'
    b' fill="none" stroke="black" stroke-width="20"/></svg>'
)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("dark.png", lambda: png(ring(0, 255)), "image/png"),
        ("paper.png", lambda: png(ring(240, 30)), "image/png"),
        ("transparent.png", lambda: png(rgba(0)), "image/png"),
        ("white-on-nothing.png", lambda: png(rgba(255)), "image/png"),
        ("huge.png", lambda: png(ring(255, 0, 5000)), "image/png"),
        ("wide.png", lambda: png(np.hstack([ring(255, 0), np.full((300, 300), 255, np.uint8)])), "image/png"),
        ("drawing.svg", lambda: SVG, "image/svg+xml"),
        ("no-suffix", lambda: png(ring(0, 255)), "application/octet-stream"),
    ],
)
def test_pictures_become_white_ink_on_black(
    pages: Pages, name: str, content: Callable[[], bytes], kind: str
) -> None:
    page = opened(pages, "anomalies")
    said = upload(page, name, content(), kind)
    assert said.startswith(name)
    shown = image(page).reshape(28, 28)
    assert shown[14, 14] == 0
    assert shown[0].max() == shown[:, 0].max() == 0
    assert shown.max() > 200
    assert page.locator("#live-panel-anomalies tr.best").get_attribute("data-network") == "anomaly-0"


@pytest.mark.parametrize(
    ("name", "content", "kind", "says"),
    [
        ("notes.txt", b"no picture at all\n", "text/plain", "is not a picture"),
        ("empty.png", b"", "image/png", "is empty"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png", "is not a picture"),
        ("gray.png", png(np.full((40, 40), 128, np.uint8)), "image/png", "of one colour"),
        ("page.html", b"<script>document.title = 'changed'</script>", "text/html", "is not a picture"),
        ("<b>bold</b>.txt", b"text", "text/plain", "<b>bold</b>.txt is not a picture"),
    ],
)
def test_a_file_that_shows_nothing_is_refused_in_words_and_changes_nothing(
    pages: Pages, name: str, content: bytes, kind: str, says: str
) -> None:
    page = opened(pages)
    draw(page, SEVEN)
    before, sheet = image(page), canvas(page, "#live-sheet")
    said = upload(page, name, content, kind)
    assert says in said
    assert said.endswith("The image is the one from before.")
    assert (image(page) == before).all()
    assert (canvas(page, "#live-sheet") == sheet).all()


def test_a_picture_that_is_dropped_is_used(pages: Pages) -> None:
    page = opened(pages)
    page.uncheck("#live-centre")
    digit = aezoo.sample_digits().inputs[6].numpy()
    page.evaluate(
        "bytes => { const data = new DataTransfer();"
        " data.items.add(new File([Uint8Array.from(bytes)], 'dropped.png', {type: 'image/png'}));"
        " const event = new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true});"
        " document.getElementById('live-sheet').dispatchEvent(event); }",
        list(png(digit)),
    )
    page.wait_for_function("aezooLive.source.answered === 1")
    assert (image(page) == digit.ravel()).all()


def test_a_script_in_a_picture_does_not_run(pages: Pages) -> None:
    page = opened(pages)
    script = SVG.replace(
        b"<circle", b"<script>window.ran = 1</script><image href='http://192.0.2.1/a.png'/><circle"
    )
    assert "drawing.svg" in upload(page, "drawing.svg", script, "image/svg+xml")
    assert page.evaluate("window.ran") is None


# -- latents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vae-16", "sparse-topk16", "overcomplete-topk", "conv-strided", "conv-fc"])
def test_dragging_a_latent_changes_it_and_the_reconstruction_follows(pages: Pages, name: str) -> None:
    page = opened(pages)
    page.select_option("#live-latents-network", name)
    settled(page)
    before = latents(page)
    draw(page, [(0.52, 0.5), (0.52, 0.3)], "#live-panel-latents [data-part='latents']")
    after = latents(page)
    changed = np.flatnonzero(after != before)
    assert len(changed) == 1
    assert page.input_value("#live-latents-number") == str(changed[0] + 1)
    assert shows(page, "#live-panel-latents [data-part='reconstruction']", decoded(name, after))
    error = float(np.square(decoded(name, after)[0] - image(page) / 255).mean())
    assert number(page, "latents", "mse") == pytest.approx(error, abs=1e-4)
    page.click("#live-panel-latents [data-part='reset']")
    settled(page)
    assert (latents(page) == before).all()


def test_setting_a_latent_to_zero(pages: Pages) -> None:
    page = opened(pages)
    page.select_option("#live-latents-network", "sparse-topk16")
    settled(page)
    page.click("#live-panel-latents [data-part='largest']")
    chosen = int(np.abs(latents(page)).argmax())
    page.click("#live-panel-latents [data-part='zero']")
    settled(page)
    expected = latents(page, "encoded")
    expected[chosen] = 0
    assert (latents(page) == expected).all()
    assert shows(page, "#live-panel-latents [data-part='reconstruction']", decoded("sparse-topk16", expected))


def test_latents_by_keys_alone(pages: Pages) -> None:
    page = opened(pages)
    view = page.locator("#live-panel-latents [data-part='latents']")
    view.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    before = latents(page)
    page.keyboard.press("ArrowUp")
    settled(page)
    after = latents(page)
    assert np.flatnonzero(after != before).tolist() == [1]
    assert after[1] > before[1]
    assert view.get_attribute("aria-valuetext") == f"latent 2 of {len(after)}: {after[1]:.2f}"
    page.keyboard.press("0")
    settled(page)
    assert latents(page)[1] == 0
    page.keyboard.press("r")
    settled(page)
    assert (latents(page) == before).all()


def test_a_new_image_replaces_changed_latents(pages: Pages) -> None:
    page = opened(pages)
    page.click("#live-panel-latents [data-part='zero']")
    page.locator("#live-digits button").nth(8).click()
    settled(page)
    assert close(latents(page), encoded("vae-16", image(page)))


def test_switching_fast_shows_the_last_network_even_if_it_was_loaded_first(pages: Pages) -> None:
    page = opened(pages)

    def late(route: Any) -> None:
        page.wait_for_timeout(400)
        route.continue_()

    page.route("**/fc-64.decoder.onnx", late)
    for name in ("vae-2", "fc-64", "conv-fc", "fc-64", "sparse-topk16"):
        page.select_option("#live-latents-network", name)
    page.wait_for_timeout(1500)
    settled(page)
    assert close(latents(page), encoded("sparse-topk16", image(page)))
    assert shows(
        page, "#live-panel-latents [data-part='reconstruction']", decoded("sparse-topk16", latents(page))
    )


def test_a_network_that_cannot_be_loaded_is_said_and_can_be_tried_again(pages: Pages) -> None:
    page = opened(pages)
    page.route("**/fc-64.encoder.onnx", lambda route: route.fulfill(status=503))
    page.select_option("#live-latents-network", "fc-64")
    note = page.locator("#live-panel-latents .live-note")
    note.get_by_role("button", name="Try again").wait_for()
    assert "fc-64.encoder.onnx could not be loaded: the server answered with status 503" in note.inner_text()
    page.unroute("**/fc-64.encoder.onnx")
    note.get_by_role("button").click()
    page.wait_for_function("aezooLive.panels['live-panel-latents'].latents.length === 64")
    settled(page)
    assert close(latents(page), encoded("fc-64", image(page)))
    assert all("fc-64.encoder.onnx" in line or "status of 503" in line for line in pages.problems)
    pages.problems.clear()


# -- the other experiments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vae-16", "fc-64"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_walk_decodes_mixed_latents(pages: Pages, name: str, share: float) -> None:
    page = opened(pages, "walk")
    page.select_option("#live-walk-network", name)
    page.locator("#live-panel-walk [data-part='goals'] button").nth(7).click()
    page.locator("#live-walk-position").fill(str(share))
    settled(page)
    goal = np.array(page.evaluate("[...aezooLive.panels['live-panel-walk'].goal]"), dtype=np.uint8)
    assert (canvas(page, "#live-panel-walk [data-part='to']") == goal).all()
    mixed = torch.lerp(encoded(name, image(page)), encoded(name, goal), share)
    assert shows(page, "#live-panel-walk [data-part='between']", decoded(name, mixed))
    first = canvas(page, "#live-panel-walk [data-part='strip'] canvas:first-child")
    assert np.abs(first - 255 * decoded(name, encoded(name, image(page))).clip(0, 1)).max() < 1


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_walk_plays_to_the_end(pages: Pages, motion: Any) -> None:
    page = opened(pages, "walk", reduced_motion=motion)
    page.locator("#live-walk-position").fill("0")
    page.evaluate(
        "() => { const slider = document.getElementById('live-walk-position'); window.seen = new Set();"
        " const look = () => { seen.add(slider.value); requestAnimationFrame(look); }; look(); }"
    )
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.getElementById('live-walk-position').value === '1'")
    page.get_by_role("button", name="Play").wait_for()
    seen = page.evaluate("seen.size")
    assert seen <= 5 if motion == "reduce" else seen > 10


def test_manifold_follows_the_pointer_and_keys(pages: Pages) -> None:
    page = opened(pages, "manifold")
    page.wait_for_selector("#live-panel-manifold [data-part='plane'][data-complete]", state="attached")
    surface = page.locator("#live-panel-manifold [data-part='surface']")
    surface.hover(position={"x": 60, "y": 90})
    settled(page)
    found = page.evaluate("(({ x, y }) => [x, y])(aezooLive.panels['live-panel-manifold'].place)")
    box = surface.bounding_box()
    assert found == pytest.approx(
        [(2 * 60 / box["width"] - 1) * 3, (1 - 2 * 90 / box["height"]) * 3], abs=0.05
    )
    assert shows(page, "#live-panel-manifold [data-part='decoded']", decoded("vae-2", found))
    surface.focus()
    page.keyboard.press("ArrowUp")
    settled(page)
    moved = page.evaluate("aezooLive.panels['live-panel-manifold'].place.y")
    assert moved == pytest.approx(found[1] + 0.1)
    page.get_by_role("button", name="Go there").click()
    settled(page)
    latents = encoded("vae-2", image(page))[0].tolist()
    assert page.locator("#live-panel-manifold [data-part='place']").inner_text() == ", ".join(
        f"{round(value, 2) + 0.0:.2f}" for value in latents
    )


def test_the_grid_of_the_manifold_is_decoded_row_by_row(pages: Pages) -> None:
    page = opened(pages, "manifold")
    page.wait_for_selector("#live-panel-manifold [data-part='plane'][data-complete]", state="attached")
    grid = canvas(page, "#live-panel-manifold [data-part='plane']").reshape(16, 28, 16, 28)
    for row, column in [(0, 0), (3, 12), (15, 15)]:
        place = [((2 * column + 1) / 16 - 1) * 3, (1 - (2 * row + 1) / 16) * 3]
        expected = 255 * decoded("vae-2", place).clip(0, 1).reshape(28, 28)
        assert np.abs(grid[row, :, column] - expected).max() < 1


@pytest.mark.parametrize("name", ["sparse-topk16", "overcomplete-topk"])
@pytest.mark.parametrize("k", [1, 5, None])
def test_k_keeps_the_largest_latents(pages: Pages, name: str, k: int | None) -> None:
    page = opened(pages, "sparsity")
    page.select_option("#live-sparsity-network", name)
    trained = load(name).spec.resolved().encoder[-1].k
    assert page.input_value("#live-sparsity-k") == str(trained)
    if k is not None:
        page.locator("#live-sparsity-k").fill(str(k))
    settled(page)
    latents = encoded(name, image(page))[0]
    kept = torch.zeros_like(latents)
    largest = latents.topk(k or trained).indices
    kept[largest] = latents[largest]
    expected = decoded(name, kept)
    assert shows(page, "#live-panel-sparsity [data-part='reconstruction']", expected)
    error = float(np.square(expected[0] - image(page) / 255).mean())
    assert number(page, "sparsity", "mse") == pytest.approx(error, abs=1e-4)
    points = page.locator("#live-panel-sparsity polyline").get_attribute("points").split()
    assert len(points) >= 15


def test_more_latents_than_in_training_are_those_before_the_choice(pages: Pages) -> None:
    page = opened(pages, "sparsity")
    page.locator("#live-sparsity-k").fill("64")
    settled(page)
    ae = load("sparse-topk16")
    x = ae.transforms()(torch.from_numpy(image(page)).view(1, 28, 28))
    with torch.no_grad():
        for layer in list(ae.encoder)[:-1]:
            x = layer(x)
    assert shows(page, "#live-panel-sparsity [data-part='reconstruction']", decoded("sparse-topk16", x))


def noisy(page: Any) -> NDArray[np.uint8]:
    return canvas(page, "#live-panel-noise [data-part='noisy']")


def test_noise_of_the_slider_and_of_the_brush_goes_through_the_denoisers(pages: Pages) -> None:
    page = opened(pages, "noise")
    page.locator("#live-noise-amount").fill("0")
    settled(page)
    assert (noisy(page) == image(page)).all()
    draw(page, [(0.25, 0.25), (0.4, 0.25)], "#live-panel-noise [data-part='noisy']")
    changed = np.argwhere((noisy(page) != image(page)).reshape(28, 28))
    assert 10 < len(changed) < 80
    assert changed[:, 0].min() >= 3
    assert changed[:, 0].max() <= 10
    for kind, amount in [("gaussian", "0.4"), ("masking", "0.5")]:
        page.select_option("#live-noise-kind", kind)
        page.locator("#live-noise-amount").fill(amount)
        settled(page)
        assert (noisy(page) != image(page)).sum() > 50
        for name in ("denoise-gaussian", "denoise-mask", "denoise-32"):
            figure = f"#live-panel-noise figure[data-network='{name}']"
            expected = decoded(name, encoded(name, noisy(page)))
            assert shows(page, f"{figure} canvas", expected)
            error = float(np.square(expected[0] - image(page) / 255).mean())
            assert f"MSE {error:.3f}"[:8] in page.locator(figure).inner_text()
    page.get_by_role("button", name="Wipe off painted noise").click()
    page.locator("#live-noise-amount").fill("0")
    settled(page)
    assert (noisy(page) == image(page)).all()


def test_noise_is_scaled_not_drawn_again_by_the_slider(pages: Pages) -> None:
    page = opened(pages, "noise")
    first = noisy(page)
    page.locator("#live-noise-amount").fill("0.6")
    page.locator("#live-noise-amount").fill("0.3")
    settled(page)
    assert (noisy(page) == first).all()
    page.get_by_role("button", name="New noise").click()
    settled(page)
    assert (noisy(page) != first).any()


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_anomaly_scores_are_those_of_python(pages: Pages, index: int) -> None:
    page = opened(pages, "anomalies")
    page.evaluate("index => aezooLive.source.pick(index)", index)
    settled(page)
    ratios = {}
    for digit in range(10):
        name = f"anomaly-{digit}"
        ae = load(name)
        x = ae.transforms()(torch.from_numpy(image(page)).view(1, 28, 28))
        error = -float(ae.score_samples(x)[0])
        row = page.locator(f"#live-panel-anomalies tr[data-network='{name}']")
        assert float(row.locator("[data-part='error']").inner_text()) == pytest.approx(error, abs=1e-4)
        ratios[name] = error / ae.metrics["mse.validation"]["value"]
        assert row.locator("[data-part='ratio']").inner_text().startswith(f"{ratios[name]:.1f} ")
    best = min(ratios, key=lambda name: ratios[name])
    assert page.locator("#live-panel-anomalies tr.best").get_attribute("data-network") == best


def test_what_no_detector_knows_is_called_an_anomaly(pages: Pages) -> None:
    page = opened(pages, "anomalies")
    assert "anomaly to all" not in page.locator("#live-panel-anomalies [data-part='verdict']").inner_text()
    page.click("#live-clear")
    settled(page)
    verdict = page.locator("#live-panel-anomalies [data-part='verdict']")
    assert verdict.inner_text() == "Draw something first."
    for start, end in [
        ((0.1, 0.1), (0.9, 0.9)),
        ((0.9, 0.1), (0.1, 0.9)),
        ((0.5, 0.1), (0.5, 0.9)),
        ((0.1, 0.5), (0.9, 0.5)),
    ]:
        draw(page, [start, end])
    assert "anomaly to all ten networks" in verdict.inner_text()


# -- the page -----------------------------------------------------------------------------------------------------


def test_networks_are_loaded_when_they_are_needed(pages: Pages) -> None:
    page = opened(pages)
    names = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    loaded = {Path(name).name.split(".")[0] for name in names if name.endswith(".onnx")}
    assert loaded == {"vae-16"}


def test_a_server_that_decompresses_files_itself(pages: Pages) -> None:
    page = opened(pages, "anomalies")
    content = gzip.decompress((SITE / "live" / "app" / "vendor" / "onnxruntime.wasm.gz").read_bytes())
    page.route("**/onnxruntime.wasm.gz", lambda route: route.fulfill(body=content))
    page.reload()
    page.wait_for_function("window.aezooLive")
    settled(page)
    assert page.locator("#live-panel-anomalies tr.best").count() == 1


def test_results_are_spoken_once_the_drawing_rests(pages: Pages) -> None:
    page = opened(pages, "anomalies")
    spoken = page.locator("#live-panel-anomalies [data-part='spoken']")
    page.wait_for_function(
        "document.querySelector('#live-panel-anomalies [data-part=spoken]').textContent.includes('usual error')"
    )
    page.evaluate(
        "() => { window.said = 0; new MutationObserver(() => { said += 1; })"
        ".observe(document.querySelector('#live-panel-anomalies [data-part=spoken]'), {childList: true}); }"
    )
    draw(page, [*SEVEN, *SEVEN])
    assert page.evaluate("said") == 0
    page.wait_for_function("said === 1")
    verdict = page.locator("#live-panel-anomalies [data-part='verdict']")
    assert spoken.text_content() == verdict.inner_text()


def test_tabs_by_keys_and_address(pages: Pages) -> None:
    page = opened(pages, "noise")
    assert page.locator("#live-panel-noise").is_visible()
    page.locator("#live-tab-noise").focus()
    page.keyboard.press("ArrowRight")
    settled(page)
    assert page.locator("#live-panel-anomalies").is_visible()
    assert page.url.endswith("#anomalies")
    page.keyboard.press("ArrowRight")
    assert page.locator("#live-panel-latents").is_visible()
    assert page.locator("[role=tab][tabindex='0']").count() == 1


@pytest.mark.parametrize(
    ("address", "panel", "network"),
    [
        ("#latents/sparse-topk16", "latents", "sparse-topk16"),
        ("#walk/fc-64", "walk", "fc-64"),
        ("#sparsity/overcomplete-topk", "sparsity", "overcomplete-topk"),
        ("#walk/no-such-network", "walk", "vae-16"),
        ("#no-such-tab/fc-64", "latents", "vae-16"),
        ("#what-there-is-to-see", "latents", "vae-16"),
    ],
)
def test_links_lead_to_a_network(pages: Pages, address: str, panel: str, network: str) -> None:
    page = opened(pages, address[1:])
    assert page.locator(f"#live-panel-{panel}").is_visible()
    assert page.input_value(f"#live-{panel}-network") == network


def test_the_address_follows_the_chooser(pages: Pages) -> None:
    page = opened(pages)
    page.select_option("#live-latents-network", "conv-strided")
    settled(page)
    assert page.url.endswith("#latents/conv-strided")
    page.click("#live-tab-manifold")
    assert page.url.endswith("#manifold")
    page.click("#live-tab-latents")
    assert page.url.endswith("#latents/conv-strided")


def test_the_page_says_what_is_loaded(pages: Pages) -> None:
    page = opened(pages)
    description = json.loads((SITE / "live" / "app" / "networks.json").read_text("utf-8"))
    detectors = sum(description["networks"][name]["bytes"] for name in description["detectors"])
    assert f"Anomalies: {detectors / 1e6:.1f} MB." in page.locator("#live-sizes").inner_text()


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_finding_of_axe(pages: Pages, panel: str, scheme: Any) -> None:
    assert findings(opened(pages, panel, color_scheme=scheme)) == []


@pytest.mark.parametrize("panel", PANELS)
def test_nothing_is_wider_than_a_phone(pages: Pages, panel: str) -> None:
    page = opened(pages, panel, width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_javascript_the_text_reads(pages: Pages) -> None:
    page = pages.open(LIVE, java_script_enabled=False)
    assert not page.locator("#live-page").is_visible()
    assert page.get_by_text("needs JavaScript").is_visible()
    assert page.get_by_role("heading", name="How it works").is_visible()


def test_a_page_that_cannot_start_says_so(pages: Pages) -> None:
    context = pages.browser.new_context()
    page = context.new_page()
    page.route("**/networks.json", lambda route: route.fulfill(status=404))
    page.goto(pages.site + LIVE)
    failed = page.locator("#live-failed")
    failed.wait_for()
    assert "networks.json could not be loaded: the server answered with status 404." in failed.inner_text()
    context.close()
