"""Wrong answers on runs and seeds, as students give them; written without the catalogue."""

import sympy as sp
import torch

rho, k = sp.symbols("rho k", positive=True)
B, W, m = sp.symbols("B W m", positive=True)


def seeds_biased(before, after, precision):
    paired = (after - before).var(correction=0)
    unpaired = before.var(correction=0) + after.var(correction=0)
    return torch.stack([paired, unpaired]) / precision**2


def seeds_equally_noisy(before, after, precision):
    return torch.stack([(after - before).var(), 2 * before.var()]) / precision**2


def seeds_not_squared(before, after, precision):
    paired = (after - before).std()
    unpaired = (before.var() + after.var()).sqrt()
    return torch.stack([paired, unpaired]) / precision


def decompose_uncorrected(effects):
    means = torch.stack([e.mean() for e in effects])
    noise = torch.stack([e.var() for e in effects])
    return means.var(), noise.mean()


def decompose_pooled(effects):
    means = torch.stack([e.mean() for e in effects])
    seeds = torch.tensor([len(e) for e in effects])
    squares = sum(((e - e.mean()) ** 2).sum() for e in effects)
    within = squares / (seeds - 1).sum()
    return means.var() - (within / seeds).mean(), within


def decompose_mean_seeds(effects):
    means = torch.stack([e.mean() for e in effects])
    noise = torch.stack([e.var() for e in effects])
    seeds = torch.tensor([len(e) for e in effects]).double()
    return means.var() - noise.mean() / seeds.mean(), noise.mean()


def _bell(z):
    return torch.sigmoid(z) * (1 - torch.sigmoid(z))


def band_no_width(values, slopes, low, high, width):
    weight = _bell((values - low) / width) - _bell((values - high) / width)
    return weight @ slopes / len(values)


def band_no_derivative(values, slopes, low, high, width):
    inside = torch.sigmoid((values - low) / width) - torch.sigmoid((values - high) / width)
    return inside @ slopes / len(values)


def band_means(values, slopes, low, high, width):
    weight = (_bell((values - low) / width) - _bell((values - high) / width)) / width
    return weight.mean() * slopes.mean(0)


def skew_uncentred(values, slopes):
    c = values - values.mean()
    m2, m3 = (c**2).mean(), (c**3).mean()
    dm2, dm3 = 2 * c @ slopes / len(c), 3 * c**2 @ slopes / len(c)
    return dm3 / m2**1.5 - 1.5 * m3 * dm2 / m2**2.5


def skew_numerator(values, slopes):
    c, d = values - values.mean(), slopes - slopes.mean(0)
    return 3 * c**2 @ d / len(c) / (c**2).mean() ** 1.5


def skew_unbiased(values, slopes):
    def skew(beta):
        phi = values + slopes @ beta
        return ((phi - phi.mean()) ** 3).mean() / phi.var() ** 1.5

    return torch.func.grad(skew)(torch.zeros(slopes.shape[1], dtype=slopes.dtype))


WRONG = {
    "distributional.part_a": {
        "uses the biased variances, divided by S instead of S - 1": seeds_biased,
        "takes both data sets for equally noisy: twice the variance of before": seeds_equally_noisy,
        "does not square: standard deviations over precision": seeds_not_squared,
    },
    "distributional.part_b": {
        "takes both data sets for equally noisy (k = 1)": 1 / (1 - rho),
        "forgets k in the covariance: 2 rho instead of 2 rho k": (1 + k**2) / (1 + k**2 - 2 * rho),
        "gives the ratio of standard errors, the root of the ratio of seeds": sp.sqrt(
            (1 + k**2) / (1 + k**2 - 2 * rho * k)
        ),
    },
    "distributional.part_c": {
        "does not take the noise of the means away from B": decompose_uncorrected,
        "pools the noise over all runs, weighting examples by S_i - 1": decompose_pooled,
        "divides the mean noise by the mean number of seeds instead of averaging v_i/S_i": (
            decompose_mean_seeds
        ),
    },
    "distributional.part_d": {
        "correlates with the true b_i instead of one other run": sp.sqrt(B / (B + W / m)),
        "correlates two means over m runs: the other run's noise divided by m too": B / (B + W / m),
        "forgets the square root of the product of variances": B / ((B + W) * (B + W / m)),
    },
    "distributional.part_e": {
        "forgets the inner derivative 1/h": band_no_width,
        "weights the slopes by the sigmoids themselves, not by their derivatives": (
            band_no_derivative
        ),
        "multiplies the mean weight by the mean slope instead of averaging the product": band_means,
    },
    "distributional.part_f": {
        "does not centre the slopes": skew_uncentred,
        "differentiates the third moment only, not the denominator": skew_numerator,
        "uses the variance over S - 1 in the denominator": skew_unbiased,
    },
}
