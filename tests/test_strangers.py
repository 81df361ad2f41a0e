"""Wrong answers by people who had not seen the lists of mistakes, and what was said to them."""

from collections import Counter

import grader
import pytest

from lib.checks.engine import WRONG

STRANGERS = grader.strangers()
VERDICTS = grader.verdicts()
PARTS = grader.parts()

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


@pytest.mark.parametrize("part", sorted({part for part, *_ in STRANGERS}))
def test_what_is_said_is_what_was_judged(part, progress_file):
    for _, wrong, answer in [s for s in STRANGERS if s[0] == part]:
        row = VERDICTS[part, wrong]
        for seed in range(5):
            result = PARTS[part](answer, seed=seed)
            assert result.outcome == WRONG, wrong
            if row["verdict"] == "right":
                assert result.diagnosis == row["diagnosis"], wrong


def test_every_function_and_formula_has_three():
    found = Counter(part for part, *_ in STRANGERS)
    computed = {
        part.id for part in PARTS.values() if isinstance(part, grader.Function | grader.Formula)
    }
    assert computed <= set(found) and set(found.values()) == {3}
    assert {(part, wrong) for part, wrong, _ in STRANGERS} == set(VERDICTS)


def test_diagnosis_is_right_in_nine_of_ten_and_misleads_in_less_than_one_of_a_hundred():
    said = Counter(row["verdict"] for row in VERDICTS.values())
    assert set(said) <= set(grader.VERDICTS)
    assert said["right"] >= 0.9 * said.total()
    assert said["misleading"] <= 0.01 * said.total()


def test_the_page_is_what_was_measured():
    page = grader.ROOT / "book" / "grader.md"
    assert page.read_text("utf-8") == grader.page()


def test_the_record_has_every_part_and_no_fault():
    recorded = grader.json.loads((grader.DATA / "grader.json").read_text("utf-8"))
    assert recorded["seeds"] >= 200
    assert set(recorded["parts"]) == set(PARTS)
    for part, row in recorded["parts"].items():
        assert row["faults"] == [], part
        assert row["mistakes"] == len(grader.mistakes(PARTS[part])), part
