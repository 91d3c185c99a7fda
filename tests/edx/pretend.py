"""Shared by the tests of the edX client: settings, a fake clock, mocked answers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import requests
from requests_mock import Mocker

from shared.deadline import Deadline
from shared.edx.client import EdxClient
from shared.edx.models import EdxCourse
from shared.edx.walk import CourseWalk
from shared.settings import EdxSettings

API = "https://edx.test/catalog/v1/"
TOKEN = "https://edx.test/oauth2/v1/access_token"
CATALOGS = f"{API}catalogs/"
CATALOG = f"{API}catalogs/7/"
COURSES = f"{API}catalogs/7/courses/"
SECRET = "s3cr3t-of-ours"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def make_settings(**overrides: object) -> EdxSettings:
    return EdxSettings.model_validate(
        {
            "EDX_API_URL": API,
            "EDX_TOKEN_URL": TOKEN,
            "EDX_CLIENT_ID": "our-client",
            "EDX_CLIENT_SECRET": SECRET,
            "EDX_PAGE_SIZE": 2,
            "EDX_CONCURRENCY": 2,
            **overrides,
        }
    )


class FakeTime:
    """Time that passes only when `sleep` is called."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return 1000 + self.passed_s

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed_s)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed_s += seconds

    def left(self, seconds: float) -> Deadline:
        return Deadline.after(seconds, self.clock)


def make_client(fake_time: FakeTime, **settings: object) -> EdxClient:
    return EdxClient(
        make_settings(**settings),
        clock=fake_time.clock,
        now=fake_time.now,
        sleep=fake_time.sleep,
        random=lambda: 1.0,
    )


def page(keys: Sequence[object], count: object = None, following: object = None) -> dict[str, object]:
    return {"count": count, "next": following, "results": [{"key": key} for key in keys]}


def serve(web: Mocker, pages: dict[int, dict[str, object]]) -> None:
    """Serve a page for each offset."""

    def answer(request: requests.PreparedRequest, _context: object) -> dict[str, object]:
        return pages[int(parse_qs(urlsplit(request.url or "").query)["offset"][0])]

    web.get(COURSES, json=answer)


def offsets(web: Mocker) -> list[str]:
    return [request.qs["offset"][0] for request in web.request_history if "offset" in request.qs]


def at(offset: int, limit: int = 3) -> str:
    return f"https://discovery.test/api/v1/other/?limit={limit}&offset={offset}"


def key_of(course: object) -> object:
    return course.key if isinstance(course, EdxCourse) else course


def walked(walk: CourseWalk) -> list[list[object]]:
    return [[key_of(course) for course in courses] for courses in walk]
