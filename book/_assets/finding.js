// Says in a problem report where the reader is, and makes search work better. Nothing here is needed to read.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  // A page opened from the disk may not fetch others, and a summary is made by fetching.
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  // The glossary comes first for a term it defines, and "H" before "h" for "H".
  const query = new URLSearchParams(location.search).get("q");
  if (typeof Scorer !== "undefined")
    Scorer.score = ([page, title, anchor, , score]) =>
      score * (page.endsWith("glossary") && anchor ? (title.endsWith(` ${query}`) ? 11 : 10) : 1);

  const article = document.querySelector("article");
  if (!article) return;
  const links = [...document.querySelectorAll('a[href*="template=erratum.yml"]')];
  const headings = [...article.querySelectorAll("h1, h2, h3")];
  let clicked = null;

  article.addEventListener("click", (event) => {
    const part = event.target.closest?.(".holds[id], div.math[id], .exercise[id]");
    if (part) clicked = part;
  });

  // The part last clicked if it is still in sight, and the heading last passed.
  const place = () => {
    const passed = headings.filter((h) => h.getBoundingClientRect().top < innerHeight / 2).pop();
    const box = clicked?.getBoundingClientRect();
    const seen = box && box.bottom > 0 && box.top < innerHeight;
    const section = passed?.cloneNode(true);
    section?.querySelectorAll(".headerlink").forEach((link) => link.remove());
    return [
      seen ? clicked.id.replace(/^(equation|check)-/, "") : "",
      section ? `section “${section.textContent.trim()}”` : "",
    ].filter(Boolean).join(", ");
  };

  for (const link of links) {
    const about = new URL(link.href).searchParams.get("cell");
    if (about) continue; // the line of a check knows better
    const fill = () => {
      const url = new URL(link.href);
      url.searchParams.set("cell", place());
      link.href = url;
    };
    for (const event of ["pointerdown", "focus", "click"]) link.addEventListener(event, fill);
  }
});
