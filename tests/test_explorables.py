"""The figures that move, in a browser: dragged, typed at, touched, printed, and without scripts.

What they tell is compared with numbers computed here by another route than lib's.
"""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.func import grad, jacrev, vmap

from lib.data import figure_one, small_digits
from lib.models import MLP

WINDOW = {"width": 1280, "height": 900}
ROOT = Path(__file__).resolve().parent.parent
FIGURES = {
    "explore-weight": "01_counterfactuals",
    "explore-leverage": "02_influence_functions",
    "explore-ab": "02b_curvature",
    "explore-bif": "03_bayesian_influence",
    "explore-draws": "03b_sampling",
    "explore-danger": "03c_network",
    "explore-hyperbola": "03d_power_series",
    "explore-shift": "03e_transport",
    "explore-sight": "04_unrolling",
    "explore-replay": "04b_replay",
    "explore-filters": "04c_source",
    "explore-longrun": "04d_convergence",
    "explore-zoo": "04e_stagewise",
    "explore-runs": "05_practice",
    "explore-copies": "05b_entangled",
    "explore-metric": "05c_similarity",
    "explore-ranking": "05d_comparison",
}


def test_every_figure_that_moves_is_tested():
    found = {}
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        for name in re.findall(
            r'<figure class=\\"explore\\" id=\\"(.*?)\\"', path.read_text("utf-8")
        ):
            found[name] = path.stem
    assert found == FIGURES


def _numbers(text: str) -> list[float]:
    return [float(word.replace("−", "-")) for word in re.findall(r"[−-]?\d+(?:\.\d+)?", text)]


@pytest.fixture
def opened(browser, site):
    """Opens a page at one figure, in a context with the given options: its element."""
    contexts = []

    def open_(name: str, **options):
        contexts.append(browser.new_context(**{"viewport": WINDOW} | options))
        page = contexts[-1].new_page()
        # Letters that arrive would push the figure.
        page.route("**/mathjax/**", lambda route: route.abort())
        page.goto(f"{site.as_uri()}/book/{FIGURES[name]}.html", wait_until="domcontentloaded")
        figure = page.locator(f"#{name}")
        figure.scroll_into_view_if_needed()
        if options.get("java_script_enabled", True):
            page.wait_for_selector(f"#{name}[data-started]")
        return figure

    yield open_
    for context in contexts:
        context.close()


def _readout(figure) -> str:
    return figure.locator("output").inner_text()


def _slope(x, y):
    return np.polyfit(x, y, 1)[0]


def test_leverage_explorable_shows_what_refitting_gives(opened):
    figure = opened("explore-leverage")
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


def test_dragging_the_handle_moves_the_control(opened):
    figure = opened("explore-leverage")
    control = figure.locator("input")
    before = int(control.input_value())
    box, moved = _drag(figure, -60, 0)
    after = int(control.input_value())
    assert after < before
    assert moved["x"] == pytest.approx(box["x"] - 60, abs=6)
    figure.page.mouse.move(box["x"] + 60, box["y"], steps=3)  # let go: nothing follows any more
    assert int(control.input_value()) == after


def test_ab_explorable_shows_the_closed_form(opened):
    figure = opened("explore-ab")
    damping, anchor = figure.locator("input").all()
    for keys in ((), ("ArrowRight",) * 3, ("ArrowLeft",) * 5):
        for key in keys:
            for control in (damping, anchor):
                control.focus()
                figure.page.keyboard.press(key)
        a, b, lam, z, on_ab, _, on_square = _numbers(_readout(figure).replace("a²", "a squared"))
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


def test_bif_explorable_shows_the_mean_of_a_new_posterior(opened):
    figure = opened("explore-bif")
    x = np.random.default_rng(5).standard_normal((6, 2)) @ [[1.0, 0.5], [-0.3, 1.2]]
    y = np.array([1.0, -1, 1, 1, -1, 1])
    w = _plane(-11, 11, 301)
    losses = np.logaddexp(0, -y * (w @ x.T))
    phi = 1 / (1 + np.exp(-w @ [1.1, 0.4]))

    def mean(beta):
        return _weighted(losses @ beta + 0.2 * (w**2).sum(1)) @ phi

    for keys in (("", ""), ("++", "---"), ("-", "++++++++++")):
        _press(figure, *keys)
        example, weight, shown, predicted, bif = _numbers(_readout(figure))
        e = np.eye(6)[int(example) - 1]
        slope = (mean(1 + 1e-3 * e) - mean(1 - 1e-3 * e)) / 2e-3
        assert shown == pytest.approx(mean(1 + (weight - 1) * e), abs=6e-4)
        assert bif == pytest.approx(slope, abs=6e-5)
        assert predicted == pytest.approx(mean(np.ones(6)) + slope * (weight - 1), abs=6e-4)


