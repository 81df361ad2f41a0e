// What is wider than the page scrolls in a box of its own; the keyboard must be able to reach it.
// Measuring takes long pages a while on a telephone: it is done for what comes near the reader.
(() => {
  const inline = "mjx-container:not([display])";
  const boxes =
    "pre, mjx-container[display], .cell_output, .cell_output .output, .pst-scrollable-table-container";
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
  document.addEventListener("contentvisibilityautostatechange", ({ target, skipped }) => {
    if (!skipped && target.matches(boxes)) measure([target]);
  });
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    measure([...near]);
  }).observe(document.body);
  document.fonts.addEventListener("loadingdone", () => measure([...near]));
})();
