"""Runs everything and writes results.json; or a part, `python run.py ekfac cg`, and writes
.cache/results.json.

For each quantity our function and every library's are called in turn, once each, then again, up to
five times, each in a process of its own that holds one thread. What they returned is compared with
`reference.py`, which is computed here.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from statistics import median

os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}

import numpy as np
import torch
from scipy.stats import spearmanr

import reference
import task as the

OURS = "ours"
TIMED = {
    "unrolled": ["bergson"],
    "exact": ["curvlinops", "pydvl", "captum", "dattri"],
    "cg": ["curvlinops", "pydvl", "dattri"],
    "ekfac": ["kronfluence", "curvlinops", "pydvl", "dattri"],
    "kfac": ["kronfluence", "curvlinops"],
    "tracin": ["captum", "dattri"],
    "dot": ["kronfluence", "captum", "dattri"],
    "source": [],
    "bif": ["devinterp"],
    "covariance": ["devinterp"],
    "shapley": ["pydvl"],
    "trak": ["traker"],
}
"""Which libraries compute a quantity; ours does all but TRAK."""

EVIDENCE = {
    "ekfac, given every label": "kronfluence",
    "kfac, given every label": "kronfluence",
    "ekfac, two lines put right": "dattri",
    "dot, through the default projection": "dattri",
    "gauss-newton": "pydvl",
    "filters": "bergson",
}
"""Computed once, to find out why numbers differ."""

ROUNDS, PATIENCE = 5, 60
"""Five rounds at most; no new one for a quantity that has taken a minute."""


class Worker:
    """A process that computes one quantity with one library when told to."""

    def __init__(self, library: str, quantity: str):
        self.library, self.quantity = library, quantity
        name = library if library == OURS else f"peers.{library}"
        self.process = subprocess.Popen(
            [sys.executable, "worker.py", name, quantity],
            cwd=the.HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(the.CACHE / f"{library}-{quantity}.log").open("w"),
            text=True,
        )
        self.runs: list[dict] = []
        hello = self.answer()
        self.problem = hello.get("missing") or hello.get("failed")

    def answer(self) -> dict:
        """One line of JSON; a process that died without a word says that it failed."""
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"failed": "the process ended"}

    def ask(self, order: str) -> dict:
        """Send one order."""
        with contextlib.suppress(BrokenPipeError):
            print(order, file=self.process.stdin, flush=True)
        return self.answer()

    def go(self) -> None:
        """Compute once, if it can."""
        if self.problem is None:
            found = self.ask("go")
            self.problem = found.get("failed")
            if self.problem is None:
                self.runs.append(found)

    def value(self) -> np.ndarray | None:
        """What it last computed."""
        path = the.CACHE / f"{self.library}-{self.quantity}.pt"
        if not self.runs or "saved" not in self.ask(f"save {path}"):
            return None
        return torch.load(path).double().numpy()

    def close(self) -> None:
        """Let it end."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def measured(quantity: str, libraries: list[str], rounds: int) -> tuple[list[dict], dict]:
    """Rows of results, and values by library: everyone in turn, then again."""
    workers = [Worker(library, quantity) for library in libraries]
    began = time.monotonic()
    for done in range(rounds):
        if done and time.monotonic() - began > PATIENCE:
            break
        for worker in workers:
            worker.go()
    rows, values = [], {}
    for worker in workers:
        row = {"quantity": quantity, "library": worker.library, "problem": worker.problem}
        if worker.runs:
            for field in ("processor", "clock"):
                row[field] = [run[field] for run in worker.runs]
            row["memory"] = max(run["memory"] for run in worker.runs)
            row["columns"] = worker.runs[0]["columns"]
        if (value := worker.value()) is not None:
            values[worker.library] = value
        rows.append(row)
        worker.close()
    first = rows[0]
    for row in rows[1:]:
        if "processor" in row and "processor" in first and first["library"] == OURS:
            pairs = zip(row["processor"], first["processor"], strict=False)
            row["ratio"] = median(theirs / ours for theirs, ours in pairs)
    for row in rows:
        shown = [f"{seconds:.3f}" for seconds in row.get("processor", [])]
        print(quantity, row["library"], row["problem"] or " ".join(shown), flush=True)
    return rows, values


# --- what is right -------------------------------------------------------------------------------


