"""The sample catalogs and the large catalogue."""

import json
import time
from datetime import UTC, datetime

from local.sandbox import Sandbox
from local.sandbox.content import sample_catalogs, sample_courses
from local.sandbox.large import large_catalog
from tests.local.sandbox.caller import COURSES, Caller

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_sample_has_enough_records_of_every_kind() -> None:
    courses = sample_courses(NOW)
    runs = [run for course in courses for run in course["course_runs"]]
    objects = [run for run in runs if isinstance(run, dict)]
    sizes = [len(json.dumps(course)) for course in courses]
    assert len(courses) >= 120
    assert len(runs) >= 200
    assert min(sizes) > 4_000
    assert max(sizes) < 50_000
    assert len({course["key"] for course in courses}) == len(courses)
    assert len([run for run in objects if str(run["key"]).startswith("course-v1:")]) > 80
    assert len([run for run in objects if "/" in str(run["key"])]) > 80
    assert {type(run["min_effort"]) for run in objects} == {int, float, str, type(None)}
    assert {type(run["image"]) for run in objects} == {dict, list, type(None)}
    assert [] in [course["course_runs"] for course in courses]
    assert courses == sample_courses(NOW)


def test_sample_catalogs_share_runs() -> None:
    ours, partner, theirs = sample_catalogs(NOW)
    assert (len(ours), len(partner)) == (len(ours.courses), 30)
    shared = {course["key"] for course in ours.courses} & {course["key"] for course in partner.courses}
    assert len(shared) == 24
    assert theirs.viewers == ["somebody-else"]


def test_large_catalogue_is_built_and_changed_quickly() -> None:
    began = time.monotonic()
    catalog = large_catalog(60_000, NOW)
    catalog.remove("LoadX+000007")
    catalog.alter_run("course-v1:LoadX+000009+2", min_effort=9)
    assert time.monotonic() - began < 30
    assert len(catalog) == 59_999
    with Sandbox([catalog]) as sandbox:
        edx = Caller(sandbox)
        page = edx.get(f"{COURSES}?limit=100").json()
        edx.session.close()
    assert page["count"] == 59_999
    assert page["results"][8]["course_runs"][1]["min_effort"] == 9
    assert sum(len(course["course_runs"]) for course in page["results"][:6]) == 9
    assert 8_000 < len(json.dumps(page["results"])) / 100 < 10_000
