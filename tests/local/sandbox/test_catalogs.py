"""Catalogs that change while they are served."""

import pytest

from local.sandbox.catalogs import Catalog
from local.sandbox.sample import make_course, make_run
from tests.local.sandbox.caller import COURSES, FOREIGN, Caller, keys


def test_pages_show_the_change_when_a_catalog_changes(edx: Caller, catalog: Catalog) -> None:
    edx.get()
    catalog.remove("NUSx+0x")
    catalog.add(make_course("NUSx+newx"), at=0)
    catalog.add_run("NUSx+1x", make_run("course-v1:NUSx+1x+again"))
    catalog.alter_run("course-v1:NUSx+2x+1T2026", min_effort=7)
    catalog.remove_run("course-v1:NUSx+3x+1T2026")
    catalog.alter("NUSx+4x", lambda course: course.update(title="Retitled"))
    shown = {course["key"]: course for course in edx.get(f"{COURSES}?limit=100").json()["results"]}
    assert next(iter(shown)) == "NUSx+newx"
    assert "NUSx+0x" not in shown
    assert [run["key"] for run in shown["NUSx+1x"]["course_runs"]][1] == "course-v1:NUSx+1x+again"
    assert shown["NUSx+2x"]["course_runs"][0]["min_effort"] == 7
    assert shown["NUSx+3x"]["course_runs"] == []
    assert shown["NUSx+4x"]["title"] == "Retitled"
    assert list(shown.values()) == catalog.courses


def test_change_is_an_error_when_nothing_has_that_key(catalog: Catalog) -> None:
    with pytest.raises(KeyError):
        catalog.remove("NUSx+unknown")
    with pytest.raises(KeyError):
        catalog.alter_run("course-v1:NUSx+unknown+R", min_effort=1)


def test_page_is_500_when_it_contains_a_course_that_cannot_be_rendered(edx: Caller, catalog: Catalog) -> None:
    catalog.unrenderable = ["NUSx+25x"]
    pages = ["limit=20", "limit=20&offset=20", "limit=20&offset=40", "limit=1&offset=25", "limit=1&offset=26"]
    answers = [edx.get(f"{COURSES}?{page}") for page in pages]
    assert [answer.status_code for answer in answers] == [200, 500, 200, 500, 200]
    assert answers[1].headers["Content-Type"] == "text/html"


def test_page_has_fewer_courses_than_requested_when_the_limit_is_capped(
    edx: Caller, catalog: Catalog
) -> None:
    catalog.max_limit = 20
    page = edx.get(f"{COURSES}?limit=101")
    assert (len(keys(page)), page.json()["next"]) == (20, f"{FOREIGN}?limit=20&offset=20")
    assert len(keys(edx.get(f"{COURSES}?limit=7"))) == 7
    numbered = edx.get(f"{COURSES}?page=2&page_size=30")
    assert (keys(numbered)[0], numbered.json()["next"]) == ("NUSx+20x", f"{FOREIGN}?page=3&page_size=20")


def test_course_can_be_listed_twice(edx: Caller, catalog: Catalog) -> None:
    catalog.list_twice("NUSx+1x")
    page = edx.get(f"{COURSES}?limit=4")
    assert (page.json()["count"], keys(page)) == (46, ["NUSx+0x", "NUSx+1x", "NUSx+1x", "NUSx+2x"])


def test_seats_can_be_expired(edx: Caller, catalog: Catalog) -> None:
    catalog.expire_seats("course-v1:NUSx+1x+1T2026")
    courses = edx.get().json()["results"]
    deadlines = [[seat["upgrade_deadline"] for seat in c["course_runs"][0]["seats"]] for c in courses[:2]]
    assert deadlines == [[None, None], ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"]]


def test_catalog_has_its_original_content_after_clear(catalog: Catalog) -> None:
    before, described = catalog.courses, catalog.described()
    catalog.remove("NUSx+0x")
    catalog.alter("NUSx+4x", lambda course: course.update(title="Retitled"))
    catalog.viewers, catalog.unrenderable, catalog.max_limit = ["somebody"], ["NUSx+1x"], 1
    catalog.clear()
    assert catalog.courses == before
    assert catalog.described() == described
    assert not catalog.unrenderable
    assert catalog.max_limit is None
