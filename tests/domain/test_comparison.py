"""The comparison of a pull with the stored runs of a catalog, without I/O."""

import pytest

from shared.domain.comparison import UNPUBLISHED, UNREADABLE, Comparison
from shared.domain.course_run import MappedRun, Rejection, course_run_id, stored_json
from shared.domain.published import WITHDRAWN, digest
from tests.mapped_runs import make_mapped

MOMENT = "2026-11-01T12:00:00Z"
PAST, FUTURE = "2026-10-31T00:00:00Z", "2027-06-30T00:00:00Z"


def id_of(key: str) -> str:
    return course_run_id(key)


def stored(*runs: MappedRun) -> dict[str, bytes]:
    """Return the digests that are stored after a sync of these runs."""
    return {id_of(run.run.courserun_key): digest(run, stored_json(run.run)) for run in runs}


def comparison_with(*runs: MappedRun, **marks: bytes) -> Comparison:
    known = stored(*runs) | {id_of(key): mark for key, mark in marks.items()}
    comparison = Comparison(known, MOMENT)
    comparison.begin_pull()
    return comparison


def taken(comparison: Comparison, *records: MappedRun | Rejection) -> list[tuple[str, str]]:
    changes = [comparison.compare(record) for record in records]
    return [(change.kind, change.mapped.run.courserun_key) for change in changes if change]


A, B, C = (make_mapped(key, end_date=FUTURE) for key in "abc")


def unpublished(key: str) -> MappedRun:
    return make_mapped(key, is_published=False, end_date=FUTURE)


def test_only_changed_runs_are_written() -> None:
    comparison = comparison_with(A, B, c=WITHDRAWN)
    changed = make_mapped("b", end_date=FUTURE, price="99.00")
    assert taken(comparison, A, changed, C, make_mapped("d")) == [
        ("changed", "b"), ("restored", "c"), ("created", "d"),
    ]  # fmt: skip
    assert comparison.missing() == []


def test_nothing_is_written_when_nothing_differs() -> None:
    comparison = comparison_with(A, B)
    assert taken(comparison, B, A) == []
    assert (comparison.changes, comparison.missing(), comparison.before) == ({}, [], {})


def test_digest_before_the_change_is_kept_when_a_stored_run_changes() -> None:
    comparison = comparison_with(A, b=WITHDRAWN)
    changed = make_mapped("a", end_date=FUTURE, price="99.00")
    taken(comparison, changed, B, C)
    assert comparison.before == {**stored(A), id_of("b"): WITHDRAWN}
    comparison.begin_pull()
    taken(comparison, A)
    assert comparison.before == {**stored(A), id_of("b"): WITHDRAWN}
    assert comparison.digests == stored(A, B, C)


def test_runs_are_counted_by_their_unknown_track_once_in_each_pull() -> None:
    comparison = comparison_with()
    records = [make_mapped(key)._replace(unknown_track="masters") for key in "ab"]
    records.append(make_mapped("c")._replace(unknown_track="boot camp"))
    for _ in range(2):
        comparison.begin_pull()
        taken(comparison, *records, records[0], A, make_mapped("d"))
        assert comparison.unknown_tracks == {"masters": 2, "boot camp": 1}


def test_size_of_a_change_is_that_of_its_json() -> None:
    change = Comparison({}, MOMENT).compare(make_mapped("é"))
    assert change
    assert change.size == len(f'{{"id":"{course_run_id("é")}","courserunKey":"é"}}'.encode())


def test_runs_are_missing_when_edx_does_not_return_them_and_they_were_not_withdrawn_before() -> None:
    comparison = comparison_with(A, B, c=WITHDRAWN)
    taken(comparison, A)
    assert comparison.missing() == [id_of("b")]
    comparison.note_withdrawn(comparison.missing())
    assert comparison.digests[id_of("b")] == WITHDRAWN
    assert comparison.before == {id_of("b"): stored(B)[id_of("b")]}
    assert comparison.missing() == []


def test_first_of_several_records_is_used_when_all_are_published() -> None:
    comparison = comparison_with(A)
    assert taken(comparison, A, make_mapped("a", price="1.00")) == []


def test_first_of_several_records_is_used_when_none_is_published() -> None:
    comparison = comparison_with()
    second = make_mapped("a", is_published=False, price="1.00")
    assert taken(comparison, unpublished("a"), second) == [("created", "a")]
    assert comparison.digests == stored(unpublished("a"))
    assert comparison.departures() == {"unpublished": [], "ended": [], "unmappable": []}


@pytest.mark.parametrize("known", [True, False])
def test_published_record_is_used_when_another_record_of_the_run_is_unpublished(*, known: bool) -> None:
    comparison = comparison_with(A) if known else comparison_with()
    taken(comparison, unpublished("a"), A, unpublished("a"))
    assert comparison.shown[id_of("a")] is not None
    assert comparison.departures() == {"unpublished": [], "ended": [], "unmappable": []}
    assert comparison.changes == ({} if known else {id_of("a"): "created"})
    assert comparison.digests == stored(A)


# Changes that remove a run from the answer wait for the guard


@pytest.mark.parametrize(
    ("record", "reason"),
    [(unpublished("a"), "unpublished"), (make_mapped("a", end_date=PAST), "ended")],
)
def test_change_is_delayed_when_it_removes_a_run_from_the_answer(record: MappedRun, reason: str) -> None:
    comparison = comparison_with(A)
    assert taken(comparison, record) == []
    assert comparison.departures() == {"unpublished": [], "ended": [], "unmappable": []} | {
        reason: [id_of("a")]
    }
    assert comparison.digests == stored(A)
    (released,) = comparison.release([id_of("a")])
    assert (released.kind, released.mapped) == ("changed", record)
    assert comparison.digests == ({id_of("a"): UNPUBLISHED} if reason == "unpublished" else stored(record))
    assert comparison.before == stored(A)
    assert comparison.changes == {id_of("a"): "changed"}
    assert comparison.release([id_of("a")]) == []


