"""The built pages in a real browser, from a server and from the disk."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.integrate import solve_ivp
from site_checks import faults_of_dark_mode, faults_of_links, faults_of_page

from lib.data import figure_one

ROOT = Path(__file__).resolve().parent.parent


def _files(entry):
    if isinstance(entry, dict):
        yield from (entry[key] for key in ("root", "file") if key in entry)
        entry = entry.values()
    if not isinstance(entry, str | bool):
        for child in entry:
            if not isinstance(child, str | bool):
                yield from _files(child)


PAGES = [*_files(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))), "genindex", "search"]


def test_the_book_builds_without_a_warning(build):
    assert build.returncode == 0, build.stderr[-5000:]


@pytest.mark.parametrize("page", PAGES)
def test_page_from_a_server(browser, server, page):
    assert faults_of_page(browser, f"{server}/{page}.html", server) == []


@pytest.mark.parametrize("page", PAGES)
def test_page_from_the_disk(browser, site, page):
    assert faults_of_page(browser, f"{site.as_uri()}/{page}.html", site.as_uri(), quick=True) == []


def test_dark_mode(browser, server):
    assert faults_of_dark_mode(browser, f"{server}/{PAGES[0]}.html") == []


@pytest.mark.parametrize("start", ["server", "disk"])
def test_search_finds_a_page(browser, server, site, start):
    address = server if start == "server" else site.as_uri()
    page = browser.new_page()
    page.goto(f"{address}/search.html?q=notation")
    page.locator("#search-results li a").first.wait_for(timeout=10_000)
    page.close()


def test_links_lead_somewhere(site):
    assert faults_of_links(site) == []


def test_only_the_exercises_are_published_as_notebooks(site):
    assert not (site / "_sources").exists()
    for path in site.rglob("*.ipynb"):  # exercises may be downloaded, and nothing else
        assert path.read_text("utf-8") == (ROOT / "exercises" / path.name).read_text("utf-8")


def _numbers(text: str) -> list[float]:
    return [float(word.replace("−", "-")) for word in re.findall(r"[−-]?\d+(?:\.\d+)?", text)]


@pytest.fixture
def explorable(browser, site):
    """Opens a page at one explorable: its element, with the page behind it."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})

    def opened(chapter: str, name: str):
        page.goto(f"{site.as_uri()}/book/{chapter}.html")
        figure = page.locator(f"#{name}")
        figure.scroll_into_view_if_needed()
        figure.locator(".explore-canvas svg").wait_for()
        return figure

    yield opened
    page.close()


def _slope(x, y):
    return np.polyfit(x, y, 1)[0]


def test_leverage_explorable_shows_what_refitting_gives(explorable):
    figure = explorable("02_influence_functions", "explore-leverage")
    control, readout = figure.locator("input"), figure.locator("output")
    x, y = (t.numpy().copy() for t in figure_one())
    told = set()
    for steps in (0, 5, 20):
        control.focus()
        for _ in range(steps):
            figure.page.keyboard.press("ArrowRight")
        index = int(control.input_value())
        x[-1] = np.linspace(0.5, 30, 60)[index]
        leverage = 1 / len(x) + (x[-1] - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
        change = _slope(x[:-1], y[:-1]) - _slope(x, y)
        shown = _numbers(readout.inner_text())
        assert shown[0] == pytest.approx(leverage, abs=0.006)
        assert shown[1] == pytest.approx(change, abs=6e-4)
        assert shown[2] == pytest.approx(change * (1 - leverage), abs=6e-4)
        told.add(readout.inner_text())
    assert len(told) == 3


def _drag(figure, right, down):
    """Drag the handle by so many pixels and let go; returns its box before and after."""
    before = figure.locator(".handle").bounding_box()
    x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    mouse = figure.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + right, y + down, steps=5)
    mouse.up()
    return before, figure.locator(".handle").bounding_box()


