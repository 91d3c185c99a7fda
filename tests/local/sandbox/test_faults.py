"""Faults of answers and connections, over HTTP."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
import requests

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import (
    EDX,
    Action,
    answer,
    broken_gzip,
    change,
    cut,
    early_hints,
    edit,
    envelope,
    gateway,
    huge,
    keyless,
    long_number,
    no_results,
    redirect,
    refuse,
    repeat,
    reset,
    short,
    slow,
    stuck,
    throttle,
    trickle,
    without,
)
from local.sandbox.http import Exchange, Reply
from tests.local.sandbox.caller import COURSES, FOREIGN, Caller, keys


def test_rule_applies_after_some_requests_and_a_limited_number_of_times(edx: Caller) -> None:
    rule = edx.sandbox.on("/courses/", answer(503), after=1, times=2)
    assert [edx.get().status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    assert rule.fired == 2


def test_rules_queue_up_when_they_match_the_same_page(edx: Caller) -> None:
    edx.sandbox.on("/courses/", answer(500), offset=20, times=1)
    edx.sandbox.on("/courses/", answer(502), offset=20, times=1)
    pages = [f"{COURSES}?limit=20&offset={offset}" for offset in (0, 20, 20, 20)]
    assert [edx.get(page).status_code for page in pages] == [200, 500, 502, 200]


def test_any_function_with_the_right_arguments_is_an_action(edx: Caller, catalog: Catalog) -> None:
    def shrink(_exchange: Exchange, reply: Reply) -> Reply:
        catalog.remove("NUSx+0x")
        return reply

    edx.sandbox.on("/courses/", shrink, times=1)
    assert [edx.get().json()["count"] for _ in range(2)] == [45, 44]


@pytest.mark.parametrize(
    ("retry_after", "header", "detail"),
    [
        (3592, "3592", "Request was throttled. Expected available in 3592 seconds."),
        (None, None, "Request was throttled."),
        ("soon", "soon", "Request was throttled."),
    ],
)
def test_throttling_has_the_given_retry_after(
    edx: Caller, retry_after: float | str | None, header: str | None, detail: str
) -> None:
    edx.sandbox.on(EDX, throttle(retry_after))
    response = edx.get()
    assert (response.status_code, response.headers.get("Retry-After")) == (429, header)
    assert response.json() == {"detail": detail}
    assert edx.token() == {"detail": detail}


def test_throttling_has_a_date_in_retry_after(edx: Caller) -> None:
    edx.sandbox.on(EDX, throttle(60, as_date=True))
    moment = parsedate_to_datetime(edx.get().headers["Retry-After"])
    assert 55 < (moment - datetime.now(UTC)).total_seconds() <= 60


def test_answer_can_be_replaced(edx: Caller) -> None:
    edx.sandbox.on("/courses/", answer(200, "<html>", content_type="text/html"), times=1)
    edx.sandbox.on("/courses/", answer(200, {"error": "odd"}), times=1)
    edx.sandbox.on("/courses/", answer(200, [1, 2]), times=1)
    edx.sandbox.on("/courses/", redirect("http://169.254.169.254/"), times=1)
    edx.sandbox.on("/access_token", without("access_token"), times=1)
    assert edx.get().text == "<html>"
    assert edx.get().json() == {"error": "odd"}
    assert edx.get().json() == [1, 2]
    moved = edx.get()
    assert (moved.status_code, moved.headers["Location"]) == (302, "http://169.254.169.254/")
    assert "access_token" not in edx.token()


def test_fields_of_the_envelope_can_be_replaced(edx: Caller) -> None:
    edx.sandbox.on("/courses/", envelope(next="file:///etc/passwd", count=-1), times=1)
    edx.sandbox.on("/courses/", edit(lambda page: page.update(count=f"{page['count']}")), times=1)
    edx.sandbox.on("/courses/", no_results(), times=1)
    edx.sandbox.on("/courses/", repeat(0), offset=20, times=1)
    edx.sandbox.on("/courses/", stuck(), offset=20)
    odd = edx.get().json()
    assert (odd["next"], odd["count"], len(odd["results"])) == ("file:///etc/passwd", -1, 20)
    assert edx.get().json()["count"] == "45"
    assert edx.get().json() == {"count": 0, "next": None, "previous": None, "results": []}
    repeated = edx.get(f"{COURSES}?limit=20&offset=20")
    assert (keys(repeated)[0], repeated.json()["next"]) == ("NUSx+0x", f"{FOREIGN}?limit=20&offset=40")
    assert edx.get(f"{COURSES}?limit=20&offset=20").json()["next"] == f"{FOREIGN}?limit=20&offset=20"


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (reset("before"), requests.ConnectionError),
        (reset("headers"), requests.ConnectionError),
        (reset("body"), (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)),
        (cut(), requests.exceptions.ChunkedEncodingError),
        (broken_gzip(), requests.exceptions.ContentDecodingError),
    ],
    ids=["reset before", "reset in headers", "reset in body", "cut", "broken gzip"],
)
def test_exchange_can_be_broken_once(
    edx: Caller, action: object, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    edx.sandbox.on("/courses/", action, times=1)  # type: ignore[arg-type]
    with pytest.raises(error):
        edx.get()
    assert edx.get().status_code == 200


def test_gzip_can_end_in_the_middle(edx: Caller) -> None:
    edx.sandbox.on("/courses/", broken_gzip(truncated=True), times=1)
    with pytest.raises(requests.JSONDecodeError):
        edx.get().json()


def test_connections_can_be_refused_for_a_while(edx: Caller) -> None:
    edx.sandbox.on("/courses/", refuse(0.4), times=1)
    with pytest.raises(requests.ConnectionError):
        edx.get()
    time.sleep(0.2)
    with pytest.raises(requests.ConnectionError, match="refused"):
        edx.get()
    time.sleep(0.6)
    assert edx.get().status_code == 200


def test_connections_are_refused_when_the_sandbox_is_unreachable(edx: Caller) -> None:
    with edx.sandbox.unreachable(), pytest.raises(requests.ConnectionError):
        edx.get()
    assert edx.get().status_code == 200


@pytest.mark.parametrize("where", ["headers", "body"])
def test_bytes_can_be_sent_one_by_one(edx: Caller, where: str) -> None:
    edx.sandbox.on("/catalogs/", trickle(where, byte_every_s=0.001), times=1)  # type: ignore[arg-type]
    began = time.monotonic()
    assert edx.get("catalog/v1/catalogs/").json()["count"] == 2
    assert time.monotonic() - began > 0.1


def test_body_can_be_huge(edx: Caller) -> None:
    edx.sandbox.on("/courses/", huge(3), times=1)
    response = edx.get()
    assert len(response.content) > 3 * 2**20
    assert response.json()["count"] == 45


def test_answer_can_be_delayed(edx: Caller) -> None:
    edx.sandbox.on("/courses/", slow(0.2), times=1)
    assert edx.get().elapsed.total_seconds() > 0.2


def test_sandbox_stops_at_once_when_it_is_sending_a_slow_answer(catalog: Catalog) -> None:
    with Sandbox([catalog]) as sandbox, ThreadPoolExecutor(1) as pool:
        edx = Caller(sandbox)
        sandbox.on("/courses/", trickle("body", byte_every_s=60))
        pending = pool.submit(edx.get)
        while not sandbox.requests:
            time.sleep(0.01)
        sandbox.__exit__(None, None, None)
        assert isinstance(pending.exception(timeout=3), requests.RequestException)
        edx.session.close()


def test_answer_of_a_gateway_can_be_simulated(edx: Caller) -> None:
    edx.sandbox.on("/courses/", gateway(), times=1)
    edx.sandbox.on("/courses/", gateway(404, as_json=True), times=1)
    firewall, api_gateway = edx.get(), edx.get()
    assert (firewall.status_code, firewall.headers["Content-Type"]) == (403, "text/html")
    assert "403 Forbidden" in firewall.text
    assert (api_gateway.status_code, api_gateway.json()) == (404, {"message": "Not Found"})


@pytest.mark.parametrize("action", [short(), short(gzipped=True)], ids=["plain", "gzip"])
def test_body_can_end_after_a_brace(edx: Caller, action: Action) -> None:
    edx.sandbox.on("/courses/", action, times=1)
    body = edx.get().content
    assert body.startswith(b'{"count": 45')
    assert body.endswith(b"}")
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_early_hints_can_be_sent_before_the_answer(edx: Caller) -> None:
    edx.sandbox.on("/catalogs/", early_hints())
    host, _, port = edx.sandbox.url.removeprefix("http://").rstrip("/").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"GET /catalog/v1/catalogs/ HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while b"provided" not in received:
            received += connection.recv(4096)
    first, _, rest = received.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 103 ")
    assert rest.startswith(b"HTTP/1.1 401 ")


def test_endless_pages_of_courses_without_keys_can_be_simulated(edx: Caller) -> None:
    edx.sandbox.on("/courses/", keyless())
    first = edx.get(f"{COURSES}?limit=20").json()
    far = edx.get(f"{COURSES}?limit=20&offset=1000000").json()
    assert first["results"][0] == {"title": "Course 0", "course_runs": []}
    assert far["results"][19] == {"title": "Course 1000019", "course_runs": []}
    assert (first["next"], far["next"]) == (
        f"{FOREIGN}?limit=20&offset=20",
        f"{FOREIGN}?limit=20&offset=1000020",
    )


def test_number_can_have_thousands_of_digits(edx: Caller) -> None:
    edx.sandbox.on("/courses/", long_number("max_effort"), times=1)
    text = edx.get().text
    assert text.count('"max_effort": ' + "9" * 5000 + ", ") == 1
    assert text.count('"max_effort": 6, ') == 19


def test_courses_can_leave_and_join_after_a_page(edx: Caller) -> None:
    edx.sandbox.on("/courses/", change(swap=1), after=1, times=1)
    pages = [edx.get(f"{COURSES}?limit=20&offset={offset}") for offset in (0, 20, 40)]
    assert [page.json()["count"] for page in pages] == [45, 45, 45]
    assert (keys(pages[1])[-1], keys(pages[2])[0]) == ("NUSx+39x", "NUSx+41x")  # course 40 was never returned
    assert keys(pages[2])[-1].startswith("JoinedX+")
