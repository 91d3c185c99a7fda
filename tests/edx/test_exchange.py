import re
import time
from collections.abc import Iterator

import pytest

from shared.deadline import Deadline
from shared.edx.client import EdxClient
from shared.errors import EdxError, EdxProtocolError, EdxUnavailable, NotFound
from tests.edx.loopback import Answer, send, serving, threads_of_ours, trickle


def trickled_headers(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nX-Long: ", b"x")


def trickled_body(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" ")


def trickled_chunks(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")


def trickled_until_closed(handler: BaseHTTPRequestHandler) -> None:
    # Cut short, such a body looks whole: {"id": 7} and blanks.
    trickle(handler, b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"id": 7}', b" ")


def silence(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"", b"")


def endless_redirect(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 302 Found\r\nLocation: /v1/x\r\nContent-Length: 1000000\r\n\r\n", b" ")


@pytest.mark.parametrize(
    "answer", [trickled_headers, trickled_body, trickled_chunks, trickled_until_closed, silence]
)
def test_the_budget_ends_an_exchange_when_the_answer_trickles(answer: Answer) -> None:
    with serving(answer) as server:
        began = time.monotonic()
        with EdxClient(server.settings).session(Deadline.after(0.5)) as edx:
            with pytest.raises(EdxUnavailable, match=re.escape("the time budget of 0.5 s ran out")):
                edx.catalog(7)
            assert 0.4 < time.monotonic() - began < 2
            sent = edx.requests
            with pytest.raises(EdxUnavailable, match="ran out"):
                edx.catalogs()
            assert edx.requests == sent
        assert not threads_of_ours()


@pytest.mark.parametrize("token", [trickled_headers, trickled_body, silence])
def test_the_budget_ends_an_exchange_when_the_token_call_trickles(token: Answer) -> None:
    with serving(silence, token) as server:
        began = time.monotonic()
        with (
            EdxClient(server.settings).session(Deadline.after(0.5)) as edx,
            pytest.raises(EdxUnavailable, match="ran out"),
        ):
            edx.catalog(7)
        assert time.monotonic() - began < 2


def test_an_error_body_is_not_read_when_it_never_ends() -> None:
    for answer, error in ((endless_redirect, EdxProtocolError), (endless_not_found, NotFound)):
        with serving(answer) as server:
            began = time.monotonic()
            with EdxClient(server.settings).session(Deadline.after(20)) as edx, pytest.raises(error):
                edx.catalog(7)
            assert time.monotonic() - began < 5


def endless_not_found(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n", b" ")


@pytest.mark.parametrize("location", ["/v1/catalogs/8/", "http://127.0.0.1:9/", "http://[", ""])
def test_no_redirect_is_followed_when_one_comes(location: str) -> None:
    with (
        serving(lambda handler: send(handler, b"", 302, Location=location)) as server,
        EdxClient(server.settings).session(Deadline.after(20)) as edx,
        pytest.raises(EdxProtocolError, match="edX answered 302"),
    ):
        edx.catalog(7)
    assert server.asked == ["/token", "/v1/catalogs/7/"]


def test_protocol_error_names_the_limit_when_an_answer_is_too_large() -> None:
    bomb = gzip.compress(b" " * (33 * 1024 * 1024))
    with (
        serving(lambda handler: send(handler, bomb, Content_Encoding="gzip")) as server,
        EdxClient(server.settings).session(Deadline.after(20)) as edx,
        pytest.raises(EdxProtocolError, match="more than 32 MiB"),
    ):
        edx.catalog(7)


def test_an_answer_is_read_when_it_is_large_and_compressed() -> None:
    body = gzip.compress(b" " * (31 * 1024 * 1024) + b'{"id": 7}')
    with (
        serving(lambda handler: send(handler, body, Content_Encoding="gzip")) as server,
        EdxClient(server.settings).session(Deadline.after(20)) as edx,
    ):
        assert edx.catalog(7).id == 7


def reset_in_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
    handler.close_connection = True


def cut_short(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id": 7}')
    handler.close_connection = True


def cut_chunks(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"id": 7}\r\n')
    handler.close_connection = True


def broken_gzip(handler: BaseHTTPRequestHandler) -> None:
    send(handler, gzip.compress(b'{"id": 7}')[:12] + b"garbage", Content_Encoding="gzip")


def not_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("fault", [reset_in_headers, cut_short, cut_chunks, broken_gzip, not_http])
def test_a_broken_exchange_is_tried_again_when_there_is_time(fault: Answer) -> None:
    answers: Iterator[Answer] = iter([fault, lambda handler: send(handler, {"id": 7})])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        next(answers)(handler)

    with serving(answer) as server:
        client = EdxClient(server.settings, random=lambda: 0.0)
        with client.session(Deadline.after(20)) as edx:
            assert edx.catalog(7).id == 7
            assert edx.requests == 3


def test_nothing_that_edx_sent_is_logged_when_its_headers_break_off(caplog: pytest.LogCaptureFixture) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Private-Hea")
        handler.close_connection = True

    with serving(answer) as server:
        client = EdxClient(server.settings, random=lambda: 0.0)
        with client.session(Deadline.after(20)) as edx, pytest.raises(EdxError):
            edx.catalog(7)
    assert caplog.text == ""


def test_unavailable_when_nobody_listens() -> None:
    with serving(silence) as server:
        settings = server.settings
    client = EdxClient(settings, random=lambda: 0.0)
    with client.session(Deadline.after(20)) as edx, pytest.raises(EdxUnavailable, match="cannot be reached"):
        edx.catalog(7)
