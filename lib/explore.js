// Draws one explorable: axes and marks in SVG from numbers that lib computed, redrawn when a range
// control moves or a handle is dragged. The drawing is that of explore.py, which leaves a still one
// in the page. No dependencies; works on a static page and in Jupyter.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const set = (node, attributes) => {
    for (const [key, value] of Object.entries(attributes)) {
      node.setAttribute(key, typeof value === "number" ? Number(value.toFixed(1)) : value);
    }
    return node;
  };
  const make = (name, attributes, parent, text) => {
    const node = set(document.createElementNS(SVG, name), attributes);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  };

  const within = (box, x, y) => // the panel, its edges included
    Math.abs(x - box.x - box.width / 2) <= box.width / 2 + 0.5
    && Math.abs(y - box.y - box.height / 2) <= box.height / 2 + 0.5;

  const ticks = ([low, high], most) => {
    const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
    const steps = [0.2, 0.5, 1, 2, 5, 10].map((k) => k * power);
    const count = (step) =>
      Math.floor((high + 1e-9) / step) - Math.ceil(low / step - 1e-9) + 1;
    let at = steps.findIndex((step) => step >= raw);
    if (count(steps[at]) < 3) at -= 1; // one number alone tells no scale
    const step = steps[at];
    const out = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) {
      const value = Number((k * step).toPrecision(6));
      out.push([value, String(value).replace("-", "−")]);
    }
    return out;
  };

  // Equal marks, and equal columns of numbers, are stored once.
  function unpacked(text) {
    const spec = JSON.parse(text);
    const all = spec.marks.map((mark) => mark.kind === "note" ? mark
      : { ...mark, x: spec.series[mark.x], y: spec.series[mark.y] });
    const look = (marks) => marks.map((k) => all[k]);
    for (const panel of spec.panels) panel.marks = look(panel.marks);
    for (const frame of spec.frames) frame.marks = frame.marks.map(look);
    return spec;
  }

  function start(root) {
    const spec = unpacked(root.querySelector("script[type='application/json']").textContent);
    const canvas = root.querySelector(".explore-canvas");
    const readout = root.querySelector("output");
    const said = root.querySelector("[role=status]");
    const rows = [...root.querySelectorAll(".explore-control")];
    const inputs = rows.map((row) => row.querySelector("input"));
    const draggable = spec.controls.map((c, k) => k).filter((k) => spec.controls[k].drag);
    const stride = (k) =>
      spec.controls.slice(k + 1).reduce((size, control) => size * control.values.length, 1);
    const index = () => inputs.reduce((at, input, k) => at + stride(k) * Number(input.value), 0);
    let scales = [], quiet;

    // What is grabbed stays while the picture under it is redrawn: a touch ends with its target.
    const svg = make("svg", {});
    const overlay = make("g", { class: "overlay" }, svg);
    const reaches = draggable.map(() => make("rect", { class: "reach" }, overlay));
    const cues = draggable.map((k) => {
      const cue = make("g", { class: "cue" }, overlay);
      for (const turn of { x: [0, 180], y: [90, 270], xy: [0, 90, 180, 270] }[spec.controls[k].drag]) {
        make("path", { d: "M13,-4.5L19,0L13,4.5", transform: `rotate(${turn})`, "data-turn": turn }, cue);
      }
      return cue;
    });
    const grips = draggable.map((k) =>
      make("circle", { class: "grip", "data-control": String(k), r: 22 }, overlay));
    canvas.replaceChildren(svg);

    function panel(svg, { x, y, xlabel, ylabel, title, xticks, yticks, marks: common }, marks,
      left, top, width, height) {
      const x0 = left + 56, x1 = left + width - 12;
      const y0 = top + height - 40, y1 = top + (title ? 26 : 12);
      const fx = (v) => x0 + ((v - x[0]) / (x[1] - x[0])) * (x1 - x0);
      const fy = (v) => y0 - ((v - y[0]) / (y[1] - y[0])) * (y0 - y1);
      const clip = `${root.id}-clip-${scales.length}`;
      const box = { x: x0, y: y1, width: x1 - x0, height: y0 - y1 };
      make("rect", box, make("clipPath", { id: clip }, svg));
      make("path", { class: "axis", d: `M${x0.toFixed(1)},${y1.toFixed(1)}V${y0.toFixed(1)}H${x1.toFixed(1)}` }, svg);
      for (const [t, text] of xticks ?? ticks(x, Math.max(3, (x1 - x0) / 75))) {
        make("line", { class: "axis", x1: fx(t), x2: fx(t), y1: y0, y2: y0 + 4 }, svg);
        make("text", { x: fx(t), y: y0 + 16, "text-anchor": "middle" }, svg, text);
      }
      for (const [t, text] of yticks ?? ticks(y, Math.max(3, (y0 - y1) / 55))) {
        make("line", { class: "axis", x1: x0 - 4, x2: x0, y1: fy(t), y2: fy(t) }, svg);
        make("text", { x: x0 - 7, y: fy(t) + 4, "text-anchor": "end" }, svg, text);
      }
      make("text", { class: "label", x: (x0 + x1) / 2, y: y0 + 34, "text-anchor": "middle" }, svg,
        xlabel);
      make("text", { class: "label", "text-anchor": "middle",
        transform: `translate(${(left + 11).toFixed(1)},${((y0 + y1) / 2).toFixed(1)}) rotate(-90)` },
        svg, ylabel);
      if (title) make("text", { class: "title", x: x0, y: top + 15 }, svg, title);
      const group = make("g", { "clip-path": `url(#${clip})` }, svg);
      const all = [...common, ...marks];
      const at = (mark, k) => `${fx(mark.x[k]).toFixed(1)},${fy(mark.y[k]).toFixed(1)}`;
      for (const mark of all.filter((m) => m.kind !== "note")) {
        const d = mark.x.map((_, k) => mark.kind === "points" ? `M${at(mark, k)}h0`
          : `${k ? "L" : "M"}${at(mark, k)}`).join("");
        const path = make("path", { class: `${mark.kind} ${mark.role}`, d }, group);
        if (mark.size) path.setAttribute("stroke-width", 2 * mark.size);
      }
      for (const { x: u, y: v, text, role, anchor, lift } of all.filter((m) => m.kind === "note")) {
        const aside = { start: 8, middle: 0, end: -8 }[anchor];
        make("text", { class: `note ${role}`, x: fx(u) + aside, y: fy(v) - lift,
          "text-anchor": anchor }, svg, text);
      }
      return { fx, fy, box };
    }

    function draw() {
      const width = canvas.clientWidth;
      if (!width) return;
      const frame = spec.frames[index()];
      const columns = width < 560 ? 1 : spec.panels.length;
      const w = width / columns;
      const h = Math.min(Math.max(0.85 * w, 250), 360);
      const height = h * Math.ceil(spec.panels.length / columns);
      set(svg, { width, height, viewBox: `0 0 ${width} ${height.toFixed(1)}` });
      const picture = make("g", {});
      scales = [];
      spec.panels.forEach((description, at) => {
        scales.push(panel(picture, description, frame.marks[at],
          (at % columns) * w, Math.floor(at / columns) * h, w, h));
        const { fx, fy, box } = scales[at];
        draggable.forEach((control, k) => {
          if (spec.controls[control].panel !== at) return;
          const [cx, cy] = [fx(frame.handles[k][0]), fy(frame.handles[k][1])];
          const seen = inputs[control].matches(":focus-visible") ? " focus" : "";
          make("circle", { class: `handle${seen}`, cx, cy, r: 9 }, picture);
          set(reaches[k], box);
          set(cues[k], { transform: `translate(${cx.toFixed(1)},${cy.toFixed(1)})` });
          for (const arrow of cues[k].children) { // none points out of the panel, over its numbers
            const way = (arrow.dataset.turn * Math.PI) / 180;
            const shown = within(box, cx + 20 * Math.cos(way), cy + 20 * Math.sin(way));
            arrow.style.display = shown ? "" : "none";
          }
          set(grips[k], { cx, cy });
        });
      });
      while (svg.firstChild !== overlay) svg.firstChild.remove();
      overlay.before(...picture.childNodes);
      readout.textContent = frame.readout;
      rows.forEach((row, k) => {
        const text = spec.controls[k].labels[Number(inputs[k].value)];
        inputs[k].setAttribute("aria-valuetext", text);
        row.querySelector(".explore-value").textContent = text;
      });
    }

    // Screen readers are told once the figure has come to rest, not at every step of a drag.
    function move(control, value) {
      inputs[control].value = value;
      changed();
    }
    function changed() {
      draw();
      clearTimeout(quiet);
      quiet = setTimeout(() => {
        said.textContent = readout.textContent;
        quiet = setTimeout(() => { said.textContent = ""; }, 4000);
      }, 500);
    }

    // A drag picks the frame whose handle lies nearest to the pointer; other controls stay put.
    let held = null, touched = false, aside = [0, 0];
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    function handle(control, value = Number(inputs[control].value)) {
      const { fx, fy } = scales[spec.controls[control].panel];
      const at = index() + (value - Number(inputs[control].value)) * stride(control);
      const [x, y] = spec.frames[at].handles[draggable.indexOf(control)];
      return [fx(x), fy(y)];
    }
    const apart = ([x, y], [u, v], drag) =>
      (drag === "y" ? 0 : (x - u) ** 2) + (drag === "x" ? 0 : (y - v) ** 2);
    function drag(control, event) {
      const to = place(event).map((v, k) => v + aside[k]);
      const far = spec.controls[control].values.map((_, k) =>
        apart(handle(control, k), to, spec.controls[control].drag));
      const best = far.indexOf(Math.min(...far));
      if (Number(inputs[control].value) !== best) move(control, best);
    }
    function nearest(event) { // the control that a press here, beside the handles, moves
      const [x, y] = place(event);
      const inside = draggable.filter((k) => within(scales[spec.controls[k].panel].box, x, y));
      const far = (k) => apart(handle(k), [x, y], spec.controls[k].drag);
      return inside.length ? inside.reduce((a, b) => (far(b) < far(a) ? b : a)) : null;
    }
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const grip = event.target.dataset.control;
      touched = event.pointerType === "touch" && grip === undefined; // perhaps to scroll the page
      if (touched) return;
      held = grip === undefined ? nearest(event) : Number(grip);
      if (held === null) return;
      aside = [0, 0];
      if (grip !== undefined) {
        const [from, at] = [place(event), handle(held)];
        aside = [at[0] - from[0], at[1] - from[1]];
      }
      canvas.setPointerCapture(event.pointerId);
      event.preventDefault();
      root.dataset.used = "yes";
      stop(held);
      inputs[held].focus({ preventScroll: true }); // from here the arrow keys go on
      drag(held, event);
    });
    canvas.addEventListener("touchstart", (event) => { // in SVG, touch-action alone does not hold
      if (event.target.dataset.control !== undefined) event.preventDefault();
    }, { passive: false });
    canvas.addEventListener("mousedown", (event) => held !== null && event.preventDefault());
    canvas.addEventListener("pointermove", (event) => held !== null && drag(held, event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => { held = null; });
    }
    canvas.addEventListener("pointercancel", () => { touched = false; });
    canvas.addEventListener("click", (event) => {
      const control = touched ? nearest(event) : null;
      touched = false;
      if (control === null) return;
      aside = [0, 0];
      root.dataset.used = "yes";
      drag(control, event);
    });

    // Nothing moves by itself; Play takes one step after another, without transitions.
    const timers = new Map();
    const pause = window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 300;
    function stop(control) {
      clearInterval(timers.get(control));
      if (timers.delete(control)) rows[control].querySelector("button").textContent = "▶ Play";
    }
    rows.forEach((row, k) => {
      const button = row.querySelector("button");
      if (!button) return;
      const input = inputs[k], last = spec.controls[k].values.length - 1;
      button.addEventListener("click", () => {
        if (timers.has(k)) return stop(k);
        button.textContent = "■ Stop";
        if (Number(input.value) === last) move(k, 0);
        timers.set(k, setInterval(() => {
          move(k, Number(input.value) + 1);
          if (Number(input.value) === last) stop(k);
        }, pause));
      });
    });

    inputs.forEach((input, k) => {
      input.addEventListener("input", () => {
        stop(k);
        root.dataset.used = "yes";
        changed();
      });
      input.addEventListener("focus", draw);
      input.addEventListener("blur", draw);
    });
    new ResizeObserver(draw).observe(canvas);
    draw();
  }

  // Until a figure is near it stays the picture that it is: pages open sooner.
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      start(target);
      target.dataset.started = "yes";
    }
  }, { rootMargin: "400px" });
  for (const root of document.querySelectorAll(".explore:not([data-seen])")) {
    root.dataset.seen = "yes";
    near.observe(root);
  }
})();
