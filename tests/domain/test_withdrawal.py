"""The guard against mass loss: which runs callers would lose, and when that is too many."""

import pytest

from shared.domain.comparison import LossReason
from shared.domain.withdrawal import guard, lost_runs

MOMENT = "2026-11-01T12:00:00Z"
PAST, FUTURE = "2026-10-31T00:00:00Z", "2027-06-30T00:00:00Z"


def ids(count: int, first: int = 0) -> list[str]:
    return [str(number) for number in range(first, first + count)]


def served(count: int) -> dict[str, str | None]:
    return dict.fromkeys(ids(count), FUTURE)


@pytest.mark.parametrize(
    ("total", "losing", "percent", "stops"),
    [
        (100, 21, 20, True),
        (100, 20, 20, False),  # not more than 20 %
        (40, 11, 20, True),  # more than ten
        (40, 10, 20, False),  # ten, and less than half
        (20, 10, 20, True),  # half of a small catalog
        (21, 10, 20, False),  # less than half
        (8, 4, 20, True),
        (6, 3, 20, False),  # three are allowed, whatever percentage they are
        (3, 3, 20, False),
        (60, 60, 100, False),  # 100 % allows everything
        (400, 11, 0, True),
        (400, 10, 0, False),
        (1000, 201, 20, True),
        (1000, 200, 20, False),
        (0, 0, 0, False),
    ],
)
def test_guard_stops_a_loss_above_the_limit(total: int, losing: int, percent: int, *, stops: bool) -> None:
    error = guard(served(total), {"missing": ids(losing)}, MOMENT, percent=percent, catalog_id=1)
    assert (error is not None) is stops


def test_message_has_the_numbers_the_reason_and_the_command_to_allow_it() -> None:
    error = guard(served(60), {"unpublished": ids(60)}, MOMENT, percent=20, catalog_id=7)
    assert error
    assert error.message == (
        "callers would lose 60 of 60, no longer published; SYNC_MAX_WITHDRAW_PERCENT allows 20 %. "
        "The sync stopped, and nothing was taken away. If edX is right, allow it for one sync: "
        "python -m shared sync --catalog 7 --allow-withdrawals"
    )


def test_message_has_the_numbers_by_reason_when_there_are_several() -> None:
    lost: dict[LossReason, list[str]] = {"missing": ids(7), "ended": ids(5, 7), "unmappable": ids(1, 12)}
    error = guard(served(60), lost, MOMENT, percent=20, catalog_id=1)
    assert error
    assert error.message.startswith(
        "callers would lose 13 of 60, 7 no longer shown by edX, "
        "5 ended by a date that edX moved into the past, 1 with a record that cannot be read any more; "
    )


def test_run_is_not_served_and_not_lost_when_its_known_end_has_passed() -> None:
    ends = {number: PAST if position < 50 else FUTURE for position, number in enumerate(ids(60))}
    assert lost_runs(ends, {"missing": ids(52)}, MOMENT) == {"missing": set(ids(2, 50))}
    assert guard(ends, {"missing": ids(5, 50)}, MOMENT, percent=20, catalog_id=1) is not None  # 5 of 10


def test_run_has_ended_at_the_exact_second_of_its_end() -> None:
    assert lost_runs({ids(1)[0]: MOMENT}, {"missing": ids(1)}, MOMENT) == {}
    assert lost_runs({ids(1)[0]: "2026-11-01T12:00:01Z"}, {"missing": ids(1)}, MOMENT) != {}


def test_runs_are_not_lost_when_callers_did_not_see_them() -> None:
    leaving: dict[LossReason, list[str]] = {"unpublished": ids(3), "ended": ids(2, 100), "missing": []}
    assert lost_runs(served(10), leaving, MOMENT) == {"unpublished": set(ids(3))}


def test_run_without_an_end_is_lost_when_it_leaves() -> None:
    assert lost_runs({ids(1)[0]: None}, {"missing": ids(1)}, MOMENT) == {"missing": set(ids(1))}
