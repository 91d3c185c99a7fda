"""Requests and answers on the wire, compared with the real host's web server."""

import http.client
import json
import socket
from pathlib import Path

import pytest
import requests

from local.host import Host

NEVER = "0 0 0 1 1 *"


CHUNKED = b"GET /Pre/slow HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def received(host: Host, request: bytes) -> bytes:
    """Send bytes, and return everything received until the host closes the connection."""
    with socket.create_connection(("127.0.0.1", int(host.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            return stream.read()


def raw_status(host: Host, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", int(host.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(request)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            return answer.status


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
def test_the_answer_is_a_404_without_a_body_when_no_function_matches(
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


def test_url_is_unchanged_when_it_contains_escapes(host: Host) -> None:
    url = f"{host.url}/Pre/Links/echo?c=x+y%2B&a="

    assert requests.get(url, timeout=10).json()["url"] == url


def test_the_body_reaches_the_function(host: Host) -> None:
    answer = requests.post(f"{host.url}/Pre/Links/echo", data="hällo".encode(), timeout=10)

    assert (answer.json()["method"], answer.json()["body"]) == ("POST", "hällo")


@pytest.mark.parametrize("code", [204, 304])
def test_the_connection_stays_usable_when_an_answer_has_no_body(host: Host, code: int) -> None:
    with requests.Session() as session:
        answer = session.get(f"{host.url}/Pre/status?code={code}", timeout=10)
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (code, b"", 'W/"1"')
        assert session.get(f"{host.url}/Pre/status?code=200", timeout=10).status_code == 200


def test_compressed_bytes_are_not_changed(host: Host) -> None:
    answer = requests.get(f"{host.url}/Pre/zipped", timeout=10)

    assert (answer.headers["Content-Encoding"], answer.content) == ("gzip", b"[]")


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
        (b"GET /Pre/slow HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", 400),
        (CHUNKED + b"nonsense\r\n", 400),
        (CHUNKED + b"-1\r\n", 400),
        (CHUNKED + b"4\r\nlonger\r\n0\r\n\r\n", 400),
        (CHUNKED + b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n", 400),
        (CHUNKED + b"ffffffff\r\n", 413),
        (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", 400),
    ],
)
def test_the_answer_is_4xx_when_the_request_is_malformed(
    host: Host, request_bytes: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert raw_status(host, request_bytes) == status
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["Transfer-Encoding", "transfer-encoding"])
def test_a_chunked_body_reaches_the_function_when_it_comes_with_a_get(host: Host, name: str) -> None:
    chunks = b"4;note=x\r\nh\xc3\xa4l\r\nA\r\nlo, world!\r\n0\r\nTrailer: x\r\n\r\n"
    request = b"GET /Pre/Links/echo HTTP/1.1\r\n" + name.encode() + b": chunked\r\n\r\n" + chunks
    again = b"GET /Pre/Links/echo HTTP/1.1\r\nConnection: close\r\n\r\n"
    first, second = received(host, request + again).split(b"HTTP/1.1 200 ")[1:]

    assert json.loads(first.partition(b"\r\n\r\n")[2])["body"] == "hällo, world!"
    assert json.loads(second.partition(b"\r\n\r\n")[2])["body"] == ""


@pytest.mark.parametrize("line_bytes", [8192, 8193])
def test_the_request_line_may_have_8_kib(host: Host, line_bytes: int) -> None:
    line = b"GET /Pre/Links/echo?a=" + b"b" * (line_bytes - 33) + b" HTTP/1.1\r\n"

    assert len(line) == line_bytes
    assert raw_status(host, line + b"\r\n") == (200 if line_bytes <= 8192 else 414)


def test_a_304_has_the_content_type_of_the_function_or_text_plain(host: Host) -> None:
    answer = requests.get(f"{host.url}/Pre/status?code=304", timeout=10)
    own = requests.get(f"{host.url}/Pre/not_modified", timeout=10)

    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert own.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(("disabled", "status", "body"), [("", 200, True), ("True", 204, False)])
def test_the_root_is_a_home_page_when_it_is_not_disabled(
    app_directory: Path, disabled: str, status: int, *, body: bool
) -> None:
    with Host(app_directory, environment={"AzureWebJobsDisableHomepage": disabled}) as host:
        answer = requests.get(host.url, timeout=10)
        head = requests.head(host.url, timeout=10)

    assert (answer.status_code, bool(answer.content), head.status_code) == (status, body, status)
