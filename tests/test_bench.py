"""The benchmark runs, and the requests that it times are counted."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from local.host.process import HostProcess
from tests.table_proxy import TableProxy

RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ASK = "/ExternalLinks/edXCourseruns?catalogId=1"


@pytest.fixture
def counted_settings(settings: dict[str, str], proxy: TableProxy) -> dict[str, str]:
    return {**settings, "EDX_CATALOG_IDS": "1", "TABLES_CONNECTION_STRING": proxy.connection_string}


@pytest.fixture
def host(counted_settings: dict[str, str]) -> Iterator[HostProcess]:
    """The functions, with one catalog synced."""
    with HostProcess(counted_settings) as host:
        host.fire("sync_course_runs")
        yield host


def course_runs_touched(proxy: TableProxy) -> list[str]:
    return [row_key for row_key in proxy.entities() if RUN_ID.fullmatch(row_key)]


def reads(proxy: TableProxy) -> list[tuple[str, str]]:
    """Return every request so far: its method and its row key without the generation."""
    return [
        (request.method, re.sub("[0-9a-f]{32}", "*", ",".join(request.row_keys)))
        for request in proxy.requests
    ]


def test_no_course_run_is_read_or_written_when_a_sync_finds_nothing_changed(
    host: HostProcess, proxy: TableProxy
) -> None:
    assert len(course_runs_touched(proxy)) > 100  # the first sync, which shows that the test counts runs
    proxy.requests.clear()

    host.fire("sync_course_runs")

    assert course_runs_touched(proxy) == []
    # One query per catalog reads all approved credits.
    others = [query for query in proxy.queries() if "SyncReports" not in query]
    assert {"Credits" in query for query in others} == {True}
    assert len(others) == 1


def test_an_answer_reads_only_the_head_when_the_instance_has_the_body(
    host: HostProcess, proxy: TableProxy, admin: requests.Session
) -> None:
    proxy.requests.clear()
    first = admin.get(host.url + ASK)
    assert (first.status_code, reads(proxy)) == (
        200,
        [("GET", "published"), ("GET", "published-*-body-0000")],
    )
    proxy.requests.clear()

    answer = admin.get(host.url + ASK)

    assert (answer.status_code, answer.content) == (200, first.content)
    assert reads(proxy) == [("GET", "published")]


def test_a_304_reads_only_the_head_when_the_instance_is_new(
    host: HostProcess, proxy: TableProxy, admin: requests.Session, counted_settings: dict[str, str]
) -> None:
    etag = admin.get(host.url + ASK).headers["ETag"]
    with HostProcess(counted_settings) as new:
        proxy.requests.clear()

        answer = admin.get(new.url + ASK, headers={"If-None-Match": etag})

        assert (answer.status_code, answer.content) == (304, b"")
        assert reads(proxy) == [("GET", "published")]


def test_the_benchmark_measures_every_piece_when_it_is_small() -> None:
    options = ("--courses=40", "--latency-ms=0", "--rounds=1", "--no-rivals")
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "bench", *options],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        check=False,
        text=True,
        timeout=200,
    )

    assert done.returncode == 0, done.stderr
    took = dict(re.findall(r"^│ ([\w% ]+?) +│ ([\d.e-]+) +│", done.stdout, re.MULTILINE))
    assert list(took) == [
        "pull",
        "write",
        "first sync",
        "unchanged sync",
        "read",
        "answer",
        "plain",
        "304",
        "cold imports",
        "cold answer",
        "1 % changed",
    ]
    assert all(float(seconds) > 0 for seconds in took.values())
    assert re.search(r"│ unchanged sync ÷ pull +│ [\d.]+ +│ [\d.]+ +│ 1\.25 +│ (met|missed) +│", done.stdout)
