"""The history entries for two published states."""

from typing import Any

from shared.domain.changes import Entry, differences, entries
from shared.domain.comparison import UNPUBLISHED
from shared.domain.course_run import course_run_id
from shared.domain.published import WITHDRAWN, ServedRun
from tests.mapped_runs import make_served

MOMENT = "2026-11-01T12:00:00Z"
PAST, FUTURE = "2026-10-31T00:00:00Z", "2027-06-30T00:00:00Z"
A = course_run_id("a")


def entry_of(
    before: ServedRun | None, after: ServedRun | None, *, seen: bool = True, **known: Any
) -> list[Entry]:
    return entries(
        {A: before} if before else {},
        {A: after} if seen else {},
        [A],
        moment=MOMENT,
        known={A: known["digest"]} if "digest" in known else {},
        rows_before={A: known["row"]} if "row" in known else {},
        notes={A: known["note"]} if "note" in known else {},
    )


def test_entry_has_each_changed_field_before_and_after() -> None:
    before = make_served("a", price="150.00", min_effort=3, end_date=FUTURE)
    after = make_served("a", price="99.00", modular_credit=2, end_date=FUTURE)
    assert entry_of(before, after) == [
        Entry(
            kind="changed",
            courserun_key="a",
            id=course_run_id("a"),
            fields={
                "minEffort": {"before": 3},
                "modularCredit": {"after": 2},
                "price": {"before": "150.00", "after": "99.00"},
            },
        )
    ]


def test_there_is_no_entry_when_callers_see_no_difference() -> None:
    same = make_served("a", end_date=FUTURE)
    assert entry_of(same, same) == []
    assert entry_of(None, None) == []
    ended = make_served("a", end_date=PAST)
    assert entry_of(ended, None, seen=False) == []  # its known end has passed
    assert entry_of(ended, ended) == []


def test_run_is_added_when_it_was_never_shown_and_restored_when_it_had_been_removed() -> None:
    run = make_served("a", end_date=FUTURE)
    assert entry_of(None, run) == [Entry(kind="added", courserun_key="a", id=A)]
    assert [each.kind for each in entry_of(None, run, digest=b"any" + bytes(13))] == ["added"]
    assert [each.kind for each in entry_of(None, run, digest=WITHDRAWN)] == ["restored"]
    assert [each.kind for each in entry_of(None, run, digest=UNPUBLISHED)] == ["restored"]


def test_removal_names_its_reason() -> None:
    run = make_served("a", end_date=FUTURE)
    removals = [
        entry_of(run, None, seen=False),
        entry_of(run, None),
        entry_of(run, make_served("a", end_date=PAST)),
    ]
    assert [each for (each,) in removals] == [
        Entry(kind="removed", courserun_key="a", id=A, reason="missing"),
        Entry(kind="removed", courserun_key="a", id=A, reason="unpublished"),
        Entry(kind="removed", courserun_key="a", id=A, reason="ended"),
    ]


def test_entries_are_sorted_by_run_key() -> None:
    # Sorted by their ids they would come as c, b, a.
    runs = {course_run_id(key): make_served(key, end_date=FUTURE) for key in "cba"}
    found = entries({}, runs, runs, moment=MOMENT, known={}, rows_before={}, notes={})
    assert [each.courserun_key for each in found] == ["a", "b", "c"]


def test_run_is_changed_when_it_had_ended_and_its_end_is_extended() -> None:
    row = make_served("a", end_date=PAST)
    (entry,) = entry_of(None, make_served("a", end_date=FUTURE), digest=b"x" * 16, row=row)
    assert (entry.kind, entry.fields) == ("changed", {"endDate": {"before": PAST, "after": FUTURE}})


def test_entry_has_the_note_of_the_approval_when_the_credit_is_approved() -> None:
    before, after = make_served("a", modular_credit=2), make_served("a", modular_credit=4)
    (entry,) = entry_of(before, after, note="Board, 3 March")
    assert entry.note == "Board, 3 March"
    (entry,) = entry_of(before, make_served("a", modular_credit=2, price="1.00"), note="Board, 3 March")
    assert entry.note is None


def test_json_of_an_entry_matches_the_contract() -> None:
    changed = Entry(kind="changed", courserun_key="k", id="i", fields={"price": {"after": "1"}}, note="n")
    assert changed.as_json("2026-11-24T12:07:03Z", 1) == {
        "at": "2026-11-24T12:07:03Z", "catalogId": 1, "courserunKey": "k", "id": "i", "kind": "changed",
        "fields": {"price": {"after": "1"}}, "note": "n",
    }  # fmt: skip
    removed = Entry(kind="removed", courserun_key="k", id="i", reason="ended")
    assert removed.as_json("2026-11-24T12:07:03Z", 1) == {
        "at": "2026-11-24T12:07:03Z", "catalogId": 1, "courserunKey": "k", "id": "i", "kind": "removed",
        "reason": "ended",
    }  # fmt: skip
    assert Entry(kind="first-sync", runs=225).as_json("2026-11-24T12:07:03Z", 1) == {
        "at": "2026-11-24T12:07:03Z", "catalogId": 1, "kind": "first-sync", "runs": 225,
    }  # fmt: skip
    assert Entry(kind="first-sync").as_json("2026-11-24T12:07:03Z", 1)["runs"] == 0


def test_change_of_availability_is_ignored() -> None:
    assert differences({"availability": "Current"}, {"availability": "Upcoming"}) == {}