def test_dragging_the_handle_moves_the_control(explorable):
    figure = explorable("02_influence_functions", "explore-leverage")
    control = figure.locator("input")
    before = int(control.input_value())
    box, moved = _drag(figure, -60, 0)
    after = int(control.input_value())
    assert after < before
    assert moved["x"] == pytest.approx(box["x"] - 60, abs=6)
    figure.page.mouse.move(box["x"] + 60, box["y"], steps=3)  # let go: nothing follows any more
    assert int(control.input_value()) == after


def test_ab_explorable_shows_the_closed_form(explorable):
    figure = explorable("02b_curvature", "explore-ab")
    damping, anchor = figure.locator("input").all()
    for keys in ((), ("ArrowRight",) * 3, ("ArrowLeft",) * 5):
        for key in keys:
            for control in (damping, anchor):
                control.focus()
                figure.page.keyboard.press(key)
        a, b, lam, z, on_ab, _, on_square = _numbers(
            figure.locator("output").inner_text().replace("a²", "a squared")
        )
        length = a * a + b * b
        assert a * b == pytest.approx(2, rel=0.02)
        assert on_ab == pytest.approx((z - 2) * length / (3 * length + lam), rel=0.02)
        assert on_square == pytest.approx(4 * (z - 2) / (3 * length + lam), rel=0.02)


def _press(figure, *keys):
    """Press keys on the controls in turn: one string of keys for each, '+' right, '-' left."""
    for control, pressed in zip(figure.locator("input").all(), keys, strict=True):
        control.focus()
        for key in pressed:
            figure.page.keyboard.press("ArrowRight" if key == "+" else "ArrowLeft")


def _plane(low, high, points):
    axis = np.linspace(low, high, points)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


def _weighted(energy):
    mass = np.exp(energy.min() - energy)
    return mass / mass.sum()


def test_bif_explorable_shows_the_mean_of_a_new_posterior(explorable):
    figure = explorable("03_bayesian_influence", "explore-bif")
    x = np.random.default_rng(5).standard_normal((6, 2)) @ [[1.0, 0.5], [-0.3, 1.2]]
    y = np.array([1.0, -1, 1, 1, -1, 1])
    w = _plane(-11, 11, 301)
    losses = np.logaddexp(0, -y * (w @ x.T))
    phi = 1 / (1 + np.exp(-w @ [1.1, 0.4]))

    def mean(beta):
        return _weighted(losses @ beta + 0.2 * (w**2).sum(1)) @ phi

    for keys in (("", ""), ("++", "---"), ("-", "++++++++++")):
        _press(figure, *keys)
        example, weight, shown, predicted, bif = _numbers(figure.locator("output").inner_text())
        e = np.eye(6)[int(example) - 1]
        slope = (mean(1 + 1e-3 * e) - mean(1 - 1e-3 * e)) / 2e-3
        assert shown == pytest.approx(mean(1 + (weight - 1) * e), abs=6e-4)
        assert bif == pytest.approx(slope, abs=6e-5)
        assert predicted == pytest.approx(mean(np.ones(6)) + slope * (weight - 1), abs=6e-4)


def test_draws_explorable_converges_at_a_small_step_only(explorable):
    figure = explorable("03b_sampling", "explore-draws")
    off = {}
    for keys in (("", "+++++++"), ("++", "")):
        _press(figure, *keys)
        draws, step, gap, error = _numbers(figure.locator("output").inner_text())
        assert draws == 64 * 300
        off[step] = gap / error
    assert off[0.005] < 3 < off[0.04]


