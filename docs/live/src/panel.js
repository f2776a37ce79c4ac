// What the experiments share: networks that are loaded when they are needed, and what is said meanwhile.

import { inWords } from "./bytes.js";
import { perFrame } from "./frame.js";

export class Panel {
  /**
   * @param {string} id of the experiment's element.
   * @param {import("./networks.js").Networks} networks
   * @param {import("./source.js").Source} source
   */
  constructor(id, networks, source) {
    this.element = document.getElementById(id);
    this.networks = networks;
    this.source = source;
    this.chooser = this.part("network"); // null where nothing is chosen
    this.note = this.element.querySelector(".live-note");
    this.request = perFrame(
      (isNewest, ...args) => this.run(isNewest, ...args),
      (error) => this.fail(error),
    );
  }

  /** The element with a name within the experiment. */
  part(name) {
    return this.element.querySelector(`[data-part="${name}"]`);
  }

  /** Whether what is shown is what the newest image and the controls ask for. */
  get idle() {
    return !this.request.busy && !this.source.compute.busy;
  }

  /** Chooses a network; a name that the chooser lacks changes nothing. */
  useNetwork(name) {
    const names = [...(this.chooser?.options ?? [])].map((option) => option.value);
    if (!names.includes(name) || name === this.chooser.value) return;
    this.chooser.value = name;
    this.chooser.dispatchEvent(new Event("change"));
  }

  /** Computes everything anew, as the newest image asks; run by `request`. */
  async run(isNewest) {
    throw new Error(`${this.constructor.name} has nothing to run: ${isNewest}`);
  }

  /**
   * Loads networks and says so.
   *
   * @param {string[]} names
   * @param {() => boolean} isNewest of the request that needs them.
   * @returns {Promise<import("./networks.js").Network[] | null>} null if a newer request came meanwhile.
   */
  async load(names, isNewest) {
    const bytes = this.networks.missingBytes(names);
    if (bytes > 0) {
      this.say(`Loading ${names.length === 1 ? names[0] : `${names.length} networks`} (${inWords(bytes)}) …`);
      this.element.setAttribute("aria-busy", "true");
    }
    const loaded = await Promise.all(names.map((name) => this.networks.load(name)));
    if (!isNewest()) return null;
    this.element.removeAttribute("aria-busy");
    this.say("");
    return loaded;
  }

  say(text) {
    if (this.note.textContent !== text) this.note.replaceChildren(text);
    this.note.classList.remove("live-error");
  }

  /** Says what went wrong, and offers to try again. */
  fail(error) {
    this.element.removeAttribute("aria-busy");
    const again = document.createElement("button");
    again.type = "button";
    again.textContent = "Try again";
    again.addEventListener("click", () => this.request());
    this.note.replaceChildren(`${error.message} `, again);
    this.note.classList.add("live-error");
  }
}

/** Fills a chooser with networks. */
export function fillChooser(select, names, networks) {
  select.replaceChildren(
    ...names.map((name) => {
      const shape = networks.entry(name).latents;
      const option = document.createElement("option");
      option.value = name;
      option.textContent = `${name} · ${shape.length === 1 ? `${shape[0]} latents` : `${shape.join(" × ")} latents`}`;
      return option;
    }),
  );
}
