"""Whatever a student hands to a check: one of three outcomes, and a first line that can be read."""

import textwrap

import pytest
from odd import FUNCTIONS, VALUES, Odd

from lib import checks
from lib.checks import engine
from lib.checks.engine import EMPTY, WRONG

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

PARTS = [part for bank in checks.BANKS for part in checks.parts(bank).values()]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.id)
def test_any_answer_gets_an_outcome(part, progress_file, capsys, monkeypatch):
    monkeypatch.setattr(engine, "LIMIT", 0.2)
    for name, answer in [*VALUES.items(), ("object", Odd()), *FUNCTIONS.items()]:
        result = part(answer, seed=0)
        assert result.outcome in (EMPTY, WRONG), name
        assert len(textwrap.wrap(result.says, 100)) <= 3 and "\n" not in result.says, name
        assert "Traceback" not in repr(result) + result._repr_html_(), name
