// The theme's buttons that unfold a part of the navigation have no name for screen readers.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  for (const toggle of document.querySelectorAll("summary > .toctree-toggle")) {
    const link = toggle.closest("li")?.querySelector("a");
    toggle.parentElement.setAttribute("aria-label", `Pages of ${link?.textContent.trim() ?? "this part"}`);
  }
});
