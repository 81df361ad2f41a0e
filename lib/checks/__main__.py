"""What has been passed, and what is next, from a shell: `python -m lib.checks`."""

import argparse
import json
import re
import sys
from pathlib import Path

from lib.checks import BANKS, Progress, parts, record

_EXERCISES = Path(__file__).resolve().parents[2] / "exercises"
_ASKED = re.compile(r"^\s*(?:if )?(\w+)\.(part_\w+)\(", re.MULTILINE)


def notebook_of(bank: str, folder: Path = _EXERCISES) -> str:
    """The file of an exercise, as its reader would name it; the bank's name if it is not there."""
    found = sorted(folder.glob(f"[0-9][0-9]_{bank}.ipynb"))
    return f"{folder.name}/{found[0].name}" if found else bank


def next_part() -> str:
    """The first part that is not passed: where it is, and what it asks."""
    solved = set(record.read()["passed"])
    for bank in BANKS:
        for name, part in parts(bank).items():
            if part.id not in solved:
                letter = name.removeprefix("part_")
                return f"Next: part ({letter}) of {notebook_of(bank)}\n      {part.asks}"
    return "All parts of all exercises are passed."


def verdicts(path: Path) -> dict[str, str]:
    """The last verdict that a saved notebook shows for each part it asks; '' for none.

    Raises ValueError for a file that is not a notebook.
    """
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a notebook in Jupyter's format") from error
    from lib.checks.engine import MARKS  # here, as it imports torch, which takes seconds

    found = {}
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        asked = [
            f"{bank}.{name}"
            for bank, name in _ASKED.findall("".join(cell["source"]))
            if bank in BANKS and name in parts(bank)
        ]
        said = [
            line
            for output in cell.get("outputs", [])
            for line in "".join(output.get("data", {}).get("text/plain", "")).splitlines()[:1]
            if line[:1] in MARKS.values()
        ]
        for part in asked:
            found[part] = said[-1] if said else found.get(part, "")
    return found


def report(path: Path) -> str:
    """What a saved notebook shows, a line for each part."""
    found = verdicts(path)
    from lib.checks.engine import MARKS, PASSED

    if not found:
        return f"{path.name}: no checks in it"
    done = sum(says.startswith(MARKS[PASSED]) for says in found.values())
    lines = [f"{path.name}: {done} of {len(found)} parts passed when it was saved"]
    for part, says in found.items():
        letter = part.rpartition("_")[2]
        lines.append(f"  ({letter}) {says or '– not run'}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.checks", description=__doc__)
    parser.add_argument("notebook", nargs="*", type=Path, help="saved notebooks to read")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--export", metavar="FILE", type=Path, help="write the record as JSON")
    what.add_argument("--reset", action="store_true", help="forget what was passed and seen")
    asked = parser.parse_args(arguments)
    if asked.notebook and (asked.export or asked.reset):
        parser.error("notebooks are read only: --export and --reset are about the record")
    if asked.notebook:
        try:
            reports = [report(path) for path in asked.notebook]
        except (OSError, ValueError) as error:
            sys.exit(f"notebook: {error}")
        print("\n".join(reports))
    elif asked.reset:
        record.reset()
        print("Forgotten: no part is passed, and no hint was seen.")
    elif asked.export:
        asked.export.write_text(json.dumps(record.read(), indent=1, sort_keys=True) + "\n", "utf-8")
        print(f"Written to {asked.export}")
    else:
        seen = record.read()
        print(Progress(BANKS))
        hints = sum(seen["hints"].values())
        print(f"Hints seen: {hints}, solutions: {len(seen['solutions'])}")
        print(next_part())


if __name__ == "__main__":
    main()