def references() -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """Direct computations: for each quantity, what it should be and what it might be instead.

    The first of each is the quantity; the others are known to be something else. Also the run.
    """
    given = the.task(torch.float64)
    arrays = (given.x, given.y, given.x_test, given.y_test, given.w)
    x, y, x_test, y_test, w = (array.numpy() for array in arrays)
    n, p = len(x), len(w)
    train, test = reference.gradients(w, x, y), reference.gradients(w, x_test, y_test)

    def with_(matrix: np.ndarray, damping: float = the.DAMPING) -> np.ndarray:
        return reference.influence(matrix, damping, train, test)

    def kronecker(kind: str, corrected: bool) -> np.ndarray:
        return with_(reference.kronecker(w, x, y, kind, corrected=corrected))

    kinds = {
        "Gauss–Newton, which is the Fisher matrix": "fisher",
        "the empirical Fisher matrix": "empirical",
        "outer products of the gradient of Σ √p log p": "surrogate",
    }
    hessian = with_(reference.hessian(w, x, y))
    empirical = reference.curvature(w, x, y, "empirical")
    weight = given.effort / n
    traced = [
        weight * reference.gradients(v, x, y) @ reference.gradients(v, x_test, y_test).T
        for v in given.checkpoints.numpy()
    ]
    losses, phi = (trace.numpy() for trace in the.traces(torch.float64))
    run = {
        "start": given.run.w0.numpy(),
        "x": x,
        "y": y,
        "batches": given.run.batches.numpy(),
        "rate": the.RATE,
    }
    table = the.game()
    sigma = the.SIGMA.double().numpy()
    remembered = np.exp(-given.effort * sigma)
    with np.errstate(invalid="ignore"):
        answered = np.where(
            sigma == 0, given.effort, -np.expm1(-given.effort * sigma) / np.where(sigma, sigma, 1)
        )
    return {
        "unrolled": {"retraining": reference.unrolled(run, RETRAINED, x_test, y_test)},
        "exact": {"the Hessian": hessian},
        "cg": {"the Hessian": hessian},
        "ekfac": {name: kronecker(kind, True) for name, kind in kinds.items()},
        "kfac": {name: kronecker(kind, False) for name, kind in kinds.items()},
        "gauss-newton": {
            "Gauss–Newton": with_(reference.curvature(w, x, y)),
            "the empirical Fisher matrix": with_(empirical),
            "the empirical Fisher matrix, with its sum divided by p, not n": with_(
                empirical * n / p
            ),
        },
        "tracin": {"the sum over checkpoints": -np.sum(traced, axis=0)},
        "dot": {"the product of gradients": -train @ test.T},
        "covariance": {
            "the covariance": -(losses - losses.mean(axis=0)).T
            @ (phi - phi.mean(axis=0))
            / (len(losses) - 1)
        },
        "shapley": {
            "all orders of arrival": reference.shapley(
                lambda s: table[sum(1 << i for i in s)], the.PLAYERS
            )
        },
        "filters": {"the formulas": np.stack([remembered, answered])},
    }, run


RETRAINED = list(range(0, the.TRAINING, 50))
"""The training examples at which the unrolled derivative is checked by retraining."""


def judged(quantity: str, library: str, value: np.ndarray, truths: dict) -> dict | None:
    """How far a value is from each direct computation: ‖a − b‖/‖b‖."""
    kind = quantity.split(",")[0]
    if kind not in truths:
        return None
    rows = {}
    for name, right in truths[kind].items():
        found = value
        if kind == "unrolled":
            found, right = value[RETRAINED], right[:, : value.shape[1]]
        rows[name] = float(np.linalg.norm(found - right) / np.linalg.norm(right))
    return {"quantity": quantity, "library": library, "distance": rows}


# --- LDS -----------------------------------------------------------------------------------------


def removals(run: dict) -> tuple[np.ndarray, np.ndarray]:
    """Sixty trainings without a random twentieth: what was removed (60, n), φ after (60, k)."""
    given = the.task(torch.float64)
    rng = np.random.default_rng(4)
    gone = np.zeros((the.SUBSETS, the.TRAINING))
    for row in gone:
        row[rng.choice(the.TRAINING, the.REMOVED, replace=False)] = 1
    after = [
        reference.losses(
            reference.trained(**run, beta=1 - row), given.x_test.numpy(), given.y_test.numpy()
        )
        for row in gone
    ]
    return gone, np.array(after)


def lds(value: np.ndarray, gone: np.ndarray, after: np.ndarray) -> float:
    """Mean over test digits of the rank correlation of predicted and true effects."""
    predicted = -gone @ value
    return float(
        np.mean([spearmanr(a, b).statistic for a, b in zip(predicted.T, after.T, strict=True)])
    )


# --- everything ----------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """The processor, its cores, memory, the system: in words."""
    words = {"system": f"{platform.system()}, Python {platform.python_version()}"}
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        words["processor"] = models[0].split(":")[1].strip() if models else platform.machine()
        words["cores"] = str(os.cpu_count())
        total = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
        words["memory"] = f"{int(total) / 2**20:.0f} GiB"
    return words


def versions() -> dict[str, str | None]:
    """The libraries compared and what they stand on; None if not installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


PACKAGES = (
    "torch",
    "numpy",
    "kronfluence",
    "captum",
    "dattri",
    "curvlinops-for-pytorch",
    "traker",
    "devinterp",
    "bergson",
    "pyDVL",
)


def main(chosen: list[str]) -> None:
    """All quantities, or those named."""
    shutil.rmtree(the.CACHE, ignore_errors=True)
    began = time.monotonic()
    truths, run = references()
    gone, after = removals(run)
    timings, agreement, scores = [], [], []
    plan = [(q, ([] if q == "trak" else [OURS]) + names, ROUNDS) for q, names in TIMED.items()]
    plan += [(q, ([OURS] if q == "filters" else []) + [name], 1) for q, name in EVIDENCE.items()]
    for quantity, libraries, rounds in plan:
        if chosen and quantity.split(",")[0] not in chosen:
            continue
        rows, values = measured(quantity, libraries, rounds)
        if rounds > 1:
            timings += rows
        else:
            agreement += [
                {"quantity": quantity, "library": row["library"], "problem": row["problem"]}
                for row in rows
                if row["problem"]
            ]
        for library, value in values.items():
            if (row := judged(quantity, library, value, truths)) is not None:
                agreement.append(row)
            if value.shape == (the.TRAINING, the.TEST) and quantity != "covariance":
                scores.append(
                    {"quantity": quantity, "library": library, "lds": lds(value, gone, after)}
                )
    results = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "minutes": (time.monotonic() - began) / 60,
        "timings": timings,
        "agreement": agreement,
        "lds": scores,
    }
    place = the.CACHE if chosen else the.HERE  # no page is made of a part
    (place / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
