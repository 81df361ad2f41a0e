// Typesets TeX with MathJax: reads [{tex, display}, …] on standard input, writes {html: […], css}.
// A formula that cannot be typeset, or that uses an unknown macro, comes back as {fault: message}.
const [folder, fonts] = process.argv.slice(2);

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
