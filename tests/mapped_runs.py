"""Mapped course runs: a default run with the fields that a test sets, and generated runs."""

from typing import Any

from hypothesis import strategies as st

from shared.domain.course_run import INT32_MAX, CourseRun, MappedRun, course_run_id, stored_json
from shared.domain.published import ServedRun, served

KEY = "course-v1:NUSx+A1x+1T2026"
OLD_STYLE_KEY = "DelftX/CTB3300WCx/2T2014"


def make_mapped(key: str = KEY, *, is_published: bool = True, **fields: Any) -> MappedRun:
    return MappedRun(CourseRun(id=course_run_id(key), courserun_key=key, **fields), is_published)


def make_served(key: str = KEY, **fields: Any) -> ServedRun:
    mapped = make_mapped(key, **fields)
    run = served(mapped, stored_json(mapped.run))
    assert run
    return run


_KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters=" "), min_size=1)
_DATES = st.datetimes().map(lambda moment: f"{moment.isoformat()[:19]}Z")
_INT32 = st.integers(0, INT32_MAX)
_ADDRESSES = st.text().map("https://www.edx.org/{}".format)


def mapped_runs() -> st.SearchStrategy[MappedRun]:
    """Draw any run that mapping can produce."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        "uuid": st.uuids().map(str),
        "start_date": _DATES,
        "end_date": _DATES,
        "enrollment_start": _DATES,
        "enrollment_end": _DATES,
        "min_effort": _INT32,
        "max_effort": _INT32,
        "pacing_type": st.sampled_from(["self-paced", "instructor-paced"]),
        "weeks_to_complete": _INT32,
        "marketing_url": _ADDRESSES,
        "enrollment_url": _ADDRESSES,
        "price": st.decimals(0, 10_000, places=2).map(str),
        "type": st.sampled_from(["audit", "verified", "professional"]),
        "modular_credit": _INT32,
    }
    known = st.fixed_dictionaries({}, optional=fields)
    return st.builds(
        lambda key, is_published, known: make_mapped(key, is_published=is_published, **known),
        _KEYS,
        st.booleans(),
        known,
    )