def test_run_is_unchanged_when_the_guard_stops_its_loss() -> None:
    comparison = comparison_with(A)
    taken(comparison, unpublished("a"))
    assert comparison.release([id_of("a")], [id_of("a")]) == []
    assert id_of("a") not in comparison.shown
    assert (comparison.digests, comparison.changes) == (stored(A), {})


def test_served_run_is_marked_when_edx_no_longer_publishes_it() -> None:
    comparison = comparison_with(A)
    taken(comparison, unpublished("a"))
    comparison.release([id_of("a")])
    assert comparison.digests == {id_of("a"): UNPUBLISHED}
    comparison.begin_pull()
    assert taken(comparison, unpublished("a")) == []
    assert comparison.departures()["unpublished"] == []
    assert taken(comparison, A) == [("restored", "a")]


def test_unpublished_run_is_not_a_loss_when_it_changes() -> None:
    comparison = comparison_with(unpublished("a"))
    taken(comparison, make_mapped("a", is_published=False, price="1.00"))
    assert len(comparison.release([])) == 1
    assert UNPUBLISHED not in comparison.digests.values()


# Rejections


def rejection(key: str = "a", *, is_unpublished: bool = False) -> Rejection:
    return Rejection(key, "end", "'TBD' is not a date", is_unpublished)


def test_run_is_unmappable_and_not_missing_when_its_record_is_rejected() -> None:
    comparison = comparison_with(A)
    taken(comparison, rejection())
    assert comparison.missing() == []
    assert comparison.departures()["unmappable"] == [id_of("a")]
    assert comparison.has_rejected_runs_still_served()


def test_rejected_run_is_not_a_loss_when_it_was_rejected_in_the_last_successful_sync() -> None:
    comparison = comparison_with(A)
    taken(comparison, rejection())
    assert comparison.note_unmappable(comparison.departures()["unmappable"]) is True
    assert comparison.digests == {id_of("a"): UNREADABLE}
    comparison.begin_pull()
    taken(comparison, rejection())
    assert comparison.departures()["unmappable"] == []
    assert comparison.note_unmappable([id_of("a")]) is False
    comparison.begin_pull()
    assert taken(comparison, A) == [("changed", "a")]


@pytest.mark.parametrize("known", [{}, {"a": WITHDRAWN}, {"a": UNPUBLISHED}])
def test_rejected_run_is_not_a_loss_when_it_is_not_served(known: dict[str, bytes]) -> None:
    comparison = comparison_with(**known)
    taken(comparison, rejection(is_unpublished=True), rejection())
    assert comparison.departures() == {"unpublished": [], "ended": [], "unmappable": []}
    assert not comparison.has_rejected_runs_still_served()


def test_run_leaves_the_answer_when_its_record_is_rejected_and_unpublished() -> None:
    comparison = comparison_with(A)
    taken(comparison, rejection(is_unpublished=True))
    assert comparison.departures() == {"unpublished": [id_of("a")], "ended": [], "unmappable": []}
    assert comparison.unpublished_rejections() == [id_of("a")]
    comparison.note_unpublished([id_of("a")])
    assert comparison.shown[id_of("a")] is None
    assert (comparison.before, comparison.changes) == (stored(A), {id_of("a"): "changed"})
    assert comparison.digests == {id_of("a"): UNPUBLISHED}


def test_run_is_served_when_only_one_of_its_records_is_rejected() -> None:
    comparison = comparison_with(A)
    assert taken(comparison, rejection(is_unpublished=True), A) == []
    assert comparison.departures() == {"unpublished": [], "ended": [], "unmappable": []}


def test_records_without_a_key_are_counted() -> None:
    comparison = comparison_with(A)
    taken(comparison, rejection(""), rejection("b"), rejection(""))
    assert comparison.unidentified == 2


# A second pull, and what storage refuses


def test_second_pull_decides_again_what_is_missing() -> None:
    comparison = comparison_with(A, B, C)
    taken(comparison, A, rejection("b"), unpublished("c"))
    comparison.begin_pull()
    assert comparison.missing() == [id_of("a"), id_of("b"), id_of("c")]
    assert comparison.departures() == {"unpublished": [], "ended": [], "unmappable": []}
    taken(comparison, B)
    assert comparison.missing() == [id_of("a"), id_of("c")]
    assert comparison.rejections == []


def test_withdrawn_run_is_not_served_when_only_the_first_pull_returned_it() -> None:
    comparison = comparison_with()
    taken(comparison, A)
    comparison.begin_pull()
    comparison.note_withdrawn(comparison.missing())
    assert (comparison.shown, comparison.changes) == ({}, {})


@pytest.mark.parametrize(("known", "after"), [((A,), {id_of("a"): UNREADABLE}), ((), {})])
def test_run_counts_as_rejected_and_is_tried_again_when_storage_refuses_it(
    known: tuple[MappedRun, ...], after: dict[str, bytes]
) -> None:
    comparison = comparison_with(*known)
    changed = make_mapped("a", price="1.00", end_date=FUTURE)
    taken(comparison, changed)
    comparison.refuse(changed, "PropertyValueTooLarge")
    assert comparison.digests == after
    assert id_of("a") not in comparison.shown
    assert comparison.changes == {}
    assert comparison.rejections == [Rejection("a", "entity", "PropertyValueTooLarge")]
    assert comparison.missing() == []
    assert comparison.has_rejected_runs_still_served() == bool(known)
