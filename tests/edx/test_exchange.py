import gc
import gzip
import re
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from requests_mock import Mocker

from shared.deadline import Deadline
from shared.edx.answers import NoUsableAnswer
from shared.edx.client import EdxClient
from shared.edx.connections import Sockets
from shared.edx.exchange import Exchanges
from shared.errors import EdxError, EdxProtocolError, EdxUnavailable
from tests.edx.loopback import (
    Answer,
    send,
    serving,
    silence,
    threads_of_ours,
    trickle,
    trickled_body,
    trickled_chunks,
    trickled_headers,
    trickled_until_closed,
)
from tests.edx.pretend import make_settings
from tests.sockets import unaccepting


def endless_redirect(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 302 Found\r\nLocation: /v1/x\r\nContent-Length: 1000000\r\n\r\n", b" ")


@pytest.mark.parametrize(
    "answer", [trickled_headers, trickled_body, trickled_chunks, trickled_until_closed, silence]
)
def test_the_time_limit_ends_an_exchange_when_the_answer_is_slow(answer: Answer) -> None:
    with serving(answer) as server:
        began = time.monotonic()
        with EdxClient(server.settings).session(Deadline.after(0.5)) as edx:
            with pytest.raises(
                EdxUnavailable, match=r"^edX did not answer everything within the time limit$"
            ):
                edx.catalog(7)
            assert 0.4 < time.monotonic() - began < 2
            sent = edx.requests
            with pytest.raises(EdxUnavailable, match="within the time limit"):
                edx.catalogs()
            assert edx.requests == sent
        assert not threads_of_ours()


@pytest.mark.parametrize("token", [trickled_headers, trickled_body, silence])
def test_the_time_limit_ends_an_exchange_when_the_token_answer_is_slow(token: Answer) -> None:
    with serving(silence, token) as server:
        began = time.monotonic()
        with (
            EdxClient(server.settings).session(Deadline.after(0.5)) as edx,
            pytest.raises(EdxUnavailable, match="within the time limit"),
        ):
            edx.catalog(7)
        assert time.monotonic() - began < 2


def test_an_error_body_is_not_read_when_it_never_ends() -> None:
    for answer, error in ((endless_redirect, EdxProtocolError), (endless_not_found, EdxUnavailable)):
        with serving(answer) as server:
            began = time.monotonic()
            client = EdxClient(server.settings, random=lambda: 0.0)
            with client.session(Deadline.after(50)) as edx, pytest.raises(error):
                edx.catalog(7)
            assert time.monotonic() - began < 15


def endless_not_found(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n", b" ")


@pytest.mark.parametrize("location", ["/v1/catalogs/8/", "http://127.0.0.1:9/", "http://[", ""])
def test_no_redirect_is_followed(location: str) -> None:
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


def gzip_without_trailer(handler: BaseHTTPRequestHandler) -> None:
    send(handler, gzip.compress(b'{"id": 7}')[:-8], Content_Encoding="gzip")


def gzip_cut_behind_a_brace(handler: BaseHTTPRequestHandler) -> None:
    packer = zlib.compressobj(wbits=31)
    begin = packer.compress(b'{"id": 7, "x": [{"a": 1}') + packer.flush(zlib.Z_SYNC_FLUSH)
    send(handler, begin, Content_Encoding="gzip")


def cut_behind_a_brace_until_closed(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"id": 7, "x": [{"a": 1}')
    handler.close_connection = True


def nothing_at_all(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"")


def unasked_encoding(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"\x0b\x04\x80", Content_Encoding="br")


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (cut_short, "sent a broken body"),
        (cut_chunks, "sent a broken body"),
        (broken_gzip, "sent a broken body"),
        (gzip_without_trailer, "sent a broken body"),
        (unasked_encoding, "sent a broken body"),
        (not_http, "cannot be reached or dropped the connection"),
    ],
)
def test_a_broken_exchange_is_described_by_what_arrived(
    exchanges: Exchanges, fault: Answer, problem: str
) -> None:
    with serving(fault) as server, pytest.raises(NoUsableAnswer) as caught:
        exchanges.send("GET", server.url, Deadline.after(60))
    assert (caught.value.problem, caught.value.is_final) == (problem, False)


@pytest.mark.parametrize(
    "fault",
    [
        reset_in_headers,
        cut_short,
        cut_chunks,
        broken_gzip,
        not_http,
        gzip_without_trailer,
        gzip_cut_behind_a_brace,
        cut_behind_a_brace_until_closed,
        nothing_at_all,
        unasked_encoding,
    ],
)
def test_a_broken_exchange_is_tried_again_when_there_is_time(fault: Answer) -> None:
    answers: Iterator[Answer] = iter([fault, lambda handler: send(handler, {"id": 7})])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        next(answers)(handler)

    with serving(answer) as server:
        client = EdxClient(server.settings, random=lambda: 0.0)
        with client.session(Deadline.after(20)) as edx:
            assert edx.catalog(7).id == 7
            assert edx.requests == 3


def test_nothing_that_edx_sent_is_logged_when_its_headers_are_truncated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Private-Hea")
        handler.close_connection = True

    with serving(answer) as server:
        client = EdxClient(server.settings, random=lambda: 0.0)
        with client.session(Deadline.after(20)) as edx, pytest.raises(EdxError):
            edx.catalog(7)
    assert caplog.text == ""


# Time


@pytest.fixture
def exchanges() -> Iterator[Exchanges]:
    exchanges = Exchanges(2, timeout_s=0.4)
    yield exchanges
    exchanges.close()


@pytest.mark.parametrize(
    "answer", [trickled_headers, trickled_body, trickled_chunks, trickled_until_closed, silence]
)
def test_an_exchange_ends_within_its_limit_when_any_part_is_slow(
    exchanges: Exchanges, answer: Answer
) -> None:
    with serving(answer) as server:
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(NoUsableAnswer, match=r"did not answer (within 0\.4 s|in time)"):
                exchanges.send("GET", server.url, Deadline.after(60))
            assert 0.3 < time.monotonic() - began < 2
    assert not threads_of_ours()


def test_the_time_limit_applies_when_a_connection_is_reused(exchanges: Exchanges) -> None:
    answers: Iterator[Answer] = iter([lambda handler: send(handler, {}), trickled_headers])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        next(answers)(handler)

    with serving(answer) as server:
        assert exchanges.send("GET", server.url, Deadline.after(60)).status == 200
        assert not threads_of_ours()
        began = time.monotonic()
        with pytest.raises(NoUsableAnswer, match=r"did not answer (within 0\.4 s|in time)"):
            exchanges.send("GET", server.url, Deadline.after(60))
        assert 0.3 < time.monotonic() - began < 2
        assert server.connections == 1


def test_the_time_limit_applies_when_the_tls_handshake_is_slow(exchanges: Exchanges) -> None:
    def trickle_handshake() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(
                bytes.fromhex("1603030200020001fc")
            )  # a ServerHello that never arrives completely
            while not over.wait(0.05):
                connection.sendall(b"\0")

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle_handshake)
        thread.start()
        began = time.monotonic()
        with pytest.raises(NoUsableAnswer, match=r"did not answer (within 0\.4 s|in time)"):
            exchanges.send("GET", f"https://127.0.0.1:{listener.getsockname()[1]}/", Deadline.after(60))
        assert 0.3 < time.monotonic() - began < 2
        over.set()
        thread.join()


def test_running_and_later_exchanges_are_cancelled_when_another_thread_ends_them() -> None:
    exchanges = Exchanges(2)
    with serving(trickled_body) as server:
        threading.Timer(0.2, exchanges.end).start()
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(NoUsableAnswer):
                exchanges.send("GET", server.url, Deadline.after(60))
        assert time.monotonic() - began < 2
    exchanges.close()


def test_a_session_ends_at_once_when_another_thread_ends_it() -> None:
    with serving(trickled_body) as server, EdxClient(server.settings).session(Deadline.after(60)) as edx:
        threading.Timer(0.2, edx.end).start()
        began = time.monotonic()
        with pytest.raises(EdxUnavailable, match=r"^the requests to edX were cancelled$"):
            edx.catalog(7)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("left_s", "connecting_s", "silent_s"), [(100, 5, 30), (20, 5, 20), (3, 3, 3), (0, 0.001, 0.001)]
)
def test_timeouts_are_5_s_to_connect_and_30_s_to_read_but_not_more_than_the_time_left(
    web: Mocker, left_s: float, connecting_s: float, silent_s: float
) -> None:
    web.get("https://edx.test/", json={})
    with suppress(NoUsableAnswer):
        Exchanges(1).send("GET", "https://edx.test/", Deadline(left_s, lambda: 0.0))
    (request,) = web.request_history
    timeout: Any = request.timeout  # typed as a whole number
    assert timeout == (connecting_s, silent_s)


