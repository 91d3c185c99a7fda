"""The line that a sync logs: one line of JSON that can be queried."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.domain.course_run import Rejection
from shared.domain.sync_report import SyncReport

STARTED = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_report(**fields: Any) -> SyncReport:
    return SyncReport(sync_id="5d2f", catalog_id=31, trigger="timer", started=STARTED, **fields)


def test_log_line_is_one_line_of_json_with_the_fields_for_queries() -> None:
    report = make_report(
        invocation_id="0a1b",
        ended=STARTED + timedelta(seconds=7.2564),
        outcome="failed",
        courses=120,
        runs=204,
        created=1,
        changed=2,
        unchanged=198,
        withdrawn=5,
        unpublished=6,
        ended_early=7,
        warnings=["edX no longer lists catalog 9"],
        waited_s=1.25,
        restored=3,
        rejected=1,
        rejections=[Rejection("course-v1:NUSx+É+1", "start", "'soon' is not a date")],
        unknown_tracks={"masters": 4},
        edx_requests=9,
        throttled_until=STARTED + timedelta(hours=1),
        error="edX's rate limit is used up\nuntil 13:00 é",
    )
    line = report.log_line()
    assert "\n" not in line
    assert "until 13:00 é" in line
    assert json.loads(line) == {
        "event": "sync",
        "sync_id": "5d2f",
        "catalog": 31,
        "trigger": "timer",
        "invocation_id": "0a1b",
        "started": "2026-03-01T12:00:00+00:00",
        "ended": "2026-03-01T12:00:07.256400+00:00",
        "seconds": 6.006,
        "waited_s": 1.25,
        "outcome": "failed",
        "courses": 120,
        "runs": 204,
        "created": 1,
        "changed": 2,
        "unchanged": 198,
        "withdrawn": 5,
        "unpublished": 6,
        "ended_early": 7,
        "warnings": ["edX no longer lists catalog 9"],
        "restored": 3,
        "rejected": 1,
        "unknown_tracks": {"masters": 4},
        "incomplete": None,
        "edx_requests": 9,
        "throttled_until": "2026-03-01T13:00:00+00:00",
        "error": "edX's rate limit is used up\nuntil 13:00 é",
    }


def test_log_line_has_zeros_and_nulls_when_a_sync_found_nothing() -> None:
    report = make_report(invocation_id="", ended=STARTED, outcome="ok")
    values = json.loads(report.log_line())
    counts = (
        "courses", "runs", "created", "changed", "unchanged", "withdrawn", "unpublished", "ended_early",
        "restored", "rejected", "edx_requests", "waited_s", "seconds",
    )  # fmt: skip
    assert {name: values[name] for name in counts} == dict.fromkeys(counts, 0)
    assert (values["unknown_tracks"], values["warnings"]) == ({}, [])
    assert {values[name] for name in ("incomplete", "throttled_until", "error")} == {None}
