"""What a pull means for the stored runs of a catalog: decided without any I/O."""

from typing import Any
from uuid import UUID

import pytest

from shared.course_run import Rejection, course_run_id
from shared.edx_models import EdxCourse
from shared.published import WITHDRAWN
from shared.settings import MappingSettings
from shared.sync import Comparison
from tests.builders import make_course, make_run


def id_of(key: str) -> bytes:
    return UUID(course_run_id(key)).bytes


def course(*runs: object, **fields: Any) -> EdxCourse:
    return EdxCourse.model_validate(make_course(*runs, **fields))


def plain(*keys: str) -> EdxCourse:
    return course(*(make_run(key=key) for key in keys))


def taken(comparison: Comparison, *courses: object) -> list[tuple[str, str]]:
    return [(change.kind, change.mapped.run.courserun_key) for change in comparison.courses(courses)]


def after(*courses: object) -> dict[bytes, bytes]:
    """Return the digests that are stored after a sync of these courses."""
    comparison = Comparison({}, MappingSettings())
    comparison.begin_pull()
    taken(comparison, *courses)
    return comparison.digests


@pytest.fixture
def comparison() -> Comparison:
    """A catalog in which a, b and c are stored, and c was withdrawn."""
    comparison = Comparison(after(plain("a", "b")) | {id_of("c"): WITHDRAWN}, MappingSettings())
    comparison.begin_pull()
    return comparison


def test_only_what_differs_is_written(comparison: Comparison) -> None:
    changed = make_run(key="b", end="2027-01-01T00:00:00Z")
    assert taken(comparison, plain("a"), course(changed), plain("c", "d")) == [
        ("changed", "b"), ("restored", "c"), ("created", "d"),
    ]  # fmt: skip
    assert comparison.runs == 4
    assert comparison.gone() == []


def test_nothing_is_written_when_nothing_differs(comparison: Comparison) -> None:
    assert taken(comparison, plain("b"), plain("a")) == []
    assert (comparison.changes, comparison.gone()) == ({}, [])


def test_run_is_changed_when_only_its_being_listed_is(comparison: Comparison) -> None:
    unlisted = make_run(key="b", status="unpublished")
    assert taken(comparison, plain("a"), course(unlisted)) == [("changed", "b")]
    assert comparison.shown[id_of("b")] is None
    assert comparison.gone() == []


def test_size_of_a_change_is_that_of_its_json_in_bytes() -> None:
    only_a_key = EdxCourse.model_validate({"course_runs": [{"key": "é"}]})
    (change,) = Comparison({}, MappingSettings()).courses([only_a_key])
    json = (
        '{"id":"11111111-1111-5111-8111-111111111111","courserunKey":"é",'
        '"enrollmentUrl":"https://courses.edx.org/course_modes/choose/%C3%A9/"}'
    )
    assert change.size == len(json.encode()) == len(json) + 1


def test_runs_that_edx_does_not_show_are_gone_but_not_those_withdrawn_before(comparison: Comparison) -> None:
    taken(comparison, plain("a"))
    assert comparison.gone() == [id_of("b")]
    comparison.withdraw(comparison.gone())
    assert (comparison.withdrawn, comparison.digests[id_of("b")]) == (1, WITHDRAWN)
    assert comparison.gone() == []


def test_first_of_a_run_counts_when_it_is_in_several_courses(comparison: Comparison) -> None:
    later = make_run(key="d", end="2027-01-01T00:00:00Z")
    first, second = make_run(key="d"), course(later, uuid="99999999-9999-4999-8999-999999999999")
    assert taken(comparison, course(first), second) == [("created", "d")]
    run = comparison.shown[id_of("d")]
    assert run
    assert run.end_date == "3000-01-01T00:00:00Z"


def test_rejected_run_is_not_gone_and_goes_on_being_served(comparison: Comparison) -> None:
    assert taken(comparison, plain("a"), course(make_run(key="b", start="soon"))) == []
    assert comparison.rejections == [Rejection("b", "start", "'soon' is no date")]
    assert comparison.gone() == []
    assert comparison.kept_unseen()


def test_no_earlier_version_is_kept_when_a_rejected_run_was_never_served(comparison: Comparison) -> None:
    bad = [make_run(key=key, start="soon") for key in ("c", "d")]
    taken(comparison, plain("a", "b"), course(*bad))
    assert not comparison.kept_unseen()
    assert comparison.digests[id_of("c")] == WITHDRAWN
    assert id_of("d") not in comparison.digests


def test_records_without_a_readable_key_are_counted(comparison: Comparison) -> None:
    taken(
        comparison,
        "no course",
        course(make_run(key=None), 7, make_run(key="a\x00b"), make_run(key="d", end=1)),
    )
    assert comparison.unidentified == 4
    assert len(comparison.rejections) == 5


def test_second_pull_decides_anew_what_is_gone(comparison: Comparison) -> None:
    assert taken(comparison, plain("a", "b", "d"), "no course") == [("created", "d")]
    comparison.begin_pull()
    assert taken(comparison, plain("a")) == []
    assert comparison.rejections == []
    assert set(comparison.gone()) == {id_of("b"), id_of("d")}
    comparison.withdraw(comparison.gone())
    assert comparison.shown.keys() == {id_of("a")}


def test_what_came_and_went_between_two_pulls_counts_as_no_change(comparison: Comparison) -> None:
    taken(comparison, plain("a", "b", "d"))
    comparison.begin_pull()
    taken(comparison, plain("a", "b"))
    comparison.withdraw(comparison.gone())
    # Or the report would say that only one of two runs is unchanged.
    assert (comparison.runs, comparison.changes) == (2, {})


def test_kind_of_a_change_is_that_of_the_first_pull_when_a_run_changes_between_two(
    comparison: Comparison,
) -> None:
    taken(comparison, plain("d"))
    comparison.begin_pull()
    assert taken(comparison, course(make_run(key="d", end=None))) == [("changed", "d")]
    assert comparison.changes == {id_of("d"): "created"}


def test_run_that_storage_refused_is_rejected_and_tried_again_next_time(comparison: Comparison) -> None:
    before = dict(comparison.digests)
    changes = list(comparison.courses([plain("a", "d"), course(make_run(key="b", end=None))]))
    for change in changes:
        comparison.refuse(change.mapped, "PropertyValueTooLarge")
    assert [(each.run_key, each.field, each.reason) for each in comparison.rejections] == [
        ("d", "entity", "PropertyValueTooLarge"),
        ("b", "entity", "PropertyValueTooLarge"),
    ]
    assert comparison.changes == {}
    assert comparison.gone() == []
    assert comparison.kept_unseen()  # b, as it was
    assert id_of("d") not in comparison.digests
    assert comparison.digests[id_of("b")] not in {before[id_of("b")], WITHDRAWN}


def test_unknown_tracks_are_counted(comparison: Comparison) -> None:
    masters = [make_run(key=key, seats=[], type="masters") for key in ("a", "b")]
    taken(comparison, course(*masters))
    assert comparison.unknown_tracks == {"masters": 2}
