"""Timers, on their schedule and fired by hand."""

import time
from pathlib import Path

import pytest
import requests

from local.host import Host

NEVER = "0 0 0 1 1 *"


def fired(host: Host) -> list[bool]:
    past_due: list[bool] = host.functions["tick"].call.__globals__["fired"]
    return past_due


@pytest.mark.parametrize(("body", "past_due"), [("", False), ('{"input": {"IsPastDue": true}}', True)])
def test_admin_answers_202_at_once_and_runs_the_timer(host: Host, body: str, *, past_due: bool) -> None:
    before = len(fired(host))
    answer = requests.post(f"{host.url}/admin/functions/tick", data=body, timeout=10)
    assert (answer.status_code, answer.content) == (202, b"")

    deadline = time.monotonic() + 10
    while len(fired(host)) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fired(host)[before:] == [past_due]


def test_admin_answers_202_when_the_timer_will_fail(host: Host) -> None:
    assert requests.post(f"{host.url}/admin/functions/failing", timeout=10).status_code == 202


@pytest.mark.parametrize("body", ["{", "[]", '{"input": "text"}'])
def test_admin_answers_400_when_the_input_is_malformed(host: Host, body: str) -> None:
    assert requests.post(f"{host.url}/admin/functions/tick", data=body, timeout=10).status_code == 400


def test_fire_raises_an_error_when_the_timer_function_raises(host: Host) -> None:
    with pytest.raises(RuntimeError, match="failed\non purpose"):
        host.fire("failing")


def test_timers_run_on_their_schedule(app_directory: Path) -> None:
    with Host(app_directory, environment={"SCHEDULE": "*/1 * * * * *"}) as host:
        time.sleep(3.5)

    assert fired(host) in ([False] * 3, [False] * 4)
