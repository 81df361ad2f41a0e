"""Make exercises/ from solutions/: nbgrader takes the solutions out, outputs are dropped.

`exercises.py` writes the files; `exercises.py --check` fails if a file is not what it would write.
Cells tagged `solution-only` (worked solutions) are left out. The first code cell is new: it
installs `lib` where a notebook is opened alone, as on Colab.
"""

import argparse
import sys
import tomllib
from pathlib import Path

import nbformat
import yaml
from nbformat.v4 import new_code_cell
from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, ClearSolutions, LockCells
from notebooks import ROOT, cleaned, text

CODE_STUB = "# your code here\npass"
TEXT_STUB = "*Your answer here.*"


def install_cell():
    """A locked cell: nothing where `lib` is present, elsewhere the installation of its release."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    repository = config["sphinx"]["config"]["html_theme_options"]["repository_url"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    locked = {"grade": False, "locked": True, "solution": False, "task": False}
    return new_code_cell(
        "# Installs the book's `lib` where it is missing, as on Colab.\n"
        "try:\n"
        "    import lib.checks\n"
        "except ModuleNotFoundError:\n"
        f"    %pip install --quiet git+{repository}@v{version}",
        metadata={"nbgrader": {"grade_id": "install", "schema_version": 3, **locked}},
    )


def student_version(source: Path) -> str:
    """The exercise notebook, as text, that belongs to a solution notebook."""
    notebook = nbformat.read(source, as_version=4)
    notebook.cells = [
        cell for cell in notebook.cells if "solution-only" not in cell.metadata.get("tags", [])
    ]
    first_code = [cell.cell_type for cell in notebook.cells].index("code")
    notebook.cells.insert(first_code, install_cell())
    for step in (
        CheckCellMetadata(),
        ClearSolutions(code_stub={"python": CODE_STUB}, text_stub=TEXT_STUB),
        ClearOutput(),
        LockCells(),
    ):
        notebook, _ = step.preprocess(notebook, {})
    notebook.metadata.pop("widgets", None)
    return text(cleaned(notebook))


def differences(root: Path) -> list[str]:
    """What in root/exercises is not what root/solutions would make; empty if all is well."""
    wanted = {path.name: student_version(path) for path in root.glob("solutions/*.ipynb")}
    present = {path.name: path.read_text("utf-8") for path in root.glob("exercises/*.ipynb")}
    return [
        *(f"exercises/{name} is missing" for name in sorted(wanted.keys() - present.keys())),
        *(f"exercises/{name} has no solution" for name in sorted(present.keys() - wanted.keys())),
        *(
            f"exercises/{name} is not what solutions/{name} makes"
            for name in sorted(wanted.keys() & present.keys())
            if wanted[name] != present[name]
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if parser.parse_args().check:
        found = differences(ROOT)
        sys.exit("\n".join([*found, "run `make exercises`"]) if found else 0)
    target = ROOT / "exercises"
    target.mkdir(exist_ok=True)
    for stale in target.glob("*.ipynb"):
        stale.unlink()
    for source in sorted(ROOT.glob("solutions/*.ipynb")):
        (target / source.name).write_text(student_version(source), encoding="utf-8")


if __name__ == "__main__":
    main()
