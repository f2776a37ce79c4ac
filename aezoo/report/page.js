"use strict";
// Sorts and pages the latents. Without this script, all of those with details are shown, in order of importance.
(() => {
  const list = document.getElementById("units");
  const cards = [...list.querySelectorAll("article")];
  const data = JSON.parse(document.getElementById("numbers").textContent);
  const size = 24;
  const $ = (id) => document.getElementById(id);
  let page = 0, order = cards.slice();
  const number = (card, key) => Number(card.dataset[key]);
  const draw = () => {
    const pages = Math.max(1, Math.ceil(order.length / size));
    page = Math.min(Math.max(page, 0), pages - 1);
    const shown = new Set(order.slice(page * size, (page + 1) * size));
    for (const card of cards) card.hidden = !shown.has(card);
    for (const card of shown) list.append(card);
    $("where").textContent = order.length ? `page ${page + 1} of ${pages}, ${order.length} latents` : "no latent with details matches";
    $("back").disabled = page === 0;
    $("next").disabled = page >= pages - 1;
  };
  const arrange = () => {
    const key = $("sort").value, text = $("find").value.trim();
    const wanted = text === "" ? null : new Set(text.split(/[\s,]+/).map(Number));
    order = cards.filter((card) => wanted === null || wanted.has(number(card, "index")));
    const sign = key === "index" ? 1 : -1;
    order.sort((a, b) => sign * (number(a, key) - number(b, key)) || number(a, "index") - number(b, "index"));
    page = 0;
    draw();
  };
  for (const id of ["sort", "find"]) $(id).addEventListener("input", arrange);
  $("back").addEventListener("click", () => { page -= 1; draw(); });
  $("next").addEventListener("click", () => { page += 1; draw(); });
  $("controls").hidden = false;
  arrange();

  // The table of all latents, fifty rows at a time.
  const body = $("all").tBodies[0], rows = 50;
  let first = 0, column = 0, down = false;
  const text = (value, i) => (i === 0 ? String(value) : value === null ? "" : Number(value).toPrecision(4) * 1 + "");
  let indices = data.rows.map((_, i) => i);
  const fill = () => {
    first = Math.min(Math.max(first, 0), Math.max(0, Math.floor((data.rows.length - 1) / rows) * rows));
    body.replaceChildren(...indices.slice(first, first + rows).map((i) => {
      const tr = document.createElement("tr");
      data.rows[i].forEach((value, at) => { const td = document.createElement("td"); td.className = "r"; td.textContent = text(value, at); tr.append(td); });
      return tr;
    }));
    $("range").textContent = `${first + 1} to ${Math.min(first + rows, data.rows.length)} of ${data.rows.length}`;
    $("up").disabled = first === 0;
    $("down").disabled = first + rows >= data.rows.length;
  };
  $("up").addEventListener("click", () => { first -= rows; fill(); });
  $("down").addEventListener("click", () => { first += rows; fill(); });
  $("all").tHead.querySelectorAll("th").forEach((th, at) => {
    const button = document.createElement("button");
    button.textContent = th.textContent;
    th.replaceChildren(button);
    button.addEventListener("click", () => {
      down = column === at ? !down : at !== 0;
      column = at;
      indices.sort((a, b) => ((data.rows[a][at] ?? 0) - (data.rows[b][at] ?? 0)) * (down ? -1 : 1) || a - b);
      $("all").tHead.querySelectorAll("th").forEach((other, i) => other.setAttribute("aria-sort", i === at ? (down ? "descending" : "ascending") : "none"));
      first = 0;
      fill();
    });
  });
  $("pager").hidden = false;
  fill();
})();
