"""A process for one submission's code, without network, sight of solutions, or much time.

Bubblewrap shuts it in where it is present and allowed. Without it the process has limits of time,
memory and files, and an empty folder to start in, but could read the disk: `Sandbox.means` says
which.
"""

import ast
import functools
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable
from inspect import Parameter, Signature
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lib.checks import BANKS
from lib.grading import wire

LIB = Path(__file__).resolve().parents[1]
MEMORY = 2 << 30
"""Bytes that a submission may allocate."""


class Ended(BaseException):
    """The submission's process is gone; says why. No Exception: a check shall not catch it."""


class _Raised(Exception):
    """What the student's code raised, under its own name."""


# --- what the submission can see ------------------------------------------------------------------


def shown_of_bank(source: str, wanted: Iterable[str]) -> str:
    """The module of a bank with only what `wanted` needs: no part, no truth, no wrong answers."""
    tree = ast.parse(source)
    binds = {}
    for node in tree.body:
        for name in _bound(node):
            binds.setdefault(name, []).append(node)
    names, needed = set(), {name for name in wanted if not name.startswith("part_")}
    while needed:
        name = needed.pop()
        names.add(name)
        read = {
            n.id for node in binds.get(name, ()) for n in ast.walk(node) if isinstance(n, ast.Name)
        }
        needed |= read & binds.keys() - names
    kept = [node for node in tree.body if names & set(_bound(node))]
    for node in kept:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [alias for alias in node.names if _imported(alias) in names]
    return "\n".join(map(ast.unparse, kept)) + "\n"


