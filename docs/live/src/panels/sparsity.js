// Networks with a top-k layer, decoded from more or fewer latents than they were trained to keep.

import { drawLine } from "../chart.js";
import { meanSquaredError, paint, toBytes } from "../image.js";
import { inDigits, latentText } from "../numbers.js";
import { fillChooser, Panel } from "../panel.js";

const MOST = 4; // The slider ends at this many times the k of the training, or at all latents.
const POINTS = 32; // Of the line.

export class SparsityPanel extends Panel {
  constructor(networks, source) {
    super("live-panel-sparsity", networks, source);
    fillChooser(this.chooser, networks.description.sparse, networks);
    this.slider = this.part("k");
    this.slider.addEventListener("input", () => this.request());
    this.chooser.addEventListener("change", () => this.switch());
    this.part("trained").addEventListener("click", () => {
      this.slider.value = this.entry.k;
      this.request();
    });
    this.switch();
  }

  get entry() {
    return this.networks.entry(this.chooser.value);
  }

  switch() {
    const { k, latents } = this.entry;
    this.slider.max = Math.min(MOST * k, latents[0]);
    this.slider.value = k;
    this.part("trained-k").textContent = k;
    this.part("trained").textContent = `k = ${k}, as trained`;
    this.line = null;
    if (!this.element.hidden) this.request();
  }

  async run(isNewest) {
    const loaded = await this.load([this.chooser.value], isNewest);
    if (loaded === null) return;
    const [network] = loaded;
    const image = this.source.image;
    const { preActivations } = await network.encode(image);
    if (!isNewest()) return;
    const k = Number(this.slider.value);
    const order = [...preActivations.keys()].sort((a, b) => preActivations[b] - preActivations[a]);
    const reconstruction = await network.decode(kept(preActivations, order, [k]));
    if (!isNewest()) return;
    paint(this.part("image"), image);
    paint(this.part("reconstruction"), toBytes(reconstruction));
    this.part("k-text").textContent = k;
    const error = meanSquaredError(reconstruction, image);
    this.part("mse").textContent = inDigits(error);
    this.part("smallest").textContent = latentText(preActivations[order[k - 1]]);
    this.slider.setAttribute("aria-valuetext", `${k} latents kept`);
    await this.drawErrors(isNewest, network, preActivations, order, image, { x: k, y: error });
  }

  /** The error for other k; computed anew when the image or the network changed. */
  async drawErrors(isNewest, network, preActivations, order, image, now) {
    const most = Number(this.slider.max);
    if (this.line?.image !== image || this.line.network !== network) {
      // More of them where few latents are kept and one more changes most.
      const ks = [...new Set(Array.from({ length: POINTS }, (_, i) => Math.round(most ** (i / (POINTS - 1)))))];
      const images = await network.decode(kept(preActivations, order, ks));
      if (!isNewest()) return;
      const points = ks.map((k, i) => ({ x: k, y: meanSquaredError(images, image, i * image.length) }));
      this.line = { image, network, points };
    }
    drawLine(this.part("chart"), this.line.points, {
      xName: "latents kept, k",
      yName: "MSE",
      now,
      marks: [{ x: this.entry.k, text: `${this.entry.k}` }],
    });
  }
}

/** The k largest values for each k, as aezoo's top-k layer keeps them; zero elsewhere. */
function kept(values, order, ks) {
  const latents = new Float32Array(ks.length * values.length);
  ks.forEach((k, row) => {
    for (const index of order.slice(0, k)) latents[row * values.length + index] = values[index];
  });
  return latents;
}
