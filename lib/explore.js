// Draws one explorable: axes and marks in SVG from numbers that lib computed, redrawn when a range
// control moves or the handle is dragged. No dependencies; works on a static page and in Jupyter.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const make = (name, attributes, parent, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  };

  const ticks = ([low, high], most) => {
    const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((k) => k * power >= raw) * power;
    const out = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) {
      out.push(Number((k * step).toPrecision(6)));
    }
    return out;
  };
  const shown = (value) => String(value).replace("-", "−");

  function start(root) {
    const spec = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const canvas = root.querySelector(".explore-canvas");
    const readout = root.querySelector("output");
    const inputs = [...root.querySelectorAll("input[type=range]")];
    const index = () =>
      inputs.reduce((at, input, k) => at * spec.controls[k].values.length + Number(input.value), 0);
    let scales = [];

    function panel(svg, description, marks, left, top, width, height) {
      const pad = { left: 56, right: 12, top: description.title ? 26 : 12, bottom: 40 };
      const x0 = left + pad.left, x1 = left + width - pad.right;
      const y0 = top + height - pad.bottom, y1 = top + pad.top;
      const fx = (v) => x0 + ((v - description.x[0]) / (description.x[1] - description.x[0])) * (x1 - x0);
      const fy = (v) => y0 - ((v - description.y[0]) / (description.y[1] - description.y[0])) * (y0 - y1);
      const clip = `${root.id}-${scales.length}`;
      make("rect", { x: x0, y: y1, width: x1 - x0, height: y0 - y1 },
        make("clipPath", { id: clip }, svg));
      make("path", { class: "axis", d: `M${x0},${y1}V${y0}H${x1}` }, svg);
      for (const t of ticks(description.x, Math.max(3, (x1 - x0) / 75))) {
        make("line", { class: "axis", x1: fx(t), x2: fx(t), y1: y0, y2: y0 + 4 }, svg);
        make("text", { x: fx(t), y: y0 + 16, "text-anchor": "middle" }, svg, shown(t));
      }
      for (const t of ticks(description.y, Math.max(3, (y0 - y1) / 55))) {
        make("line", { class: "axis", x1: x0 - 4, x2: x0, y1: fy(t), y2: fy(t) }, svg);
        make("text", { x: x0 - 7, y: fy(t) + 4, "text-anchor": "end" }, svg, shown(t));
      }
      make("text", { class: "label", x: (x0 + x1) / 2, y: y0 + 34, "text-anchor": "middle" }, svg,
        description.xlabel);
      make("text", { class: "label", "text-anchor": "middle",
        transform: `translate(${left + 11},${(y0 + y1) / 2}) rotate(-90)` }, svg, description.ylabel);
      if (description.title) {
        make("text", { class: "title", x: x0, y: top + 15 }, svg, description.title);
      }
      const group = make("g", { "clip-path": `url(#${clip})` }, svg);
      for (const mark of [...description.marks, ...marks]) {
        if (mark.kind === "line") {
          const d = mark.x.map((v, k) => `${k ? "L" : "M"}${fx(v).toFixed(1)},${fy(mark.y[k]).toFixed(1)}`);
          make("path", { class: `line ${mark.role}`, d: d.join("") }, group);
        } else if (mark.kind === "points") {
          mark.x.forEach((v, k) => make("circle",
            { class: `point ${mark.role}`, cx: fx(v), cy: fy(mark.y[k]), r: mark.size }, group));
        } else {
          make("text", { class: `note ${mark.role}`, x: fx(mark.x) + 8, y: fy(mark.y) - 8 }, svg, mark.text);
        }
      }
      return { fx, fy };
    }

    function draw() {
      const width = canvas.clientWidth;
      if (!width) return;
      const frame = spec.frames[index()];
      const columns = width < 560 ? 1 : spec.panels.length;
      const w = width / columns;
      const h = Math.min(Math.max(0.85 * w, 250), 360);
      const svg = make("svg", { width, height: h * Math.ceil(spec.panels.length / columns),
        role: "img", "aria-label": spec.alt });
      scales = [];
      spec.panels.forEach((description, k) => scales.push(panel(svg, description, frame.marks[k],
        (k % columns) * w, Math.floor(k / columns) * h, w, h)));
      if (frame.handle) {
        const { fx, fy } = scales[spec.handle_panel];
        const [x, y] = frame.handle;
        make("circle", { class: "handle", cx: fx(x), cy: fy(y), r: 11 }, svg);
      }
      canvas.replaceChildren(svg);
      readout.textContent = frame.readout;
      inputs.forEach((input, k) => {
        const text = spec.controls[k].labels[Number(input.value)];
        input.setAttribute("aria-valuetext", text);
        input.nextElementSibling.textContent = text;
      });
    }

    // A drag picks the frame whose handle lies nearest to the pointer; other controls stay put.
    const last = inputs.length - 1;
    function drag(event) {
      const box = canvas.getBoundingClientRect();
      const [px, py] = [event.clientX - box.left, event.clientY - box.top];
      const { fx, fy } = scales[spec.handle_panel];
      const many = spec.controls[last].values.length;
      const base = index() - Number(inputs[last].value);
      let best = 0, least = Infinity;
      for (let k = 0; k < many; k++) {
        const [x, y] = spec.frames[base + k].handle;
        const far = (fx(x) - px) ** 2 + (spec.drag === "x" ? 0 : (fy(y) - py) ** 2);
        if (far < least) [best, least] = [k, far];
      }
      if (Number(inputs[last].value) !== best) {
        inputs[last].value = best;
        draw();
      }
    }
    if (spec.frames[0].handle) {
      let held = false;
      canvas.addEventListener("pointerdown", (event) => {
        if (!event.target.classList.contains("handle")) return;
        held = true;
        canvas.setPointerCapture(event.pointerId);
        event.preventDefault();
      });
      canvas.addEventListener("pointermove", (event) => held && drag(event));
      for (const end of ["pointerup", "pointercancel"]) {
        canvas.addEventListener(end, () => { held = false; });
      }
    }
    inputs.forEach((input) => input.addEventListener("input", draw));
    new ResizeObserver(draw).observe(canvas);
    draw();
  }

  for (const root of document.querySelectorAll(".explore:not([data-started])")) {
    root.dataset.started = "yes";
    start(root);
  }
})();
