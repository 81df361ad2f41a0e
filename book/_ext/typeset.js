// Typesets TeX with MathJax: reads [{tex, display}, …] on standard input, writes {html: […], css}.
// A formula that cannot be typeset, or that uses an unknown macro, comes back as {fault: message}.
const [folder, fonts] = process.argv.slice(2);

const OPEN = new Set(["28", "5B", "7B", "27E8"]), CLOSE = new Set(["29", "5D", "7D", "27E9"]);

// Where a formula on a line of its own may be broken: between clauses, after a \\quad; in these
// between sides, before a relation; in these between terms, before a plus or minus. The parts are
// blocks within a line, one in another: a narrow page breaks between the largest first.
function breakable(math, adaptor) {
  const turns = (node) => { // 1 where a bracket opens, −1 where one closes, large or raised or not
    const kind = adaptor.kind(node), inner = adaptor.childNodes(node);
    if (/^mjx-m(sup|sub|subsup)$/.test(kind) || (kind === "mjx-TeXAtom" && inner.length === 1)) {
      return turns(inner[0]);
    }
    const [, letter] = (kind === "mjx-mo" && /class="mjx-c(\w+)/.exec(adaptor.innerHTML(node))) || [];
    return OPEN.has(letter) - CLOSE.has(letter);
  };
  const is = (node, tag, space) => node && adaptor.kind(node) === tag
    && (!space || adaptor.getAttribute(node, "space") === space);
  const isGap = (node) => is(node, "mjx-mstyle") && adaptor.childNodes(node).every((inner) =>
    is(inner, "mjx-mspace") && parseFloat(adaptor.getStyle(inner, "width")) >= 1);
  const levels = [
    (node, before) => isGap(node) || isGap(before),
    (node, _, sign) => is(node, "mjx-mo", "4") && !is(sign, "mjx-mo", "4"),
    (node, _, sign) => is(node, "mjx-mo", "3") && !is(sign, "mjx-mo", "4"),
  ];
  const split = (nodes, [starts, ...rest]) => {
    if (!starts) return nodes;
    const parts = [];
    let depth = 0, before = null, sign = null; // the latter is what stands before but spaces
    for (const node of nodes) {
      if (!parts.length || (depth === 0 && starts(node, before, sign))) parts.push([]);
      parts.at(-1).push(node);
      depth += turns(node);
      before = node;
      if (!is(node, "mjx-mstyle")) sign = node;
    }
    if (parts.length === 1) return split(nodes, rest);
    return parts.map((part) => {
      if (part.length === 1 && isGap(part[0])) return part[0];
      const inside = split(part, rest);
      return adaptor.node(inside === part ? "mjx-part" : "mjx-parts", {}, inside);
    });
  };
  const whole = [...adaptor.childNodes(math)];
  for (const node of whole) adaptor.remove(node);
  const parts = split(whole, levels);
  for (const part of parts) adaptor.append(math, part);
  if (parts !== whole) adaptor.addClass(math, "in-parts");
}

require(`${folder}/node-main.js`).init({
  loader: { load: ["adaptors/liteDOM", "input/tex-full", "output/chtml", "a11y/assistive-mml"] },
  tex: {
    packages: ["base", "ams", "newcommand", "boldsymbol", "mathtools", "textmacros", "unicode"],
    // MathJax would print its message in the page.
    formatError: (_jax, error) => { throw error; },
  },
  chtml: { fontURL: fonts, adaptiveCSS: true, matchFontHeight: false },
  startup: { typeset: false },
}).then((mathjax) => {
  const { adaptor } = mathjax.startup;
  const formulas = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const html = formulas.map(({ tex, display }) => {
    try {
      // em and ex stand for those of the text around, unknown here; the style sheet sets the size.
      const node = mathjax.tex2chtml(tex, { display, em: 16, ex: 8, containerWidth: 1e6 });
      if (display) breakable(adaptor.tags(node, "mjx-math")[0], adaptor);
      return adaptor.outerHTML(node);
    } catch (error) {
      return { fault: error.message };
    }
  });
  const css = adaptor.textContent(mathjax.chtmlStylesheet());
  process.stdout.write(JSON.stringify({ html, css }));
}).catch((error) => {
  process.stderr.write(String(error.stack || error));
  process.exitCode = 1;
});
