"""Wrong answers on choosing a method, as students give them; written without the catalogue."""

import math

import sympy as sp
import torch

alpha, s, c = sp.symbols("alpha s c", positive=True)


def _correlations(a, b):
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))


def _ranks(v):
    below = (v[None] < v[:, None]).sum(1)
    return (below + ((v[None] == v[:, None]).sum(1) + 1) / 2).double()


def score_ordinal(influences, beta, outcomes):
    def ranks(v):
        return v.argsort(0).argsort(0).double()

    return _correlations(ranks((beta - 1) @ influences), ranks(outcomes)).mean()


def score_pearson(influences, beta, outcomes):
    return _correlations((beta - 1) @ influences, outcomes).mean()


def score_short(influences, beta, outcomes):
    d = _ranks((beta - 1) @ influences) - _ranks(outcomes)
    m = len(beta)
    return (1 - 6 * (d**2).sum(0) / (m * (m**2 - 1))).mean()


def _alpha(outcomes):
    seeds, m, _ = outcomes.shape
    rows = outcomes.mean(0)
    rest = outcomes - rows - outcomes.mean(1, keepdim=True) + outcomes.mean((0, 1))
    noise = (rest**2).sum((0, 1)) / ((seeds - 1) * (m - 1))
    return 1 - noise / (seeds * rows.var(0))


def corrected_means_first(correlations, outcomes):
    return correlations.mean() / _alpha(outcomes).mean().sqrt()


def corrected_no_root(correlations, outcomes):
    return (correlations / _alpha(outcomes)).mean()


def corrected_one_way(correlations, outcomes):
    noise = outcomes.var(0).mean(0)
    reliability = 1 - noise / (len(outcomes) * outcomes.mean(0).var(0))
    return (correlations / reliability.sqrt()).mean()


def _correlation(a, b):
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def interval_unpaired(first, second, outcomes, rows, width):
    one = _correlation(first[rows], outcomes[rows]).std()
    other = _correlation(second[rows], outcomes[rows]).std()
    error = (one**2 + other**2).sqrt()
    middle = _correlation(first, outcomes) - _correlation(second, outcomes)
    return torch.stack([middle - width * error, middle + width * error])


def interval_bootstrap_centre(first, second, outcomes, rows, width):
    gaps = _correlation(first[rows], outcomes[rows]) - _correlation(second[rows], outcomes[rows])
    return torch.stack([gaps.mean() - width * gaps.std(), gaps.mean() + width * gaps.std()])


def interval_root_r(first, second, outcomes, rows, width):
    gaps = _correlation(first[rows], outcomes[rows]) - _correlation(second[rows], outcomes[rows])
    error = gaps.std() / math.sqrt(len(rows))
    middle = _correlation(first, outcomes) - _correlation(second, outcomes)
    return torch.stack([middle - width * error, middle + width * error])


def _rates(steps, peak, last, warmup, late=1):
    out = [peak * (t + late) / warmup for t in range(warmup)]
    for t in range(warmup, steps):
        phase = math.pi * (t - warmup) / (steps - warmup)
        out.append(last + 0.5 * (peak - last) * (1 + math.cos(phase)))
    return out


def damping_mean_hessian(n, batch, epochs, peak, last, warmup):
    return 1 / sum(_rates(epochs * n // batch, peak, last, warmup))


def damping_epochs(n, batch, epochs, peak, last, warmup):
    rates = _rates(epochs * n // batch, peak, last, warmup)
    return n / (sum(rates) / len(rates) * epochs)


def damping_from_zero(n, batch, epochs, peak, last, warmup):
    return n / sum(_rates(epochs * n // batch, peak, last, warmup, late=0))


_METHODS = {
    "copies": "similarity",
    "final weights": "influence function",
    "checkpoints": "source",
    "repeatable": "unrolling",
    "any seed": "unrolling over seeds",
    "cheap": "datamodel",
    "suspects": "retraining",
}

WRONG = {
    "choose.part_a": {
        "breaks ties by order (argsort of argsort) instead of sharing the mean rank": score_ordinal,
        "correlates the values (Pearson) instead of the ranks": score_pearson,
        "uses the short formula 1 - 6 sum d^2/(m(m^2-1)), which does not hold with ties": (
            score_short
        ),
    },
    "choose.part_c": {
        "sets the reliability, not its root, to c: c in the place of c^2": s
        * c
        * (1 - alpha)
        / (alpha * (1 - c)),
        "forgets the s: gives the factor by which to multiply the seeds": c**2
        * (1 - alpha)
        / (alpha * (1 - c**2)),
        "takes the reliability as proportional to the number of seeds": s * c**2 / alpha,
    },
    "choose.part_d": {
        "averages correlations and reliabilities first and divides the means": (
            corrected_means_first
        ),
        "divides by alpha instead of its root": corrected_no_root,
        "does not take out each seed's own mean (one-way analysis)": corrected_one_way,
    },
    "choose.part_e": {
        "adds the two scores' errors in quadrature as if unpaired": interval_unpaired,
        "centres the interval at the mean of the bootstrap differences": interval_bootstrap_centre,
        "divides the bootstrap standard deviation by sqrt(R)": interval_root_r,
    },
    "choose.part_f": {
        "gives the damping of the mean Hessian: forgets the n": damping_mean_hessian,
        "takes T as the number of epochs instead of steps (mean rate times epochs)": damping_epochs,
        "lets the warm-up start at zero: peak*t/warmup instead of peak*(t+1)/warmup": (
            damping_from_zero
        ),
    },
    "choose.part_h": {
        "takes tracin for the six checkpoints": {**_METHODS, "checkpoints": "tracin"},
        "takes a datamodel for any seed, with only 100 trainings": {
            **_METHODS,
            "any seed": "datamodel",
        },
        "takes a datamodel for the one network of which only the weights are left": {
            **_METHODS,
            "final weights": "datamodel",
        },
    },
}
