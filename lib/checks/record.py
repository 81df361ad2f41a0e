"""What has been passed, and which hints and solutions were seen, in one small local file.

The file is `.progress.json` beside the exercises, or where ATTRIBUTION_PROGRESS points.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_DEFAULT = Path(__file__).resolve().parents[2] / "exercises" / ".progress.json"


def _path() -> Path:
    return Path(os.environ.get("ATTRIBUTION_PROGRESS") or _DEFAULT)


_unsaved: dict[Path, dict] = {}
"""What could not be written, so that hints go on where the folder is read-only."""


def read() -> dict:
    """The record, without damaged entries.

    {"passed": [part ids], "hints": {part id: count}, "solutions": [part ids]}
    """
    if _path() in _unsaved:
        return _unsaved[_path()]
    try:
        stored = json.loads(_path().read_text())
    except (OSError, ValueError):
        stored = {}
    stored = stored if isinstance(stored, dict) else {}
    listed = {
        name: [p for p in stored[name] if isinstance(p, str)]
        for name in ("passed", "solutions")
        if isinstance(stored.get(name), list)
    }
    hints = stored.get("hints")
    counted = hints.items() if isinstance(hints, dict) else ()
    return {
        "passed": listed.get("passed", []),
        "hints": {p: n for p, n in counted if isinstance(n, int)},
        "solutions": listed.get("solutions", []),
    }


def _write(stored: dict) -> None:
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and moved into place: a kernel that dies half-way loses nothing.
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(stored, indent=1, sort_keys=True))
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        _unsaved.pop(path, None)
    except OSError as error:
        _unsaved[path] = stored
        print(f"(progress not saved: {error})")


def _change(how: Callable[[dict], bool]) -> None:
    """Read, change and write the record with no other kernel in between; `how` says if to write."""
    lock = FileLock(f"{_path()}.lock", timeout=10)
    try:
        _path().parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:  # a folder that cannot be written: `_write` will say so
        pass
    try:
        stored = read()
        if how(stored):
            _write(stored)
    finally:
        lock.release()


def passed(part: str) -> None:
    """Record that a part was passed."""
    _list(part, "passed")


def saw_solution(part: str) -> None:
    """Record that the worked solution of a part was shown."""
    _list(part, "solutions")


def _list(part: str, name: str) -> None:
    if part in read()[name]:
        return  # most checks repeat one: nothing to wait or write for

    def how(stored):
        new = part not in stored[name]
        stored[name] += [part] * new
        return new

    _change(how)


def hints_seen(part: str) -> int:
    """How many hints of a part have been shown."""
    return read()["hints"].get(part, 0)


def saw_hint(part: str, number: int) -> None:
    """Record that the first `number` hints of a part were shown."""

    def how(stored):
        new = stored["hints"].get(part, 0) < number
        if new:
            stored["hints"][part] = number
        return new

    _change(how)


def reset() -> None:
    """Forget everything."""
    _unsaved.pop(_path(), None)
    _path().unlink(missing_ok=True)
