import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from shared.domain.course_run import CourseRun, MappedRun, Rejection, course_run_id, stored_json
from shared.edx.mapping import map_course
from shared.edx.models import EdxCourse
from shared.settings import MappingSettings
from tests.builders import make_course, make_run, make_seat
from tests.contract.schema import CONTRACT

RULES = MappingSettings()
NOW = datetime(2026, 3, 1, tzinfo=UTC)

# Text of every category, halves of surrogate pairs too; and text that is nearly what edX sends.
any_text = st.text(st.characters(), max_size=40)
telling_text = st.sampled_from(
    [
        "",
        "0",
        "4",
        "4.5",
        "150.00",
        "USD",
        "verified",
        "professional",
        "masters",
        "self_paced",
        "instructor_paced",
        "2026-06-01T15:00:00Z",
        "2026-06-01T15:00:60.123456789+08:00",
        "0001-01-01",
        "9999-12-31T23:59:59-23:59",
        "https://www.edx.org/",
        "https://[",
        "course-v1:MITx+6.00.1x+2T2026",
        "2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11",
        "x" * 40_000,
        "https://www.edx.org/" + "é" * 40_000,
    ]
)
numbers = st.integers() | st.floats() | st.integers(0, 60) | st.sampled_from([2**31 - 1, 2**31, 10**4000])
scalars = st.none() | st.booleans() | numbers | any_text | telling_text
any_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=4,
)


def with_some(fields: dict[str, Any], replaced: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a sample with some fields replaced by other values."""
    changes = st.fixed_dictionaries({}, optional=dict.fromkeys(fields, replaced))
    return changes.map(lambda changed: fields | changed)


seats = with_some(make_seat(), scalars | any_json)
runs = st.builds(
    lambda run, seats: run | seats,
    with_some(make_run(), scalars | any_json),
    st.fixed_dictionaries({}, optional={"seats": st.lists(seats | any_json, max_size=3)}),
)
courses = st.builds(
    lambda course, runs: course | runs,
    with_some(make_course(), any_json),
    st.fixed_dictionaries({}, optional={"course_runs": st.lists(runs | any_json, max_size=3)}),
)


def check(results: list[MappedRun | Rejection]) -> None:
    for result in results:
        if isinstance(result, Rejection):
            json.dumps(result).encode()
            assert len(result.reason) <= 250
            assert result.field
            continue
        stored = stored_json(result.run)
        CONTRACT.validate(json.loads(stored))
        assert CourseRun.model_validate_json(stored) == result.run
        assert result.run.id == course_run_id(result.run.courserun_key)
        assert result.unknown_track is None or 0 < len(result.unknown_track.encode()) <= 4 * 64


@settings(max_examples=400, deadline=None)
@given(courses)
def test_every_run_is_mapped_by_the_contract_or_rejected_for_any_field_values(
    course: dict[str, Any],
) -> None:
    results = list(map_course(EdxCourse.model_validate(course), RULES, NOW))
    check(results)
    if isinstance(course["course_runs"], list):
        assert len(results) == len(course["course_runs"])


@settings(max_examples=100, deadline=None)
@given(any_json)
def test_one_rejection_is_returned_when_a_value_is_not_a_course(junk: object) -> None:
    (result,) = map_course(junk, RULES, NOW)
    assert isinstance(result, Rejection)
    check([result])


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=300))
def test_a_key_of_any_characters_is_kept_or_rejected(key: str) -> None:
    results = list(map_course(EdxCourse.model_validate(make_course(make_run(key=key))), RULES, NOW))
    check(results)
    (result,) = results
    if isinstance(result, MappedRun):
        assert result.run.courserun_key == key


@pytest.mark.parametrize(
    ("category", "kept"),
    [
        *[
            (category, True)
            for category in ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No")
        ],
        *[
            (category, True)
            for category in ("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So")
        ],
        *[(category, True) for category in ("Zl", "Zp", "Cf", "Co", "Cn")],
        ("Cc", False),
        ("Cs", False),
    ],
)
def test_a_key_may_contain_any_character_except_control_characters_and_surrogates(
    category: Any, *, kept: bool
) -> None:
    @settings(max_examples=10, deadline=None)
    @given(st.characters(categories=[category]))
    def holds(character: str) -> None:
        (result,) = map_course(
            EdxCourse.model_validate(make_course(make_run(key=f"a{character}"))), RULES, NOW
        )
        assert isinstance(result, MappedRun) is kept

    holds()


offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(max_examples=300, deadline=None)
@given(
    st.datetimes(timezones=st.just(UTC)),
    offsets,
    st.sampled_from(["T", "t", " "]),
    st.text("0123456789", max_size=12),
)
def test_a_moment_has_one_text_when_its_offset_and_fraction_differ(
    moment: datetime, offset: timezone, separator: str, more_digits: str
) -> None:
    try:
        local = moment.astimezone(offset)
    except OverflowError:  # edX has no way to write this moment with this offset
        return
    sent = local.isoformat(sep=separator, timespec="microseconds")
    sent = f"{sent[:26]}{more_digits}{sent[26:]}"
    (result,) = map_course(EdxCourse.model_validate(make_course(make_run(start=sent))), RULES, NOW)
    assert isinstance(result, MappedRun)
    assert result.run.start_date == f"{moment.isoformat()[:19]}Z"


@settings(max_examples=100, deadline=None)
@given(st.datetimes(), st.text("0123456789", max_size=9))
def test_a_date_is_the_second_before_when_it_is_a_leap_second(moment: datetime, fraction: str) -> None:
    minute = moment.isoformat()[:16]
    sent = f"{minute}:60{'.' if fraction else ''}{fraction}Z"
    (result,) = map_course(EdxCourse.model_validate(make_course(make_run(end=sent))), RULES, NOW)
    assert isinstance(result, MappedRun)
    assert result.run.end_date == f"{minute}:59Z"
