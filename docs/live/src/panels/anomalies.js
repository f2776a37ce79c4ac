// Ten networks, each trained on one digit: the one that reconstructs the image best knows it.

import { meanSquaredError, paint, toBytes } from "../image.js";
import { inDigits } from "../numbers.js";
import { Panel } from "../panel.js";

const QUIET = 1000; // Milliseconds without a change after which the result is spoken.
const WIDEST = 10; // Bars end at this many times the usual error.

export class AnomaliesPanel extends Panel {
  constructor(networks, source) {
    super("live-panel-anomalies", networks, source);
    this.names = networks.description.detectors;
    this.rows = this.names.map((name) => this.row(name));
    this.part("rows").replaceChildren(...this.rows.map(({ row }) => row));
  }

  row(name) {
    const { classes, metrics } = this.networks.entry(name);
    const row = document.createElement("tr");
    row.innerHTML = `
      <th scope="row"><a></a></th>
      <td><canvas role="img"></canvas></td>
      <td class="live-bar" aria-hidden="true"><span></span></td>
      <td class="live-number live-error-column" data-part="error"></td>
      <td class="live-number" data-part="ratio"></td>
      <td class="live-number live-auroc"></td>`;
    const link = row.querySelector("a");
    [link.href, link.textContent] = [`../gallery/${name}.html`, name];
    row.querySelector(".live-auroc").textContent = metrics.auroc?.toFixed(3) ?? "–";
    row.querySelector("canvas").setAttribute("aria-label", `Reconstruction by ${name}`);
    row.dataset.network = name;
    return { row, digit: classes[0], usual: metrics["mse.validation"] };
  }

  async run(isNewest) {
    const loaded = await this.load(this.names, isNewest);
    if (loaded === null) return;
    const image = this.source.image;
    const results = [];
    for (const [i, network] of loaded.entries()) {
      const { latents } = await network.encode(image);
      const reconstruction = await network.decode(latents);
      if (!isNewest()) return;
      const error = meanSquaredError(reconstruction, image);
      results.push({ ...this.rows[i], reconstruction, error, ratio: error / this.rows[i].usual });
    }
    const best = results.reduce((a, b) => (b.ratio < a.ratio ? b : a));
    for (const result of results) this.showRow(result, result === best);
    const verdict = image.some((value) => value > 0) ? this.verdict(best) : "Draw something first.";
    this.part("verdict").textContent = verdict;
    // Screen readers are told once the drawing rests, not at every point of it.
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => (this.part("spoken").textContent = verdict), QUIET);
  }

  verdict({ digit, ratio }) {
    const { share, ratio: limit } = this.networks.description.unusual;
    const text = `Most usual as a ${digit}: ${ratio.toFixed(1)} times the usual error.`;
    if (ratio <= limit) return text;
    return `${text} That is more than for ${Math.round(100 * share)} % of the test digits: an anomaly to all ten networks.`;
  }

  showRow({ row, reconstruction, error, ratio }, isBest) {
    paint(row.querySelector("canvas"), toBytes(reconstruction));
    row.querySelector('[data-part="error"]').textContent = inDigits(error);
    row.querySelector('[data-part="ratio"]').textContent = `${ratio.toFixed(1)} ×`;
    row.style.setProperty("--live-usual", 1 / WIDEST);
    row.style.setProperty("--live-ratio", Math.min(1, ratio / WIDEST));
    row.classList.toggle("best", isBest);
  }
}
