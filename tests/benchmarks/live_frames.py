"""Prints how long frames of the live page take in headless Chromium: `python tests/benchmarks/live_frames.py`.

The site must be built. In each experiment, the mouse draws on the sheet and moves the main control. The time of a
frame is that between two calls of `requestAnimationFrame`; a browser that keeps up shows one in 16.7 ms.
"""

import functools
import http.server
import shutil
import statistics
import sys
import threading
from pathlib import Path
from typing import Any

SITE = Path(__file__).resolve().parents[2] / "docs" / "_build" / "html"
CONTROLS = {
    "latents": "#live-panel-latents [data-part='latents']",
    "walk": "#live-walk-position",
    "manifold": "#live-panel-manifold [data-part='surface']",
    "sparsity": "#live-sparsity-k",
    "noise": "#live-noise-amount",
    "anomalies": None,
}
"""Experiment -> what the mouse moves over, besides the sheet."""
NETWORKS = {
    "latents": ("vae-16", "overcomplete-topk", "conv-fc"),
    "sparsity": ("sparse-topk16", "overcomplete-topk"),
}
MOVES = 120
RECORD = """() => {
  window.frames = []; let last = performance.now();
  const frame = (now) => { window.frames.push(now - last); last = now; window.recording = requestAnimationFrame(frame); };
  cancelAnimationFrame(window.recording); window.recording = requestAnimationFrame(frame);
}"""


def drag(page: Any, selector: str) -> list[float]:
    """Drags the mouse over an element; returns the times of the frames meanwhile in milliseconds."""
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.evaluate(RECORD)
    for step in range(MOVES):
        share = step / MOVES
        across, down = 0.2 + 0.6 * share, 0.5 + 0.3 * (0.5 - abs((4 * share) % 2 - 1))
        page.mouse.move(box["x"] + box["width"] * across, box["y"] + box["height"] * down)
    times = page.evaluate("window.frames.slice(2)")
    page.mouse.up()
    return times


def report(name: str, times: list[float]) -> None:
    """Prints the median, the 95th percentile and the longest frame."""
    cut = statistics.quantiles(times, n=20)[-1]
    print(f"{name:36} {len(times):6} {statistics.median(times):8.1f} {cut:8.1f} {max(times):8.1f}")


def main() -> int:
    """Measures every experiment."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not (SITE / "live" / "app").is_dir():
        print("live_frames.py: needs Chromium and the built site (make docs)", file=sys.stderr)
        return 1

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(SITE))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"{'milliseconds per frame':36} {'frames':>6} {'median':>8} {'95 %':>8} {'longest':>8}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.goto(f"http://127.0.0.1:{server.server_port}/live/index.html")
        page.wait_for_function("window.aezooLive")
        for panel, control in CONTROLS.items():
            page.click(f"#live-tab-{panel}")
            for network in NETWORKS.get(panel, ("",)):
                if network:
                    page.select_option(f"#live-{panel}-network", network)
                page.wait_for_timeout(3000)
                label = f"{panel} {network}".strip()
                report(f"{label}: draw", drag(page, "#live-sheet"))
                if control:
                    report(f"{label}: move", drag(page, control))
                page.click("#live-clear")
                page.locator("#live-digits button").nth(3).click()
        browser.close()
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
