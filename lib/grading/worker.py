"""The submission's side: runs a student's cells and answers what the grader asks about them.

Started by `lib.grading.sandbox`, with nothing of the grader in sight. Whatever happens in here can
only change the answers of this one submission.
"""

import gc
import inspect
import io
import os
import sys
import traceback
import weakref

import torch

from lib.grading import wire


class _Magics:
    """Stands for IPython where a cell has magics: `%%time` and the like run the cell, others do
    nothing."""

    def __init__(self, names: dict):
        self.names = names

    def run_cell_magic(self, name, line, body):
        if name in ("time", "timeit", "capture", "prun"):
            run(body, self.names)

    def __getattr__(self, name):
        return lambda *a, **k: None


def run(source: str, names: dict) -> None:
    """Run one cell; magics as far as they hold Python."""
    try:
        code = compile(source, "<cell>", "exec")
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager

        names.setdefault("get_ipython", lambda: _Magics(names))
        code = compile(TransformerManager().transform_cell(source), "<cell>", "exec")
    exec(code, names)


class Kept:
    """An object that stayed with the grader: its methods are called there."""

    def __init__(self, link: "Link", number: int):
        self._link, self._number = link, number
        weakref.finalize(self, link.released.append, number)

    def __call__(self, *args):
        return self._link.ask({"call": self._number, "args": self._link.encode(list(args))})

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return self._link.ask({"get": self._number, "name": name})


class Link:
    """The pipe to the grader, from this side."""

    def __init__(self, source, sink):
        self.source, self.sink, self.released = source, sink, []
        self.names = {"__name__": "__main__"}

    def encode(self, value):
        return wire.encode(value, self._stays)

    def _stays(self, value) -> dict:
        if isinstance(value, Kept):
            return {"yours": value._number}
        if callable(value):
            return {"function": type(value).__name__}
        # torch's and numpy's scalars and whatever else has a float in it was told apart before.
        return {"foreign": type(value).__name__, "shown": repr(value)[:200]}

    def decode(self, value):
        return wire.decode(value, self._remade)

    def _remade(self, value: dict):
        if "kept" in value:
            return Kept(self, value["kept"])
        return wire.remade(value, self.decode)

    def send(self, message: dict) -> None:
        self.sink.write(wire.dumps(message) + "\n")
        self.sink.flush()

    def receive(self) -> dict:
        line = self.source.readline()
        if not line:
            os._exit(0)
        return wire.loads(line)

    def ask(self, message: dict):
        """Ask the grader about an object that it kept."""
        if len(self.released) > 0:
            message["released"] = [self.released.pop() for _ in range(len(self.released))]
        self.send(message)
        reply = self.receive()
        if "raised" in reply:
            raise RuntimeError(reply["raised"])
        return self.decode(reply["value"])

    def serve(self) -> None:
        while True:
            asked = self.receive()
            try:
                self.send(getattr(self, f"do_{asked['do']}")(asked))
            except BaseException as error:  # SystemExit and KeyboardInterrupt of a student's code
                self.send(_told(error))

    def do_cell(self, asked: dict) -> dict:
        run(asked["source"], self.names)
        return {"done": True}

    def do_value(self, asked: dict) -> dict:
        """What a name stands for; of a function, what arguments it takes."""
        if asked["name"] not in self.names:
            return {"value": None}
        value = self.names[asked["name"]]
        told = {"value": self.encode(value)}
        if callable(value):
            told["takes"] = _takes(value)
        return told

    def do_ask(self, asked: dict) -> dict:
        """Call a function of the student's, or its derivative in the argument at `place`; tells the
        arguments too, if it changed them."""
        function, args = self.names[asked["name"]], self.decode(asked["args"])
        before = [wire.encode(a, _unseen) for a in args]
        if asked["place"] is None:
            value = function(*args)
        else:
            value = torch.func.grad(function, asked["place"])(*args)
        told = {"value": self.encode(value)}
        after = [wire.encode(a, _unseen) for a in args]
        if after != before:
            told["args"] = after
        del args, value
        gc.collect()
        told["released"] = [self.released.pop() for _ in range(len(self.released))]
        return told


def _unseen(_value) -> dict:
    return {"foreign": "", "shown": ""}


def _takes(function) -> list | None:
    """Name, kind and whether it has a default, of each parameter; None where Python cannot tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, int(p.kind), p.default is not p.empty] for p in parameters]


def _told(error: BaseException) -> dict:
    try:
        said = str(error)[:300]
    except BaseException:
        said = ""
    where = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<cell>"]
    return {"raised": type(error).__name__, "said": said, "line": where[-1] if where else None}


def main() -> None:
    gc.freeze()  # what is imported stays: a collection after each call need not walk through it
    # The student's prints, also those of C code, go nowhere; the pipe gets numbers of its own.
    source, sink = (os.dup(number) for number in (0, 1))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
    sys.stdout.write = sys.stderr.write = len
    Link(os.fdopen(source, "r", encoding="utf-8"), os.fdopen(sink, "w", encoding="utf-8")).serve()


if __name__ == "__main__":
    main()
