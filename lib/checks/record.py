"""What has been passed and which hints were seen, in one small local file.

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
    """The record: {"passed": [part ids], "hints": {part id: count}}, without damaged entries."""
    if _path() in _unsaved:
        return _unsaved[_path()]
    try:
        stored = json.loads(_path().read_text())
    except (OSError, ValueError):
        stored = {}
    passed, hints = (
        stored.get(k) if isinstance(stored, dict) else None for k in ("passed", "hints")
    )
    return {
        "passed": [p for p in passed if isinstance(p, str)] if isinstance(passed, list) else [],
        "hints": {p: n for p, n in hints.items() if isinstance(n, int)}
        if isinstance(hints, dict)
        else {},
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
    if part in read()["passed"]:
        return  # most checks repeat one: nothing to wait or write for

    def how(stored):
        new = part not in stored["passed"]
        stored["passed"] += [part] * new
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
