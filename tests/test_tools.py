"""The notebooks as files: cleaned, compared with a fresh run, stripped of their solutions."""

import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import notebooks
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import exercises

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("path", notebooks.all_notebooks(), ids=lambda path: path.stem)
def test_stored_notebook_is_clean_and_ran_to_its_end(path):
    assert notebooks.is_clean(path), "run `tools/notebooks.py clean`"
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_exercises_are_what_the_solutions_make():
    assert exercises.differences(ROOT) == []


def _graded(name: str, solution: bool) -> dict:
    return {
        "nbgrader": {
            "grade": not solution,
            "grade_id": name,
            "locked": not solution,
            "points": 1,
            "schema_version": 3,
            "solution": solution,
            "task": False,
        }
    }


@pytest.fixture
def book(tmp_path):
    """A book with one solution notebook and the exercise made from it."""
    answer = "def f(x):\n    ### BEGIN SOLUTION\n    return secret(x)\n    ### END SOLUTION"
    notebook = new_notebook(
        cells=[
            new_markdown_cell("A statement."),
            new_code_cell(answer, metadata=_graded("a", solution=True), execution_count=7),
            new_code_cell("check(f)", metadata=_graded("b", solution=False)),
            new_markdown_cell("The secret is out.", metadata={"tags": ["solution-only"]}),
        ]
    )
    notebook.cells[2].outputs = [new_output("stream", text="the secret passed")]
    for folder in ("solutions", "exercises"):
        (tmp_path / folder).mkdir()
    source = tmp_path / "solutions" / "01_toy.ipynb"
    source.write_text(notebooks.text(notebook), "utf-8")
    (tmp_path / "exercises" / "01_toy.ipynb").write_text(exercises.student_version(source), "utf-8")
    return tmp_path


def test_exercise_has_the_stub_and_nothing_of_the_solution(book):
    made = (book / "exercises" / "01_toy.ipynb").read_text("utf-8")
    assert "secret" not in made
    cells = nbformat.reads(made, 4).cells
    assert cells[0].source == "A statement."
    assert cells[1].source == exercises.install_cell().source
    assert cells[2].source == "def f(x):\n    # your code here\n    pass"
    assert exercises.differences(book) == []


def test_edited_missing_and_left_over_exercises_are_reported(book):
    path = book / "exercises" / "01_toy.ipynb"
    path.write_text(path.read_text("utf-8").replace("A statement.", "Another one."), "utf-8")
    assert exercises.differences(book) == [
        "exercises/01_toy.ipynb is not what solutions/01_toy.ipynb makes"
    ]
    path.rename(book / "exercises" / "01_old.ipynb")
    assert exercises.differences(book) == [
        "exercises/01_toy.ipynb is missing",
        "exercises/01_old.ipynb has no solution",
    ]


@pytest.mark.parametrize("path", sorted(ROOT.glob("exercises/*.ipynb")), ids=lambda p: p.stem)
def test_first_code_cell_of_an_exercise_is_locked_and_installs(path):
    first = next(cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
    assert first.source == exercises.install_cell().source
    assert first.metadata.nbgrader.locked and not first.metadata.editable
    assert not first.metadata.nbgrader.grade and not first.metadata.nbgrader.solution


def test_solutions_install_nothing():
    for path in notebooks.all_notebooks():
        assert "%pip" not in path.read_text("utf-8"), path.name


@pytest.mark.parametrize("present", [True, False])
def test_install_cell_calls_pip_once_and_only_where_lib_is_missing(present):
    """In a shell of its own, where `pip` only tells what it was asked for."""
    program = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.register_magic_function(lambda line: print("pip", line), magic_name="pip")
if not {present}:
    sys.modules["lib"] = None  # what an import looks at first: None says there is no such module
shell.run_cell({exercises.install_cell().source!r}).raise_error()
"""
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]
    repository = config["html_theme_options"]["repository_url"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    asked = "" if present else f"pip install --quiet git+{repository}@v{version}\n"
    assert told == asked


def test_a_second_run_changes_nothing(tmp_path):
    cells = [
        "import ipywidgets",
        "print('one')\nprint('two', flush=True)\nprint('three')",
        "box = ipywidgets.VBox([ipywidgets.IntSlider(), ipywidgets.Text()])\nbox",
    ]
    path = tmp_path / "page.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
    stored = []
    for _ in range(2):
        notebooks.run(path)
        stored.append(path.read_text("utf-8"))
    assert stored[0] == stored[1]
    assert notebooks.is_clean(path)
    assert "widget-" in stored[0]
    path.write_text(stored[0].replace('"cell-001"', '"a3f1"'), "utf-8")
    assert not notebooks.is_clean(path)


def test_fresh_outputs_may_differ_in_drawings_and_addresses_only(tmp_path):
    """Each cell is stored with another output than it has; nbval must object to the last two."""
    cells = [
        "from IPython.display import HTML, SVG",
        'SVG(\'<svg xmlns="http://www.w3.org/2000/svg"><path d="M 0.12"/></svg>\')',
        "print(object())",
        "print(0.123)",
        "HTML('<b>passed</b>')",
    ]
    path = tmp_path / "page.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
    notebooks.run(path)
    stored = nbformat.read(path, 4)
    drawing = stored.cells[1].outputs[0].data
    drawing["image/svg+xml"] = drawing["image/svg+xml"].replace("0.12", "0.13")
    stored.cells[3].outputs[0].text = "0.124\n"
    stored.cells[4].outputs[0].data["text/html"] = "<b>wrong</b>"
    nbformat.write(stored, path)
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    failed = {line.split("::")[1][:6] for line in result.stdout.splitlines() if "FAILED" in line}
    assert failed == {"Cell 3", "Cell 4"}, result.stdout
