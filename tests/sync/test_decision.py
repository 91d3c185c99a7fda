"""Which runs leave the answer after a pull; no I/O."""

from types import SimpleNamespace
from typing import Any

import pytest

from shared.domain.comparison import Comparison
from shared.domain.course_run import Rejection, course_run_id, stored_json
from shared.domain.published import Head, digest
from shared.sync.decision import Decision, decide
from shared.sync.run import Progress
from tests.mapped_runs import make_mapped

MOMENT = "2026-11-01T12:00:00Z"
END = "2027-06-30T00:00:00Z"
HEAD = Head(unidentified=1)
RUNS = [make_mapped(f"{number:02}", end_date=END) for number in range(20)]
IDS = [course_run_id(f"{number:02}") for number in range(20)]


def decided(
    seen: int,
    *,
    incomplete: str | None = None,
    unreadable: int = 0,
    unpublished: int = 0,
    percent: int = 20,
    allow: bool = False,
    head: Head | None = HEAD,
) -> Decision:
    """Return the decision after a pull that returned the last `seen` of twenty stored runs.

    The last `unpublished` of them are no longer published. `unreadable` is the number of records without a
    key; one such record was known before."""
    comparison = Comparison(
        {IDS[n]: digest(each, stored_json(each.run)) for n, each in enumerate(RUNS)}, MOMENT
    )
    comparison.begin_pull()
    for number, run in enumerate(RUNS[20 - seen :], 20 - seen):
        comparison.compare(run._replace(is_published=number < 20 - unpublished))
    for _ in range(unreadable):
        comparison.compare(Rejection("", "key", "no key"))
    state: Any = SimpleNamespace(head=head, counted=dict.fromkeys(IDS, END))
    progress = Progress(comparison, incomplete=incomplete)
    return decide(7, state, progress, moment=MOMENT, percent=percent, allow=allow)


def test_missing_runs_leave_the_answer_when_the_loss_is_allowed() -> None:
    decision = decided(17)
    assert decision == Decision(IDS[:3], {"missing": IDS[:3]}, {"missing": set(IDS[:3])}, None)
    assert decision.staying == set()


@pytest.mark.parametrize(("percent", "stops"), [(54, True), (55, False)])
def test_guard_stops_the_sync_when_the_loss_is_above_the_setting(percent: int, *, stops: bool) -> None:
    decision = decided(9, percent=percent)
    assert (decision.stopped is not None) is stops
    if decision.stopped:
        assert f"SYNC_MAX_WITHDRAW_PERCENT allows {percent} %" in decision.stopped.message
        assert "python -m shared sync --catalog 7 --allow-withdrawals" in decision.stopped.message
    assert decision.staying == (set(IDS[:11]) if stops else set())


def test_all_runs_leave_the_answer_when_the_operator_allows_it() -> None:
    decision = decided(0, allow=True)
    assert (decision.missing, decision.stopped, decision.staying) == (IDS, None, set())


def test_nothing_is_missing_when_the_pull_is_incomplete() -> None:
    assert decided(0, incomplete="edX sent no count") == Decision()


DOUBT = (
    "1 new records without a readable key could be among the 3 runs that are missing. If they are other "
    "runs, withdraw the missing ones: python -m shared sync --catalog 7 --allow-withdrawals"
)


@pytest.mark.parametrize(
    ("head", "unreadable", "is_doubtful"),
    [
        (HEAD, 0, False),
        (HEAD, 1, False),
        (HEAD, 2, True),
        (None, 0, False),
        (None, 1, True),
    ],
)
def test_nothing_is_missing_when_there_are_new_records_without_a_key(
    head: Head | None, unreadable: int, *, is_doubtful: bool
) -> None:
    decision = decided(17, unreadable=unreadable, head=head)
    if is_doubtful:
        assert decision == Decision(doubt=DOUBT)
    else:
        assert (decision.missing, decision.doubt) == (IDS[:3], None)


def test_other_runs_leave_when_new_records_without_a_key_could_be_the_missing_ones() -> None:
    decision = decided(17, unreadable=2, unpublished=1)
    assert decision == Decision(
        missing=[], leaving={"unpublished": IDS[19:]}, lost={"unpublished": {IDS[19]}}, doubt=DOUBT
    )


def test_nothing_is_doubtful_when_no_run_is_missing() -> None:
    assert decided(20, unreadable=2) == Decision()


def test_missing_runs_leave_despite_records_without_a_key_when_the_operator_allows_it() -> None:
    assert decided(17, unreadable=2, allow=True).missing == IDS[:3]
