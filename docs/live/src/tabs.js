// Tabs, as the ARIA Authoring Practices describe them. The address keeps the chosen one and its network, so that
// links lead to what is shown: `#latents/sparse-topk16`.

export class Tabs {
  /**
   * @param {HTMLElement} list with the role `tablist`.
   * @param {(id: string, detail: string) => void} onShow called with the id of the panel that is now shown, and with
   *   what the address names after it.
   * @param {(id: string) => string} detailOf what the address names after a panel; empty for nothing.
   */
  constructor(list, onShow, detailOf) {
    this.tabs = [...list.querySelectorAll('[role="tab"]')];
    this.onShow = onShow;
    this.detailOf = detailOf;
    this.tabs.forEach((tab) => tab.addEventListener("click", () => this.show(tab, true)));
    list.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.showAddress());
  }

  /** Shows the tab that the address names; the first one if it names none. */
  showAddress() {
    const [address, detail = ""] = decodeURIComponent(location.hash.slice(1)).split("/");
    const named = this.tabs.find((tab) => tab.dataset.address === address);
    if (named) this.show(named, false, detail);
    else if (!this.chosen) this.show(this.tabs[0], false);
  }

  /** Writes what is shown into the address. */
  keepAddress() {
    const detail = this.detailOf(this.chosen.getAttribute("aria-controls"));
    history.replaceState(null, "", `#${this.chosen.dataset.address}${detail && `/${detail}`}`);
  }

  show(chosen, changeAddress, detail = "") {
    this.chosen = chosen;
    for (const tab of this.tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
    if (changeAddress) this.keepAddress();
    const list = chosen.parentElement;
    // Scrolls the list alone, not the page.
    list.scrollLeft = chosen.offsetLeft - (list.clientWidth - chosen.offsetWidth) / 2;
    this.onShow(chosen.getAttribute("aria-controls"), detail);
  }

  key(event) {
    const now = this.tabs.indexOf(document.activeElement);
    const count = this.tabs.length;
    const next = { ArrowRight: (now + 1) % count, ArrowLeft: (now + count - 1) % count, Home: 0, End: count - 1 }[event.key];
    if (now < 0 || next === undefined) return;
    event.preventDefault();
    this.tabs[next].focus();
    this.show(this.tabs[next], true);
  }
}
