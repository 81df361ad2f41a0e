// What is wider than the page scrolls in a box of its own; the keyboard must be able to reach it.
(() => {
  const formulas = [...document.querySelectorAll("mjx-container:not([display])")];
  const boxes = [...document.querySelectorAll(
    "mjx-container[display], .cell_output, .cell_output .output, .pst-scrollable-table-container",
  )];
  const reachable = (box, wide) => {
    if (wide) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  function measure() {
    const wide = formulas.map((formula) => {
      const room = formula.closest("p, li, td, th, dd, figcaption, h1, h2, h3, div").clientWidth;
      return Math.max(formula.scrollWidth, formula.getBoundingClientRect().width) > room + 1;
    });
    const scrolls = boxes.map((box) => box.scrollWidth > box.clientWidth);
    formulas.forEach((formula, k) => {
      formula.classList.toggle("wide", wide[k]);
      reachable(formula, wide[k]);
    });
    boxes.forEach((box, k) => reachable(box, scrolls[k]));
  }
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    measure();
  }).observe(document.body);
  document.fonts.ready.then(measure);
})();
