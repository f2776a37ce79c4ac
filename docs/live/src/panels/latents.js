// Latents of the image; each can be changed, and the reconstruction follows.

import { perFrame } from "../frame.js";
import { meanSquaredError, paint, toBytes } from "../image.js";
import { inDigits, latentText } from "../numbers.js";
import { LatentsView } from "../latents-view.js";
import { fillChooser, Panel } from "../panel.js";

export class LatentsPanel extends Panel {
  constructor(networks, source) {
    super("live-panel-latents", networks, source);
    this.encoded = new Float32Array(0); // as the encoder gave them
    this.latents = new Float32Array(0); // as they are now
    this.follow = perFrame(
      (isNewest) => this.decodeChanged(isNewest),
      (error) => this.fail(error),
    );
    fillChooser(this.chooser, networks.description.explored, networks);
    this.view = new LatentsView(this.part("latents"), {
      onChoose: () => this.showChosen(),
      onChange: (index, value) => this.change(index, value),
      onReset: (index) => this.change(index, this.encoded[index]),
    });
    this.slider = this.part("value");
    this.slider.addEventListener("input", () => this.change(this.view.chosen, Number(this.slider.value)));
    this.number = this.part("number");
    this.number.addEventListener("change", () => this.view.choose(Number(this.number.value) - 1));
    this.chooser.addEventListener("change", () => this.switch());
    this.part("zero").addEventListener("click", () => this.change(this.view.chosen, 0));
    this.part("reset").addEventListener("click", () => this.replace(this.encoded));
    this.part("largest").addEventListener("click", () => this.view.choose(this.largest()));
    this.switch();
  }

  get name() {
    return this.chooser.value;
  }

  switch() {
    const entry = this.networks.entry(this.name);
    this.part("summary").textContent = entry.summary;
    this.part("page").href = `../gallery/${this.name}.html`;
    this.part("page").textContent = `All about ${this.name}`;
    this.encoded = this.latents = new Float32Array(0);
    this.view.setShape(entry.latents, entry.low, entry.high);
    this.number.max = entry.low.length;
    [this.slider.min, this.slider.max] = [this.view.low, this.view.high];
    this.part("mse").textContent = this.part("before").textContent = "";
    if (!this.element.hidden) this.request();
  }

  /** Encodes the image, and shows latents and reconstruction. */
  async run(isNewest) {
    const loaded = await this.load([this.name], isNewest);
    if (loaded === null) return;
    const [network] = loaded;
    const image = this.source.image;
    const { latents } = await network.encode(image);
    if (!isNewest()) return;
    const first = this.encoded.length === 0;
    [this.encoded, this.latents] = [latents, latents.slice()];
    await this.decode(isNewest, network, image);
    if (first && isNewest()) this.view.choose(this.largest());
  }

  async decode(isNewest, network, image) {
    const reconstruction = await network.decode(this.latents);
    if (!isNewest()) return;
    this.view.setValues(this.latents, true);
    paint(this.part("image"), image);
    paint(this.part("reconstruction"), toBytes(reconstruction));
    const mse = meanSquaredError(reconstruction, image);
    const changed = this.latents.some((value, i) => value !== this.encoded[i]);
    if (!changed) this.unchangedError = mse;
    this.part("mse").textContent = inDigits(mse);
    this.part("before").textContent = changed ? `${inDigits(this.unchangedError)} as encoded` : "";
    const zeros = this.latents.filter((value) => value === 0).length;
    this.part("active").textContent = `${this.latents.length - zeros} of ${this.latents.length}`;
    this.showChosen();
  }

  change(index, value) {
    if (this.latents.length === 0) return;
    const latents = this.latents.slice();
    latents[index] = value;
    this.replace(latents);
  }

  /** Uses other latents than those of the image. */
  replace(latents) {
    if (this.latents.length === 0) return;
    this.latents = latents.slice();
    this.showChosen();
    this.follow();
  }

  /** Decodes latents that the reader changed; a new image or network comes first. */
  async decodeChanged(isNewestChange) {
    const [name, encoded] = [this.name, this.encoded];
    const isNewest = () => isNewestChange() && this.name === name && this.encoded === encoded;
    const network = await this.networks.load(name);
    if (isNewest()) await this.decode(isNewest, network, this.source.image);
  }

  get idle() {
    return super.idle && !this.follow.busy;
  }

  largest() {
    return this.latents.reduce((best, value, i) => (Math.abs(value) > Math.abs(this.latents[best]) ? i : best), 0);
  }

  showChosen() {
    const value = this.latents[this.view.chosen];
    if (value === undefined) return;
    this.number.value = this.view.chosen + 1;
    this.slider.value = value;
    this.slider.setAttribute("aria-valuetext", `latent ${this.view.chosen + 1}: ${latentText(value)}`);
    this.part("value-text").textContent = latentText(value);
  }
}
