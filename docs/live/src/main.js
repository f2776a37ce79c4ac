// Starts the live page: the image on the left, one experiment on the right.
//
// Tests use `window.aezooLive`: `source`, `panels` by name, `networks`, and `run(name, bytes)`, which gives
// `{latents, reconstruction}` of an image as the page computes them.

import { inWords } from "./bytes.js";
import { Networks } from "./networks.js";
import { AnomaliesPanel } from "./panels/anomalies.js";
import { LatentsPanel } from "./panels/latents.js";
import { ManifoldPanel } from "./panels/manifold.js";
import { NoisePanel } from "./panels/noise.js";
import { SparsityPanel } from "./panels/sparsity.js";
import { WalkPanel } from "./panels/walk.js";
import { Source } from "./source.js";
import { Tabs } from "./tabs.js";

const base = new URL("./", import.meta.url);

async function start() {
  const page = document.getElementById("live-page");
  const networks = await Networks.open(base);
  const source = new Source(await networks.digits());
  page.hidden = false;
  const panels = Object.fromEntries(
    [LatentsPanel, WalkPanel, ManifoldPanel, SparsityPanel, NoisePanel, AnomaliesPanel].map((Kind) => {
      const panel = new Kind(networks, source);
      return [panel.element.id, panel];
    }),
  );
  let shown = null;
  const show = (id, network) => {
    shown = panels[id];
    shown.useNetwork(network);
    shown.request();
  };
  const tabs = new Tabs(page.querySelector('[role="tablist"]'), show, (id) => panels[id].chooser?.value ?? "");
  for (const { chooser } of Object.values(panels)) chooser?.addEventListener("change", () => tabs.keepAddress());
  source.addEventListener("change", () => shown?.request());
  source.picker.pick(7);
  tabs.showAddress();
  document.getElementById("live-sizes").textContent = sizes(networks);
  page.removeAttribute("aria-busy");

  const run = async (name, bytes) => {
    const network = await networks.load(name);
    const { latents, preActivations } = await network.encode(Uint8Array.from(bytes));
    return { latents, preActivations, reconstruction: await network.decode(latents) };
  };
  window.aezooLive = { source, panels, networks, run };
}

/** What is loaded when, in words. */
function sizes(networks) {
  const { runtime, explored, manifold, denoisers, detectors } = networks.description;
  const bytes = (names) => names.map((name) => networks.entry(name).bytes).sort((a, b) => a - b);
  const sum = (names) => inWords(bytes(names).reduce((total, one) => total + one, 0));
  const each = bytes(explored);
  return (
    `${runtime.name} ${runtime.version}, once: ${inWords(runtime.bytes)}. A network that is chosen: ` +
    `${inWords(each[0])} to ${inWords(each[each.length - 1])}. Manifold: ${sum([manifold])}. Noise: ${sum(denoisers)}. ` +
    `Anomalies: ${sum(detectors)}.`
  );
}

start().catch((error) => {
  const text = document.getElementById("live-failed");
  text.hidden = false;
  text.append(` ${error.message}`);
});