def test_hyperbola_explorable_shows_what_a_grid_gives(explorable):
    figure = explorable("03d_power_series", "explore-hyperbola")
    z = np.array([0.4, 1.1, 1.9, 2.4, 3.2])
    w = _plane(-8, 10, 451)
    a, b = w.T
    losses = 0.5 * (z[:, None] - a * b) ** 2
    for keys in (("", "", ""), ("+", "-", "++"), ("--", "++", "----")):
        _press(figure, *keys)
        text = figure.locator("output").inner_text()
        at, other, gamma, kappa, ab, damped_ab, square, damped_square = _numbers(text)
        anchor = np.array([at, z.mean() / at])
        assert other == pytest.approx(anchor[1], abs=6e-3)
        mass = _weighted(kappa * losses.sum(0) + gamma / 2 * ((w - anchor) ** 2).sum(1))
        centred = losses[-1] - mass @ losses[-1]
        assert ab == pytest.approx(-kappa * mass @ (centred * a * b), abs=2e-3)
        assert square == pytest.approx(-kappa * mass @ (centred * a * a), abs=4e-3)
        length, pull = anchor @ anchor, z[-1] - z.mean()
        below = 5 * length + gamma / kappa
        assert damped_ab == pytest.approx(pull * length / below, abs=2e-3)
        assert damped_square == pytest.approx(2 * z.mean() * pull / below, abs=4e-3)


def test_sliding_the_anchor_follows_the_hyperbola(explorable):
    figure = explorable("03d_power_series", "explore-hyperbola")
    control = figure.locator("input").last
    before = int(control.input_value())
    box, moved = _drag(figure, -70, -120)
    assert int(control.input_value()) < before and moved["y"] < box["y"] - 10


def test_shift_explorable_shows_the_divergence_of_two_densities(explorable):
    figure = explorable("03e_transport", "explore-shift")
    x, y = np.array([-0.8, 0.3, 0.9, 1.4, 0.5]), np.array([1.0, 1, 2, 3, 4])
    w = np.linspace(-6, 5, 200001)
    losses = np.exp(np.outer(w, x)) - np.outer(w, x) * y
    new = losses @ np.array([1, 1, 1, 1, 0.5])
    rates = np.exp(w[losses.sum(1).argmin()] * x)
    pull = x[-1] * (rates[-1] - y[-1]) / (x * x * rates).sum()  # H⁻¹∇L_k at the minimum
    for keys in (("", ""), ("+", "----"), ("-", "--------")):
        _press(figure, *keys)
        kappa, r, shown, best = _numbers(figure.locator("output").inner_text().replace("κ", ""))
        p, target = _weighted(kappa * losses.sum(1)), _weighted(kappa * new)
        log_ratio = np.log(p + 1e-300) - np.log(np.interp(w + 0.5 * r, w, target) + 1e-300)
        assert shown == pytest.approx(p @ log_ratio, abs=2e-3)
        assert best == pytest.approx(pull, abs=6e-4)


def test_sight_explorable_shows_what_a_doubled_step_leaves(explorable):
    figure = explorable("04_unrolling", "explore-sight")
    rng = np.random.default_rng(4)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    x = rng.standard_normal((12, 2)) * [1.3, 0.5] @ turn.T
    y = x @ (turn @ [1.0, 1.6]) + 0.2 * rng.standard_normal(12)
    y[1] += 2.5

    def end(doubled):
        w = turn @ [-1.0, -0.8]
        for t in range(60):
            pulls = (y - x @ w)[:, None] * x
            w = w + 0.04 / 12 * (pulls.sum(0) + (t == doubled) * pulls[1])
        return w

    for keys in ("", "------", "+" * 30):
        _press(figure, keys)
        t, _, steep, flat = _numbers(figure.locator("output").inner_text())
        shift = np.linalg.eigh(x.T @ x)[1].T @ (end(t) - end(-1))
        assert (flat, steep) == pytest.approx(abs(shift), abs=6e-5)