def test_draws_explorable_shows_what_another_sampler_finds(opened):
    figure = opened("explore-draws")
    z, anchor = np.array([0.4, 1.1, 1.9, 2.4, 3.2]), np.array([2.0, 0.9])

    def moments(w, mass):
        loss, square = 0.5 * (z[0] - w[:, 0] * w[:, 1]) ** 2, w[:, 0] ** 2
        return mass @ loss * (mass @ square) - mass @ (loss * square)

    w = _plane(-7, 10, 601)
    energy = 0.5 * ((z - w.prod(1)[:, None]) ** 2).sum(1) + 0.5 * ((w - anchor) ** 2).sum(1)
    exact = moments(w, _weighted(energy))

    def sampled(step, draws):  # one long run of a thousand chains
        rng, w, kept = np.random.default_rng(0), np.tile(anchor, (1000, 1)), []
        for t in range(150 + 4 * draws):
            slope = (5 * w.prod(1) - z.sum())[:, None] * w[:, ::-1] + w - anchor
            w = w - step / 2 * slope + step**0.5 * rng.standard_normal(w.shape)
            kept += [w] * (t >= 150 and t % 4 == 0)
        kept = np.concatenate(kept)
        return moments(kept, np.full(len(kept), 1 / len(kept)))

    off = {}
    for keys in (("", "+" * 10), ("++", "")):
        _press(figure, *keys)
        draws, step, _, value, error, shown, away = _numbers(_readout(figure))
        assert draws == 64 * 300
        assert shown == pytest.approx(exact, abs=2e-3)
        assert away == pytest.approx(abs(value - shown) / (error / 2), abs=0.1)
        assert value == pytest.approx(sampled(step, 300), abs=2 * error)
        off[step] = away
    assert off[0.005] < 3 < off[0.04]


def test_hyperbola_explorable_shows_what_a_grid_gives(opened):
    figure = opened("explore-hyperbola")
    z = np.array([0.4, 1.1, 1.9, 2.4, 3.2])
    w = _plane(-8, 10, 451)
    a, b = w.T
    losses = 0.5 * (z[:, None] - a * b) ** 2
    for keys in (("", "", ""), ("+", "-", "++"), ("--", "++", "----")):
        _press(figure, *keys)
        text = _readout(figure)
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


def test_sliding_the_anchor_follows_the_hyperbola(opened):
    figure = opened("explore-hyperbola")
    control = figure.locator("input").last
    before = int(control.input_value())
    box, moved = _drag(figure, -70, -120)
    assert int(control.input_value()) < before and moved["y"] < box["y"] - 10


def test_shift_explorable_shows_the_divergence_of_two_densities(opened):
    figure = opened("explore-shift")
    x, y = np.array([-0.8, 0.3, 0.9, 1.4, 0.5]), np.array([1.0, 1, 2, 3, 4])
    w = np.linspace(-6, 5, 200001)
    losses = np.exp(np.outer(w, x)) - np.outer(w, x) * y
    new = losses @ np.array([1, 1, 1, 1, 0.5])
    rates = np.exp(w[losses.sum(1).argmin()] * x)
    pull = x[-1] * (rates[-1] - y[-1]) / (x * x * rates).sum()  # H⁻¹∇L_k at the minimum
    for keys in (("", ""), ("+", "----"), ("-", "--------")):
        _press(figure, *keys)
        kappa, r, shown, best = _numbers(_readout(figure).replace("κ", ""))
        p, target = _weighted(kappa * losses.sum(1)), _weighted(kappa * new)
        log_ratio = np.log(p + 1e-300) - np.log(np.interp(w + 0.5 * r, w, target) + 1e-300)
        assert shown == pytest.approx(p @ log_ratio, abs=2e-3)
        assert best == pytest.approx(pull, abs=6e-4)


