"""Calls of functions, and the answers to their failures."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from local.host import Host

NEVER = "0 0 0 1 1 *"


@pytest.mark.parametrize(
    ("route", "text", "callers", "shortest_s", "longest_s"),
    [
        ("slow", "slept", 20, 0.5, 5),  # async functions share one thread; in sequence they would take ten
        ("blocking", "blocked", 6, 0.9, 60),  # the others wait for one of two threads: three rounds of two
    ],
)
def test_async_functions_share_one_thread_and_sync_functions_wait_for_one_of_the_pool(
    host: Host, route: str, text: str, callers: int, *, shortest_s: float, longest_s: float
) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(callers) as pool:
        answers = [pool.submit(requests.get, f"{host.url}/Pre/{route}", timeout=10) for _ in range(callers)]

    assert {answer.result().text for answer in answers} == {text}
    assert shortest_s <= time.monotonic() - began < longest_s


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