def test_replay_explorable_counts_as_a_recursion_does(explorable):
    figure = explorable("04b_replay", "explore-replay")

    def steps_below(length, k):  # below the root each node is run to its last child
        if length == 1:
            return 0
        width = -(-length // k)
        starts = range(0, length, width)
        inner = sum(steps_below(min(width, length - start), k) for start in starts)
        return starts[-1] + inner

    for keys in (("", ""), ("-", ""), ("++", "")):
        _press(figure, *keys)
        text = figure.locator("output").inner_text()
        k, done, seen, many, kept, in_all, _ = _numbers(text)
        width = -(-32 // int(k))
        saved = range(0, 32, width)[-1]  # the first run laid the root's children down already
        assert in_all == done == 32 + steps_below(32, int(k)) - saved
        assert (seen, many, kept) == (33, 33, 0)


def test_filters_explorable_compares_two_dampings(explorable):
    figure = explorable("04c_source", "explore-filters")
    sigma = np.logspace(-3, 2, 101)
    for keys in (("", ""), ("+", "+"), ("--", "+++")):
        _press(figure, *keys)
        effort, _, crossover, damping, worst = _numbers(figure.locator("output").inner_text())
        ratio = (1 - np.exp(-effort * sigma)) / sigma * (sigma + damping)
        assert crossover == pytest.approx(1 / effort, rel=0.01)
        assert worst == pytest.approx(max(ratio.max(), 1 / ratio.min()), abs=6e-3)


def test_long_run_explorable_tends_to_minus_the_influence(explorable):
    figure = explorable("04d_convergence", "explore-longrun")
    for keys in (("", ""), ("-", "++"), ("++", "---")):
        _press(figure, *keys)
        effort, first, second, *_, limit = _numbers(figure.locator("output").inner_text())
        low = 0.35 / limit
        assert first == pytest.approx(1 - np.exp(-effort), abs=6e-3)
        assert second == pytest.approx(limit * (1 - np.exp(-low * effort)), rel=0.01)
    _press(figure, "++++", "+++++++++")
    effort, _, second = _numbers(figure.locator("output").inner_text())
    assert second == pytest.approx(0.35 * effort, rel=0.01)  # a flat direction: no limit


def test_zoo_explorable_shows_what_a_network_answers(explorable):
    figure = explorable("04e_stagewise", "explore-zoo")

    def weights(matrix, t):  # of the network itself, by its gradient flow
        def slope(_, state):
            first, second = state.reshape(2, 2, 2)
            pull = matrix - second @ first
            return np.concatenate([(second.T @ pull).ravel(), (pull @ first.T).ravel()])

        start = np.tile(1e-3**0.5 * np.eye(2), (2, 1)).ravel()
        end = solve_ivp(slope, (0, t), start, "DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
        first, second = end.reshape(2, 2, 2)
        return second @ first

    for keys, s2, delta in (
        (("", "", ""), 1.0, 0.5),
        (("+", "-", "++++"), 1.8, 0.25),
        (("--", "++", "++"), 0.5, 0.75),
    ):
        _press(figure, *keys)
        text = figure.locator("output").inner_text()
        t, total, strengths, rotation = _numbers(text)
        t = min(np.linspace(0.02, 6, 46), key=lambda moment: abs(moment - t))
        s, dog, cat = np.diag([3, s2]), np.array([1, delta]), np.array([1, -delta])
        push = np.outer(s @ dog, dog)
        slope = (weights(s + 1e-3 * push, t) - weights(s - 1e-3 * push, t)) / 2e-3
        influence = -(s @ cat - weights(s, t) @ cat) @ slope @ cat
        assert total == pytest.approx(influence, rel=2e-3, abs=1e-3)
        assert total == pytest.approx(strengths + rotation, abs=2e-3)
        assert ("helps" in text) == (total < 0)


def test_runs_explorable_tells_the_correlation_it_draws(explorable):
    figure = explorable("05_practice", "explore-runs")
    seen = {}
    for pressed in ("", "++++", "+++++"):
        _press(figure, pressed)
        many, found, error = _numbers(figure.locator("output").inner_text())
        dots = figure.locator("svg circle").evaluate_all(
            "all => all.map(c => [+c.getAttribute('cx'), +c.getAttribute('cy')])"
        )
        x, y = np.array(dots[:200]).T  # the examples; the dot on the other panel comes after
        assert -np.corrcoef(x, y)[0, 1] == pytest.approx(found, abs=2e-3)
        seen[many] = found, error
    assert list(seen) == [1, 8, 100]
    assert [found for found, _ in seen.values()] == sorted(found for found, _ in seen.values())
    assert seen[8][1] / seen[100][1] == pytest.approx((100 / 8) ** 0.5, rel=0.15)


def test_copies_explorable_shows_what_refitting_gives(explorable):
    figure = explorable("05b_entangled", "explore-copies")
    x, y = (t.numpy()[:-1] for t in figure_one())
    for keys in (("", ""), ("+", "-"), ("---", "+")):
        _press(figure, *keys)
        text = figure.locator("output").inner_text()
        copies, gone, slope, _, alone, first = _numbers(text)
        whole = np.append(x, [9.0] * int(copies)), np.append(y, [0.5] * int(copies))

        def without(m, whole=whole):
            kept = len(whole[0]) - int(m)
            return _slope(whole[0][:kept], whole[1][:kept])

        leverage = 1 / len(whole[0]) + (9 - whole[0].mean()) ** 2 / len(whole[0]) / whole[0].var()
        one = without(1) - without(0)
        assert slope == pytest.approx(without(gone), abs=6e-4)
        assert alone == pytest.approx(without(0) + gone * one, abs=6e-4)
        assert first == pytest.approx(without(0) + gone * one * (1 - leverage), abs=6e-4)


def test_metric_explorable_shows_two_inner_products(explorable):
    figure = explorable("05c_similarity", "explore-metric")
    ahead = []
    for pressed in ("", "++++++++++", "++++++++"):
        _press(figure, pressed)
        text = figure.locator("output").inner_text()
        damping, p, q = _numbers(text)
        inverse = np.linalg.inv(np.array([[4, 1.6], [1.6, 0.9]]) + damping * np.eye(2))
        assert p == pytest.approx([0.95, 0.55] @ inverse @ [1.05, 0.5], rel=0.01)
        assert q == pytest.approx([0.95, 0.55] @ inverse @ [0.1, 0.85], rel=0.01)
        ahead.append(re.search(r"([AB]) has more influence", text)[1])
    assert ahead[0] == "B" and ahead[-1] == "A"


GOOD_PAGE = """<!doctype html><html lang="en"><head><title>A page</title></head><body>
<main><article><h1 id="top">A page</h1><p>Some text.</p>
<img alt="A dot" src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E">
</article></main><script>
document.documentElement.dataset.theme = "light";
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  document.documentElement.dataset.theme = "dark";
});
</script></body></html>"""


@pytest.mark.parametrize(
    ("harm", "reported"),
    [
        (None, None),
        (("<p>", "<img alt='x' src='https://example.org/x.png'><p>"), "request: https://example"),
        (("<p>", "<img alt='x' src='missing.png'><p>"), "failed: "),
        (("alt=", "title="), "alt: "),
        (("Some", "Here $$ x"), "raw TeX: "),
        (("Some", "Here \\(x\\)"), "raw TeX: "),
        (("<p>", "<h3>Too deep</h3><p>"), "headings: H3"),
        (("<p>", "<p style='color: #aaa'>"), "axe: color-contrast"),
        (("</script>", "</script><style>[data-theme=dark] p { color: #ddd }</style>"), "dark: axe"),
        (("<h1", "<h1>Twice</h1><h1"), "headings: 2"),
        (("<p>", "<p style='width: 400px; background: red'>"), "overflow at 360"),
        (("<p>", "<script>nothing()</script><p>"), "script: "),
        (("<p>", "<script>console.error('oh')</script><p>"), "console: oh"),
    ],
)
def test_a_bad_page_is_reported(browser, tmp_path, harm, reported):
    html = GOOD_PAGE.replace(*harm, 1) if harm else GOOD_PAGE
    (tmp_path / "page.html").write_text(html, "utf-8")
    faults = faults_of_page(browser, f"{tmp_path.as_uri()}/page.html", tmp_path.as_uri())
    assert any(fault.startswith(reported) for fault in faults) if harm else faults == []


def test_a_bad_link_is_reported(tmp_path):
    (tmp_path / "page.html").write_text("<a href='no.html'>a</a><a id='a' href='#b'>b</a>", "utf-8")
    assert faults_of_links(tmp_path) == [
        "page.html: no file no.html",
        "page.html: no place #b",
    ]
