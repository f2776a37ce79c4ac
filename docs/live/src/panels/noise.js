// Noise on the image, and what the denoisers make of it.

import { meanSquaredError, paint, toBytes } from "../image.js";
import { inDigits } from "../numbers.js";
import { Panel } from "../panel.js";

const BRUSH = 2; // Radius in pixels of the brush that adds noise by hand.
const TRAINED = {
  gaussian: (amount) => `trained with Gaussian noise, amount ${amount}`,
  masking: (amount) => `trained with black pixels, amount ${amount}`,
};

export class NoisePanel extends Panel {
  constructor(networks, source) {
    super("live-panel-noise", networks, source);
    this.names = networks.description.denoisers;
    this.kind = this.part("kind");
    this.amount = this.part("amount");
    this.noisy = new Uint8Array(784);
    this.draw();
    this.byHand = new Float32Array(784); // share of noise that the brush added to each pixel
    this.kind.addEventListener("change", () => this.request());
    this.amount.addEventListener("input", () => this.request());
    this.part("again").addEventListener("click", () => {
      this.draw();
      this.request();
    });
    this.part("wipe").addEventListener("click", () => {
      this.byHand.fill(0);
      this.request();
    });
    this.listenForBrush(this.part("noisy"));
    this.cards = this.names.map((name) => this.card(name));
    this.part("images").append(...this.cards.map(({ figure }) => figure));
    source.addEventListener("change", () => this.byHand.fill(0));
  }

  /** Draws noise once; the slider only scales it, so that the picture does not flicker. */
  draw() {
    this.normal = Float32Array.from({ length: 784 }, () => {
      return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    });
    this.uniform = Float32Array.from({ length: 784 }, () => Math.random());
    this.hand = Uint8Array.from({ length: 784 }, () => Math.floor(256 * Math.random()));
  }

  listenForBrush(canvas) {
    let down = false;
    const stroke = (event) => {
      const box = canvas.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * 28 - 0.5;
      const y = ((event.clientY - box.top) / box.height) * 28 - 0.5;
      for (let i = 0; i < 784; i++) {
        if (Math.hypot((i % 28) - x, Math.floor(i / 28) - y) <= BRUSH) this.byHand[i] = 1;
      }
      this.request();
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      down = true;
      stroke(event);
    });
    canvas.addEventListener("pointermove", (event) => down && stroke(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (down = false));
  }

  card(name) {
    const { noise } = this.networks.entry(name);
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    const link = document.createElement("a");
    const trained = document.createElement("small");
    const error = document.createElement("span");
    [link.href, link.textContent] = [`../gallery/${name}.html`, name];
    trained.textContent = TRAINED[noise.kind](noise.amount.toFixed(2));
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Reconstruction of the noisy image by ${name}`);
    caption.append(link, error, trained);
    figure.append(canvas, caption);
    figure.dataset.network = name;
    return { figure, canvas, error };
  }

  async run(isNewest) {
    const loaded = await this.load(this.names, isNewest);
    if (loaded === null) return;
    const image = this.source.image;
    const amount = Number(this.amount.value);
    const noisy = this.withNoise(image, amount);
    const found = [];
    for (const network of loaded) {
      const { latents } = await network.encode(noisy);
      found.push(await network.decode(latents));
    }
    if (!isNewest()) return;
    this.noisy = noisy;
    paint(this.part("clean"), image);
    paint(this.part("noisy"), noisy);
    this.part("amount-text").textContent = amount.toFixed(2);
    const noisyError = meanSquaredError(Float32Array.from(noisy, (value) => value / 255), image);
    this.part("noisy-mse").textContent = `MSE ${inDigits(noisyError)}`;
    found.forEach((reconstruction, i) => {
      paint(this.cards[i].canvas, toBytes(reconstruction));
      this.cards[i].error.textContent = `MSE ${inDigits(meanSquaredError(reconstruction, image))}`;
    });
  }

  withNoise(image, amount) {
    return image.map((value, i) => {
      if (this.byHand[i] > 0) return this.hand[i];
      if (this.kind.value === "masking") return this.uniform[i] < amount ? 0 : value;
      return Math.round(Math.min(255, Math.max(0, value + 255 * amount * this.normal[i])));
    });
  }
}
