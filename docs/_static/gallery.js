// Search, filters, order and links of the gallery. The address keeps what is chosen: ?search=sparse&task=denoising&sort=mse
"use strict";

(() => {
  const form = document.getElementById("gallery-controls");
  const list = document.getElementById("gallery-list");
  const count = document.getElementById("gallery-count");
  const facets = ["task", "dataset", "kind", "plugin"];
  const cards = [...list.children].map((element, place) => ({
    element,
    place,
    name: element.dataset.name,
    text: element.dataset.text,
    values: Object.fromEntries(facets.map((facet) => [facet, element.dataset[facet].split("|")])),
    numbers: JSON.parse(element.dataset.numbers),
  }));
  const labels = Object.fromEntries([...form.sort.options].map((option) => [option.value, option.text]));

  const format = (value) =>
    Number.isInteger(value)
      ? value.toLocaleString("en")
      : Math.abs(value) >= 1000
        ? value.toLocaleString("en", { maximumFractionDigits: 1 })
        : String(Number(value.toPrecision(4)));

  function read() {
    const given = new URLSearchParams(location.search);
    form.search.value = given.get("search") ?? "";
    for (const name of [...facets, "sort", "order"]) {
      const wanted = given.get(name) ?? "";
      // A value that the page does not know, as in an old link, selects everything.
      form[name].value = [...form[name].options].some((option) => option.value === wanted) ? wanted : "";
    }
  }

  function write() {
    const chosen = new URLSearchParams();
    for (const name of ["search", ...facets, "sort", "order"]) {
      if (form[name].value.trim()) chosen.set(name, form[name].value.trim());
    }
    const query = chosen.toString();
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
  }

  function compare(a, b) {
    const key = form.sort.value;
    const down = form.order.value === "down" ? -1 : 1;
    if (!key) return down * (a.place - b.place);
    if (key === "name") return down * a.name.localeCompare(b.name);
    const [x, y] = [a.numbers[key], b.numbers[key]];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || a.name.localeCompare(b.name);
    return down * (x - y) || a.name.localeCompare(b.name);
  }

  function showSorted(card) {
    const key = form.sort.value;
    card.element.querySelector(".sorted-by")?.remove();
    const dl = card.element.querySelector("dl");
    for (const entry of dl.children) entry.classList.toggle("chosen", entry.dataset.metric === key);
    if (!key || key === "name" || dl.querySelector(`[data-metric="${CSS.escape(key)}"]`)) return;
    const entry = document.createElement("div");
    entry.className = "sorted-by chosen";
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = labels[key];
    value.textContent = card.numbers[key] === undefined ? "not measured" : format(card.numbers[key]);
    entry.append(term, value);
    dl.append(entry);
  }

  function update() {
    const words = form.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = cards.filter(
      (card) =>
        words.every((word) => card.text.includes(word)) &&
        facets.every((facet) => !form[facet].value || card.values[facet].includes(form[facet].value)),
    );
    for (const card of cards) {
      card.element.hidden = !shown.includes(card);
      showSorted(card);
    }
    list.append(...[...cards].sort(compare).map((card) => card.element));
    const known = cards.length === shown.length ? `${cards.length} variants` : `${shown.length} of ${cards.length} variants`;
    count.textContent = shown.length ? known : "No variant matches. Reset shows all of them.";
  }

  form.addEventListener("input", () => {
    write();
    update();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    // The form is empty only after this event.
    setTimeout(() => {
      write();
      update();
    });
  });
  document.getElementById("gallery-link").addEventListener("click", async (event) => {
    const button = event.target;
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      // Without permission for the clipboard, the address bar has the link.
      button.textContent = "The link is in the address bar";
    }
    setTimeout(() => (button.textContent = "Copy link"), 2000);
  });
  window.addEventListener("popstate", () => {
    read();
    update();
  });

  form.hidden = false;
  read();
  update();
})();
