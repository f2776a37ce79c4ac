// Tabs, as the ARIA Authoring Practices describe them; the address keeps the chosen one.

export class Tabs {
  /**
   * @param {HTMLElement} list with the role `tablist`.
   * @param {(id: string) => void} onShow called with the id of the panel that is now shown.
   */
  constructor(list, onShow) {
    this.tabs = [...list.querySelectorAll('[role="tab"]')];
    this.onShow = onShow;
    this.tabs.forEach((tab) => tab.addEventListener("click", () => this.show(tab, true)));
    list.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.showAddress());
  }

  /** Shows the tab that the address names; the first one if it names none. */
  showAddress() {
    const named = this.tabs.find((tab) => `#${tab.dataset.address}` === location.hash);
    this.show(named ?? this.tabs.find((tab) => tab.getAttribute("aria-selected") === "true") ?? this.tabs[0], false);
  }

  show(chosen, changeAddress) {
    for (const tab of this.tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
    if (changeAddress) history.replaceState(null, "", `#${chosen.dataset.address}`);
    const list = chosen.parentElement;
    // Scrolls the list alone, not the page.
    list.scrollLeft = chosen.offsetLeft - (list.clientWidth - chosen.offsetWidth) / 2;
    this.onShow(chosen.getAttribute("aria-controls"));
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
