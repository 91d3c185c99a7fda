"""Approved credits: which approval applies to a run."""

from datetime import UTC, datetime

import pytest

from shared.domain.credits import Approval, Approvals
from tests.mapped_runs import make_mapped

AT = datetime(2026, 11, 1, tzinfo=UTC)
RUN = Approval("course-v1:A+1+T", 2, "Board, 3 March", "ada@nus.edu.sg", AT)
COURSE = RUN._replace(key="A+1", credit=4)


@pytest.mark.parametrize(
    ("approvals", "credit"), [([RUN, COURSE], 2), ([COURSE], 4), ([RUN._replace(credit=0)], 0)]
)
def test_approval_of_the_run_has_priority_over_that_of_its_course(
    approvals: list[Approval], credit: int
) -> None:
    mapped = make_mapped("course-v1:A+1+T", modular_credit=9)._replace(course_key="A+1", proposed_credit=9)
    approval = Approvals(approvals).of(mapped)
    assert approval
    approved = approval.applied_to(mapped)
    assert (approved.run.modular_credit, approved.proposed_credit) == (credit, 9)


def test_approval_does_not_apply_to_another_run() -> None:
    assert Approvals([RUN, COURSE]).of(make_mapped("course-v1:B+1+T")) is None
