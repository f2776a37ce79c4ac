// A straight line between the latents of two images.

import { DigitPicker } from "../digit-picker.js";
import { lessMotion } from "../frame.js";
import { paint, toBytes } from "../image.js";
import { fillChooser, Panel } from "../panel.js";

const STRIP = 9; // Images of the strip.
const SECONDS = 2.5; // From one end to the other.

export class WalkPanel extends Panel {
  constructor(networks, source) {
    super("live-panel-walk", networks, source);
    fillChooser(this.chooser, networks.description.walk, networks);
    this.slider = this.part("position");
    this.goal = null;
    this.picker = new DigitPicker(this.part("goals"), source.digits, (index) => {
      this.setGoal(source.digits.images.slice(index * 784, (index + 1) * 784));
    });
    this.chooser.addEventListener("change", () => this.request());
    this.slider.addEventListener("input", () => {
      this.stop();
      this.request();
    });
    this.part("keep").addEventListener("click", () => this.setGoal(source.image.slice()));
    this.part("play").addEventListener("click", () => (this.playing ? this.stop() : this.play()));
    this.strip = Array.from({ length: STRIP }, () => document.createElement("canvas"));
    this.part("strip").replaceChildren(...this.strip);
  }

  setGoal(image) {
    this.goal = image;
    this.request();
  }

  async run(isNewest) {
    if (this.goal === null) this.picker.pick(9);
    const loaded = await this.load([this.chooser.value], isNewest);
    if (loaded === null) return;
    const [network] = loaded;
    const [from, to] = [this.source.image, this.goal];
    const both = new Uint8Array(2 * from.length);
    both.set(from);
    both.set(to, from.length);
    const { latents } = await network.encode(both);
    if (!isNewest()) return;
    const share = Number(this.slider.value);
    // The strip and the chosen place are one batch.
    const shares = [...Array.from({ length: STRIP }, (_, i) => i / (STRIP - 1)), share];
    const size = network.size;
    const batch = new Float32Array(shares.length * size);
    shares.forEach((t, row) => {
      for (let i = 0; i < size; i++) batch[row * size + i] = (1 - t) * latents[i] + t * latents[size + i];
    });
    const images = toBytes(await network.decode(batch));
    if (!isNewest()) return;
    const row = (i) => images.subarray(i * from.length, (i + 1) * from.length);
    this.strip.forEach((canvas, i) => paint(canvas, row(i)));
    const nearest = Math.round(share * (STRIP - 1));
    this.strip.forEach((canvas, i) => canvas.classList.toggle("chosen", i === nearest));
    paint(this.part("from"), from);
    paint(this.part("to"), to);
    paint(this.part("between"), row(STRIP));
    paint(this.part("pixels"), from.map((value, i) => Math.round((1 - share) * value + share * to[i])));
    this.slider.setAttribute("aria-valuetext", `${Math.round(100 * share)} % of the way`);
    this.part("share").textContent = `${Math.round(100 * share)} %`;
  }

  play() {
    const start = Number(this.slider.value) === 1 ? 0 : Number(this.slider.value);
    const began = performance.now();
    this.playing = true;
    this.part("play").textContent = "Stop";
    const step = (now) => {
      if (!this.playing) return;
      const share = Math.min(1, start + Math.max(0, now - began) / (1000 * SECONDS));
      // With less motion, the images change in steps instead of melting into one another.
      this.slider.value = lessMotion() ? Math.floor(share * 4) / 4 : share;
      this.request();
      if (share === 1 || this.element.hidden) this.stop();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  stop() {
    this.playing = false;
    this.part("play").textContent = "Play";
  }
}