def test_the_limit_holds_when_the_connection_is_not_accepted() -> None:
    began = time.monotonic()
    with (
        unaccepting() as port,
        pytest.raises(NoUsableAnswer, match=r"did not answer (within 0\.4 s|in time)"),
    ):
        Exchanges(1, timeout_s=0.4).send("GET", f"http://127.0.0.1:{port}/", Deadline.after(60))
    assert 0.3 < time.monotonic() - began < 2


# Interim answers


def hints_first(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" * 2)
    handler.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
    send(handler, {"id": 7})


def test_the_real_answer_is_read_when_interim_ones_come_first() -> None:
    with serving(hints_first) as server, EdxClient(server.settings).session(Deadline.after(20)) as edx:
        for _ in range(3):
            assert edx.catalog(7).id == 7
        assert edx.requests == 4
        assert server.connections <= 2  # each request gets its own answer, so the connection is kept open


def test_a_change_of_protocol_is_an_answer(exchanges: Exchanges) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        handler.close_connection = True

    with serving(answer) as server:
        assert exchanges.send("GET", server.url, Deadline.after(60)).status == 101


# Connections


def test_a_connection_is_not_cut_when_its_exchange_has_released_it() -> None:
    sockets = Sockets()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sockets.hold(ours)
        sockets.release()
        sockets.cut()
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"


def test_a_connection_is_cut_when_its_exchange_was_cut_before() -> None:
    sockets = Sockets()
    sockets.cut()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sockets.hold(ours)
        assert theirs.recv(1) == b""


def test_a_new_connection_is_held_by_a_copy_until_its_exchange_releases_it() -> None:
    for end in (Sockets.cut, Sockets.release):
        sockets = Sockets()
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        with theirs:
            sockets.hold_new(ours)
            ours.close()
            end(sockets)
            assert theirs.recv(1) == b""
            sockets.release()


def test_nothing_is_kept_of_an_exchange_that_has_ended(exchanges: Exchanges) -> None:
    def kept() -> list[object]:
        return [thing for thing in gc.get_objects() if isinstance(thing, Sockets)]

    before = {id(sockets): sockets for sockets in kept()}
    with serving(lambda handler: send(handler, {})) as server:
        for _ in range(3):
            exchanges.send("GET", server.url, Deadline.after(60))
        assert len([sockets for sockets in kept() if id(sockets) not in before]) <= 1  # of the last one


def test_the_timer_of_an_exchange_does_not_keep_the_process_running(exchanges: Exchanges) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        timers.extend(threads_of_ours())
        send(handler, {})

    timers: list[threading.Thread] = []
    with serving(answer) as server:
        exchanges.send("GET", server.url, Deadline.after(60))
    assert [timer.daemon for timer in timers] == [True]


def test_as_many_connections_are_kept_open_as_asked_for() -> None:
    exchanges = Exchanges(1)
    both = threading.Barrier(2)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        both.wait(10)
        send(handler, {})

    with serving(answer) as server:
        for _ in range(2):
            threads = [
                threading.Thread(target=exchanges.send, args=["GET", server.url, Deadline.after(60)])
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert server.connections == 3
        exchanges.close()


# edX's explanation of an error

DETAIL = b'{"detail": "No Catalog matches the given query."}'


@pytest.mark.parametrize("encoding", ["", "gzip", " GZIP "])
@pytest.mark.parametrize(
    ("status", "is_read"),
    [(400, True), (403, True), (404, True), (429, True), (401, False), (302, False), (500, False)],
)
def test_the_explanation_of_an_error_is_read_when_its_status_has_one(
    exchanges: Exchanges, encoding: str, status: int, *, is_read: bool
) -> None:
    body = gzip.compress(DETAIL) if encoding else DETAIL
    headers = {"Content_Encoding": encoding} if encoding else {}
    with serving(lambda handler: send(handler, body, status, **headers)) as server:
        answer = exchanges.send("GET", server.url, Deadline.after(60))
    assert (answer.status, answer.body) == (status, DETAIL if is_read else b"")


def cut_explanation(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"detail"')
    handler.close_connection = True


def reset_explanation(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n{")
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def broken_gzip_explanation(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"no gzip", 404, Content_Encoding="gzip")


def short_gzip_explanation(handler: BaseHTTPRequestHandler) -> None:
    send(handler, gzip.compress(DETAIL)[:-8], 404, Content_Encoding="gzip")


@pytest.mark.parametrize(
    "answer",
    [
        cut_explanation,
        reset_explanation,
        broken_gzip_explanation,
        short_gzip_explanation,
    ],
)
def test_an_error_has_no_explanation_when_its_body_is_broken(exchanges: Exchanges, answer: Answer) -> None:
    with serving(answer) as server:
        received = exchanges.send("GET", server.url, Deadline.after(60))
    assert (received.status, received.body) == (404, b"")


def test_the_explanation_of_an_error_is_read_to_4_kib() -> None:
    exchanges = Exchanges(2)
    with serving(lambda handler: send(handler, b"x" * 10_000, 403)) as server:
        assert len(exchanges.send("GET", server.url, Deadline.after(60)).body) == 4096
    bomb = gzip.compress(b"x" * 1_000_000)
    with serving(lambda handler: send(handler, bomb, 403, Content_Encoding="gzip")) as server:
        assert exchanges.send("GET", server.url, Deadline.after(60)).body == b""
    with serving(lambda handler: send(handler, b"oops", 500)) as server:
        assert exchanges.send("GET", server.url, Deadline.after(60)).body == b""
    exchanges.close()


# The cause that an error names


def test_the_host_is_named_when_the_connection_is_refused() -> None:
    with serving(silence) as server:
        settings = server.settings
    client = EdxClient(settings, random=lambda: 0.0)
    with client.session(Deadline.after(20)) as edx, pytest.raises(EdxUnavailable) as caught:
        edx.catalog(7)
    assert caught.value.message == (
        "edX is unavailable: the token endpoint cannot be reached: connection refused "
        f"(host 127.0.0.1:{server.server_port}, try 4)"
    )


def test_the_host_is_named_when_it_is_unknown() -> None:
    settings = make_settings(EDX_TOKEN_URL="https://nobody.invalid/token?x=1")
    client = EdxClient(settings, random=lambda: 0.0)
    with client.session(Deadline.after(20)) as edx, pytest.raises(EdxUnavailable) as caught:
        edx.catalog(7)
    assert caught.value.message == (
        "edX is unavailable: the token endpoint cannot be reached: unknown host (host nobody.invalid, try 4)"
    )


def test_the_host_is_named_when_it_resets_the_connection() -> None:
    def reset(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True

    with serving(reset) as server:
        client = EdxClient(server.settings, random=lambda: 0.0)
        with client.session(Deadline.after(20)) as edx, pytest.raises(EdxUnavailable) as caught:
            edx.catalog(7)
    assert caught.value.message == (
        f"edX is unavailable: catalogs/7/ dropped the connection (host 127.0.0.1:{server.server_port}, try 4)"
    )


def test_error_names_the_certificate_after_one_try_when_it_is_not_valid(tmp_path: Path) -> None:
    with serving(lambda handler: send(handler, {"id": 7})) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(expired_certificate(tmp_path))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        settings = make_settings(EDX_TOKEN_URL=f"https://127.0.0.1:{server.server_port}/token")
        with EdxClient(settings).session(Deadline.after(20)) as edx:
            with pytest.raises(EdxUnavailable) as caught:
                edx.catalog(7)
            assert edx.requests == 1
    assert re.fullmatch(
        r"edX is unavailable: the token endpoint cannot be reached: TLS certificate not valid "
        r"\((self-signed certificate|certificate has expired)\) \(host 127.0.0.1:\d+, try 1\)",
        caught.value.message,
    )


def expired_certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2021, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    file = folder / "expired.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file