def _imported(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [_imported(alias) for alias in node.names]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return []


_CHECKS = """class _Part:
    hint = __init__ = __call__ = lambda self, *a, **k: None


def progress(*_):
    pass
"""


def write_lib(folder: Path, helpers: dict[str, set[str]]) -> None:
    """A `lib` for submissions: its checks grade nothing, and keep of each bank what the given
    notebook itself uses, as in {'curvature': {'critical_gap'}}."""

    def dropped(where: str, names: list[str]) -> list[str]:
        return ["checks"] if Path(where) == LIB else [n for n in names if n == "__pycache__"]

    shutil.copytree(LIB, folder / "lib", ignore=dropped)
    for name in ("grade.py", "sandbox.py", "__main__.py"):
        (folder / "lib" / "grading" / name).unlink(missing_ok=True)
    checks = folder / "lib" / "checks"
    checks.mkdir()
    (checks / "__init__.py").write_text(_CHECKS, "utf-8")
    grades_nothing = "\n\ndef __getattr__(name):\n    from lib.checks import _Part\n\n    "
    grades_nothing += (
        'if name.startswith("part_"):\n        return _Part()\n    raise AttributeError(name)\n'
    )
    for bank in BANKS:
        source = (LIB / "checks" / f"{bank}.py").read_text("utf-8")
        shown = shown_of_bank(source, helpers.get(bank, ()))
        (checks / f"{bank}.py").write_text(shown + grades_nothing, "utf-8")


# --- the process ----------------------------------------------------------------------------------


@functools.cache
def bubblewrap() -> str | None:
    """The program, if it is there and this machine lets it work."""
    path = shutil.which("bwrap")
    if path is None:
        return None
    tried = [path, "--ro-bind", "/", "/", "--unshare-all", "true"]
    return path if subprocess.run(tried, capture_output=True, check=False).returncode == 0 else None


def _inside(folder: Path) -> list[str]:
    """Bubblewrap's arguments: Python and its packages can be read, one empty folder be written."""
    readable = {Path(sys.base_prefix), *map(Path, sysconfig.get_paths().values())}
    readable |= {Path("/usr"), Path("/lib"), Path("/lib64"), Path("/bin"), Path("/etc/ld.so.cache")}
    binds = []
    for path in sorted(p for p in readable if p.exists()):
        binds += ["--ro-bind", str(path.resolve()), str(path)]
    return [
        *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *binds,
        *("--proc", "/proc", "--dev", "/dev", "--size", str(1 << 28), "--tmpfs", "/tmp"),
        *("--ro-bind", str(folder), "/submission", "--tmpfs", "/home", "--chdir", "/home"),
    ]


def _limits(cpu: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 26, 1 << 26))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Sandbox:
    """The running code of one submission.

    lib: a folder that `write_lib` wrote.  seconds: what one call may take; a cell, six times that.
    total: what the processor may be used for, in seconds.  Raises Ended when the code ran too long
    or ended itself.
    """

    def __init__(self, lib: Path, *, seconds: float = 10, total: int = 120):
        self.seconds = seconds
        self._kept, self._next, self._unread = {}, 0, b""
        self._home = TemporaryDirectory()
        wrapped = bubblewrap()
        path = "/submission" if wrapped else str(lib)
        command = [sys.executable, "-s", "-m", "lib.grading.worker"]
        self._process = subprocess.Popen(
            [wrapped, *_inside(lib), *command] if wrapped else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/" if wrapped else self._home.name,
            env={
                "PYTHONPATH": path,
                "HOME": "/home" if wrapped else self._home.name,
                "OMP_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "MPLBACKEND": "agg",
                "PATH": "/usr/bin:/bin",
            },
            preexec_fn=functools.partial(_limits, total),
            start_new_session=True,
        )
        os.set_blocking(self._process.stdout.fileno(), False)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @staticmethod
    def means() -> str:
        """What shuts submissions in on this machine."""
        return "bubblewrap" if bubblewrap() else "plain processes with limits (no bubblewrap here)"

    def close(self) -> None:
        """End it, whatever it does."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except OSError:
                pass
        self._home.cleanup()

    # --- requests

    def cell(self, source: str) -> str | None:
        """Run a cell; what it raised, if it did."""
        reply = self._request({"do": "cell", "source": source}, 6 * self.seconds)
        if "raised" in reply:
            line = f", line {int(reply['line'])}" if isinstance(reply.get("line"), int) else ""
            return f"{reply['raised']}: {reply.get('said', '')}{line}"
        return None

    def value(self, name: str):
        """What the notebook calls `name`; a function comes as one that asks over there."""
        reply = self._request({"do": "value", "name": name})
        if "raised" in reply:
            return wire.Foreign("unreadable", str(reply.get("said", ""))[:200])
        if isinstance(reply["value"], dict) and "function" in reply["value"]:
            return self._function(name, reply.get("takes"))
        return self._decode(reply["value"])

    def _function(self, name: str, takes):
        def ask(args, place=None):
            given = wire.encode(list(args), self._keep)
            message = {"do": "ask", "name": name, "args": given, "place": place}
            reply = self._request(message)
            if "raised" in reply:
                kind = str(reply["raised"])
                if kind == "NotImplementedError":
                    raise NotImplementedError
                raise type(kind if kind.isidentifier() else "Error", (_Raised,), {})(reply["said"])
            for mine, theirs in zip(args, reply.get("args", ()), strict=False):
                _overwrite(mine, self._decode(theirs))
            return self._decode(reply["value"])

        def answer(*args):
            return ask(args)

        answer.slope = ask
        try:
            answer.__signature__ = _signature(takes)
        except (TypeError, ValueError, IndexError):
            pass  # a built-in function does not tell
        return answer

    def _decode(self, value):
        try:
            return wire.decode(value, self._theirs)
        except ValueError as error:
            raise Ended(f"your code wrote into the grader's pipe ({error})") from None

    def _theirs(self, value: dict):
        if value.get("yours") in self._kept:
            return self._kept[value["yours"]]
        if "foreign" in value:
            kind = str(value["foreign"])
            shown = str(value.get("shown", ""))[:200]
            return wire.Foreign(kind if kind.isidentifier() else "object", shown)
        if "function" in value:
            return wire.Foreign("function", "a function")
        raise ValueError("an answer that cannot be read")

    def _keep(self, value) -> dict:
        made = wire.of_lib(value)
        if made is not None:
            return made
        self._next += 1
        self._kept[self._next] = value
        return {"kept": self._next}

    # --- the pipe

    def _request(self, message: dict, seconds: float | None = None) -> dict:
        deadline = time.monotonic() + (seconds or self.seconds)
        self._send(message)
        while True:
            try:
                reply = wire.loads(self._line(deadline))
                for number in reply.get("released", ()):
                    self._kept.pop(number, None)
                if "call" not in reply and "get" not in reply:
                    return reply
                self._send(self._answered(reply))
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                raise Ended(f"your code wrote into the grader's pipe ({error})") from None

    def _answered(self, asked: dict) -> dict:
        """An object that stayed here is called, or one of its public attributes asked for."""
        try:
            if "get" in asked:
                name = str(asked["name"])
                if name.startswith("_"):
                    raise AttributeError(name)
                value = getattr(self._kept[asked["get"]], name)
            else:
                value = self._kept[asked["call"]](*self._decode(asked["args"]))
            return {"value": wire.encode(value, self._keep)}
        except Exception as error:
            return {"raised": f"{type(error).__name__}: {error}"[:300]}

    def _send(self, message: dict) -> None:
        try:
            self._process.stdin.write((wire.dumps(message) + "\n").encode())
            self._process.stdin.flush()
        except (BrokenPipeError, OSError):
            raise Ended(self._why()) from None

    def _line(self, deadline: float) -> str:
        pipe = self._process.stdout
        pieces = [self._unread]
        length = len(self._unread)
        while b"\n" not in pieces[-1]:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise Ended("your code ran longer than it may")
            piece = pipe.read(1 << 20)
            if not piece:
                raise Ended(self._why())
            pieces.append(piece)
            length += len(piece)
            if length > wire.LONGEST:
                raise Ended("your code gave more numbers than an answer can have")
        line, _, self._unread = b"".join(pieces).partition(b"\n")
        return line.decode()

    def _why(self) -> str:
        try:
            status = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "your code closed the grader's pipe"
        if status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
            return "your code ran longer than it may"
        if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return "your code was stopped: it used more time or memory than it may"
        return f"your code ended its process, with status {status}"


def _overwrite(mine, theirs) -> None:
    """Change an argument here as the student's function has changed its copy there."""
    if isinstance(mine, torch.Tensor) and isinstance(theirs, torch.Tensor):
        mine.resize_(theirs.shape).copy_(theirs)
    elif isinstance(mine, list) and isinstance(theirs, list):
        mine[:] = theirs


def _signature(takes: list) -> Signature:
    kinds = [Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL]
    kinds += [Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD]
    return Signature(
        [
            Parameter(str(name), kinds[kind], default=None if optional else Parameter.empty)
            for name, kind, optional in takes
        ]
    )
