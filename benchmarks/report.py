"""results.json → book/05g_benchmarks.md: `python report.py`. Needs no library, only the results."""

import json
import math
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
PAGE = HERE.parent / "book" / "05g_benchmarks.md"
AGREES = 1e-3
"""Relative distance up to which two computations in single precision are called the same."""

QUANTITIES = {
    "unrolled": "Derivative of the training run, training included",
    "exact": "Influence, Hessian formed",
    "cg": "Influence, conjugate gradients",
    "ekfac": "Influence, EK-FAC",
    "kfac": "Influence, K-FAC",
    "tracin": "TracIn, five checkpoints",
    "dot": "Dot product of gradients",
    "source": "SOURCE, three segments, training included",
    "bif": "Bayesian influence, sampling included",
    "covariance": "Bayesian influence of given draws",
    "shapley": "Shapley value, ten players, exact",
    "trak": "TRAK, one checkpoint",
}

FOR_EVIDENCE = {
    "gauss-newton": "Influence, Gauss–Newton formed",
    "filters": "The two filters of SOURCE",
}

NAMES = {
    "ours": "this book",
    "kronfluence": "Kronfluence",
    "captum": "Captum",
    "dattri": "dattri",
    "curvlinops": "curvlinops",
    "pydvl": "pyDVL",
    "bergson": "Bergson",
    "devinterp": "devinterp",
    "traker": "trak",
}

RATES = "$-1$ †"

SIGNS = [
    ("kronfluence", "ekfac, given every label", "K-FAC, EK-FAC", "$-1/n$", r"$\lambda/n$"),
    ("kronfluence", "dot", "`identity`", "$-1$", ""),
    ("captum", "tracin", "`TracInCP`", RATES, ""),
    ("captum", "exact", "`NaiveInfluenceFunction`, summed loss", "$-1$", r"$\lambda$"),
    ("dattri", "exact", "`IFAttributorExplicit`, summed loss", "$-1$", r"$\lambda$"),
    ("dattri", "cg", "`IFAttributorCG`, summed loss", "$-1$", r"$\lambda$"),
    ("dattri", "tracin", "`TracInAttributor`", RATES, ""),
    ("curvlinops", "ekfac", "inverse between gradients, summed loss", "$-1$", r"$\lambda$"),
    ("pydvl", "exact", "`DirectInfluence`, mean loss", "$-1/n$", r"$\lambda/n$"),
    ("pydvl", "cg", "`CgInfluence`, mean loss", "$-1/n$", r"$\lambda/n$"),
    ("pydvl", "shapley", "`ShapleyValuation`", "1", ""),
    ("bergson", "unrolled", "`Trainer.backward`", "1", ""),
    ("devinterp", "covariance", "`compute_bif(compute_covariance=True)`", r"$-\kappa$", ""),
]
"""Library, the comparison that shows it, its function, the factor that makes it ours, damping."""

EMPIRICAL = "the empirical Fisher matrix"


