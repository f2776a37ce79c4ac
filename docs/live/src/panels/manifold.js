// The plane of the two latents of vae-2: a grid of decoded images, and the image under the pointer.

import { paint, toBytes } from "../image.js";
import { latentText } from "../numbers.js";
import { Panel } from "../panel.js";

const GRID = 16; // Images per axis.
const REACH = 3; // Latents from -REACH to REACH: standard deviations of the prior.
const STEP = 0.1; // Of a press of a key.
const ROWS = 2; // Rows of the grid that are decoded in one frame.

export class ManifoldPanel extends Panel {
  constructor(networks, source) {
    super("live-panel-manifold", networks, source);
    this.name = networks.description.manifold;
    this.plane = this.part("plane");
    this.marks = this.part("marks");
    this.place = { x: 0, y: 0 };
    this.follow = false; // the pointer; otherwise the place is that of the image
    const surface = this.part("surface");
    surface.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      surface.focus({ preventScroll: true });
      surface.setPointerCapture(event.pointerId);
      this.point(event);
    });
    surface.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" || event.buttons > 0) this.point(event);
    });
    surface.addEventListener("keydown", (event) => this.key(event));
    this.part("image").addEventListener("click", () => {
      this.follow = false;
      this.request();
    });
    source.addEventListener("change", () => (this.follow = false));
    surface.setAttribute("aria-valuemin", -REACH);
    surface.setAttribute("aria-valuemax", REACH);
    this.surface = surface;
  }

  point(event) {
    const box = this.surface.getBoundingClientRect();
    const share = (value, from, size) => Math.min(1, Math.max(0, (value - from) / size));
    this.move(
      (2 * share(event.clientX, box.left, box.width) - 1) * REACH,
      (1 - 2 * share(event.clientY, box.top, box.height)) * REACH,
    );
  }

  key(event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const step = event.shiftKey ? 5 * STEP : STEP;
    this.move(this.place.x + step * move[0], this.place.y + step * move[1]);
  }

  move(x, y) {
    const bound = (value) => Math.min(REACH, Math.max(-REACH, value));
    this.place = { x: bound(x), y: bound(y) };
    this.follow = true;
    this.request();
  }

  async run(isNewest) {
    const loaded = await this.load([this.name], isNewest);
    if (loaded === null) return;
    const [network] = loaded;
    const { latents } = await network.encode(this.source.image);
    if (!isNewest()) return;
    this.encoded = { x: latents[0], y: latents[1] };
    if (!this.follow) this.place = { ...this.encoded };
    const decoded = await network.decode(Float32Array.of(this.place.x, this.place.y));
    if (!isNewest()) return;
    paint(this.part("decoded"), toBytes(decoded));
    this.showPlace();
    this.grid ??= this.drawGrid(network).catch((error) => {
      this.grid = null;
      this.fail(error);
    });
  }

  /** Decodes the grid, some rows a frame, so that the page goes on following the pointer. */
  async drawGrid(network) {
    const side = 28 * GRID;
    const values = new Uint8Array(side * side);
    for (let top = 0; top < GRID; top += ROWS) {
      const places = Array.from({ length: ROWS * GRID }, (_, i) => {
        const [column, row] = [i % GRID, top + Math.floor(i / GRID)];
        return [((2 * column + 1) / GRID - 1) * REACH, (1 - (2 * row + 1) / GRID) * REACH];
      });
      const images = toBytes(await network.decode(Float32Array.from(places.flat())));
      for (let i = 0; i < images.length; i++) {
        const [image, pixel] = [Math.floor(i / 784), i % 784];
        const x = (image % GRID) * 28 + (pixel % 28);
        const y = (top + Math.floor(image / GRID)) * 28 + Math.floor(pixel / 28);
        values[y * side + x] = images[i];
      }
      paint(this.plane, values, side, side);
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
    this.plane.dataset.complete = "true";
  }

  showPlace() {
    const percent = (value) => `${50 + (50 * value) / REACH}%`;
    const set = (mark, { x, y }) => {
      mark.style.left = percent(x);
      mark.style.top = percent(-y);
      mark.hidden = Math.abs(x) > REACH || Math.abs(y) > REACH;
    };
    set(this.part("here"), this.place);
    set(this.part("encoded"), this.encoded);
    const text = `${latentText(this.place.x)}, ${latentText(this.place.y)}`;
    this.part("place").textContent = text;
    const outside = this.part("encoded").hidden ? " (outside of the plane shown)" : "";
    this.part("encoded-place").textContent = `${latentText(this.encoded.x)}, ${latentText(this.encoded.y)}${outside}`;
    this.surface.setAttribute("aria-valuenow", latentText(this.place.x));
    this.surface.setAttribute("aria-valuetext", `latents ${text}`);
  }
}
