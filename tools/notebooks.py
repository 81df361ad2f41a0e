"""Run notebooks and keep their files free of noise: `notebooks.py run|clean|check [FILE ...]`.

run    execute in a fresh kernel, in the notebook's folder, and store the outputs, cleaned
clean  drop what says nothing about the content (timings, counts, random ids)
check  fail if a file is not clean

Without files: every notebook of book/ and solutions/.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOISE = {"execution", "ExecuteTime", "collapsed", "trusted", "jp-MarkdownHeadingCollapsed"}


def all_notebooks() -> list[Path]:
    return [
        path for folder in ("book", "solutions") for path in sorted(ROOT.glob(f"{folder}/*.ipynb"))
    ]


def cleaned(notebook):
    """A copy of the notebook in which only its content differs from one run to the next."""
    notebook = _with_stable_widget_ids(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    count = 0
    for position, cell in enumerate(notebook.cells):
        cell.id = f"cell-{position:03d}"
        for key in NOISE & set(cell.metadata):
            del cell.metadata[key]
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        cell.outputs = _merged_streams(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return notebook


def _with_stable_widget_ids(notebook):
    """Widgets get random ids: number them in the order of their creation."""
    text = json.dumps(notebook)
    states = [view.get("state", {}) for view in notebook.metadata.get("widgets", {}).values()]
    for number, model_id in enumerate(key for state in states for key in state):
        text = text.replace(model_id, f"widget-{number:025d}")
    return nbformat.from_dict(json.loads(text))


def _merged_streams(outputs):
    """Printed lines arrive in bursts that depend on timing: join neighbours of the same stream."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def text(notebook) -> str:
    return nbformat.writes(notebook) + "\n"


def run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=300,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    path.write_text(text(cleaned(notebook)), encoding="utf-8")
    print(f"ran {path}")


def clean(path: Path) -> None:
    path.write_text(text(cleaned(nbformat.read(path, as_version=4))), encoding="utf-8")


def is_clean(path: Path) -> bool:
    return path.read_text(encoding="utf-8") == text(cleaned(nbformat.read(path, as_version=4)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["run", "clean", "check"])
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    files = [path.resolve() for path in arguments.files] or all_notebooks()
    if arguments.action == "run":
        os.environ["OMP_NUM_THREADS"] = "1"
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run, files))
    elif arguments.action == "clean":
        for path in files:
            clean(path)
    else:
        dirty = [str(path) for path in files if not is_clean(path)]
        if dirty:
            sys.exit("not clean, run `tools/notebooks.py clean`: " + ", ".join(dirty))


if __name__ == "__main__":
    main()