def test_sight_explorable_shows_what_a_doubled_step_leaves(opened):
    figure = opened("explore-sight")
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
        t, _, steep, flat = _numbers(_readout(figure))
        shift = np.linalg.eigh(x.T @ x)[1].T @ (end(t) - end(-1))
        assert (flat, steep) == pytest.approx(abs(shift), abs=6e-5)


def test_replay_explorable_counts_as_a_recursion_does(opened):
    figure = opened("explore-replay")

    def steps_below(length, k):  # below the root each node is run to its last child
        if length == 1:
            return 0
        width = -(-length // k)
        starts = range(0, length, width)
        inner = sum(steps_below(min(width, length - start), k) for start in starts)
        return starts[-1] + inner

    for keys in (("", ""), ("-", ""), ("++", "")):
        _press(figure, *keys)
        text = _readout(figure)
        k, done, seen, many, kept, in_all, _ = _numbers(text)
        width = -(-32 // int(k))
        saved = range(0, 32, width)[-1]  # the first run laid the root's children down already
        assert in_all == done == 32 + steps_below(32, int(k)) - saved
        assert (seen, many, kept) == (33, 33, 0)


def test_filters_explorable_compares_two_dampings(opened):
    figure = opened("explore-filters")
    sigma = np.logspace(-3, 2, 2001)
    for keys in (("", ""), ("+", "+"), ("--", "+++")):
        _press(figure, *keys)
        effort, _, crossover, damping, worst = _numbers(_readout(figure))
        ratio = (1 - np.exp(-effort * sigma)) / sigma * (sigma + damping)
        assert crossover == pytest.approx(1 / effort, rel=0.01)
        assert worst == pytest.approx(max(ratio.max(), 1 / ratio.min()), rel=0.01)


def test_long_run_explorable_tends_to_minus_the_influence(opened):
    figure = opened("explore-longrun")
    for keys in (("", ""), ("-", "++"), ("++", "---")):
        _press(figure, *keys)
        effort, first, second, *_, limit = _numbers(_readout(figure))
        low = 0.35 / limit
        assert first == pytest.approx(1 - np.exp(-effort), abs=6e-3)
        assert second == pytest.approx(limit * (1 - np.exp(-low * effort)), rel=0.01)
    _press(figure, "++++", "+++++++++")
    effort, _, second = _numbers(_readout(figure))
    assert second == pytest.approx(0.35 * effort, rel=0.01)  # a flat direction: no limit


def test_zoo_explorable_shows_what_a_network_answers(opened):
    figure = opened("explore-zoo")

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
        text = _readout(figure)
        t, total, strengths, rotation = _numbers(text)
        t = min(np.linspace(0.02, 6, 46), key=lambda moment: abs(moment - t))
        s, dog, cat = np.diag([3, s2]), np.array([1, delta]), np.array([1, -delta])
        push = np.outer(s @ dog, dog)
        slope = (weights(s + 1e-3 * push, t) - weights(s - 1e-3 * push, t)) / 2e-3
        influence = -(s @ cat - weights(s, t) @ cat) @ slope @ cat
        assert total == pytest.approx(influence, rel=2e-3, abs=1e-3)
        assert total == pytest.approx(strengths + rotation, abs=2e-3)
        assert ("helps" in text) == (total < 0)


def test_runs_explorable_tells_the_correlation_it_draws(opened):
    figure = opened("explore-runs")
    seen = {}
    for pressed in ("", "++++", "+++++"):
        _press(figure, pressed)
        many, found, error = _numbers(_readout(figure))
        cloud = figure.locator(".explore-canvas .points").first.get_attribute("d")
        x, y = np.array(re.findall(r"M([\d.]+),([\d.]+)h0", cloud), dtype=float).T
        assert len(x) == 200
        assert -np.corrcoef(x, y)[0, 1] == pytest.approx(found, abs=2e-3)
        seen[many] = found, error
    assert list(seen) == [1, 8, 100]
    assert [found for found, _ in seen.values()] == sorted(found for found, _ in seen.values())
    assert seen[8][1] / seen[100][1] == pytest.approx((100 / 8) ** 0.5, rel=0.15)


def test_copies_explorable_shows_what_refitting_gives(opened):
    figure = opened("explore-copies")
    x, y = (t.numpy()[:-1] for t in figure_one())
    for keys in (("", ""), ("+", "-"), ("---", "+")):
        _press(figure, *keys)
        text = _readout(figure)
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


def test_metric_explorable_shows_two_inner_products(opened):
    figure = opened("explore-metric")
    ahead = []
    for pressed in ("", "++++++++++", "++++++++"):
        _press(figure, pressed)
        text = _readout(figure)
        damping, p, q = _numbers(text)
        inverse = np.linalg.inv(np.array([[4, 1.6], [1.6, 0.9]]) + damping * np.eye(2))
        assert p == pytest.approx([0.95, 0.55] @ inverse @ [1.05, 0.5], rel=0.01)
        assert q == pytest.approx([0.95, 0.55] @ inverse @ [0.1, 0.85], rel=0.01)
        ahead.append(re.search(r"([AB]) has more influence", text)[1])
    assert ahead[0] == "B" and ahead[-1] == "A"


def test_weight_explorable_shows_what_another_library_fits(opened):
    figure = opened("explore-weight")
    data = load_digits()
    kept = np.isin(data.target, (3, 8))
    x = np.hstack([np.ones((kept.sum(), 1)), data.data[kept] / 16])
    y = np.where(data.target[kept] == 8, 1.0, -1.0)
    order = np.random.default_rng(0).permutation(len(x))
    seen, unseen = order[:257], order[257:]

    def fitted(weights, rows=seen):
        model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-9, max_iter=3000)
        return model.fit(x[rows], y[rows], sample_weight=weights).coef_[0]

    w = fitted(np.ones(257))
    hardest = unseen[(y[unseen] * (x[unseen] @ w)).argmin()]

    def loss(w):
        return np.logaddexp(0, -y[hardest] * (x[hardest] @ w))

    p = 1 / (1 + np.exp(y[seen] * (x[seen] @ w)))  # of the wrong answer
    bend = np.eye(65) + (x[seen] * (p * (1 - p))[:, None]).T @ x[seen]
    helpful = np.linalg.solve(bend, x[hardest]) @ (x[seen].T * (p * y[seen])) * y[hardest]
    top = np.argsort(-helpful)[:5]  # by influence; of these the most helpful by removal
    best = max(top, key=lambda i: loss(fitted(np.arange(257) != i)))
    rows = np.append(np.delete(seen, best), np.repeat(seen[best], 8))

    def after(k, one, every):
        weights = np.ones(256 + 8)
        weights[256:] = every * (np.arange(8) < k)
        weights[256] *= one
        return loss(fitted(weights, rows))

    for keys in (("", ""), ("++++", "+++++"), ("-", "-" * 30)):
        _press(figure, *keys)
        k, weight, one, by_one, every, by_every = (
            float(n) for n in re.findall(r"\d+(?:\.\d+)?", _readout(figure))
        )
        base = after(k, 1, 1)
        assert one == pytest.approx(after(k, weight, 1), abs=6e-4)
        assert every == pytest.approx(after(k, 1, weight), abs=6e-4)
        slope = (after(k, 1.01, 1) - after(k, 0.99, 1)) / 0.02
        assert by_one == pytest.approx(base + slope * (weight - 1), abs=1e-3)
        assert by_every == pytest.approx(base + k * slope * (weight - 1), abs=4e-3)


def test_danger_explorable_correlates_with_retraining(opened):
    figure = opened("explore-danger")
    pixels, labels = small_digits()
    order = np.random.default_rng(0).permutation(len(pixels))
    x, y, unseen = pixels[order[:200]], labels[order[:200]], order[200:500]

    def each(w, x, y):  # 16 → 8 → 10, the last column of each matrix is the bias
        first, second = w[:136].view(8, 17), w[136:].view(10, 9)
        hidden = torch.tanh(x @ first[:, :-1].T + first[:, -1])
        logits = hidden @ second[:, :-1].T + second[:, -1]
        return torch.nn.functional.cross_entropy(logits, y, reduction="none")

    start = MLP((16, 8, 10)).initial(torch.Generator().manual_seed(0))
    beta = torch.cat([torch.ones(1, 200), 1 - torch.eye(200)]).double()
    slopes = vmap(grad(lambda w, b: b @ each(w, x, y) / 200))
    w = start.expand(201, -1)
    for _ in range(100):
        w = w - 0.5 * slopes(w, beta)
    test = pixels[unseen], labels[unseen]
    query = each(w[0], *test).argsort(descending=True)[5]
    phi = vmap(lambda w: each(w, *test)[query])(w)
    effects = (phi[1:] - phi[0]).numpy()

    bend = jacrev(grad(lambda w: each(w, x, y).sum()))(w[0]).numpy()
    pulls = jacrev(lambda w: each(w, x, y))(w[0]).numpy()
    slope = grad(lambda w: each(w, *test)[query])(w[0]).numpy()
    for pressed in ("", "-----", "+" * 14):
        _press(figure, pressed)
        text = _readout(figure)
        damping, line, found, _ = _numbers(text.replace("Gauss–Newton", "GN"))
        lam = min(np.geomspace(1.5, 60, 28), key=lambda v, shown=damping: abs(v - shown))
        scores = pulls @ np.linalg.solve(bend + lam * np.eye(226), slope)
        assert line == pytest.approx(-np.linalg.eigvalsh(bend)[0], abs=6e-3)
        assert found == pytest.approx(np.corrcoef(scores, effects)[0, 1], abs=0.011)
        assert ("below" in text) == (damping < line)


def test_ranking_explorable_ranks_the_stored_table(opened):
    figure = opened("explore-ranking")
    with open(ROOT / "book" / "_data" / "comparison.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = figure.locator(".explore-canvas svg .note").all_text_contents()[:12]
    assert len(names) == 12
    seen = set()
    for keys in (("", ""), ("", "+++++"), ("++++", "--")):
        _press(figure, *keys)
        training, truth, method, value, place, first, best = re.match(
            r"(\w+) training, (.+): (.+) scores (.+) and takes place (\d+) of 12. "
            r"First is (.+) with (.+)\.$",
            _readout(figure),
        ).groups()
        means = {name: [] for name in names}
        for row in rows:
            if (row["training"], row["truth"]) == (training.lower(), truth):
                means.get(row["method"], []).append(float(row["lds"]))
        means = {name: np.mean(both) for name, both in means.items()}
        assert float(value) == pytest.approx(means[method], abs=6e-3)
        assert int(place) == 1 + sum(other > means[method] for other in means.values())
        assert (first, float(best)) == (max(means, key=means.get), round(max(means.values()), 2))
        seen.add((training, truth, method))
    assert len(seen) == 3


# --- the engine ----------------------------------------------------------------------------------

_ELEMENTS = r"""(canvas) => [...canvas.querySelectorAll("svg *")]
  .filter((e) => !e.closest(".overlay"))
  .map((e) => [e.tagName, ...[...e.attributes].map((a) => `${a.name}=${a.value}`).sort(),
    e.children.length ? "" : e.textContent].join(" "))"""
_WRITTEN = (
    "([html, name]) => ("
    + _ELEMENTS
    + r""")(
  new DOMParser().parseFromString(html, "text/html").querySelector(`#${name} .explore-canvas`))"""
)


_ARROWS = """(canvas) => [...canvas.querySelectorAll(".cue")].map((cue, k) => {
  const panel = canvas.querySelectorAll(".reach")[k].getBoundingClientRect();
  const shown = [...cue.children].map((a) => a.getBoundingClientRect()).filter((a) => a.width);
  return !shown.length ? "none" : shown.every((a) => a.left > panel.left - 3
    && a.right < panel.right + 3 && a.top > panel.top - 3 && a.bottom < panel.bottom + 3)
    ? "inside" : "over the edge"; })"""
"""Where the arrows beside each handle are, which say which way it can be dragged."""


def _parts(element: str):
    numbers = re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", element)
    return re.sub(r"-?\d+\.?\d*(?:e-?\d+)?", "#", element), [float(n) for n in numbers]


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_drawn_dragged_and_typed_at(opened, site, name):
    figure = opened(name)
    page, canvas = figure.page, figure.locator(".explore-canvas")

    # The browser draws what Python wrote into the page.
    canvas.evaluate("canvas => { canvas.style.width = '672px' }")
    figure.locator(".explore-canvas svg[width='672']").wait_for()
    html = (site / "book" / f"{FIGURES[name]}.html").read_text("utf-8")
    written = page.evaluate(_WRITTEN, [html, name])
    drawn = canvas.evaluate(_ELEMENTS)
    assert len(written) == len(drawn) > 20
    for one, other in zip(written, drawn, strict=True):
        (words, numbers), (same, close) = _parts(one), _parts(other)
        assert words == same
        assert numbers == pytest.approx(close, abs=0.11)
    canvas.evaluate("canvas => { canvas.style.width = '' }")
    assert set(canvas.evaluate(_ARROWS)) == {"inside"}

    # Every control obeys the keyboard, says what it does, and can be dragged back by its handle.
    grips = figure.locator(".grip")
    assert grips.count() > 0
    for k, control in enumerate(figure.locator("input").all()):
        control.focus()
        start = control.input_value()
        key = "Home" if int(start) > int(control.get_attribute("max")) / 2 else "End"
        grip = figure.locator(f".grip[data-control='{k}']")
        there = _centre(grip) if grip.count() else None
        before = _readout(figure), canvas.inner_html()
        page.keyboard.press(key)
        assert _readout(figure) != before[0] and canvas.inner_html() != before[1]
        shown = figure.locator(".explore-value").nth(k).inner_text()
        assert control.get_attribute("aria-valuetext") == shown
        if there:
            assert grip.bounding_box()["width"] >= 24
            page.mouse.move(*_centre(grip))
            page.mouse.down()
            page.mouse.move(*there, steps=3)
            page.mouse.up()
        else:
            for _ in range(int(control.get_attribute("max"))):
                if control.input_value() != start:
                    page.keyboard.press("ArrowRight" if key == "Home" else "ArrowLeft")
        assert control.input_value() == start
        assert _readout(figure) == before[0]


def _centre(element) -> tuple[float, float]:
    box = element.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_press_beside_the_handle_brings_it_there_and_keys_go_on(opened):
    figure = opened("explore-ab")
    page = figure.page
    damping, anchor = figure.locator("input").all()
    assert figure.locator(".cue").first.is_visible()
    x, y = _centre(figure.locator(".grip[data-control='0']"))
    still = anchor.input_value()
    page.mouse.click(x - 60, y + 50)
    assert _centre(figure.locator(".grip[data-control='0']"))[0] == pytest.approx(x - 60, abs=12)
    assert anchor.input_value() == still
    assert not figure.locator(".cue").first.is_visible()  # it has been understood
    before = int(damping.input_value())
    page.keyboard.press("ArrowRight")
    assert int(damping.input_value()) == before + 1


def test_focus_shows_on_the_control_and_on_its_handle(opened):
    figure = opened("explore-ab")
    figure.locator("input").first.focus()
    figure.page.keyboard.press("Tab")
    anchor = figure.locator("input").last
    assert anchor.evaluate("e => e === document.activeElement")
    assert anchor.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    focused = figure.locator(".handle.focus")
    assert focused.count() == 1
    assert _centre(focused) == pytest.approx(_centre(figure.locator(".grip[data-control='1']")))


def test_screen_readers_hear_the_end_of_a_drag_only(opened):
    figure = opened("explore-leverage")
    said = figure.locator("[role=status]")
    said.evaluate(
        """e => {
          window.heard = [];
          new MutationObserver(() => heard.push(e.textContent)).observe(e, {childList: true});
        }"""
    )
    _drag(figure, -100, 0)
    figure.page.wait_for_function("window.heard.length > 0")
    assert figure.page.evaluate("window.heard") == [_readout(figure)]
    assert figure.locator("output").get_attribute("aria-live") == "off"


@pytest.mark.parametrize("name", ["explore-leverage", "explore-draws"])
def test_without_scripts_there_is_a_picture_and_what_it_says(opened, name):
    still = opened(name, java_script_enabled=False)
    moving = opened(name)
    assert _readout(still) == _readout(moving) != ""
    for selector in (".line", ".points", "text", ".explore-legend li"):
        assert still.locator(selector).count() == moving.locator(selector).count() > 0
    assert still.locator(".explore-canvas svg").first.is_visible()
    values = still.locator(".explore-value")
    assert values.all_inner_texts() == moving.locator(".explore-value").all_inner_texts()
    for dead in still.locator("input, button").all():  # they would do nothing
        assert not dead.is_visible()
    for width in (1280, 768, 360):  # nothing below a figure moves when it wakes
        heights = []
        for figure in (still, moving):
            figure.page.set_viewport_size({"width": width, "height": 900})
            heights.append(figure.bounding_box()["height"])
        assert heights[0] == pytest.approx(heights[1], abs=1)


@pytest.mark.parametrize("scripts", [True, False])
def test_on_paper_the_picture_stays_and_the_controls_go(opened, scripts):
    figure = opened("explore-draws", java_script_enabled=scripts)
    page = figure.page
    page.emulate_media(media="print", color_scheme="dark")
    for there in (
        ".explore-canvas svg >> nth=0",
        "output",
        ".explore-legend",
        ".explore-value >> nth=0",
    ):
        assert figure.locator(there).is_visible()
    for gone in figure.locator("input, button, .cue").all():
        assert not gone.is_visible()
    page.evaluate("document.documentElement.dataset.theme = 'dark'") if scripts else None
    paint = figure.locator(".explore-canvas text").first
    assert paint.evaluate("e => getComputedStyle(e).fill") == "rgb(31, 35, 40)"  # dark on white
    page.set_viewport_size({"width": 500, "height": 900})
    width = "e => e.querySelector('svg').getBoundingClientRect().width"
    assert 200 < figure.locator(".explore-canvas").evaluate(width) <= 500


@pytest.mark.parametrize("calm", [True, False])
def test_nothing_moves_until_play_is_pressed(opened, calm):
    figure = opened("explore-zoo", reduced_motion="reduce" if calm else "no-preference")
    page, control = figure.page, figure.locator("input").last
    page.clock.install()
    page.reload()
    figure.scroll_into_view_if_needed()
    start = int(control.input_value())
    page.clock.run_for(5000)
    assert int(control.input_value()) == start
    button = figure.get_by_role("button")
    button.click()
    page.clock.run_for(1250)
    assert int(control.input_value()) == start + (1 if calm else 4)
    assert (
        page.evaluate("document.querySelector('#explore-zoo').getAnimations({subtree: true})") == []
    )
    assert "Stop" in button.inner_text()
    button.click()
    page.clock.run_for(5000)
    assert int(control.input_value()) == start + (1 if calm else 4)
    button.click()
    page.clock.run_for(60_000)  # to the end, and there it stops
    assert control.input_value() == control.get_attribute("max")
    assert "Play" in button.inner_text()


def test_touch(opened):
    figure = opened("explore-leverage", viewport={"width": 360, "height": 740}, has_touch=True)
    page, control = figure.page, figure.locator("input")
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    to_the_middle = "e => e.scrollIntoView({block: 'center'})"
    figure.locator(".explore-canvas").evaluate(to_the_middle)
    touch = page.context.new_cdp_session(page)

    def swipe(x, y, right, down):
        def send(kind, *at):
            points = [{"x": u, "y": v} for u, v in at]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        send("touchStart", (x, y))
        for k in range(1, 9):
            send("touchMove", (x + right * k / 8, y + down * k / 8))
        send("touchEnd")

    x, y = _centre(figure.locator(".grip"))
    scrolled = page.evaluate("scrollY")
    swipe(x + 15, y + 8, -50, -60)  # a thumb beside the ring still has it
    assert _centre(figure.locator(".grip"))[0] == pytest.approx(x - 50, abs=5)
    assert page.evaluate("scrollY") == scrolled

    before = control.input_value()
    swipe(x + 40, y + 60, 0, -120)  # elsewhere in the panel the page scrolls, and nothing moves
    page.wait_for_function("from => scrollY > from + 40", arg=scrolled)
    assert control.input_value() == before

    page.wait_for_timeout(500)  # until the page has come to rest
    figure.locator(".explore-canvas").evaluate(to_the_middle)
    x, y = _centre(figure.locator(".grip"))
    page.touchscreen.tap(x + 60, y + 30)
    assert _centre(figure.locator(".grip"))[0] == pytest.approx(x + 60, abs=5)
