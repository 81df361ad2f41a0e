// What is wider than the page scrolls in a box of its own; the keyboard must be able to reach it.
// Only what is near the reader is measured: measuring makes the browser lay out what it passed over.
(() => {
  const inline = "mjx-container:not([display])";
  const boxes =
    "mjx-container[display], .cell_output, .cell_output .output, .pst-scrollable-table-container";
  const isWide = (element) => {
    if (!element.matches(inline)) return element.scrollWidth > element.clientWidth;
    const room = element.closest("p, li, td, th, dd, figcaption, h1, h2, h3, div").clientWidth;
    return Math.max(element.scrollWidth, element.getBoundingClientRect().width) > room + 1;
  };
  function measure(elements) {
    const wide = elements.map(isWide);
    elements.forEach((element, k) => {
      if (element.matches(inline)) element.classList.toggle("wide", wide[k]);
      if (wide[k]) element.tabIndex = 0;
      else element.removeAttribute("tabindex");
    });
  }
  const near = new Set();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries)
        near[isIntersecting ? "add" : "delete"](target);
      measure(entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target));
    },
    { rootMargin: "100% 0px" },
  );
  for (const element of document.querySelectorAll(`${inline}, ${boxes}`)) observer.observe(element);
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    measure([...near]);
  }).observe(document.body);
  document.fonts.addEventListener("loadingdone", () => measure([...near]));
})();

// Sections not yet laid out have a height that is guessed. On a page seen before it is known, and
// the browser, loading it again, comes back to the line that was read.
(() => {
  const sections = [...document.querySelectorAll("article.bd-article > section > section")];
  const key = `heights ${location.pathname}`;
  try {
    const known = JSON.parse(sessionStorage.getItem(key)) || [];
    sections.forEach((section, k) => {
      if (known[k]) section.style.containIntrinsicBlockSize = `auto ${known[k]}px`;
    });
    addEventListener("pagehide", () => {
      const heights = sections.map((section) => section.clientHeight);
      sessionStorage.setItem(key, JSON.stringify(heights));
    });
  } catch {
    // Where storage is not allowed, a guess must do.
  }
})();