def number(value: float) -> str:
    """Two digits, with a power of ten where that is shorter."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "unknown"
    power = math.floor(math.log10(abs(value)))
    if -2 <= power < 4:
        return f"{value:.{max(0, 1 - power)}f}"
    lead = round(value / 10**power)
    if lead == 10:
        lead, power = 1, power + 1
    return f"${lead}\\cdot10^{{{power}}}$"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Results:
    """What `run.py` wrote, by quantity and library."""

    def __init__(self, found: dict):
        self.found = found
        self.timings = {(row["quantity"], row["library"]): row for row in found["timings"]}
        self.lds = {(row["quantity"], row["library"]): row["lds"] for row in found["lds"]}
        self.distances = {
            (row["quantity"], row["library"]): row["distance"]
            for row in found["agreement"]
            if "distance" in row
        }
        self.problems = {
            (row["quantity"], row["library"]): row["problem"]
            for row in found["timings"] + found["agreement"]
            if row.get("problem")
        }

    def far(self, library: str, quantity: str) -> float:
        """Relative distance from the quantity itself; infinite if it was not computed."""
        row = self.distances.get((quantity, library))
        return next(iter(row.values())) if row else math.inf

    def nearest(self, library: str, quantity: str) -> tuple[str, float]:
        """The direct computation that a value comes closest to."""
        row = self.distances.get((quantity, library))
        return min(row.items(), key=lambda pair: pair[1]) if row else ("", math.inf)


def times(results: Results) -> str:
    """Seconds, ratios, memory, LDS."""
    rows = []
    for (quantity, library), row in results.timings.items():
        name = f"**{QUANTITIES[quantity]}**" if library == "ours" or quantity == "trak" else ""
        if row.get("problem"):
            rows.append([name, NAMES[library], f"did not run: {row['problem'][:80]}", "", "", ""])
            continue
        lds = results.lds.get((quantity, library))
        rows.append(
            [
                name,
                NAMES[library] + (" *" if row["columns"] == 3 else ""),
                number(median(row["processor"])),
                number(row["ratio"]) if "ratio" in row else "",
                f"{row['memory'] / 2**20:.0f}",
                "" if lds is None else f"{lds:.2f}",
            ]
        )
    head = ["Quantity", "Library", "Seconds", "Times ours", "Memory, MiB", "LDS"]
    return table(head, rows)


def slower(results: Results) -> str:
    """Where another library computes the same numbers in less time than this book."""
    found = []
    for (quantity, library), row in results.timings.items():
        if row.get("ratio", math.inf) < 1 and results.far(library, quantity) <= AGREES:
            found.append(f"{QUANTITIES[quantity]} ({NAMES[library]}, {number(row['ratio'])})")
    if not found:
        return "No library that computes the same numbers took less than this book's functions."
    return f"Less time than this book's functions, for the same numbers: {'; '.join(found)}."


def agreements(results: Results) -> str:
    """Distance of every value from the direct computation."""
    rows, above = [], None
    for (quantity, library), distances in results.distances.items():
        name, distance = results.nearest(library, quantity)
        meant = next(iter(distances))
        if distances[meant] <= AGREES:
            verdict = "agrees"
        elif distance <= AGREES:
            verdict = f"is that of {name} (distance {number(distance)})"
        else:
            verdict = "differs"
        kind, _, detail = quantity.partition(", ")
        title = QUANTITIES.get(
            kind,
            {
                "gauss-newton": "Influence, Gauss–Newton formed",
                "filters": "SOURCE's two filters",
            }.get(kind, kind),
        )
        title += f", {detail}" if detail else ""
        title, above = ("" if title == above else f"**{title}**"), title  # said once
        rows.append([title, NAMES[library], meant, number(distances[meant]), verdict])
    return table(["Quantity", "Library", "Computed directly from", "Distance", "Verdict"], rows)


def differences(results: Results) -> str:
    """Who is right where values differ; a sentence is written only if the numbers bear it out."""
    far, near = results.far, results.nearest
    found = []

    ran = {library for _, library in results.distances}

    def say(who: str, holds: bool, sentence: str) -> None:
        if any(NAMES[library] == who.split(",")[0] for library in ran):
            found.append(f"- **{who}** {sentence if holds else 'Not explained by this run.'}")

    for kind, name in (("ekfac", "EK-FAC"), ("kfac", "K-FAC")):
        drawn, given = far("kronfluence", kind), far("kronfluence", f"{kind}, given every label")
        say(
            f"Kronfluence, {name}.",
            drawn > AGREES >= given,
            "The Fisher matrix is estimated from one drawn label an example. Given every label, "
            f"each weighted by its probability, it agrees ({number(given)}).",
        )
    name, distance = near("pydvl", "ekfac")
    say(
        "pyDVL, EK-FAC.",
        far("pydvl", "ekfac") > AGREES >= distance,
        f"Not that of the Fisher matrix: the factors are {name}, which keeps products of "
        f"different classes that the Fisher matrix has not. So computed it agrees "
        f"({number(distance)}).",
    )
    name, distance = near("pydvl", "gauss-newton")
    say(
        "pyDVL, `SecondOrderMode.GAUSS_NEWTON`.",
        far("pydvl", "gauss-newton") > AGREES >= distance,
        f"It is {name} ({number(distance)}): for each batch after the first it counts the rows "
        "of a matrix that has one for each parameter. From a single batch it divides by zero.",
    )
    repaired = results.distances.get(("ekfac, two lines put right", "dattri"), {})
    empirical = repaired.get(EMPIRICAL, math.inf)
    say(
        "dattri, EK-FAC.",
        near("dattri", "ekfac")[1] > AGREES >= empirical,
        "Neither that of the Fisher matrix nor of the empirical one. It multiplies by the "
        "matrices of eigenvectors where their transposes belong, and cuts the list of a layer's "
        "weights and biases into rows at the wrong places. With both put right it agrees with "
        f"the empirical one ({number(empirical)}).",
    )
    projected = far("dattri", "dot, through the default projection")
    say(
        "dattri, TracIn.",
        AGREES < projected < math.inf and far("dattri", "dot") <= AGREES,
        "Gradients are projected to 512 random dimensions, which `projector_kwargs=None` does "
        f"not turn off: a distance of {number(projected)} for the dot product. With that attribute "
        "set to None after construction it agrees.",
    )
    return "\n".join(found)


def signs(results: Results) -> str:
    """How each library's score becomes ∂φ/∂β_i, and how well that was found to hold."""
    rows = [
        [NAMES[library], function, factor, damping, number(results.far(library, quantity))]
        for library, quantity, function, factor, damping in SIGNS
        if results.far(library, quantity) < math.inf
    ]
    rates = "† where its learning rates are given summed over the steps and divided by $n$"
    shown = table(["Library", "Its score", "Times", "Its damping", "Distance"], rows)
    return f"{shown}\n\n{rates}"


def problems(results: Results) -> str:
    """What did not run, and why."""
    lines = [
        f"- {NAMES[library]}, {quantity}, did not run: {problem[:150]}"
        for (quantity, library), problem in results.problems.items()
    ]
    return "\n".join(lines)


def machine(results: Results) -> str:
    """Processor, cores, memory, system."""
    place = results.found["machine"]
    known = [place[field] for field in ("processor", "system") if field in place]
    if "cores" in place:
        known.insert(1, f"{place['cores']} cores, {place['memory']}")
    return "; ".join(known)


def versions(results: Results) -> str:
    """Name and version of every package."""
    named = results.found["versions"].items()
    return ", ".join(f"{name} {version or '(not installed)'}" for name, version in named)


def page(results: Results) -> str:
    """page.md, filled in."""
    parts = (times, slower, agreements, differences, signs, problems, machine, versions)
    text = (HERE / "page.md").read_text().replace("{{date}}", results.found["date"])
    for part in parts:
        text = text.replace("{{" + part.__name__ + "}}", part(results))
    return text


if __name__ == "__main__":
    PAGE.write_text(page(Results(json.loads((HERE / "results.json").read_text()))))
