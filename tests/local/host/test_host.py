"""The host stand-in over real HTTP, on an app of its own."""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from local.child import ChildFailed
from local.host.host import Host, next_occurrence
from local.host.process import FunctionFailed, HostProcess

APP = """
import asyncio, gzip, json, threading, time
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
fired = []

@app.route(route="Links/echo", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    seen = {
        "method": req.method, "url": req.url, "headers": dict(req.headers), "params": dict(req.params),
        "body": req.get_body().decode(), "thread": threading.current_thread().name,
    }
    return func.HttpResponse(json.dumps(seen), mimetype="application/json", headers={"X-Own": "yes"})

@app.route(route="slow", methods=["GET"])
async def slow(req: func.HttpRequest) -> func.HttpResponse:
    await asyncio.sleep(0.5)
    return func.HttpResponse("slept")

@app.route(route="blocking", methods=["GET"])
def blocking(req: func.HttpRequest) -> func.HttpResponse:
    time.sleep(0.3)
    return func.HttpResponse("blocked")

@app.route(route="status", methods=["GET"])
async def status(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=int(req.params["code"]), headers={"ETag": 'W/"1"'})

@app.route(route="zipped", methods=["GET"])
async def zipped(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(gzip.compress(b"[]"), headers={"Content-Encoding": "gzip"})

@app.route(route="broken", methods=["GET"])
async def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("broken on purpose")

@app.route(route="no_answer", methods=["GET"])
def no_answer(req: func.HttpRequest):
    return None

@app.function_name("named")
@app.route(route="context", methods=["GET"])
async def named_otherwise(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(json.dumps([context.function_name, context.invocation_id]))

@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%")
def tick(timer: func.TimerRequest) -> None:
    fired.append(timer.past_due)

@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
async def failing(timer: func.TimerRequest) -> None:
    await asyncio.sleep(0.1)
    raise RuntimeError("failed\\non purpose")

@app.timer_trigger(arg_name="timer", schedule="%MISSING%")
def misconfigured(timer: func.TimerRequest) -> None: ...
"""
NEVER = "0 0 0 1 1 *"


@pytest.fixture(scope="module")
def app_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("app")
    (directory / "function_app.py").write_text(APP)
    (directory / "host.json").write_text('{"extensions": {"http": {"routePrefix": "Pre"}}}')
    return directory


@pytest.fixture(scope="module")
def host(app_directory: Path) -> Iterator[Host]:
    environment = {"SCHEDULE": NEVER, "PYTHON_THREADPOOL_THREAD_COUNT": "2"}
    with Host(app_directory, environment=environment) as host:
        yield host


def raw_status(host: Host, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", int(host.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(request)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            return answer.status


def fired(host: Host) -> list[bool]:
    past_due: list[bool] = host.functions["tick"].call.__globals__["fired"]
    return past_due


@pytest.mark.parametrize(
    "path", ["/Pre/Links/echo", "/pre/LINKS/Echo", "/Pre/Links/echo/", "/Pre/Links/%65cho"]
)
def test_a_route_is_served_when_only_case_or_spelling_differs(host: Host, path: str) -> None:
    answer = requests.get(host.url + path, timeout=10)

    assert (answer.status_code, answer.headers["Content-Type"], answer.headers["X-Own"]) == (
        200,
        "application/json",
        "yes",
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/Links/echo"),
        ("GET", "/"),
        ("GET", "/Pre/unknown"),
        ("HEAD", "/Pre/slow"),
        ("POST", "/Pre/slow"),
        ("OPTIONS", "/Pre/slow"),
        ("BREW", "/Pre/slow"),
        ("GET", "/admin/functions/tick"),
        ("POST", "/admin/functions/unknown"),
        ("POST", "/admin/functions/echo"),
        ("POST", "/admin/functions/misconfigured"),
    ],
)
def test_the_answer_is_a_bare_404_when_no_function_takes_the_request(
    host: Host, method: str, path: str
) -> None:
    answer = requests.request(method, host.url + path, timeout=10)

    assert (answer.status_code, answer.content) == (404, b"")


def test_header_names_are_lower_case_and_repeated_values_joined(host: Host) -> None:
    connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=10)
    connection.putrequest("GET", "/Pre/Links/echo")
    connection.putheader("Authorization", "Bearer a")
    connection.putheader("authorization", "Bearer b")
    connection.putheader("X-Name", "é".encode())
    connection.endheaders()
    headers = json.load(connection.getresponse())["headers"]
    connection.close()

    assert (headers["authorization"], headers["x-name"]) == ("Bearer a,Bearer b", "é")


def test_empty_query_values_are_dropped_and_repeated_ones_joined(host: Host) -> None:
    answer = requests.get(f"{host.url}/Pre/Links/echo?a=&b=1&b=2&B=3&c=x+y%2B&d&a=4", timeout=10)

    assert answer.json()["params"] == {"b": "1,2,3", "c": "x y+", "a": "4"}


def test_url_is_the_original_one_when_it_holds_escapes(host: Host) -> None:
    url = f"{host.url}/Pre/Links/echo?c=x+y%2B&a="

    assert requests.get(url, timeout=10).json()["url"] == url


def test_the_body_reaches_the_function(host: Host) -> None:
    answer = requests.post(f"{host.url}/Pre/Links/echo", data="hällo".encode(), timeout=10)

    assert (answer.json()["method"], answer.json()["body"]) == ("POST", "hällo")


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


