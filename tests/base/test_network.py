import socket
import ssl
from datetime import UTC, datetime

import pytest
import requests
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from shared.network import cut, fault_of, host_of, retry_after_s

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("1", 1),
        (" 3592 ", 3592),
        ("86399", 86399),
        ("86401", 86400),
        ("9" * 6000, 86400),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30),
        ("Mon, 01 Mar 2027 12:00:00 GMT", 86400),
        ("Sun, 01 Mar 2026 12:00:00 GMT", None),
        ("Sun, 01 Mar 2026 11:00:00 GMT", None),
        (None, None),
        ("", None),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("60, 60", None),
        ("٣", None),
    ],
)
def test_retry_after_is_parsed_when_it_is_seconds_or_a_date(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after_s(header, NOW) == seconds


@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [-+]?\w+")))
@example("Sun, 01 Jan , 00:00:00 GMT")
@example("Sun, 01 Jan 99999999999999999999 00:00:00 GMT")
@example("Sun, 01 Jan 0001 00:00:00 +2359")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
def test_retry_after_never_raises_for_any_text(header: str) -> None:
    seconds = retry_after_s(header, NOW)
    assert seconds is None or 0 < seconds <= 86400


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.edx.org/oauth2/v1/access_token?client_secret=s", "api.edx.org"),
        ("http://127.0.0.1:8001/catalog/v1/", "127.0.0.1:8001"),
        ("https://user:secret@api.edx.org/", "api.edx.org"),
    ],
)
def test_a_host_is_named_without_path_query_or_credentials(url: str, host: str) -> None:
    assert host_of(url) == host


def expired() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_message = "certificate has expired"
    return error


def wrapped(cause: Exception) -> requests.ConnectionError:
    """Wrap an error like requests and urllib3."""
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(object(), "/?secret", cause))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "problem", "is_final"),
    [
        (expired(), "cannot be reached: TLS certificate not valid (certificate has expired)", True),
        (ssl.SSLError("EOF occurred"), "cannot be reached: TLS failed", False),
        (socket.gaierror(-2, "Name or service not known"), "cannot be reached: unknown host", False),
        (ConnectionRefusedError(111, "refused"), "cannot be reached: connection refused", False),
        (ConnectionResetError(104, "reset"), "dropped the connection", False),
        (ConnectionAbortedError(103, "aborted"), "dropped the connection", False),
        (BrokenPipeError(32, "pipe"), "dropped the connection", False),
        (TimeoutError(), "did not answer in time", False),
        (requests.ReadTimeout(), "did not answer in time", False),
        (urllib3.exceptions.TimeoutError(), "did not answer in time", False),
        (OSError(113, "No route to host"), "cannot be reached or dropped the connection", False),
    ],
)
def test_an_error_of_a_network_library_is_described_by_its_cause(
    error: Exception, problem: str, *, is_final: bool
) -> None:
    assert fault_of(error) == (problem, is_final)
    assert fault_of(wrapped(error)) == (problem, is_final)


def test_the_cause_is_found_when_the_causes_of_errors_form_a_circle() -> None:
    outer, inner = OSError(), OSError()
    outer.__cause__, inner.__cause__ = inner, outer
    inner.__context__ = ConnectionResetError()
    assert fault_of(outer).problem == "dropped the connection"


def test_reading_ends_when_the_connection_is_cut_once_or_twice() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        cut(ours)
        cut(ours)
        assert ours.recv(1) == b""
    cut(ours)
