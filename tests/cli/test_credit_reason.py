"""The reason for a run's modular credit, as `show` prints it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.cli.show import credit_reason
from shared.domain.course_run import CourseRun, MappedRun, course_run_id
from shared.domain.credits import Approval

KEY = "course-v1:MITx+6.00.1x+2T2026"


def make_mapped(*, proposed: int | None = 4, **fields: Any) -> MappedRun:
    values = {"weeks_to_complete": 9, "min_effort": 14, "max_effort": 16, "modular_credit": 4} | fields
    run = CourseRun.model_validate({"id": course_run_id(KEY), "courserunKey": KEY, **values})
    return MappedRun(run, is_published=True, course_key="MITx+6.00.1x", proposed_credit=proposed)


def make_approval(key: str = KEY, note: str = "Senate") -> Approval:
    return Approval(key, 4, note, "ann", datetime(2026, 3, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("mapped", "reason"),
    [
        (make_mapped(), "4 = 9 weeks x 15 hours a week / 30 hours a credit, rounded down"),
        (
            make_mapped(max_effort=None),
            "4 = 9 weeks x 14 hours a week / 30 hours a credit, rounded down",
        ),
        (
            make_mapped(min_effort=3, max_effort=4, modular_credit=1, proposed=None),  # stored by version 0.1
            "1 = 9 weeks x 3.5 hours a week / 30 hours a credit, rounded down",
        ),
        (
            make_mapped(weeks_to_complete=None, modular_credit=None, proposed=None),
            "none, because edX does not say how many weeks the run takes",
        ),
        (
            make_mapped(min_effort=None, max_effort=None, modular_credit=None, proposed=None),
            "none, because edX does not say how many hours a week the run takes",
        ),
        (
            make_mapped(min_effort=0, max_effort=0, modular_credit=None, proposed=None),
            "none, because edX says 0 hours a week",
        ),
        (
            make_mapped(modular_credit=None, proposed=None),
            "none, because edX sends no weeks (9 is computed from the dates, which give no credit)",
        ),
    ],
)
def test_formula_is_shown_when_no_credit_is_approved(mapped: MappedRun, reason: str) -> None:
    assert credit_reason(mapped, None, 30) == f"by formula: {reason}"


def test_approval_is_shown_with_the_proposal_of_the_formula() -> None:
    assert credit_reason(make_mapped(), make_approval(), 30) == (
        "4 approved for this run by ann on 2026-03-01 (Senate). "
        "The formula proposes 4 = 9 weeks x 15 hours a week / 30 hours a credit, rounded down"
    )
    without_weeks = make_mapped(proposed=None)  # its credit is the approved one
    assert credit_reason(without_weeks, make_approval(), 30).endswith(
        "The formula proposes none, because edX sends no weeks (9 is computed from the dates, which give no "
        "credit)"
    )
    of_course = make_approval("MITx+6.00.1x", "")
    assert credit_reason(make_mapped(modular_credit=9), of_course, 30).startswith(
        "4 approved for the course MITx+6.00.1x by ann on 2026-03-01, which takes effect with the next sync. "
    )
