"""How functions are called, and what becomes of their failures."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from local.host import Host

NEVER = "0 0 0 1 1 *"


def test_async_functions_share_one_thread_when_many_call(host: Host) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(20) as callers:
        answers = list(
            callers.map(lambda _: requests.get(f"{host.url}/Pre/slow", timeout=10).text, range(20))
        )

    assert answers == ["slept"] * 20
    assert time.monotonic() - began < 5  # one after the other would take ten


def test_sync_functions_queue_when_the_thread_pool_is_full(host: Host) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(6) as callers:
        answers = list(
            callers.map(lambda _: requests.get(f"{host.url}/Pre/blocking", timeout=10).text, range(6))
        )

    assert answers == ["blocked"] * 6
    assert time.monotonic() - began >= 0.9  # three rounds of two


@pytest.mark.parametrize("route", ["broken", "no_answer"])
def test_the_answer_is_a_500_without_a_body_when_a_function_fails(host: Host, route: str) -> None:
    answer = requests.get(f"{host.url}/Pre/{route}", timeout=10)

    assert (answer.status_code, answer.content) == (500, b"")


def test_a_failure_is_logged_without_a_trace_when_a_function_raises(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    requests.get(f"{host.url}/Pre/broken", headers={"Authorization": "Bearer secret"}, timeout=10)

    assert "RuntimeError: broken on purpose" in caplog.text
    assert "Traceback" not in caplog.text
    assert "secret" not in caplog.text


def test_a_function_gets_its_context_when_it_asks_for_it(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    name, invocation_id = requests.get(f"{host.url}/Pre/context", timeout=10).json()

    assert name == "named"
    assert f"Executed 'Functions.named' (Succeeded, Id={invocation_id}" in caplog.text


def test_requests_in_flight_are_answered_when_the_host_stops(app_directory: Path) -> None:
    answers: list[str] = []
    with Host(app_directory, environment={"SCHEDULE": NEVER}) as host:
        caller = threading.Thread(
            target=lambda: answers.append(requests.get(f"{host.url}/Pre/slow", timeout=10).text)
        )
        caller.start()
        time.sleep(0.2)
    caller.join()

    assert answers == ["slept"]
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{host.url}/Pre/slow", timeout=10)