@pytest.mark.parametrize("code", [204, 304])
def test_the_connection_stays_usable_when_an_answer_has_no_body(host: Host, code: int) -> None:
    with requests.Session() as session:
        answer = session.get(f"{host.url}/Pre/status?code={code}", timeout=10)
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (code, b"", 'W/"1"')
        assert session.get(f"{host.url}/Pre/status?code=200", timeout=10).status_code == 200


def test_compressed_bytes_pass_untouched(host: Host) -> None:
    answer = requests.get(f"{host.url}/Pre/zipped", timeout=10)

    assert (answer.headers["Content-Encoding"], answer.content) == ("gzip", b"[]")


@pytest.mark.parametrize("route", ["broken", "no_answer"])
def test_the_answer_is_a_bare_500_when_a_function_fails(host: Host, route: str) -> None:
    answer = requests.get(f"{host.url}/Pre/{route}", timeout=10)

    assert (answer.status_code, answer.content) == (500, b"")


def test_a_failure_is_logged_without_a_trace_when_a_function_raises(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    requests.get(f"{host.url}/Pre/broken", headers={"Authorization": "Bearer secret"}, timeout=10)

    assert "RuntimeError: broken on purpose" in caplog.text
    assert "Traceback" not in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /Pre/slow HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /Pre/slow HTTP/1.1\r\nA: " + b"b" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /Pre/slow HTTP/1.1\r\nA: " + b"b" * 200_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"b" * 200_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /Pre/slow HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET /Pre/slow HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET /Pre/slow HTTP/1.1\r\nA: \xff\r\n\r\n", 400),
        (b"GET /Pre/slow HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"GET /Pre/slow HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /Pre/slow HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET /Pre/slow HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    ],
)
def test_the_answer_is_4xx_when_the_request_is_malformed(
    host: Host, request_bytes: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert raw_status(host, request_bytes) == status
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("body", "past_due"), [("", False), ('{"input": {"IsPastDue": true}}', True)])
def test_admin_answers_202_at_once_and_runs_the_timer(host: Host, body: str, *, past_due: bool) -> None:
    before = len(fired(host))
    answer = requests.post(f"{host.url}/admin/functions/tick", data=body, timeout=10)
    assert (answer.status_code, answer.content) == (202, b"")

    deadline = time.monotonic() + 10
    while len(fired(host)) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fired(host)[before:] == [past_due]


def test_a_function_gets_its_context_when_it_asks_for_it(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    name, invocation_id = requests.get(f"{host.url}/Pre/context", timeout=10).json()

    assert name == "named"
    assert f"Executed 'Functions.named' (Succeeded, Id={invocation_id}" in caplog.text


def test_admin_answers_202_when_the_timer_will_fail(host: Host) -> None:
    assert requests.post(f"{host.url}/admin/functions/failing", timeout=10).status_code == 202


@pytest.mark.parametrize("body", ["{", "[]", '{"input": "text"}'])
def test_admin_answers_400_when_the_input_is_malformed(host: Host, body: str) -> None:
    assert requests.post(f"{host.url}/admin/functions/tick", data=body, timeout=10).status_code == 400


def test_fire_raises_what_the_timer_raised(host: Host) -> None:
    with pytest.raises(RuntimeError, match="failed\non purpose"):
        host.fire("failing")


def test_timers_run_on_their_schedule(app_directory: Path) -> None:
    with Host(app_directory, environment={"SCHEDULE": "*/1 * * * * *"}) as host:
        time.sleep(3.5)

    assert fired(host) in ([False] * 3, [False] * 4)


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


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("0 0 * * * *", "2026-01-01T01:00:00+00:00"),
        ("*/2 * * * * *", "2026-01-01T00:00:02+00:00"),
        ("*/5 * * * *", "2026-01-01T00:05:00+00:00"),
        ("0 30 9 * * 1-5", "2026-01-01T09:30:00+00:00"),
        ("0 0 0 13 * 5", "2026-02-13T00:00:00+00:00"),  # a Friday the 13th, not either
    ],
)
def test_ncrontab_is_read_seconds_first_in_utc(schedule: str, expected: str) -> None:
    assert (
        next_occurrence(schedule, datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)).isoformat() == expected
    )


def test_the_host_runs_alone_on_its_settings(app_directory: Path) -> None:
    with HostProcess({"SCHEDULE": NEVER}, app_directory) as host:
        assert requests.get(f"{host.url}/Pre/status?code=200", timeout=10).status_code == 200
        host.fire("tick", past_due=True)
        with pytest.raises(FunctionFailed, match=r"^RuntimeError: failed on purpose$"):
            host.fire("failing")
        assert "The 'misconfigured' function is in error: the setting MISSING is missing" in host.log
        began = time.monotonic()

    assert host.child.wait() == 0
    assert time.monotonic() - began < 5


def test_the_host_says_why_when_it_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="FileNotFoundError"):
        HostProcess({}, tmp_path)


def test_the_host_ends_when_whoever_started_it_is_killed(app_directory: Path) -> None:
    program = (
        "import os, signal; from pathlib import Path; from local.host.process import HostProcess;"
        f"print(HostProcess({{'SCHEDULE': '{NEVER}'}}, Path({str(app_directory)!r})).url, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    parent = subprocess.run(  # noqa: S603 - the command is ours
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False
    )
    url = parent.stdout.strip()
    assert url.startswith("http://127.0.0.1:")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            requests.get(url, timeout=1)
        except requests.ConnectionError:
            return
        time.sleep(0.1)
    pytest.fail("The host outlived its parent")
